"""GPT-Code-Clippy's corpus: its criteria for repositories, its file filters and its key for duplicates.

Sources: the README of gpt-code-clippy; `keep` and `_process_repo` of data_processing/download_repo_text.py; and
data_processing/deduplication. The README requires more than 10 stars, more than 2 commits, a license, no fork and a size under
70,708. It calls the unit bytes, but GitHub reports KiB, and only KiB agree with the README's 209 GB. The name filter does not
check folders, so files in `node_modules` stay. The criteria apply to lists of repositories; local folders have no such data.

Differences: languages are PolyCoder's twelve by linguist's rules, not a list of 1,005 extensions. (No extension of the twelve is in
the list of unwanted extensions.) Text files and their encodings are recognized by text_encoding.py. GPT-Code-Clippy recognizes
text files by libmagic, and tries UTF-8 and then chardet's guess.
"""

from neox_code.corpus.duplicates.variables import SameVariables
from neox_code.corpus.filters.characters import MaxDigits
from neox_code.corpus.filters.lines import MaxCharactersPerNewline
from neox_code.corpus.filters.names import NoHiddenFiles, NoNamesWith
from neox_code.corpus.filters.repository import HasLicense, MaxSize, MinCommits, MinStars, NoForks
from neox_code.corpus.filters.size import NotEmpty
from neox_code.corpus.languages.polycoder_names import LANGUAGES
from neox_code.corpus.languages.rules import FileLanguage
from neox_code.corpus.recipes.recipe import Recipe

RECIPE = Recipe(
    "code-clippy",
    languages=LANGUAGES,
    language_rule=FileLanguage(LANGUAGES),
    repositories=(MinStars(11), MinCommits(3), HasLicense(), NoForks(), MaxSize(70_707)),
    before_reading=(NotEmpty(), NoHiddenFiles(), NoNamesWith((".git", "LICENSE", "node_modules", ".min."))),
    after_reading=(MaxDigits(0.8), MaxCharactersPerNewline(200)),
    duplicates=(SameVariables(),),
)
