"""Find the license of a file from the license files and manifests in its folder and in the folders above.

    licenses = FolderLicenses()
    licenses.add("LICENSE", "MIT")
    licenses.add("ee/LICENSE", UNKNOWN)
    licenses.find("ee/server/main.go", listed=None)       StatedLicense("LicenseRef-unknown", "ee/LICENSE")

The first of these rules that gives a license applies:
1. An annotation of REUSE (reuse.py) for the file.
2. The license files of the nearest folder that has any. A text that is not recognized is an unknown license.
3. The license that a repository list or dataset gives for the repository.
4. The nearest manifest (package.json ...).
If 2 or 3 applies, the license of a nearer manifest is added to it.

A vendored folder (node_modules, third_party, vendor ...) is a project of its own: license files above it do not apply in it. If
the projects are folders of one source, the search continues in the source's root folder: see `inherit_from`.
"""

import json
import posixpath
import re
from collections.abc import Sequence
from copy import copy
from typing import NamedTuple

from neox_code.corpus.licenses.license import (
    FILE,
    NEAREST,
    drop_base_licenses,
    is_license_file,
    list_license_keys,
    read_license_file,
    simplify_expression,
)
from neox_code.corpus.licenses.license_names import parse_license_names
from neox_code.corpus.licenses.manifests import NOTHING, is_manifest, read_manifest_license
from neox_code.corpus.licenses.notices import UNKNOWN, join_expressions
from neox_code.corpus.licenses.reuse import is_reuse_file, read_annotations

VENDORED_FOLDER = re.compile(
    r"(?:.*/)?(?:node_modules|bower_components|_?vendor(?:s|ed)?|(?:third|3rd)[-_]?part(?:y|ies)|(?:site|dist)-packages)",
    re.IGNORECASE,
)
PLAIN_NAME = re.compile(r"(?:un)?licen[cs]es?|copying|copyright", re.IGNORECASE)
TEXT_SUFFIX = re.compile(r"\.(?:txt|md|rst|html?|adoc)$", re.IGNORECASE)
REUSE_FOLDER = "LICENSES"
LONGEST_CHAIN = 40
"""Maximum number of links that are followed one after another, as in Linux."""


class StatedLicense(NamedTuple):
    expression: str | None
    """SPDX expression of the license; None if there is no license."""
    file: str | None
    """Path in the project of the file that states the license, or several paths joined by commas; None if no file states it."""


Statement = tuple[str, str]
"""The path of a license file or manifest, and the SPDX expression that it states for its folder."""


def states_license(path: str) -> bool:
    """Return True for a file that states the license of other files. Such a file is read even if the corpus does not want it."""
    return is_license_file(path) or is_manifest(path) or is_reuse_file(path)


def read_statement(path: str, text: str) -> str | None:
    """Return the license that a license file or manifest states, as a string for `FolderLicenses.add`; None if it states none."""
    if is_reuse_file(path):
        return json.dumps(found) if (found := read_annotations(path, text)) else None
    if is_manifest(path):
        return read_manifest_license(path, text)
    return read_license_from_name(path) or read_license_file(path, text)


def make_unread_statement(path: str, link: str | None) -> str | None:
    """Return the statement of a license file or manifest that was not read. For a link it is a reference to the target.

    For other license files it is UNKNOWN, for other manifests None.
    """
    if is_reuse_file(path):
        return json.dumps([(".*", UNKNOWN)])
    if is_manifest(path):
        return None if link is None else f"{FILE}{link}"
    return read_license_from_name(path) or (UNKNOWN if link is None else f"{FILE}{link}")


def read_license_from_name(path: str) -> str | None:
    """Return the license of a file in REUSE's folder LICENSES, where the file name is the license; None for other files."""
    folder, _, name = path.rpartition("/")
    if folder.rpartition("/")[2] == REUSE_FOLDER and not PLAIN_NAME.match(name):
        return parse_license_names(name.removesuffix(".txt")) or UNKNOWN
    return None


