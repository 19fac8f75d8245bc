"""GDScript of MIT-licensed projects, and one row per function with its author's comment as the instruction.

tools/label_rows.py adds instructions to rows without one. The recipe `godot-faithful` makes godot-dodo's rows, including its bugs.
"""

from neox_code.corpus.duplicates.exact import ExactDuplicates
from neox_code.corpus.filters.size import MaxBytes, NotBlank, NotEmpty
from neox_code.corpus.languages.rules import describe_languages
from neox_code.corpus.licenses.license import AllowedLicenses
from neox_code.corpus.recipes.recipe import Recipe
from neox_code.corpus.rows.gdscript import GDScriptFunctions
from neox_code.languages import FOLDER, read_language

LANGUAGE = read_language(FOLDER / "gdscript.yml")

RECIPE = Recipe(
    "godot",
    languages=(LANGUAGE.name,),
    language_rule=describe_languages([LANGUAGE]),  # linguist takes scripts with Godot 3's template comment ("Declare") for GAP
    before_reading=(NotEmpty(), MaxBytes(1_048_576)),  # PolyCoder
    after_reading=(NotBlank(),),
    newlines="lf",
    licenses=AllowedLicenses(("MIT",)),  # godot-dodo's search
    duplicates=(ExactDuplicates(),),
    rows=GDScriptFunctions(),
)
