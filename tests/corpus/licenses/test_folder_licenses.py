"""Which license holds for a file by the license files and manifests of its project."""

import json
import posixpath
import subprocess
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest
from identify.vendor.licenses import LICENSES

from neox_code.corpus.licenses.folder_licenses import FolderLicenses, statement_of
from neox_code.corpus.licenses.headers import UNKNOWN
from neox_code.corpus.licenses.license import AllowedLicenses
from neox_code.corpus.pipeline.build import build_corpus
from neox_code.corpus.recipes.registry import recipe_by_name
from neox_code.corpus.shards import SPLITS, iter_documents, read_manifest
from neox_code.errors import DataError

TEXTS = dict(LICENSES)
MIT, APACHE, BSD, ISC, GPL, LGPL = (TEXTS[name] for name in ("MIT", "Apache-2.0", "BSD-3-Clause", "ISC", "GPL-3.0", "LGPL-3.0"))
PROPRIETARY = "ACME LICENSE. All rights reserved. No copying, no machine learning without written consent.\n"
ENTERPRISE = "The Enterprise License. This software may only be used in production with a valid subscription.\n"
RECIPE = replace(recipe_by_name("mixed"), licenses=AllowedLicenses(), divide_large_projects=False)


def code(name: str) -> str:
    return "".join(f"def {name}_{number}(a):\n    return a * {number}\n" for number in range(20))


def licenses_of(files: dict[str, str]) -> FolderLicenses:
    licenses = FolderLicenses()
    for path, text in files.items():
        if (statement := statement_of(path, text)) is not None:
            licenses.add(path, statement)
    return licenses