class FolderLicenses:
    def __init__(self) -> None:
        self._statements: dict[str, dict[str, str]] = {}
        self._annotations: list[tuple[str, str, re.Pattern[str], str]] = []
        self._above: FolderLicenses | None = None
        self._folder = ""
        self._resolved_folders: dict[str, list[Statement]] = {}

    def inherit_from(self, above: "FolderLicenses", folder: str) -> "FolderLicenses":
        """Return a copy that also uses the statements in the source's root, `above`. `folder` is the project's path below the root.

        In the result, the path of a file in the root is relative to the project's folder: ../LICENSE.
        """
        joined = copy(self)
        joined._above, joined._folder, joined._resolved_folders = above, folder, {}
        return joined

    def add(self, path: str, statement: str) -> None:
        """Add what a license file or manifest states, as `read_statement` returns it. For a repeated path the first is kept."""
        folder = path.rpartition("/")[0]
        if is_reuse_file(path):
            folder = folder.removesuffix(".reuse").rstrip("/") if path.endswith("dep5") else folder
            found = [
                (path, f"{folder}/" if folder else "", re.compile(pattern), expression)
                for pattern, expression in json.loads(statement)
            ]
            self._annotations = sorted([*self._annotations, *found], key=lambda annotation: annotation[1].count("/"))
            return
        self._statements.setdefault(folder, {}).setdefault(path, statement)
        self._resolved_folders.clear()

    @property
    def has_annotations(self) -> bool:
        return bool(self._annotations) or (self._above is not None and self._above.has_annotations)

    def find(self, path: str, listed: str | None) -> StatedLicense:
        """Return the license of a file; `listed` is the license that a list or dataset gives for the repository."""
        if (found := self.find_annotation(path)) is not None:
            return found
        if self._above is not None:
            annotation_above = self._above.find_annotation(f"{self._folder}/{path}".lstrip("/"))
            if annotation_above is not None:
                return StatedLicense(annotation_above.expression, f"{self._path_to_root}{annotation_above.file}")
        return self.find_in_folder(path.rpartition("/")[0], listed)

    def find_annotation(self, path: str) -> StatedLicense | None:
        """Return the license of a file by the annotations of REUSE; None if no annotation matches its path."""
        for file, folder, pattern, expression in reversed(self._annotations):
            if path.startswith(folder) and pattern.fullmatch(path, len(folder)):
                return StatedLicense(expression, file)
        return None

    def find_in_folder(self, folder: str, listed: str | None) -> StatedLicense:
        """Return the license of the files in a folder that have no annotation of REUSE."""
        nearest: StatedLicense | None = None
        licenses, up = self, ""
        while True:
            texts, manifests = licenses._find_statements(folder, up)
            if texts:
                return add_license_above(nearest, combine_license_files(texts, manifests))
            if not folder and licenses is self and listed is not None and listed.lower() not in NOTHING:
                return add_license_above(nearest, StatedLicense(parse_license_names(listed) or listed, None))
            if nearest is None and manifests:
                nearest = join_statements(manifests)
            if VENDORED_FOLDER.fullmatch(folder):
                return nearest or StatedLicense(None, None)
            if folder:
                folder = folder.rpartition("/")[0]
            elif licenses._above is None:
                return nearest or StatedLicense(None, None)
            else:
                folder, up, licenses = licenses._folder, licenses._path_to_root, licenses._above

    @property
    def _path_to_root(self) -> str:
        """The path from the project's folder to the source's root, with a slash at the end; empty if they are the same folder."""
        return "../" * len(list(filter(None, self._folder.split("/"))))

    def _find_statements(self, folder: str, up: str) -> tuple[list[Statement], list[Statement]]:
        """Return two lists for a folder: statements of its license files, and of its manifests. `up` is put before the paths."""
        own = self._resolve_statements(folder)
        texts = [statement for statement in own if not is_manifest(statement[0])]
        texts = texts or self._resolve_statements(posixpath.join(folder, REUSE_FOLDER))
        manifests = [(f"{up}{path}", license) for path, license in own if is_manifest(path)]
        return [(f"{up}{path}", license) for path, license in texts], manifests

    def _resolve_statements(self, folder: str) -> list[Statement]:
        """Return path and SPDX expression of every license file and manifest in a folder."""
        if folder in self._statements and folder not in self._resolved_folders:
            named = sorted(self._statements[folder].items())
            self._resolved_folders[folder] = [
                (path, expression) for path, statement in named if (expression := self._resolve(path, statement, frozenset()))
            ]
        return self._resolved_folders.get(folder, [])

    def _resolve(self, path: str, statement: str, passed: frozenset[str]) -> str | None:
        """Return the license that a file states. If it refers to another file, return that file's license.

        `passed` are the files through which references have led to this file. The license is unknown if a reference leads to a
        missing file, to a path outside the project, or back to a file in `passed`.
        """
        folder, passed = posixpath.dirname(path), passed | {path}
        kind = next((kind for kind in (FILE, NEAREST) if statement.startswith(kind)), None)
        if kind is None:
            return statement
        name = statement.removeprefix(kind)
        if kind == NEAREST:
            found = self._find_nearest(name, folder, passed)
        else:
            found = self._find_at(posixpath.normpath(posixpath.join(folder, name)), passed)
        is_silent = is_manifest(path) and (is_license_file(name) or is_manifest(name))
        return found or (None if is_silent else UNKNOWN)

    def _find_nearest(self, name: str, folder: str, passed: frozenset[str]) -> str | None:
        """Return the license in the file `name` (or `name`.txt ...) of the folder or the nearest folder above."""
        names = dict.fromkeys([name, *(f"{TEXT_SUFFIX.sub('', name)}{suffix}" for suffix in ("", ".txt", ".md", ".rst"))])
        while True:
            for path in (posixpath.join(folder, one) for one in names):
                if (found := self._find_at(path, passed)) is not None:
                    return found
            if not folder:
                return None if self._above is None else self._above._find_nearest(name, self._folder, frozenset())
            if VENDORED_FOLDER.fullmatch(folder):
                return None
            folder = folder.rpartition("/")[0]

    def _find_at(self, path: str, passed: frozenset[str]) -> str | None:
        """Return the license of the license file or REUSE folder at a path; None if there is none."""
        if path.startswith("../"):
            above = posixpath.normpath(posixpath.join(self._folder, path))
            return None if self._above is None else self._above._find_at(above, frozenset())
        if path in passed or len(passed) > LONGEST_CHAIN:
            return None
        if posixpath.basename(path) == REUSE_FOLDER and (texts := self._statements.get(path)):
            named = [(text, UNKNOWN if statement.startswith((FILE, NEAREST)) else statement) for text, statement in texts.items()]
            return join_statements(named).expression
        statement = self._statements.get(posixpath.dirname(path), {}).get(path)
        return None if statement is None else self._resolve(path, statement, passed)


