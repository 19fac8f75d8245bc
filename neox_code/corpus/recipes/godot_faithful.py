"""The corpus of godot-dodo: every file of MIT-licensed projects, and one row per "func ", as its script makes them.

Two differences: only the first project of a repository has rows, and it is the first by name here, the first in the order of the
file system there. A file that is not UTF-8 does not end the processing of its repository here.
"""

from dataclasses import replace

from neox_code.corpus.recipes import godot
from neox_code.corpus.rows.gdscript import GDScriptFunctions

RECIPE = replace(
    godot.RECIPE, name="godot-faithful", before_reading=(), after_reading=(), duplicates=(), rows=GDScriptFunctions(faithful=True)
)
