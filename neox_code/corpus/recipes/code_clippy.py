"""GPT-Code-Clippy's corpus: its criteria for repositories, its filters of files, its key of duplicates.

Sources: the README of gpt-code-clippy (more than 10 stars, more than 2 commits, a license, no forks, a size under 70,708: of bytes,
it says, but GitHub counts KiB, and bytes would not make its 209 GB), `keep` and `_process_repo` of
data_processing/download_repo_text.py, and data_processing/deduplication. Its filter of names sees no folders, so what lies in
`node_modules` stays. The criteria are for lists of repositories; of folders nothing is known that they ask.

Otherwise than there, languages are PolyCoder's twelve by linguist's rules, not a list of 1,005 extensions (its list of unwanted
ones names none of theirs); what is text the reader says, not libmagic; and encodings are those of
decoding.py, not UTF-8, then what chardet guesses.
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
