"""The documents of the recipe `kotlin`, and one row per function with its documentation as the instruction."""

from dataclasses import replace

from neox_code.corpus.recipes import kotlin
from neox_code.corpus.rows.kotlin import KotlinFunctions

RECIPE = replace(kotlin.RECIPE, name="kotlin-functions", rows=KotlinFunctions())