def combine_license_files(texts: Sequence[Statement], manifests: Sequence[Statement]) -> StatedLicense:
    """Return the combined license of the license files of one folder.

    >>> combine_license_files([("LICENSE-APACHE", "Apache-2.0"), ("LICENSE-MIT", "MIT")], []).expression
    'Apache-2.0 OR MIT'
    >>> combine_license_files([("COPYING", "GPL-3.0-only"), ("COPYING.LESSER", "LGPL-3.0-only")], []).expression
    'LGPL-3.0-only'
    >>> manifests = [("package.json", "MIT OR GPL-2.0-or-later")]
    >>> combine_license_files([("COPYING", "GPL-2.0-only"), ("LICENSE", "MIT")], manifests).expression
    'MIT OR GPL-2.0-or-later'
    """
    expressions = drop_base_licenses({expression for _, expression in texts})
    keys = frozenset[str]().union(*map(list_license_keys, expressions))
    exact = [statement for statement in manifests if statement[1] not in expressions]
    for path, expression in (*exact, *texts):
        if list_license_keys(expression) == keys:  # this expression states how the licenses are joined
            return StatedLicense(expression, path)
    names = [posixpath.basename(path) for path, _ in texts]
    is_reuse = posixpath.dirname(texts[0][0]).endswith(REUSE_FOLDER)
    is_choice = UNKNOWN not in keys and not is_reuse and not any(PLAIN_NAME.fullmatch(TEXT_SUFFIX.sub("", name)) for name in names)
    return StatedLicense(
        simplify_expression(join_expressions(expressions, "OR" if is_choice else "AND")), ", ".join(path for path, _ in texts)
    )


def join_statements(statements: Sequence[Statement]) -> StatedLicense:
    expression = join_expressions({expression for _, expression in statements}, "AND")
    return StatedLicense(simplify_expression(expression), ", ".join(path for path, _ in statements))


def add_license_above(nearer: StatedLicense | None, above: StatedLicense) -> StatedLicense:
    """Return the license of files that have a manifest in a near folder and a license file in a folder above."""
    if nearer is None or nearer.expression is None or above.expression is None or nearer.expression == above.expression:
        return above
    files = ", ".join(file for file in (nearer.file, above.file) if file is not None)
    return StatedLicense(simplify_expression(join_expressions({nearer.expression, above.expression}, "AND")), files)
