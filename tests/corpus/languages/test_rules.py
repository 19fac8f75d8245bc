import dataclasses
import pickle

import pytest
from pygments.lexers import get_lexer_by_name

from neox_code.corpus.languages.polycoder_names import LANGUAGES, is_name_of
from neox_code.corpus.languages.rules import FileLanguage, LanguageRule, ProjectLanguage
from neox_code.corpus.sources.protocol import Project
from neox_code.errors import DataError

TREE = Project("me/tree")


def project(language: str) -> Project:
    return Project("me/tree", language=language)


def is_file_of_code_lms(language: str, name: str) -> bool:
    """Return the condition of `extract_code.py`, commit 570feba."""
    language_extensions = {ext.lower()[1:] for ext in get_lexer_by_name(language).filenames}
    return any(name.endswith(ext) for ext in language_extensions)


@pytest.mark.parametrize("language", [*LANGUAGES, "GDScript", "Kotlin"])
def test_file_names_of_a_language_equal_those_of_code_lms(language):
    patterns = [pattern for known in LANGUAGES for pattern in get_lexer_by_name(known).filenames]
    names = [pattern.replace("*", "file").replace("[bp]", "p").replace("[345]", "5") for pattern in patterns]
    names += [name.lower() for name in names] + ["a.kt", "build.gradle.kts", "player.gd", "README.md", "Makefile", "py", ".h"]
    rule = ProjectLanguage((language,))
    for name in names:
        assert rule.find_languages_by_name(project(language), f"a/{name}") == (
            (language,) if is_file_of_code_lms(language, name) else ()
        )


@pytest.mark.parametrize(
    ("language", "taken", "left"),
    [
        ("C++", ["a.c", "a.h", "a.cc", "a.hpp"], ["a.C", "a.H", "a.CPP", "a.hp"]),
        ("C", ["a.c", "a.h"], ["a.xpm", "a.cpp"]),
        ("TypeScript", ["a.ts", "a.d.ts"], ["a.tsx", "a.mts"]),
        ("PHP", ["a.php", "a.inc"], ["a.php5"]),
        ("Python", ["a.py", "reconstruct", "build"], ["SConstruct", "BUILD", "a.PY"]),
        ("Ruby", ["a.rb", "Rakefile", "Makefile", "Gemfile"], ["a.RB", "file"]),
        ("Scala", ["a.scala"], ["a.sc"]),
        ("Rust", ["a.rs", "a.rs.in"], []),
    ],
)
def test_polycoders_special_file_names(language, taken, left):
    assert [name for name in taken + left if is_name_of(language, name)] == taken


def test_a_project_without_language_keeps_all_possible_languages():
    rule = ProjectLanguage()
    assert rule.find_languages_by_name(TREE, "src/list.h") == ("C", "C++")
    assert rule.find_languages_by_content(TREE, "src/list.h", "class List;", ("C", "C++")) == ("C", "C++")
    assert rule.find_languages_by_name(TREE, "src/list.hpp") == ("C++",)
    assert rule.find_languages_by_name(TREE, "README.md") == ()


def test_a_project_in_an_unselected_language_has_no_files():
    rule = ProjectLanguage(("C", "Go"))
    assert rule.find_languages_by_name(project("C++"), "src/list.h") == ()
    assert rule.find_languages_by_name(project("C"), "src/list.go") == ()


def test_a_file_has_the_language_of_its_own_content():
    rule = FileLanguage()
    assert rule.find_languages_by_name(project("Go"), "src/list.h") == ("C", "C++")
    assert rule.find_languages_by_content(TREE, "src/list.h", "class List;", ("C", "C++")) == ("C++",)
    assert rule.find_languages_by_content(TREE, "src/list.h", "struct list;", ("C", "C++")) == ("C",)
    assert rule.find_languages_by_content(TREE, "src/List.h", "@interface List\n", ("C", "C++")) == ()
    assert rule.find_languages_by_content(TREE, "lib.rs", "#pragma version(1)\n", ("Rust",)) == ()


def test_only_files_of_a_selected_language_or_without_extension_are_read():
    rule = FileLanguage(("Python", "Shell"))
    assert rule.find_languages_by_name(TREE, "setup.py") == ("Python",)
    assert rule.find_languages_by_name(TREE, "bin/deploy") is None
    assert rule.find_languages_by_name(TREE, "Makefile") == ()
    assert rule.find_languages_by_name(TREE, "photo.jpeg") == ()
    assert rule.find_languages_by_name(TREE, "lib.rs") == ()
    assert rule.find_languages_by_content(TREE, "bin/deploy", "#!/usr/bin/python3\n", None) == ("Python",)
    assert rule.find_languages_by_content(TREE, "bin/deploy", "#!/usr/bin/perl\n", None) == ()


def test_languages_of_other_recipes_are_accepted():
    for rule in (ProjectLanguage(("GDScript", "Kotlin")), FileLanguage(("GDScript", "Kotlin"))):
        assert rule.find_languages_by_name(TREE, "player.gd") == ("GDScript",)
        assert rule.find_languages_by_name(TREE, "Main.kt") == ("Kotlin",)


@pytest.mark.parametrize("rule", [ProjectLanguage(("C", "C++")), FileLanguage(("C", "C++"))])
def test_a_rule_can_be_pickled_and_compared(rule: LanguageRule):
    assert pickle.loads(pickle.dumps(rule)) == rule
    narrower = dataclasses.replace(rule, languages=("C",))  # type: ignore[type-var]
    assert narrower != rule and repr(narrower) != repr(rule)
    assert narrower.find_languages_by_name(TREE, "list.h") == ("C",)
    assert rule.get_counted_language("src/list.h", "class List;") == "C++"


def test_an_unknown_language_is_refused_with_the_nearest_name():
    with pytest.raises(DataError, match="Is it Python"):
        FileLanguage(("Pyhton",))
    with pytest.raises(DataError, match="'Pyhton' has no lexer"):
        ProjectLanguage(("Pyhton",))
