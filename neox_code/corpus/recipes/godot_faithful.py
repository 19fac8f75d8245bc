"""The corpus of godot-dodo: every file of MIT-licensed projects, and a row for each "func ", as its script makes them.

Two things are otherwise: the first project of a repository, the only one with rows, is the first by name, not the first that the
file system lists; and a file that is not UTF-8 does not end its repository.
"""

from dataclasses import replace

from neox_code.corpus.recipes import godot
from neox_code.corpus.rows.gdscript import GDScriptFunctions

RECIPE = replace(
    godot.RECIPE, name="godot-faithful", before_reading=(), after_reading=(), duplicates=(), rows=GDScriptFunctions(faithful=True)
)
