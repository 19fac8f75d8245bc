"""The cleanest corpus: one copy of each handwritten file under a permissive license, without secrets and benchmarks.

Thresholds without a comment are those of The Stack v2 (Lozhkov et al. 2024, section 2.1). A table in README.md lists all of them,
their effect and the differences from The Stack v2. The main difference: a file without any license is dropped.
"""

from neox_code.corpus.duplicates.exact import ExactDuplicates
from neox_code.corpus.duplicates.near import NearDuplicates
from neox_code.corpus.filters.benchmarks import BenchmarkOverlap
from neox_code.corpus.filters.characters import AlphabeticFraction, AlphanumericFraction
from neox_code.corpus.filters.email_addresses import EmailAddresses
from neox_code.corpus.filters.headers import CopyrightHeaders
from neox_code.corpus.filters.lines import MaxLineLength, MaxLines, MeanLineLength
from neox_code.corpus.filters.literals import EncodedData, LongLiterals
from neox_code.corpus.filters.markup import NotXml, VisibleHtml
from neox_code.corpus.filters.origin import NotGenerated, NotMinified, NotVendored
from neox_code.corpus.filters.secrets import Secrets
from neox_code.corpus.filters.size import MaxBytes, NotBlank, NotEmpty
from neox_code.corpus.filters.tokens import MinTokens
from neox_code.corpus.languages.polycoder_names import LANGUAGES
from neox_code.corpus.languages.rules import FileLanguage
from neox_code.corpus.licenses.license import AllowedLicenses
from neox_code.corpus.recipes.recipe import Recipe

PROSE_AND_DATA = ("HTML", "JSON", "Markdown", "Roff", "Roff Manpage", "SMT", "TeX", "Text", "XML")

RECIPE = Recipe(
    "strict",
    languages=LANGUAGES,
    language_rule=FileLanguage(LANGUAGES),
    before_reading=(
        NotEmpty(),
        MaxBytes(1_048_576),  # PolyCoder; Codex (Chen et al. 2021)
        NotVendored(),  # linguist
    ),
    after_reading=(
        NotBlank(),
        NotGenerated(),
        NotMinified(),  # linguist
        MaxLines(100_000),
        MeanLineLength(100, exempt=PROSE_AND_DATA),
        MaxLineLength(1_000, exempt=PROSE_AND_DATA),
        AlphabeticFraction(0.25, exempt=("Motorola 68K Assembly", "WebAssembly")),
        AlphanumericFraction(0.25),  # StarCoder (Li et al. 2023), as bigcode-dataset has it
        NotXml(),  # StarCoder
        VisibleHtml(fraction=0.2, characters=100),
        EncodedData(longest=1_024, fraction=0.5),
        BenchmarkOverlap(),  # 13 words: GPT-3 (Brown et al. 2020)
        CopyrightHeaders(),  # the Kotlin project (rinapch/jb_intern)
        LongLiterals(digits=40, characters=200),  # the Kotlin project, which drops the file
        Secrets(),  # placeholders of StarCoder
        EmailAddresses(),
        MinTokens(100),  # PolyCoder; applied to the edited text
    ),
    newlines="lf",
    licenses=AllowedLicenses(),  # Blue Oak Council, "bronze" and better
    duplicates=(ExactDuplicates(), NearDuplicates(threshold=0.7)),  # section 3.1
)
