"""Read which licenses REUSE (reuse.software) states for files by their paths: REUSE.toml, and .reuse/dep5 of older versions.

    annotations("lib/REUSE.toml", text)        [("^img/[^/]*$", "CC0-1.0")]: expressions for paths below lib/

The last annotation that matches a path applies. The headers of files take precedence over all of them.
"""

import re
import tomllib
from collections.abc import Iterator

from neox_code.corpus.licenses.license_names import spdx_expression
from neox_code.corpus.licenses.notices import UNKNOWN, join_expressions

WILDCARD = re.compile(r"\\.|\*\*|\*|\?|[^\\*?]+")


def is_reuse_file(path: str) -> bool:
    return path.rpartition("/")[2] == "REUSE.toml" or f"/{path}".endswith("/.reuse/dep5")


def annotations(path: str, text: str) -> list[tuple[str, str]]:
    """Return pairs of a regular expression for paths below the folder and an SPDX expression; none of a damaged file."""
    try:
        return list(of_toml(text) if path.endswith(".toml") else of_dep5(text))
    except (tomllib.TOMLDecodeError, AttributeError, TypeError):
        return []


def of_toml(text: str) -> Iterator[tuple[str, str]]:
    for annotation in tomllib.loads(text).get("annotations", ()):
        paths, licenses = (as_list(annotation.get(key)) for key in ("path", "SPDX-License-Identifier"))
        if licenses:
            expression = join_expressions({spdx_expression(one) or UNKNOWN for one in licenses}, "AND")
            yield from ((path_pattern(path, star="[^/]*"), expression) for path in paths)


def as_list(value: str | list[str] | None) -> list[str]:
    return [value] if isinstance(value, str) else value or []


def of_dep5(text: str) -> Iterator[tuple[str, str]]:
    for stanza in re.split(r"\n[ \t]*\n", text):
        files, license = (re.search(rf"^{key}:[ \t]*(.*(?:\n[ \t]+.*)*)", stanza, re.MULTILINE) for key in ("Files", "License"))
        if files and license:
            expression = spdx_expression(license[1].split("\n")[0].strip()) or UNKNOWN
            yield from ((path_pattern(path, star=".*"), expression) for path in files[1].split())


def path_pattern(path: str, star: str) -> str:
    r"""
    >>> path_pattern("docs/**", "[^/]*"), path_pattern(r"a\*.c", ".*")
    ('^docs/.*$', '^a\\*\\.c$')
    """
    parts = (
        re.escape(part[1]) if part[0] == "\\" else {"**": ".*", "*": star, "?": "."}.get(part) or re.escape(part)
        for part in WILDCARD.findall(path.removeprefix("./"))
    )
    return f"^{''.join(parts)}$"