@pytest.mark.parametrize(
    ("files", "path", "expression", "file"),
    [
        ({"LICENSE": PROPRIETARY, "contrib/x/LICENSE": MIT}, "contrib/x/deep/a.py", "MIT", "contrib/x/LICENSE"),
        ({"LICENSE": PROPRIETARY, "contrib/x/LICENSE": MIT}, "src/a.py", UNKNOWN, "LICENSE"),
        ({"contrib/x/LICENSE": MIT}, "src/a.py", None, None),
        ({"LICENSE": MIT, "gpl/COPYING": GPL}, "gpl/a.py", "GPL-3.0-only", "gpl/COPYING"),
        ({"LICENSE": APACHE, "ee/LICENSE": ENTERPRISE}, "ee/a.py", UNKNOWN, "ee/LICENSE"),
        ({"LICENSE": APACHE, "ee/LICENSE": ENTERPRISE}, "eels/a.py", "Apache-2.0", "LICENSE"),
        ({"LICENSE": MIT, "a/LICENSE": "../LICENSE"}, "a/a.py", "MIT", "LICENSE"),
        ({"LICENSE-MIT": MIT, "LICENSE-APACHE": APACHE}, "a.rs", "Apache-2.0 OR MIT", "LICENSE-APACHE, LICENSE-MIT"),
        ({"MIT-LICENSE.txt": MIT, "GPL-LICENSE.txt": GPL}, "a.js", "GPL-3.0-only OR MIT", "GPL-LICENSE.txt, MIT-LICENSE.txt"),
        ({"LICENSE": MIT, "LICENSE.GPL": GPL}, "a.py", "GPL-3.0-only AND MIT", "LICENSE, LICENSE.GPL"),
        ({"LICENSE": MIT, "COPYING": GPL, "package.json": '{"license": "MIT OR GPL-3.0"}'}, "a.js",
         "MIT OR GPL-3.0-only", "package.json"),
        ({"LICENSE": MIT, "LICENSE_EE": ENTERPRISE}, "a.py", f"{UNKNOWN} AND MIT", "LICENSE, LICENSE_EE"),
        ({"COPYING": GPL, "COPYING.LESSER": LGPL}, "a.c", "LGPL-3.0-only", "COPYING.LESSER"),
        ({"COPYING": GPL, "setup.cfg": "[metadata]\nlicense = GPLv3+\n"}, "a.py", "GPL-3.0-or-later", "setup.cfg"),
        ({"LICENSES/MIT.txt": MIT, "LICENSES/ISC.txt": ISC}, "a.py", "ISC AND MIT", "LICENSES/ISC.txt, LICENSES/MIT.txt"),
        ({"Cargo.toml": '[package]\nlicense = "MIT"\n'}, "src/a.rs", "MIT", "Cargo.toml"),
        ({"LICENSE": "YEAR: 2020\nCOPYRIGHT HOLDER: A\n", "DESCRIPTION": "Package: x\nLicense: MIT + file LICENSE\n"},
         "R/a.R", "MIT", "DESCRIPTION"),
        ({"LICENSE": PROPRIETARY, "package.json": '{"license": "ISC"}'}, "a.js", UNKNOWN, "LICENSE"),
        ({"LICENSE": PROPRIETARY, "web/package.json": '{"license": "ISC"}'}, "web/a.js",
         f"ISC AND {UNKNOWN}", "web/package.json, LICENSE"),
        ({"LICENSE": MIT, "web/package.json": '{"license": "GPL-3.0"}'}, "web/src/a.js",
         "GPL-3.0-only AND MIT", "web/package.json, LICENSE"),
        ({"LICENSE": MIT, "ee/package.json": '{"license": "SEE LICENSE IN EE.md"}'}, "ee/a.js",
         f"{UNKNOWN} AND MIT", "ee/package.json, LICENSE"),
        ({"LICENSE": MIT, "a/Cargo.toml": '[package]\nlicense-file = "../LICENSE"\n'}, "a/a.rs", "MIT", "LICENSE"),
        ({"LICENSE": MIT, "ee/LICENSE": "版权所有,未经许可不得使用\n"}, "ee/a.py", UNKNOWN, "ee/LICENSE"),
        ({"LICENSE": MIT, "ee/LICENSE": "無断転載を禁ず"}, "ee/a.py", UNKNOWN, "ee/LICENSE"),
        ({"LICENSE": MIT, "ee/LICENSE": "---\n"}, "ee/a.py", "MIT", "LICENSE"),
        ({"LICENSE": MIT}, "third_party/x/a.c", None, None),
        ({"LICENSE": MIT, "node_modules/x/package.json": '{"license": "ISC"}'}, "node_modules/x/lib/a.js",
         "ISC", "node_modules/x/package.json"),
        ({"LICENSE": MIT, "third_party/x/COPYING": BSD}, "third_party/x/a.c", "BSD-3-Clause", "third_party/x/COPYING"),
        ({"LICENSE": MIT, "REUSE.toml": '[[annotations]]\npath = "gen/**"\nSPDX-License-Identifier = "GPL-3.0-only"\n'},
         "gen/b/a.c", "GPL-3.0-only", "REUSE.toml"),
        ({"LICENSE": MIT, "REUSE.toml": '[[annotations]]\npath = "gen/**"\nSPDX-License-Identifier = "GPL-3.0-only"\n'},
         "src/a.c", "MIT", "LICENSE"),
    ],
)  # fmt: skip
def test_the_nearest_statement_upwards_decides(files, path, expression, file):
    for order in (files.items(), reversed(files.items())):
        assert licenses_of(dict(order)).of(path, None) == (expression, file)


def test_a_list_states_the_license_of_a_root_without_a_license_file():
    assert licenses_of({}).of("a/a.py", "MIT License") == ("MIT", None)
    assert licenses_of({}).of("a/a.py", "NOASSERTION") == (None, None)
    assert licenses_of({"LICENSE": GPL}).of("a/a.py", "MIT") == ("GPL-3.0-only", "LICENSE")
    assert licenses_of({"ee/LICENSE": ENTERPRISE}).of("ee/a.py", "MIT") == (UNKNOWN, "ee/LICENSE")
    assert licenses_of({"web/package.json": '{"license": "GPL-3.0"}'}).of("web/a.js", "MIT").expression == "GPL-3.0-only AND MIT"
    assert licenses_of({}).of("vendor/x/a.go", "MIT") == (None, None)


