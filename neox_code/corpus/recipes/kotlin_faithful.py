"""The corpus of the Kotlin project (rinapch/jb_intern): every file, and its rows of 100 tokens that end with `<|endoftext|>`.

What its filters of files drop has no rows; the files stay. There the tokenizer is Phi-1.5's; here tokens are counted by an
approximation, or by the tokenizer.json of a recipe with `KotlinWindows(faithful=True, tokenizer=Path("tokenizer.json"))`.
"""

from dataclasses import replace

from neox_code.corpus.recipes import kotlin
from neox_code.corpus.rows.kotlin import KotlinWindows

RECIPE = replace(
    kotlin.RECIPE,
    name="kotlin-faithful",
    before_reading=(),
    after_reading=(),
    decoding="utf-8 ignoring errors",  # a byte-order mark stays in the text, as it does there
    duplicates=(),
    rows=KotlinWindows(tokens=100, faithful=True),
)
