"""Read the license that a package's manifest states: package.json, pyproject.toml, Cargo.toml and their like.

    is_manifest("web/package.json")                                             True
    read_manifest_license("Cargo.toml", 'license = "MIT/Apache-2.0"')             "MIT OR Apache-2.0" (below [package])
    read_manifest_license("package.json", '{"license": "SEE LICENSE IN EE.md"}')  "file:EE.md"
    read_manifest_license("package.json", '{"license": "UNLICENSED"}')            UNKNOWN

The result is None if the manifest is damaged or has no license. A result `file:PATH` refers to a license file; PATH is relative to
the manifest.
"""

import json
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from configparser import ConfigParser
from typing import Any

from neox_code.corpus.licenses.license import FILE
from neox_code.corpus.licenses.license_names import R_FILE, parse_license_names
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


def read_field_values(values: Iterable[Any], operator: str = "OR") -> str | None:
    """Return the SPDX expression of a license field's values, or a reference to a file; None if no value names a license."""
    expressions = set()
    for value in values:
        if not isinstance(value, str) or value.strip().lower() in NOTHING:
            continue
        see = SEE_FILE.fullmatch(value.strip())
        expressions.add(f"{FILE}{see[1] or see[2]}" if see else parse_license_names(value) or UNKNOWN)
    files = [expression for expression in expressions if expression.startswith(FILE)]
    return files[0] if files else join_expressions(expressions, operator) if expressions else None


def find_table(value: Any, *keys: str) -> Mapping[str, Any]:
    """Return the table at a path of keys; an empty one if it is missing or not a table."""
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value if isinstance(value, dict) else {}


def read_package_json(text: str) -> str | None:
    package = find_table(json.loads(text))
    license = package.get("licenses") if package.get("license") is None else package["license"]
    values = license if isinstance(license, list) else [license]
    return read_field_values(value.get("type") if isinstance(value, dict) else value for value in values)


def read_toml_manifest(text: str) -> str | None:
    """Return the license in Cargo.toml or pyproject.toml. Each tool (Cargo, Poetry ...) has another table for it."""
    value = tomllib.loads(text)
    for keys in (("package",), ("workspace", "package"), ("project",), ("tool", "poetry")):
        package = find_table(value, *keys)
        license = package.get("license")
        if isinstance(license, dict):
            license = license.get("text") or (license.get("file") and f"{FILE}{license['file']}")
            license = license if license is None or len(license) < LONGEST_NAME else None
        license = license or (package.get("license-file") and f"{FILE}{package['license-file']}")
        found = read_field_values([license]) or read_classifiers(package.get("classifiers"))
        if found is not None:
            return found
    return None


LONGEST_NAME = 200
"""Maximum length of a license name in characters. A longer value is a license text. It is ignored, since a file has the text."""


def read_classifiers(classifiers: Any) -> str | None:
    names = [name for name in classifiers if isinstance(name, str)] if isinstance(classifiers, list) else []
    licenses = [name for name in names if name.startswith(CLASSIFIER) and name != f"{CLASSIFIER}OSI Approved"]
    return read_field_values(licenses, "AND")  # classifiers do not express a choice between licenses


def read_setup_cfg(text: str) -> str | None:
    parser = ConfigParser(interpolation=None, strict=False)
    parser.read_string(text)
    metadata = parser["metadata"] if parser.has_section("metadata") else {}
    file = metadata.get("license_file") or metadata.get("license-file")
    license = metadata.get("license", "")
    if license.startswith(FILE):
        file, license = license.removeprefix(FILE).strip(), ""
    classifiers = read_classifiers((metadata.get("classifiers") or metadata.get("classifier") or "").split("\n"))
    return read_field_values([license]) or classifiers or read_field_values([file and f"{FILE}{file}"])


def read_pom(text: str) -> str | None:
    found = POM_LICENSES.search(XML_COMMENT.sub("", text))
    return read_field_values(POM_NAME.findall(found[1])) if found else None


def read_gemspec(text: str) -> str | None:
    found = GEMSPEC_LICENSE.search(text)
    if found is None:
        return None
    return read_field_values(QUOTED.findall(found[1]) or found[1][3:-1].split())


def read_setup_py(text: str) -> str | None:
    found = SETUP_LICENSE.search(text)
    return read_field_values([found[1][1:-1]]) if found else read_classifiers(QUOTED.findall(text))


def read_r_description(text: str) -> str | None:
    fields = dict(re.findall(r"^(Package|License):[ \t]*(.*(?:\n[ \t]+.*)*)", text, re.MULTILINE))
    license = " ".join(fields.get("License", "").split())
    if "Package" not in fields or not license:
        return None
    file = re.fullmatch(r"file (\S+)", license, re.IGNORECASE)
    return f"{FILE}{file[1]}" if file else read_field_values([R_FILE.sub("", license)])


READERS: dict[str, Callable[[str], str | None]] = {
    "package.json": read_package_json,
    "composer.json": read_package_json,
    "pyproject.toml": read_toml_manifest,
    "Cargo.toml": read_toml_manifest,
    "setup.cfg": read_setup_cfg,
    "setup.py": read_setup_py,
    "pom.xml": read_pom,
    "DESCRIPTION": read_r_description,
}


def select_reader(path: str) -> Callable[[str], str | None] | None:
    name = path[path.rfind("/") + 1 :]
    return read_gemspec if name.endswith(".gemspec") else READERS.get(name)


def is_manifest(path: str) -> bool:
    return select_reader(path) is not None


def read_manifest_license(path: str, text: str) -> str | None:
    reader = select_reader(path)
    assert reader is not None
    try:
        return reader(text)
    except Exception:  # json, tomllib and configparser raise errors of their own; deep nesting raises RecursionError
        return None
