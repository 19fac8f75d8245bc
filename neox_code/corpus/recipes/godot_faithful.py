"""The corpus of godot-dodo: every file of MIT-licensed projects, and one row per "func ", as its script makes them.

In both, only the first project of a repository has rows. Two differences: the script takes the first project in the order of the
file system, this recipe the first by name; a file that is not UTF-8 ends the script's work on the repository, but not ours.
"""

from dataclasses import replace

from neox_code.corpus.recipes import godot
from neox_code.corpus.rows.gdscript import GDScriptFunctions

RECIPE = replace(
    godot.RECIPE, name="godot-faithful", before_reading=(), after_reading=(), duplicates=(), rows=GDScriptFunctions(faithful=True)
)
