"""The corpus of godot-dodo: every file of MIT-licensed projects, and one row per "func ", as its script makes them.

As in godot-dodo, only the first project of a repository has rows. There are two differences. The script takes the first project in
the order of the file system; this recipe takes the first project by name. The script skips the rest of a repository after a file
that is not UTF-8; this recipe reads the rest.
"""

from dataclasses import replace

from neox_code.corpus.recipes import godot
from neox_code.corpus.rows.gdscript import GDScriptFunctions

RECIPE = replace(
    godot.RECIPE, name="godot-faithful", before_reading=(), after_reading=(), duplicates=(), rows=GDScriptFunctions(faithful=True)
)
