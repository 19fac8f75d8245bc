"""What becomes of CR, by setting and by vocabulary."""

from pathlib import Path

import pytest

from neox_code.errors import DataError
from neox_code.tokenizer.char_level import CharLevelTokenizer
from neox_code.tokenizer.gpt2 import GPT2Tokenizer
from neox_code.tokenizer.newlines import NEWLINES, default_newlines, line_ends

TEXT = "a\r\nb\rc\n\r\r\n"


def test_line_ends_become_what_the_setting_says() -> None:
    assert NEWLINES["lf"](TEXT, "x.c") == "a\nb\nc\n\n\n"
    assert NEWLINES["keep"](TEXT, "x.c") == TEXT
    with pytest.raises(DataError, match=r"^x\.c has line ends with CR, and newlines is refuse"):
        NEWLINES["refuse"](TEXT, "x.c")
    assert {treat("a\n", "x.c") for treat in NEWLINES.values()} == {"a\n"}


def test_by_default_the_vocabulary_decides(test_data: Path, gpt2: GPT2Tokenizer) -> None:
    files = [test_data / "polycoder-vocab" / name for name in ("code-vocab.json", "code-merges.txt")]
    polycoder = GPT2Tokenizer.from_files(*files)
    assert [default_newlines(tokenizer) for tokenizer in (gpt2, CharLevelTokenizer(), polycoder)] == ["keep", "keep", "lf"]
    assert line_ends(polycoder)(TEXT, "x.c") == "a\nb\nc\n\n\n"
    assert line_ends(polycoder, "keep")(TEXT, "x.c") == line_ends(gpt2)(TEXT, "x.c") == TEXT
