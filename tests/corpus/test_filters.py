import sysconfig
from pathlib import Path

import pytest
from pygments import lex
from pygments.lexers import get_lexer_by_name

from neox_code.corpus.filters.protocol import Candidate
from neox_code.corpus.filters.size import MaxBytes, NotEmpty
from neox_code.corpus.filters.tokens import MinTokens
from neox_code.corpus.recipes import POLYCODER, recipe_by_name
from neox_code.errors import DataError

LIBRARY = Path(sysconfig.get_path("stdlib"))
SMALL_FILES = [path for path in sorted(LIBRARY.rglob("*.py")) if "site-packages" not in path.parts and path.stat().st_size < 6_000]


@pytest.mark.parametrize("language", ["Python", "C", "C++", "JavaScript", "Rust"])
def test_stopping_at_the_limit_decides_as_a_whole_lex(language):
    """On real files, most of them near the limit; in the wrong language too, where lexers yield error tokens."""
    decisions = set()
    for path in SMALL_FILES[:: 20 if language == "Python" else 40]:
        text = path.read_bytes().decode("utf-8", "ignore")
        whole = sum(1 for _ in lex(text, get_lexer_by_name(language.lower())))
        for limit in (100, max(1, whole), whole + 1):
            decision = MinTokens(limit).keep(Candidate(path.name, language, len(text), text))
            assert (decision is True) == (whole >= limit), (path, whole, limit)
            decisions.add(decision)
    assert {True, "under 100 tokens"} <= decisions


@pytest.mark.parametrize("text", ["", "\n\n\n", "\ufeffx = 1\n", "\r\n" * 300, "\x00" * 500, "a" * 1000])
def test_odd_texts_are_decided_as_by_a_whole_lex(text):
    whole = sum(1 for _ in lex(text, get_lexer_by_name("c")))
    assert (MinTokens(100).keep(Candidate("x.c", "C", len(text), text)) is True) == (whole >= 100)


def test_the_size_limit_includes_its_bound():
    keep = MaxBytes(1_048_576).keep
    assert keep(Candidate("x.c", "C", 1_048_576)) is True
    assert keep(Candidate("x.c", "C", 1_048_577)) == "over 1 MiB"


def test_an_empty_file_is_dropped_by_name():
    assert NotEmpty().keep(Candidate("x.c", "C", 0)) == "empty"
    assert NotEmpty().keep(Candidate("x.c", "C", 1)) is True


def test_polycoders_thresholds_are_those_of_its_paper():
    assert POLYCODER.before_reading == (NotEmpty(), MaxBytes(1024 * 1024))
    assert POLYCODER.after_reading == (MinTokens(100),)
    assert len(POLYCODER.languages) == 12


def test_an_unknown_recipe_is_named_beside_the_known_ones():
    with pytest.raises(DataError, match=r"recipe 'poly' is not known\. Known are: polycoder\."):
        recipe_by_name("poly")
