"""Treatment of CR by setting and by vocabulary."""

from pathlib import Path

import pytest

from neox_code.errors import DataError
from neox_code.tokenizer.char_level import CharLevelTokenizer
from neox_code.tokenizer.gpt2 import GPT2Tokenizer
from neox_code.tokenizer.newlines import NEWLINES, choose_default_newlines, select_newline_treatment

TEXT = "a\r\nb\rc\n\r\r\n"


def test_newlines_setting_converts_keeps_or_refuses_cr() -> None:
    assert NEWLINES["lf"](TEXT, "x.c") == "a\nb\nc\n\n\n"
    assert NEWLINES["keep"](TEXT, "x.c") == TEXT
    with pytest.raises(DataError, match=r"^x\.c has CR line endings, which newlines: refuse does not allow"):
        NEWLINES["refuse"](TEXT, "x.c")
    assert {treat_newlines("a\n", "x.c") for treat_newlines in NEWLINES.values()} == {"a\n"}


def test_default_treatment_depends_on_the_vocabulary(test_data: Path, gpt2: GPT2Tokenizer) -> None:
    files = [test_data / "polycoder-vocab" / name for name in ("code-vocab.json", "code-merges.txt")]
    polycoder = GPT2Tokenizer.from_files(*files)
    assert [choose_default_newlines(tokenizer) for tokenizer in (gpt2, CharLevelTokenizer(), polycoder)] == ["keep", "keep", "lf"]
    assert select_newline_treatment(polycoder)(TEXT, "x.c") == "a\nb\nc\n\n\n"
    assert select_newline_treatment(polycoder, "keep")(TEXT, "x.c") == select_newline_treatment(gpt2)(TEXT, "x.c") == TEXT
