"""Which language a file of a corpus is in: the rule of its project, or the file's own.

    rule = ProjectLanguage(("C", "C++", "Go"))
    rule.by_name(Project("me/tree"), "src/vector.h")                    ("C", "C++"): the language of the project decides
    rule.by_name(Project("me/tree", language="C++"), "src/vector.h")    ("C++",)

    rule = FileLanguage(("C", "C++", "Python"))
    rule.by_name(project, "src/vector.h")                               ("C", "C++"): its content decides
    rule.by_name(project, "bin/deploy")                                 None: only its content can tell
    rule.by_content(project, "bin/deploy", "#!/usr/bin/python3\n", None)    ("Python",)

Rules are small frozen dataclasses: they travel to other processes, and their `repr` tells one from another.
"""

from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from typing import Protocol

from neox_code.corpus.languages.polycoder_names import LANGUAGES, is_name_of, languages_of, name_ends
from neox_code.corpus.linguist.counting import find_counted_language
from neox_code.corpus.linguist.detect import by_name as linguist_by_name
from neox_code.corpus.linguist.detect import detect
from neox_code.corpus.linguist.tables import LANGUAGE_TYPES
from neox_code.corpus.sources.protocol import Project
from neox_code.errors import DataError


class LanguageRule(Protocol):
    @property
    def name(self) -> str: ...

    @property
    def languages(self) -> tuple[str, ...]:
        """The languages that are looked for; `dataclasses.replace(rule, languages=...)` chooses among them."""
        ...

    @property
    def of_project(self) -> bool:
        """True: a file can have several languages, of which the one of its project is taken. False: it has at most one."""
        ...

    def by_name(self, project: Project, path: str) -> tuple[str, ...] | None:
        """The languages that the file can be in by its name: none of those looked for: (); where only its content tells: None."""
        ...

    def by_content(self, project: Project, path: str, text: str, by_name: tuple[str, ...] | None) -> tuple[str, ...]:
        """The languages that it is in, or can be in where the project decides; `by_name` is what that method has said."""
        ...

    def counted(self, path: str, text: str | None = None) -> str | None:
        """The language, of all there are, for which its bytes count when the majority of its project is found; None: it does not.

        Of a file that is read anyway the text is passed: by its name alone a `.h` is C, by its content often C++; and only its
        content tells whether it was generated.
        """
        ...


@dataclass(frozen=True)
class ProjectLanguage:
    """PolyCoder's: the files of a project whose names Code-LMs takes for the project's language. Content plays no part."""

    languages: tuple[str, ...] = LANGUAGES
    name = "language of the project"
    of_project = True

    def __post_init__(self) -> None:
        for language in self.languages:
            name_ends(language)

    def by_name(self, project: Project, path: str) -> tuple[str, ...] | None:
        language = project.language
        if language is None:
            return languages_of(path, self.languages)
        return (language,) if language in self.languages and is_name_of(language, path) else ()

    def by_content(self, project: Project, path: str, text: str, by_name: tuple[str, ...] | None) -> tuple[str, ...]:
        return by_name or ()

    def counted(self, path: str, text: str | None = None) -> str | None:
        return find_counted_language(path, text)


@dataclass(frozen=True)
class FileLanguage:
    """Linguist's: every file in its own language.

    Read are the files whose names are of a language that is looked for, and those without an extension; a file whose name is of
    another language is not, though a modeline may say otherwise.
    """

    languages: tuple[str, ...] = LANGUAGES
    name = "language of the file"
    of_project = False

    def __post_init__(self) -> None:
        for language in self.languages:
            if language not in LANGUAGE_TYPES:
                near = " or ".join(get_close_matches(language, LANGUAGE_TYPES))
                raise DataError(f"language {language!r} is not known to linguist.{f' Is it {near}?' if near else ''}")

    def by_name(self, project: Project, path: str) -> tuple[str, ...] | None:
        names = linguist_by_name(path)
        if names:
            return common(names, self.languages)
        return () if "." in path[path.rfind("/") + 1 :] else None

    def by_content(self, project: Project, path: str, text: str, by_name: tuple[str, ...] | None) -> tuple[str, ...]:
        language = detect(path, text)
        return (language,) if language in self.languages else ()

    def counted(self, path: str, text: str | None = None) -> str | None:
        return find_counted_language(path, text)


@cache
def common(names: tuple[str, ...], languages: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name for name in names if name in languages)
