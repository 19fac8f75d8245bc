"""The corpus of the Kotlin project (rinapch/jb_intern): every file, and its rows of 100 tokens that end with `<|endoftext|>`.

Files that the project's filters drop stay in this corpus, but have no rows. The project counts tokens with Phi-1.5's tokenizer.
This recipe estimates the number of tokens. To count them, write a recipe with
`KotlinWindows(faithful=True, tokenizer=Path("tokenizer.json"))`.
"""

from dataclasses import replace

from neox_code.corpus.recipes import kotlin
from neox_code.corpus.rows.kotlin import KotlinWindows

RECIPE = replace(
    kotlin.RECIPE,
    name="kotlin-faithful",
    before_reading=(),
    after_reading=(),
    decoding="utf-8 ignoring errors",  # as in the project, a byte-order mark stays in the text
    duplicates=(),
    rows=KotlinWindows(tokens=100, faithful=True),
)
