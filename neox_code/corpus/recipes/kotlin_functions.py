"""The Kotlin of the recipe `kotlin`, and a row for each function with its documentation as the instruction."""

from dataclasses import replace

from neox_code.corpus.recipes import kotlin
from neox_code.corpus.rows.kotlin import KotlinFunctions

RECIPE = replace(kotlin.RECIPE, name="kotlin-functions", rows=KotlinFunctions())
