"""Read the license that a package's manifest states: package.json, pyproject.toml, Cargo.toml and their like.

    is_manifest("web/package.json")                                             True
    license_of_manifest("Cargo.toml", 'license = "MIT/Apache-2.0"')             "MIT OR Apache-2.0" (below [package])
    license_of_manifest("package.json", '{"license": "SEE LICENSE IN EE.md"}')  "file:EE.md"
    license_of_manifest("package.json", '{"license": "UNLICENSED"}')            UNKNOWN

A manifest that is damaged or states nothing gives None. `file:` and a path, relative to the manifest, stand for a license file.
"""

import json
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from configparser import ConfigParser
from typing import Any

from neox_code.corpus.licenses.license import FILE
from neox_code.corpus.licenses.license_names import R_FILE, spdx_expression
from neox_code.corpus.licenses.notices import UNKNOWN, join_expressions

SEE_FILE = re.compile(r"see licen[cs]e in <?([^\s<>]+)>?|file:(\S+)", re.IGNORECASE)
NOTHING = frozenset({"", "none", "null", "noassertion", "other", "unknown", "see license", "see license file"})
CLASSIFIER = "License :: "
GEMSPEC_LICENSE = re.compile(r"^\s*\w+\.licen[cs]es?\s*=\s*(\[[^\]]*\]|%w[\[({][^\])}]*[\])}]|['\"][^'\"]*['\"])", re.MULTILINE)
SETUP_LICENSE = re.compile(r"^\s*license\s*=\s*(['\"][^'\"\n]*['\"])", re.MULTILINE)
QUOTED = re.compile(r"['\"]([^'\"]*)['\"]")
POM_LICENSES = re.compile(r"<licenses>(.*?)</licenses>", re.DOTALL)
XML_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
POM_NAME = re.compile(r"<name>([^<]*)</name>")


def stated(values: Iterable[Any], operator: str = "OR") -> str | None:
    """Return the expression of a field with one value or several."""
    expressions = set()
    for value in values:
        if not isinstance(value, str) or value.strip().lower() in NOTHING:
            continue
        see = SEE_FILE.fullmatch(value.strip())
        expressions.add(f"{FILE}{see[1] or see[2]}" if see else spdx_expression(value) or UNKNOWN)
    files = [expression for expression in expressions if expression.startswith(FILE)]
    return files[0] if files else join_expressions(expressions, operator) if expressions else None


def table(value: Any, *keys: str) -> Mapping[str, Any]:
    """Return the table below the keys; an empty one where it is missing or no table."""
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value if isinstance(value, dict) else {}


def of_package_json(text: str) -> str | None:
    package = table(json.loads(text))
    license, licenses = package.get("license"), package.get("licenses")
    values = licenses if license is None and isinstance(licenses, list) else license if isinstance(license, list) else [license]
    return stated(value.get("type") if isinstance(value, dict) else value for value in values)


def of_toml(text: str) -> str | None:
    """Return the license in Cargo.toml or pyproject.toml, whose tables have different names."""
    value = tomllib.loads(text)
    for keys in (("package",), ("workspace", "package"), ("project",), ("tool", "poetry")):
        package = table(value, *keys)
        license = package.get("license")
        if isinstance(license, dict):
            license = license.get("text") or (license.get("file") and f"{FILE}{license['file']}")
            license = license if license is None or len(license) < LONGEST_NAME else None
        license = license or (package.get("license-file") and f"{FILE}{package['license-file']}")
        found = stated([license]) or of_classifiers(package.get("classifiers"))
        if found is not None:
            return found
    return None


LONGEST_NAME = 200
"""The longest license name in characters; a longer value is the text of a license, which is in a file as well."""


def of_classifiers(classifiers: Any) -> str | None:
    names = [name for name in classifiers if isinstance(name, str)] if isinstance(classifiers, list) else []
    licenses = [name for name in names if name.startswith(CLASSIFIER) and name != f"{CLASSIFIER}OSI Approved"]
    return stated(licenses, "AND")  # the classifiers do not state a choice


def of_setup_cfg(text: str) -> str | None:
    parser = ConfigParser(interpolation=None, strict=False)
    parser.read_string(text)
    metadata = parser["metadata"] if parser.has_section("metadata") else {}
    file = metadata.get("license_file") or metadata.get("license-file")
    license = metadata.get("license", "")
    if license.startswith(FILE):
        file, license = license.removeprefix(FILE).strip(), ""
    classifiers = of_classifiers((metadata.get("classifiers") or metadata.get("classifier") or "").split("\n"))
    return stated([license]) or classifiers or stated([file and f"{FILE}{file}"])


def of_pom(text: str) -> str | None:
    found = POM_LICENSES.search(XML_COMMENT.sub("", text))
    return stated(POM_NAME.findall(found[1])) if found else None


def of_ruby(text: str) -> str | None:
    found = GEMSPEC_LICENSE.search(text)
    if found is None:
        return None
    return stated(QUOTED.findall(found[1]) or found[1][3:-1].split())


def of_setup_py(text: str) -> str | None:
    found = SETUP_LICENSE.search(text)
    return stated([found[1][1:-1]]) if found else of_classifiers(QUOTED.findall(text))


def of_description(text: str) -> str | None:
    """Return the license in the DESCRIPTION of an R package."""
    fields = dict(re.findall(r"^(Package|License):[ \t]*(.*(?:\n[ \t]+.*)*)", text, re.MULTILINE))
    license = " ".join(fields.get("License", "").split())
    if "Package" not in fields or not license:
        return None
    file = re.fullmatch(r"file (\S+)", license, re.IGNORECASE)
    return f"{FILE}{file[1]}" if file else stated([R_FILE.sub("", license)])


READERS: dict[str, Callable[[str], str | None]] = {
    "package.json": of_package_json,
    "composer.json": of_package_json,
    "pyproject.toml": of_toml,
    "Cargo.toml": of_toml,
    "setup.cfg": of_setup_cfg,
    "setup.py": of_setup_py,
    "pom.xml": of_pom,
    "DESCRIPTION": of_description,
}


def reader_of(path: str) -> Callable[[str], str | None] | None:
    name = path[path.rfind("/") + 1 :]
    return of_ruby if name.endswith(".gemspec") else READERS.get(name)


def is_manifest(path: str) -> bool:
    return reader_of(path) is not None


def license_of_manifest(path: str, text: str) -> str | None:
    reader = reader_of(path)
    assert reader is not None
    try:
        return reader(text)
    except (
        Exception
    ):  # of many kinds for a damaged file: json, tomllib and configparser have their own, deep nesting RecursionError
        return None
