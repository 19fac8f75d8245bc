"""Which license holds for a file by the license files and manifests of its project."""

import json
import posixpath
import subprocess
import tarfile
import zipfile
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import pytest
from identify.vendor.licenses import LICENSES

from neox_code.corpus.licenses.folder_licenses import FolderLicenses, read_statement
from neox_code.corpus.licenses.license import AllowedLicenses, find_source_license
from neox_code.corpus.licenses.notices import UNKNOWN
from neox_code.corpus.pipeline.build import build_corpus
from neox_code.corpus.recipes.registry import find_recipe
from neox_code.corpus.shards import SPLITS, iter_documents, read_manifest
from neox_code.errors import DataError

TEXTS = dict(LICENSES)
MIT, APACHE, BSD, ISC, GPL, LGPL = (TEXTS[name] for name in ("MIT", "Apache-2.0", "BSD-3-Clause", "ISC", "GPL-3.0", "LGPL-3.0"))
PROPRIETARY = "ACME LICENSE. All rights reserved. No copying, no machine learning without written consent.\n"
ENTERPRISE = "The Enterprise License. This software may only be used in production with a valid subscription.\n"
RECIPE = replace(find_recipe("mixed"), licenses=AllowedLicenses(), divide_large_projects=False)


def make_code(name: str) -> str:
    return "".join(f"def {name}_{number}(a):\n    return a * {number}\n" for number in range(20))


def read_row_licenses(files: dict[str, str]) -> FolderLicenses:
    licenses = FolderLicenses()
    for path, text in files.items():
        if (statement := read_statement(path, text)) is not None:
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
        ({"LICENSE": MIT, "a/LICENSE": "../LICENSE"}, "a/a.py", "MIT", "a/LICENSE"),
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
        ({"LICENSE": "See COPYING.\n", "COPYING": MIT}, "a.c", "MIT", "COPYING"),
        ({"COPYING": MIT, "a/LICENSE": "Please see the file COPYING for the terms."}, "a/a.c", "MIT", "a/LICENSE"),
        ({"LICENSE.md": GPL, "a/LICENSE": "See LICENSE in the root directory."}, "a/a.c", "GPL-3.0-only", "a/LICENSE"),
        ({"LICENSE": MIT, "ee/LICENSE": "See legal/LICENSE.txt", "ee/legal/LICENSE.txt": ENTERPRISE}, "ee/a.c", UNKNOWN,
         "ee/LICENSE"),
        ({"LICENSE": MIT, "ee/LICENSE": "See COPYING."}, "ee/a.c", UNKNOWN, "ee/LICENSE"),
        ({"LICENSE": MIT, "ee/LICENSE": "See LICENSE. No commercial use."}, "ee/a.c", UNKNOWN, "ee/LICENSE"),
        ({"COPYING": MIT, "vendor/x/LICENSE": "See COPYING."}, "vendor/x/a.c", UNKNOWN, "vendor/x/LICENSE"),
        ({"LICENSE": "COPYING", "COPYING": "LICENSE"}, "a.c", UNKNOWN, "COPYING"),
        ({"LICENSE": "See LICENSE."}, "a.c", UNKNOWN, "LICENSE"),
        ({"LICENSE": MIT, "a/LICENSE": "..\\LICENSE"}, "a/a.c", "MIT", "a/LICENSE"),
        ({"LICENSE": MIT, "a/Cargo.toml": '[package]\nlicense-file = "LICENSE"\n', "a/LICENSE": "../LICENSE"}, "a/a.rs", "MIT",
         "a/LICENSE"),
    ],
)  # fmt: skip
def test_the_nearest_statement_in_the_folder_or_above_applies(files, path, expression, file):
    for order in (files.items(), reversed(files.items())):
        assert read_row_licenses(dict(order)).find(path, None) == (expression, file)


