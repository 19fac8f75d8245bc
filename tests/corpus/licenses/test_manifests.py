import json

import pytest

from neox_code.corpus.licenses.manifests import is_manifest, read_manifest_license
from neox_code.corpus.licenses.notices import UNKNOWN
from neox_code.corpus.licenses.reuse import read_annotations

POM = "<project><licenses><license><name>{}</name><url>x</url></license></licenses></project>"


@pytest.mark.parametrize(
    ("path", "text", "expression"),
    [
        ("package.json", '{"license": "MIT"}', "MIT"),
        ("package.json", '{"license": {"type": "BSD-2-Clause", "url": "x"}}', "BSD-2-Clause"),
        ("package.json", '{"licenses": [{"type": "MIT"}, {"type": "GPL-2.0"}]}', "GPL-2.0-only OR MIT"),
        ("package.json", '{"licenses": {"type": "MIT", "url": "x"}}', "MIT"),
        ("package.json", '{"licenses": "MIT"}', "MIT"),
        ("package.json", '{"license": "UNLICENSED"}', UNKNOWN),
        ("package.json", '{"license": "SEE LICENSE IN LICENSE_EE.md"}', "file:LICENSE_EE.md"),
        ("package.json", '{"name": "x"}', None),
        ("package.json", '{"license": 7}', None),
        ("package.json", "{", None),
        ("package.json", "[" * 100_000, None),
        ("composer.json", '{"license": ["MIT", "GPL-2.0-or-later"]}', "GPL-2.0-or-later OR MIT"),
        ("composer.json", '{"license": "proprietary"}', UNKNOWN),
        ("a/Cargo.toml", '[package]\nlicense = "MIT/Apache-2.0"\n', "MIT OR Apache-2.0"),
        ("a/Cargo.toml", "[package]\nlicense.workspace = true\n", None),
        ("Cargo.toml", '[workspace.package]\nlicense = "MIT"\n', "MIT"),
        ("a/Cargo.toml", '[package]\nlicense-file = "../LICENSE"\n', "file:../LICENSE"),
        ("pyproject.toml", '[project]\nlicense = {text = "MIT License"}\n', "MIT"),
        ("pyproject.toml", '[project]\nlicense = "BSD-3-Clause OR MIT"\n', "BSD-3-Clause OR MIT"),
        ("pyproject.toml", '[project]\nlicense = {file = "LICENSE"}\n', "file:LICENSE"),
        ("pyproject.toml", '[project]\nclassifiers = ["License :: OSI Approved :: MIT License", "Topic :: X"]\n', "MIT"),
        ("pyproject.toml", '[tool.poetry]\nlicense = "Apache License 2.0"\n', "Apache-2.0"),
        ("setup.cfg", "[metadata]\nlicense = MIT License\nlicense_file = LICENSE\n", "MIT"),
        ("setup.cfg", "[metadata]\nclassifiers =\n    License :: OSI Approved :: BSD License\n    Topic :: X\n", "BSD-3-Clause"),
        ("setup.cfg", "[options]\nzip_safe = no\n", None),
        ("setup.py", "setup(\n    name='x',\n    license='Apache 2.0',\n)\n", "Apache-2.0"),
        ("pom.xml", POM.format("Apache License, Version 2.0"), "Apache-2.0"),
        ("pom.xml", f"<!--{POM.format('MIT')}-->", None),
        ("x.gemspec", "Gem::Specification.new do |s|\n  s.license = 'MIT'\nend\n", "MIT"),
        ("x.gemspec", '  spec.licenses    = ["MIT", "Ruby"]\n', "MIT OR Ruby"),
        ("DESCRIPTION", "Package: x\nLicense: MIT + file LICENSE\n", "MIT"),
        ("DESCRIPTION", "Package: x\nLicense: GPL (>= 2)\nEncoding: UTF-8\n", "GPL-2.0-or-later"),
        ("DESCRIPTION", "Package: x\nLicense: file LICENSE\n", "file:LICENSE"),
    ],
)
def test_manifests_state_their_license(path, text, expression):
    assert is_manifest(path)
    assert read_manifest_license(path, text) == expression


def test_an_unknown_license_name_in_json_is_an_unknown_license():
    assert read_manifest_license("package.json", json.dumps({"license": "ask us (" * 20})) == UNKNOWN
    assert not is_manifest("package.json.bak") and not is_manifest("src/description")


def test_reuse_assigns_licenses_to_paths():
    toml = '[[annotations]]\npath = ["img/*", "doc/**"]\nSPDX-License-Identifier = "CC0-1.0"\n'
    assert read_annotations("REUSE.toml", toml) == [("^img/[^/]*$", "CC0-1.0"), ("^doc/.*$", "CC0-1.0")]
    dep5 = "Format: https://example.org\n\nFiles: src/* a?.c\nCopyright: Ann\nLicense: GPL-3+\n"
    assert read_annotations(".reuse/dep5", dep5) == [("^src/.*$", "GPL-3.0-or-later"), (r"^a.\.c$", "GPL-3.0-or-later")]
    assert read_annotations("REUSE.toml", "[[annotations") == read_annotations("REUSE.toml", "annotations = 7") == []
