"""Read the files in which REUSE (reuse.software) assigns licenses to paths: REUSE.toml, and .reuse/dep5 of older versions.

    read_annotations("lib/REUSE.toml", text)        [("^img/[^/]*$", "CC0-1.0")]: expressions for paths below lib/

The last annotation that matches a path applies. The header of a file takes precedence over annotations.
"""

import re
import tomllib
from collections.abc import Iterator

from neox_code.corpus.licenses.license_names import parse_license_names
from neox_code.corpus.licenses.notices import UNKNOWN, join_expressions

WILDCARD = re.compile(r"\\.|\*\*|\*|\?|[^\\*?]+")


def is_reuse_file(path: str) -> bool:
    return path.rpartition("/")[2] == "REUSE.toml" or f"/{path}".endswith("/.reuse/dep5")


def read_annotations(path: str, text: str) -> list[tuple[str, str]]:
    """Return pairs: a regular expression for paths below the file's folder, and an SPDX expression. A damaged file has none."""
    try:
        return list(read_reuse_toml(text) if path.endswith(".toml") else read_dep5(text))
    except (tomllib.TOMLDecodeError, AttributeError, TypeError):
        return []


def read_reuse_toml(text: str) -> Iterator[tuple[str, str]]:
    for annotation in tomllib.loads(text).get("annotations", ()):
        paths, licenses = (convert_to_list(annotation.get(key)) for key in ("path", "SPDX-License-Identifier"))
        if licenses:
            expression = join_expressions({parse_license_names(one) or UNKNOWN for one in licenses}, "AND")
            yield from ((make_path_pattern(path, star="[^/]*"), expression) for path in paths)


def convert_to_list(value: str | list[str] | None) -> list[str]:
    return [value] if isinstance(value, str) else value or []


def read_dep5(text: str) -> Iterator[tuple[str, str]]:
    for stanza in re.split(r"\n[ \t]*\n", text):
        files, license = (re.search(rf"^{key}:[ \t]*(.*(?:\n[ \t]+.*)*)", stanza, re.MULTILINE) for key in ("Files", "License"))
        if files and license:
            expression = parse_license_names(license[1].split("\n")[0].strip()) or UNKNOWN
            yield from ((make_path_pattern(path, star=".*"), expression) for path in files[1].split())


def make_path_pattern(path: str, star: str) -> str:
    r"""Return the regular expression of a path in REUSE.toml or dep5; `star` is the expression for `*`.

    >>> make_path_pattern("docs/**", "[^/]*"), make_path_pattern(r"a\*.c", ".*")
    ('^docs/.*$', '^a\\*\\.c$')
    """
    parts = (
        re.escape(part[1]) if part[0] == "\\" else {"**": ".*", "*": star, "?": "."}.get(part) or re.escape(part)
        for part in WILDCARD.findall(path.removeprefix("./"))
    )
    return f"^{''.join(parts)}$"
