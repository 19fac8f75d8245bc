"""GDScript of MIT-licensed projects, and a row for each function with what its author says of it.

Rows are for tools/label_rows.py, which has a model say what the others do. As godot-dodo made them, bugs included, they are those
of the recipe `godot-faithful`.
"""

from neox_code.corpus.duplicates.exact import ExactDuplicates
from neox_code.corpus.filters.license import AllowedLicenses
from neox_code.corpus.filters.size import MaxBytes, NotEmpty
from neox_code.corpus.language_rules import FileLanguage
from neox_code.corpus.recipes.recipe import Recipe
from neox_code.corpus.rows.gdscript import GDScriptFunctions

LANGUAGES = ("GDScript",)

RECIPE = Recipe(
    "godot",
    languages=LANGUAGES,
    language_rule=FileLanguage(LANGUAGES),
    before_reading=(NotEmpty(), MaxBytes(1_048_576)),  # PolyCoder
    after_reading=(),
    newlines="lf",
    licenses=AllowedLicenses(("MIT",)),  # godot-dodo's search
    duplicates=(ExactDuplicates(),),
    rows=GDScriptFunctions(),
)
