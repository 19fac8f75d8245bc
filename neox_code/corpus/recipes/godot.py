"""GDScript of MIT-licensed projects, and one row per function with its author's comment as the instruction.

tools/label_rows.py adds instructions to rows without one. The recipe `godot-faithful` makes godot-dodo's rows, including its bugs.
"""

import re
from dataclasses import dataclass

from neox_code.corpus.duplicates.exact import ExactDuplicates
from neox_code.corpus.filters.size import MaxBytes, NotBlank, NotEmpty
from neox_code.corpus.languages.rules import FileLanguage
from neox_code.corpus.licenses.license import AllowedLicenses
from neox_code.corpus.recipes.recipe import Recipe
from neox_code.corpus.rows.gdscript import GDScriptFunctions
from neox_code.corpus.sources.protocol import Project

LANGUAGES = ("GDScript",)
SCRIPT = re.compile(r"^[ \t]*(?:@?tool|extends|class_name|(?:static[ \t]+)?func)\b", re.MULTILINE)


@dataclass(frozen=True)
class GodotScripts(FileLanguage):
    """Linguist's rule with a correction: linguist classifies scripts with Godot 3's template comment ("Declare ...") as GAP."""

    name = "language of the file, and Godot's scripts"

    def find_languages_by_content(
        self, project: Project, path: str, text: str, possible: tuple[str, ...] | None
    ) -> tuple[str, ...]:
        is_script = possible == LANGUAGES and SCRIPT.search(text) is not None
        return LANGUAGES if is_script else super().find_languages_by_content(project, path, text, possible)


RECIPE = Recipe(
    "godot",
    languages=LANGUAGES,
    language_rule=GodotScripts(LANGUAGES),
    before_reading=(NotEmpty(), MaxBytes(1_048_576)),  # PolyCoder
    after_reading=(NotBlank(),),
    newlines="lf",
    licenses=AllowedLicenses(("MIT",)),  # godot-dodo's search
    duplicates=(ExactDuplicates(),),
    rows=GDScriptFunctions(),
)