FILES = {
    "LICENSE": PROPRIETARY,
    "src/secret.py": code("secret"),
    "src/open.py": "# SPDX-License-Identifier: MIT\n" + code("open"),
    "contrib/x/LICENSE": MIT,
    "contrib/x/tool.py": code("tool"),
    "contrib/x/gpl/COPYING": GPL,
    "contrib/x/gpl/free.py": code("free"),
    "contrib/x/scan/LICENSE.pdf": "%PDF-1.4\0\0\0",
    "contrib/x/scan/pdf.py": code("pdf"),
    "contrib/x/huge/LICENSE": "terms " * 2**17,
    "contrib/x/huge/huge.py": code("huge"),
}
EXPECTED = {
    "src/secret.py": ("unknown license", UNKNOWN, "LICENSE"),
    "src/open.py": ("kept", "MIT", "src/open.py"),
    "contrib/x/tool.py": ("kept", "MIT", "contrib/x/LICENSE"),
    "contrib/x/gpl/free.py": ("license not allowed", "GPL-3.0-only", "contrib/x/gpl/COPYING"),
    "contrib/x/scan/pdf.py": ("unknown license", UNKNOWN, "contrib/x/scan/LICENSE.pdf"),
    "contrib/x/huge/huge.py": ("unknown license", UNKNOWN, "contrib/x/huge/LICENSE"),
}


def write_folder(root: Path) -> Path:
    for path, text in FILES.items():
        file = root / "t" / "me" / "prop" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return root / "t"


def write_tar(root: Path) -> Path:
    with tarfile.open(root / "prop.tar", "w") as tar:
        tar.add(write_folder(root) / "me" / "prop", "prop-1.0")
    return root / "prop.tar"


def write_repository(root: Path) -> Path:
    folder = write_folder(root) / "me" / "prop"
    identity = ("-c", "user.name=a", "-c", "user.email=a@b.c")
    for command in (("init", "-q"), ("add", "-A"), (*identity, "commit", "-qm", "x")):
        subprocess.run(["git", "-C", folder, *command], check=True)
    subprocess.run(["git", "clone", "-q", "--bare", folder, root / "prop.git"], check=True)
    return root / "prop.git"


def write_list(root: Path) -> Path:
    row = {"name": "me/prop", "url": write_repository(root).as_uri(), "license": "MIT"}
    (root / "repositories.jsonl").write_text(json.dumps(row) + "\n")
    return root / "repositories.jsonl"


