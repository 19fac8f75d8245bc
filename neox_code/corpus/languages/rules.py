r"""Rules that decide the language of a file: by the language of its project, or by the file itself.

    rule = ProjectLanguage(("C", "C++", "Go"))
    rule.find_languages_by_name(Project("me/tree"), "src/vector.h")                        ("C", "C++"): its project decides
    rule.find_languages_by_name(Project("me/tree", language="C++"), "src/vector.h")        ("C++",)

    rule = FileLanguage(("C", "C++", "Python"))
    rule.find_languages_by_name(project, "src/vector.h")                                   ("C", "C++"): its content decides
    rule.find_languages_by_name(project, "bin/deploy")                                     None: its content decides
    rule.find_languages_by_content(project, "bin/deploy", "#!/usr/bin/python3\n", None)    ("Python",)

Rules are small frozen dataclasses: they are pickled for other processes, and their `repr` identifies them.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from typing import Protocol

from neox_code.corpus.languages.polycoder_names import LANGUAGES, find_languages, is_name_of, list_name_endings
from neox_code.corpus.linguist.counting import find_counted_language
from neox_code.corpus.linguist.detect import detect, find_by_name
from neox_code.corpus.linguist.tables import LANGUAGE_TYPES
from neox_code.corpus.sources.protocol import Project
from neox_code.errors import DataError
from neox_code.languages import LanguageFile


class LanguageRule(Protocol):
    @property
    def name(self) -> str: ...

    @property
    def languages(self) -> tuple[str, ...]:
        """The languages that the rule selects. `dataclasses.replace(rule, languages=...)` makes a rule for fewer languages."""
        ...

    @property
    def selects_by_project(self) -> bool:
        """True if a file with several possible languages gets the language of its project."""
        ...

    def find_languages_by_name(self, project: Project, path: str) -> tuple[str, ...] | None:
        """Return the possible languages of a file by its name; () if there is none, None if its content must be read."""
        ...

    def find_languages_by_content(
        self, project: Project, path: str, text: str, possible: tuple[str, ...] | None
    ) -> tuple[str, ...]:
        """Return the language of a file by its content, or several if the project's language selects one.

        Pass the result of `find_languages_by_name`.
        """
        ...

    def get_counted_language(self, path: str, text: str | None = None) -> str | None:
        """Return the language to which the file's bytes are added to find the main language of its project; None: not counted.

        Pass the text if the file was read, because the result depends on it: a `.h` file is C by its name and often C++ by its
        content, and some generated files are recognized only by their content.
        """
        ...


@dataclass(frozen=True)
class ProjectLanguage:
    """PolyCoder's rule: a file is in its project's language if its name allows it. Content is ignored."""

    languages: tuple[str, ...] = LANGUAGES
    name = "language of the project"
    selects_by_project = True

    def __post_init__(self) -> None:
        for language in self.languages:
            list_name_endings(language)

    def find_languages_by_name(self, project: Project, path: str) -> tuple[str, ...] | None:
        language = project.language
        if language is None:
            return find_languages(path, self.languages)
        return (language,) if language in self.languages and is_name_of(language, path) else ()

    def find_languages_by_content(
        self, project: Project, path: str, text: str, possible: tuple[str, ...] | None
    ) -> tuple[str, ...]:
        return possible or ()

    def get_counted_language(self, path: str, text: str | None = None) -> str | None:
        return find_counted_language(path, text)


@dataclass(frozen=True)
class FileLanguage:
    """Linguist's rule: each file has its own language.

    A file is read if its name can have a selected language or if it has no extension. A file with the extension of another language
    is not read, although a modeline in it could declare a selected language.
    """

    languages: tuple[str, ...] = LANGUAGES
    name = "language of the file"
    selects_by_project = False

    def __post_init__(self) -> None:
        for language in self.languages:
            if language not in LANGUAGE_TYPES:
                near = " or ".join(get_close_matches(language, LANGUAGE_TYPES))
                raise DataError(f"linguist has no language {language!r}.{f' Is it {near}?' if near else ''}")

    def find_languages_by_name(self, project: Project, path: str) -> tuple[str, ...] | None:
        names = find_by_name(path)
        if names:
            return select_languages(names, self.languages)
        return () if "." in path[path.rfind("/") + 1 :] else None

    def find_languages_by_content(
        self, project: Project, path: str, text: str, possible: tuple[str, ...] | None
    ) -> tuple[str, ...]:
        language = detect(path, text)
        return (language,) if language in self.languages else ()

    def get_counted_language(self, path: str, text: str | None = None) -> str | None:
        return find_counted_language(path, text)


@dataclass(frozen=True)
class DescribedLanguage(FileLanguage):
    """Linguist's rule, for files with the suffixes of language files (neox_code/languages.py); their patterns have priority."""

    described: tuple[tuple[str, tuple[str, ...], str | None], ...] = ()
    """Name, suffixes and pattern of each language file."""
    name = "language of the file, by language files"

    def __post_init__(self) -> None:
        FileLanguage(tuple(sorted(set(self.languages).difference(name for name, _, _ in self.described))))

    def find_languages_by_name(self, project: Project, path: str) -> tuple[str, ...] | None:
        names = [name for name, suffixes, _ in self.described if name in self.languages and path.lower().endswith(suffixes)]
        if names or len(self.described) == len(self.languages):  # else linguist finds the others
            return tuple(names)
        return super().find_languages_by_name(project, path)

    def find_languages_by_content(
        self, project: Project, path: str, text: str, possible: tuple[str, ...] | None
    ) -> tuple[str, ...]:
        for name, _, pattern in self.described:
            is_alone = pattern is None and name not in LANGUAGE_TYPES
            if name in (possible or ()) and (is_alone or (pattern and re.search(pattern, text, re.MULTILINE))):
                return (name,)
        return super().find_languages_by_content(project, path, text, possible)


def describe_languages(files: Sequence[LanguageFile], others: Sequence[str] = ()) -> DescribedLanguage:
    """Return the rule that selects the languages of language files, and others of linguist."""
    described = tuple((file.name, tuple(suffix.lower() for suffix in file.suffixes), file.pattern) for file in files)
    return DescribedLanguage((*(file.name for file in files), *others), described)


@cache
def select_languages(names: tuple[str, ...], languages: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name for name in names if name in languages)
