"""The language of a file by its name, with Pygments' file-name patterns.

    candidates("src/main.rs")          ("Rust",)
    candidates("include/vector.h")     ("C", "C++"): its project decides, see `settle`
    candidates("README.md")            ()

Patterns are matched as they are written, so `main.C` is C++ and `main.c` is C. Patterns with a character class (`*.php[345]`,
`*.x[bp]m`) are left out, as PolyCoder's extraction never matched them.
"""

from collections.abc import Collection, Mapping

from pygments.lexers import get_all_lexers

LANGUAGES = ("C", "C#", "C++", "Go", "Java", "JavaScript", "PHP", "Python", "Ruby", "Rust", "Scala", "TypeScript")
"""The twelve languages of PolyCoder, by the names of their lexers."""

SHARED_SUFFIXES: dict[str, tuple[str, ...]] = {
    ".h": ("C", "C++"),
    ".hh": ("C++",),  # also Objective-C++
    ".cp": ("C++",),  # also Component Pascal
    ".inc": (),  # PHP, but more often assembler, C or Pascal
    ".sc": (),  # Python, but more often SuperCollider or Scala
}
"""Suffixes that files of several languages have, and which of the twelve a file can be in."""


def name_table(languages: Collection[str]) -> tuple[dict[str, tuple[str, ...]], dict[str, tuple[str, ...]]]:
    """Pygments' patterns of the languages as two tables: by whole file name, and by suffix with its dot."""
    names: dict[str, tuple[str, ...]] = {}
    suffixes: dict[str, tuple[str, ...]] = {}
    for language, _, patterns, _ in get_all_lexers(plugins=False):
        if language not in languages:
            continue
        for pattern in patterns:
            if "[" in pattern:
                continue
            if pattern.startswith("*."):
                suffixes[pattern[1:]] = (language,)
            else:
                names[pattern] = (language,)
    return names, suffixes | SHARED_SUFFIXES


NAMES, SUFFIXES = name_table(LANGUAGES)


def candidates(path: str) -> tuple[str, ...]:
    """The languages a file can be in by its name; none where the name says nothing.

    >>> candidates("a/SConstruct"), candidates("main.C"), candidates("lib.rs.in"), candidates(".h"), candidates("notes.txt")
    (('Python',), ('C++',), ('Rust',), ('C', 'C++'), ())
    """
    name = path.rsplit("/", 1)[-1]
    if name in NAMES:
        return NAMES[name]
    dot = name.find(".")
    while dot >= 0:
        found = SUFFIXES.get(name[dot:])
        if found is not None:
            return found
        dot = name.find(".", dot + 1)
    return ()


def settle(languages: tuple[str, ...], files_in_project: Mapping[str, int]) -> str | None:
    """The one language of a file with these candidates: the one that most files of its project have by name alone, else the first.

    >>> settle(("C", "C++"), {"C": 1, "C++": 7}), settle(("C", "C++"), {"Python": 9}), settle((), {})
    ('C++', 'C', None)
    """
    return max(languages, key=lambda language: files_in_project.get(language, 0), default=None)