def write_rows(root: Path) -> Path:
    rows = [
        {"repository": "me/prop", "path": path, "text": text, "license": "MIT"} for path, text in FILES.items() if "pdf" not in path
    ]
    (root / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return root / "rows.jsonl"


@pytest.mark.parametrize("write", [write_folder, write_tar, write_repository, write_list, write_rows])
def test_all_kinds_of_sources_are_judged_alike(write, tmp_path):
    settings = {"layout": "organization/project"} if write is write_folder else {}
    build_corpus([str(write(tmp_path))], tmp_path / "corpus", RECIPE, seed=1, workers=1, **settings)
    rows = {row["path"].removeprefix("prop-1.0/"): row for row in read_manifest(tmp_path / "corpus").to_pylist()}
    expected = {path: EXPECTED[path] for path in EXPECTED if path in rows}
    assert len(expected) >= 5
    found = {
        path: (rows[path]["verdict"], rows[path]["license"], (rows[path]["license_file"] or "").removeprefix("prop-1.0/"))
        for path in expected
    }
    assert found == expected
    kept = {document.path: document.license for split in SPLITS for document in iter_documents(tmp_path / "corpus", split)}
    assert set(kept.values()) == {"MIT"} and len(kept) == 2


@pytest.mark.parametrize("repository", [{}, {"repository": "me/prop"}])
def test_a_row_without_a_license_does_not_take_that_of_another_row(tmp_path, repository):
    rows = [{"text": code(f"row{number}"), "language": "Python", "license": license, **repository}
            for number, license in enumerate(["mit", None, "gpl-3.0", "", "isc"])]  # fmt: skip
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    build_corpus([str(tmp_path / "rows.jsonl")], tmp_path / "corpus", RECIPE, seed=1, workers=1)
    rows = sorted(read_manifest(tmp_path / "corpus").to_pylist(), key=lambda row: row["path"])
    assert [row["license"] for row in rows] == ["MIT", None, "GPL-3.0-only", None, "ISC"]
    assert [row["verdict"] for row in rows] == ["kept", "no license", "license not allowed", "no license", "kept"]


TREE = {
    "LICENSE": MIT,
    "REUSE.toml": '[[annotations]]\npath = "gen/**"\nSPDX-License-Identifier = "GPL-3.0-only"\n',
    "main.py": code("main"),
    "src/app.py": code("app"),
    "src/deep/down/tool.py": code("tool"),
    "web/package.json": '{"license": "GPL-3.0"}',
    "web/api/page.py": code("page"),
    "free/COPYING": GPL,
    "free/io/disk.py": code("disk"),
    "ee/LICENSE": ENTERPRISE,
    "ee/paid.py": code("paid"),
    "gen/x/made.py": code("made"),
    "third_party/zlib/flate.py": code("flate"),
    "vendor/near.py": code("near"),
}


def write_tree(root: Path) -> Path:
    for path, text in TREE.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    return root


def decided(source: Path, corpus: Path, layout: str) -> dict[str, tuple[str, str | None, set[str]]]:
    """Return of each file of code the verdict, the license and the places of the files that state it, by its path in the source."""
    build_corpus([str(source)], corpus, RECIPE, seed=1, workers=1, layout=layout)
    found = {}
    for row in read_manifest(corpus).to_pylist():
        if row["path"].endswith(".py"):
            name = row["path"].rpartition("/")[2]
            path = next(path for path in TREE if path.endswith(name))
            folder = path.removesuffix(row["path"])
            places = (row["license_file"] or "").split(", ")
            found[path] = (row["verdict"], row["license"], {posixpath.normpath(posixpath.join(folder, place)) for place in places})
    return found


@pytest.mark.parametrize("layout", ["project", "organization/project"])
@pytest.mark.parametrize("kind", ["folder", "archive"])
def test_a_tree_whose_folders_are_the_projects_has_the_licenses_of_one_project(tmp_path, layout, kind):
    source = write_tree(tmp_path / "tree")
    if kind == "archive":
        with tarfile.open(tmp_path / "tree.tar", "w") as tar:
            for path in TREE:
                tar.add(source / path, path)
        source = tmp_path / "tree.tar"
    expected = decided(source, tmp_path / "whole", "repository")
    assert [path for path, (verdict, *_) in expected.items() if verdict == "kept"] == [
        "main.py",
        "src/app.py",
        "src/deep/down/tool.py",
    ]
    found = decided(source, tmp_path / "parts", layout)
    for path, (verdict, license, places) in expected.items():
        assert found[path][:2] == (verdict, license), path
        assert license is None or found[path][2] == places, path


def test_the_license_beside_projects_does_not_hold_for_a_git_repository_or_for_installed_packages(tmp_path):
    source = write_tree(tmp_path / "tree")
    subprocess.run(["git", "init", "-q", source / "src"], check=True)
    found = decided(source, tmp_path / "corpus", "project")
    assert found["src/app.py"][:2] == ("no license", None) and found["main.py"][:2] == ("kept", "MIT")
    packages = write_tree(tmp_path / "site-packages")
    with pytest.raises(DataError, match=r"nothing in .* can be kept"):
        build_corpus([str(packages)], tmp_path / "packages", RECIPE, seed=1, workers=1, layout="project")


def test_rows_of_a_dataset_have_each_their_own_license(tmp_path):
    licenses = {"a.py": "MIT License", "b.py": "GPL-3.0", "c.py": ["Apache-2.0", "MIT"], "d.py": "of ours"}
    rows = [{"repository": "me/x", "path": path, "text": code(path[0]), "license": name} for path, name in licenses.items()]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    build_corpus([str(tmp_path / "rows.jsonl")], tmp_path / "corpus", RECIPE, seed=1, workers=1)
    assert {row["path"]: (row["verdict"], row["license"]) for row in read_manifest(tmp_path / "corpus").to_pylist()} == {
        "a.py": ("kept", "MIT"),
        "b.py": ("license not allowed", "GPL-3.0-only"),
        "c.py": ("kept", "Apache-2.0 AND MIT"),
        "d.py": ("license not allowed", "of ours"),
    }


def test_the_corpus_is_the_same_for_any_number_of_workers(tmp_path):
    source = write_folder(tmp_path)
    for number in range(40):
        (source / "me" / f"p{number}").mkdir()
        (source / "me" / f"p{number}" / "LICENSE").write_text([MIT, GPL, PROPRIETARY, APACHE + MIT][number % 4])
        (source / "me" / f"p{number}" / "a.py").write_text(code(f"p{number}"))
    for workers in (1, 2):
        settings = {"layout": "organization/project", "workers": workers}
        build_corpus([str(source)], tmp_path / f"corpus{workers}", RECIPE, seed=1, **settings)
    assert (tmp_path / "corpus1" / "manifest.parquet").read_bytes() == (tmp_path / "corpus2" / "manifest.parquet").read_bytes()