def test_a_repository_list_gives_the_license_if_there_is_no_license_file():
    assert read_row_licenses({}).find("a/a.py", "MIT License") == ("MIT", None)
    assert read_row_licenses({}).find("a/a.py", "NOASSERTION") == (None, None)
    assert read_row_licenses({"LICENSE": GPL}).find("a/a.py", "MIT") == ("GPL-3.0-only", "LICENSE")
    assert read_row_licenses({"ee/LICENSE": ENTERPRISE}).find("ee/a.py", "MIT") == (UNKNOWN, "ee/LICENSE")
    assert (
        read_row_licenses({"web/package.json": '{"license": "GPL-3.0"}'}).find("web/a.js", "MIT").expression
        == "GPL-3.0-only AND MIT"
    )
    assert read_row_licenses({}).find("vendor/x/a.go", "MIT") == (None, None)


FILES = {
    "LICENSE": PROPRIETARY,
    "src/secret.py": make_code("secret"),
    "src/open.py": "# SPDX-License-Identifier: MIT\n" + make_code("open"),
    "contrib/x/LICENSE": MIT,
    "contrib/x/tool.py": make_code("tool"),
    "contrib/x/gpl/COPYING": GPL,
    "contrib/x/gpl/free.py": make_code("free"),
    "contrib/x/scan/LICENSE.pdf": "%PDF-1.4\0\0\0",
    "contrib/x/scan/pdf.py": make_code("pdf"),
    "contrib/x/huge/LICENSE": "terms " * 2**17,
    "contrib/x/huge/huge.py": make_code("huge"),
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
def test_all_kinds_of_sources_give_the_same_licenses(write, tmp_path):
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
def test_a_row_without_a_license_does_not_get_the_license_of_another_row(tmp_path, repository):
    rows = [{"text": make_code(f"row{number}"), "language": "Python", "license": license, **repository}
            for number, license in enumerate(["mit", None, "gpl-3.0", "", "isc"])]  # fmt: skip
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    build_corpus([str(tmp_path / "rows.jsonl")], tmp_path / "corpus", RECIPE, seed=1, workers=1)
    rows = sorted(read_manifest(tmp_path / "corpus").to_pylist(), key=lambda row: row["path"])
    assert [row["license"] for row in rows] == ["MIT", None, "GPL-3.0-only", None, "ISC"]
    assert [row["verdict"] for row in rows] == ["kept", "no license", "license not allowed", "no license", "kept"]


LINKED = {"LICENSE": MIT, "legal/LICENSE": ENTERPRISE, "LICENSES/ISC.txt": ISC, "isc/LICENSE.txt": ISC, "pkg/package.json": "{}"}
LINKS = {  # link: target, the license of its folder by POSIX's rules for links
    "ee/LICENSE": ("../legal/LICENSE", UNKNOWN),
    "packages/x/LICENSE": ("../../LICENSE", "MIT"),
    "chain/COPYING": ("../packages/x/LICENSE", "MIT"),
    "isc/LICENSE": ("LICENSE.txt", "ISC"),
    "reuse/LICENSES": ("../LICENSES", "ISC"),
    "pkg/LICENSE": ("../isc/LICENSE", "ISC"),
    "loop/LICENSE": ("../loop/COPYING", UNKNOWN),
    "loop/COPYING": ("LICENSE", UNKNOWN),
    "self/LICENSE": ("LICENSE", UNKNOWN),
    "dangling/LICENSE": ("../nowhere/LICENSE", UNKNOWN),
    "empty/LICENSE": (".", UNKNOWN),
    "absolute/LICENSE": ("/LICENSE", UNKNOWN),
    "outside/LICENSE": ("../../LICENSE", UNKNOWN),
    "reuse/self/LICENSES/Unlicense.txt": ("../LICENSES", UNKNOWN),
    "far/LICENSE": ("../" * 1000 + "LICENSE", UNKNOWN),
}
LONG_CHAIN = {"long/LICENSE": "LICENSE.1", **{f"long/LICENSE.{number}": f"LICENSE.{number + 1}" for number in range(1, 100)}}


def write_links(root: Path, kind: str) -> Path:
    """Write LINKED and LINKS, and a file of code in each folder, as a source of a kind."""
    folder = root / "t" / "me" / "prop"
    (root / "t" / "me").mkdir(parents=True)
    (root / "t" / "me" / "LICENSE").write_text(MIT)  # of another project
    for path, text in LINKED.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    links = {path: target for path, (target, _) in LINKS.items()} | (LONG_CHAIN if kind == "tar" else {})
    for path, target in links.items():
        (folder / path).parent.mkdir(exist_ok=True, parents=True)
        (folder / path).with_name("code.py").write_text(make_code(path.split("/")[-2]))
        if kind == "text":
            (folder / path).write_text(target)
        elif kind != "zip":
            (folder / path).symlink_to(target)
    if kind in ("folder", "text"):
        return folder
    if kind == "git":
        for command in (("init", "-q"), ("add", "-A"), ("-c", "user.name=a", "-c", "user.email=a@b.c", "commit", "-qm", "x")):
            subprocess.run(["git", "-C", folder, *command], check=True)
        subprocess.run(["git", "clone", "-q", "--bare", folder, root / "prop.git"], check=True)
        return root / "prop.git"
    if kind == "zip":
        with zipfile.ZipFile(root / "prop.zip", "w") as archive:
            for path in sorted(folder.rglob("*")):
                archive.write(path, path.relative_to(folder))
            for path, target in links.items():
                link = zipfile.ZipInfo(path)
                link.external_attr = 0o120777 << 16
                archive.writestr(link, target)
        return root / "prop.zip"
    with tarfile.open(root / f"prop.{kind}", "w:gz" if kind == "tgz" else "w") as tar:
        tar.add(folder, "prop-1.0")
        for path, target in (
            ("hard/LICENSE", "legal/LICENSE"),
            ("hard/mit/LICENSE", "LICENSE"),
            ("hard/out/LICENSE", "../x/LICENSE"),
        ):
            link = tarfile.TarInfo(f"prop-1.0/{path}")
            link.type, link.linkname = tarfile.LNKTYPE, f"prop-1.0/{target}"
            tar.addfile(link)
            tar.add(folder / "ee" / "code.py", f"prop-1.0/{path.removesuffix('LICENSE')}code.py")
    return root / f"prop.{kind}"


@pytest.mark.parametrize("kind", ["folder", "text", "git", "zip", "tar", "tgz"])
def test_a_link_has_the_license_of_its_target_and_a_dangling_link_is_unknown(kind, tmp_path):
    recipe = replace(RECIPE, duplicates=())
    build_corpus([str(write_links(tmp_path, kind))], tmp_path / "corpus", recipe, seed=1, workers=1, layout="repository")
    rows = {row["path"].removeprefix("prop-1.0/"): row for row in read_manifest(tmp_path / "corpus").to_pylist()}
    licenses = {Path(path).parent.as_posix(): rows[path]["license"] for path in rows if path.endswith("code.py")}
    expected = {Path(path).parent.as_posix(): license for path, (_, license) in LINKS.items()}
    if kind == "text":
        for folder in ("reuse", "empty"):  # the texts of links to folders name no license file
            del expected[folder], licenses[folder]
    if kind in ("tar", "tgz"):
        expected |= {"hard": UNKNOWN, "hard/mit": "MIT", "hard/out": UNKNOWN}
    if kind == "tar":
        expected["long"] = UNKNOWN
    assert licenses == expected
    verdicts = {rows[path]["verdict"] for path in rows if path.endswith("code.py") and rows[path]["license"] == UNKNOWN}
    assert verdicts == {"unknown license"}


def test_a_link_in_a_project_may_refer_to_the_root_of_its_source(tmp_path):
    for path, text in {"LICENSE": MIT, "x/code.py": make_code("x"), "y/code.py": make_code("y"), "y/LICENSE.txt": GPL}.items():
        (tmp_path / "t" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "t" / path).write_text(text)
    (tmp_path / "t" / "x" / "LICENSE").symlink_to("../LICENSE")
    (tmp_path / "t" / "y" / "LICENSE").symlink_to("../../LICENSE")
    build_corpus([str(tmp_path / "t")], tmp_path / "corpus", RECIPE, seed=1, workers=1, layout="project")
    rows = {row["repository"]: row["license"] for row in read_manifest(tmp_path / "corpus").to_pylist() if row["path"] == "code.py"}
    assert rows == {"t/x": "MIT", "t/y": f"GPL-3.0-only AND {UNKNOWN}"}


def test_the_later_of_two_license_files_with_one_path_in_an_archive_applies(tmp_path):
    with tarfile.open(tmp_path / "prop.tar", "w") as tar:
        for path, text in (("LICENSE", ENTERPRISE), ("a.py", make_code("a")), ("LICENSE", MIT)):
            member = tarfile.TarInfo(path)
            member.size = len(text)
            tar.addfile(member, BytesIO(text.encode()))
    build_corpus([str(tmp_path / "prop.tar")], tmp_path / "corpus", RECIPE, seed=1, workers=1)
    assert {row["license"] for row in read_manifest(tmp_path / "corpus").to_pylist()} == {"MIT"}


TREE = {
    "LICENSE": MIT,
    "REUSE.toml": '[[annotations]]\npath = "gen/**"\nSPDX-License-Identifier = "GPL-3.0-only"\n',
    "main.py": make_code("main"),
    "src/app.py": make_code("app"),
    "src/deep/down/tool.py": make_code("tool"),
    "web/package.json": '{"license": "GPL-3.0"}',
    "web/api/page.py": make_code("page"),
    "free/COPYING": GPL,
    "free/io/disk.py": make_code("disk"),
    "ee/LICENSE": ENTERPRISE,
    "ee/paid.py": make_code("paid"),
    "gen/x/made.py": make_code("made"),
    "third_party/zlib/flate.py": make_code("flate"),
    "vendor/near.py": make_code("near"),
}


def write_tree(root: Path) -> Path:
    for path, text in TREE.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    return root


def test_links_are_resolved_once_for_all_folders_below_them(monkeypatch):
    licenses = FolderLicenses()
    for number in range(100):
        licenses.add(f"LICENSE.{number}", f"file:LICENSE.{number + 1}")
    resolved, original = [], FolderLicenses._resolve
    monkeypatch.setattr(FolderLicenses, "_resolve", lambda self, path, *rest: resolved.append(path) or original(self, path, *rest))
    assert {licenses.find(f"folder{number}/a.c", None).expression for number in range(100)} == {UNKNOWN}
    assert len(resolved) <= 100 * 42


REDISTRIBUTION = """ * Redistribution and use in source and binary forms, with or without
 * modification, are permitted provided that the following conditions are met:
 *   * Redistributions of source code must retain the above copyright notice.
"""
SELECT = """ * This source code is licensed under both the BSD-style license (found in the
 * LICENSE file in the root directory of this source tree) and the GPLv2 (found
 * in the COPYING file in the root directory of this source tree).
 * You may select, at your option, one of the above-listed licenses.
"""
LESSER = """ *  This library is free software; you can redistribute it and/or
 *  modify it under the terms of the GNU Lesser General Public
 *  License as published by the Free Software Foundation; either
 *  version 2.1 of the License, or (at your option) any later version.
"""
MIT_NOTICE = """ * Permission is hereby granted, free of charge, to any person obtaining a
 * copy of this software and associated documentation files (the
 * "Software"), to deal in the Software without restriction.
"""
DEDICATION = """ * You should have received a copy of the CC0 Public Domain Dedication along
 * with this software. If not, see
 * <http://creativecommons.org/publicdomain/zero/1.0/>.
"""
RAPIDJSON = f"""If you have downloaded a copy of the RapidJSON source code from Tencent, please note that RapidJSON source code is
licensed under the MIT License, except for the third-party components listed below which are subject to different license terms.
{BSD}
{MIT}"""
# The license files of a release, and for files of code their notice and the license in Debian's machine-readable copyright file.
DEBIAN = {
    "redis 7.0": (
        {"COPYING": BSD, "deps/lua/COPYRIGHT": MIT, "deps/hiredis/COPYING": BSD},
        {
            "src/server.c": (REDISTRIBUTION, "BSD-3-Clause"),
            "src/lzf_c.c": (REDISTRIBUTION, "BSD-2-Clause"),
            "src/setproctitle.c": (MIT_NOTICE, "BSD-3-Clause"),
            "deps/lua/src/lapi.c": (" ** See Copyright Notice in lua.h\n", "MIT"),
            "deps/hiredis/net.c": ("", "BSD-3-Clause"),
        },
    ),
    "libgit2 1.5": (
        {"COPYING": TEXTS["GPL-2.0"], "examples/COPYING": TEXTS["CC0-1.0"]},
        {
            "src/libgit2/blob.c": (" * distributed under the GNU GPL v2 with\n * a Linking Exception.\n", "GPL-2.0-only"),
            "src/libgit2/xdiff/xemit.c": (LESSER, "LGPL-2.1-or-later"),
            "src/libgit2/xdiff/xhistogram.c": (REDISTRIBUTION, "BSD-3-Clause"),
            "src/util/khash.h": (MIT_NOTICE, "MIT"),
            "examples/add.c": (DEDICATION, "CC0-1.0"),
        },
    ),
    "zstd 1.5": (
        {"LICENSE": BSD, "COPYING": TEXTS["GPL-2.0"]},
        {
            "programs/zstdcli.c": (SELECT, "BSD-3-Clause OR GPL-2.0-only"),
            "lib/dictBuilder/divsufsort.c": (MIT_NOTICE, "MIT"),
        },
    ),
    "rapidjson 1.1": (
        {"license.txt": RAPIDJSON},
        {
            "include/rapidjson/reader.h": (" * Licensed under the MIT License (the License)\n", "MIT"),
            "include/rapidjson/msinttypes/stdint.h": (REDISTRIBUTION, "BSD-3-Clause"),
        },
    ),
}
DROPPED_ONLY_HERE = {  # files without a notice of their own, below several license texts of which all are taken to hold
    "zstd 1.5": ({"programs/platform.h": ("", "BSD-3-Clause OR GPL-2.0-only"), "zlibWrapper/gzread.c": ("", "Zlib")}),
}


@pytest.mark.parametrize("release", DEBIAN)
def test_files_with_permissive_licenses_in_debian_are_kept(release):
    texts, files = DEBIAN[release]
    licenses, allowed = read_row_licenses(texts), AllowedLicenses()
    for path, (notice, debian) in {**files, **DROPPED_ONLY_HERE.get(release, {})}.items():
        expression = find_source_license(path, f"/*\n{notice} */\nint x;\n") or licenses.find(path, None).expression
        is_kept = allowed.find_drop_reason(expression) is None
        assert is_kept == (allowed.find_drop_reason(debian) is None and path in files), (path, expression, debian)


def decisions_of(source: Path, corpus: Path, layout: str) -> dict[str, tuple[str, str | None, set[str]]]:
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
    expected = decisions_of(source, tmp_path / "whole", "repository")
    assert [path for path, (verdict, *_) in expected.items() if verdict == "kept"] == [
        "main.py",
        "src/app.py",
        "src/deep/down/tool.py",
    ]
    found = decisions_of(source, tmp_path / "parts", layout)
    for path, (verdict, license, places) in expected.items():
        assert found[path][:2] == (verdict, license), path
        assert license is None or found[path][2] == places, path


def test_a_license_above_projects_does_not_apply_to_git_repositories_or_installed_packages(tmp_path):
    source = write_tree(tmp_path / "tree")
    subprocess.run(["git", "init", "-q", source / "src"], check=True)
    found = decisions_of(source, tmp_path / "corpus", "project")
    assert found["src/app.py"][:2] == ("no license", None) and found["main.py"][:2] == ("kept", "MIT")
    packages = write_tree(tmp_path / "site-packages")
    with pytest.raises(DataError, match=r"nothing in .* can be kept"):
        build_corpus([str(packages)], tmp_path / "packages", RECIPE, seed=1, workers=1, layout="project")


def test_each_row_of_a_dataset_has_its_own_license(tmp_path):
    licenses = {"a.py": "MIT License", "b.py": "GPL-3.0", "c.py": ["Apache-2.0", "MIT"], "d.py": "of ours"}
    rows = [{"repository": "me/x", "path": path, "text": make_code(path[0]), "license": name} for path, name in licenses.items()]
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
        (source / "me" / f"p{number}" / "a.py").write_text(make_code(f"p{number}"))
    for workers in (1, 2):
        settings = {"layout": "organization/project", "workers": workers}
        build_corpus([str(source)], tmp_path / f"corpus{workers}", RECIPE, seed=1, **settings)
    assert (tmp_path / "corpus1" / "manifest.parquet").read_bytes() == (tmp_path / "corpus2" / "manifest.parquet").read_bytes()
