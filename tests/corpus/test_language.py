import pytest
from pygments.lexers import get_all_lexers, get_lexer_for_filename

from neox_code.corpus.language import LANGUAGES, SHARED_SUFFIXES, candidates, settle

PATTERNS = [
    (language, pattern.replace("*", "file"))
    for language, _, patterns, _ in get_all_lexers(plugins=False)
    if language in LANGUAGES
    for pattern in patterns
    if "[" not in pattern
]


@pytest.mark.parametrize(("language", "name"), PATTERNS)
def test_a_name_of_one_language_has_the_language_that_pygments_gives_it(language, name):
    if any(name.endswith(suffix) for suffix in SHARED_SUFFIXES):
        return
    assert candidates(f"a/b/{name}") == (language,) == (get_lexer_for_filename(name).name,)


@pytest.mark.parametrize("name", ["Makefile", "README.md", "x.pyc", "py", "c", "photo.x[bp]m", "a.py.orig", "main.so", "main.inc"])
def test_other_names_have_no_language(name):
    assert candidates(f"src.py/{name}") == ()


def test_every_language_of_the_table_is_pygments_name_of_a_lexer():
    assert set(LANGUAGES) <= {name for name, *_ in get_all_lexers(plugins=False)}


def test_a_header_follows_most_files_of_its_project():
    assert settle(candidates("a.h"), {"C": 3, "C++": 2}) == "C"
    assert settle(candidates("a.h"), {"C": 2, "C++": 3}) == "C++"
    assert settle(candidates("a.h"), {"C": 2, "C++": 2}) == "C"
