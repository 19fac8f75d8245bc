"""Detection against licenses as they are distributed: those of Debian, and those of packages with declared names."""

import random
from importlib.metadata import distributions
from pathlib import Path

import pytest
from identify.identify import license_id

from neox_code.corpus.filters.license import AllowedLicenses, file_license, is_license_file, license_of_text
from neox_code.corpus.filters.license_headers import parse_expression, stated_license
from neox_code.corpus.filters.permissive import PERMISSIVE
from neox_code.errors import DataError

DEBIAN = Path("/usr/share/common-licenses")
NAMES = {
    "Apache-2.0": "Apache-2.0",
    "BSD": "BSD-3-Clause",
    "CC0-1.0": "CC0-1.0",
    "GPL-2": "GPL-2.0-only",
    "GPL-3": "GPL-3.0-only",
    "LGPL-2.1": "LGPL-2.1-only",
    "LGPL-3": "LGPL-3.0-only",
    "MPL-2.0": "MPL-2.0",
    "Artistic": None,
    "GFDL-1.3": None,
    "GPL-1": None,
    "MPL-1.1": None,
}


@pytest.mark.parametrize("name", NAMES)
def test_licenses_of_debian_are_known_or_unknown_but_never_others(name):
    path = DEBIAN / name
    if not path.is_file():
        pytest.skip(f"{path} is not on this machine")
    assert license_of_text(path.read_text()) == NAMES[name]


def installed_licenses():
    """License files of installed packages that declare one license as an SPDX identifier."""
    for distribution in distributions():
        declared = distribution.metadata.get("License-Expression")
        parsed = parse_expression(declared) if declared else None
        files = [file for file in distribution.files or () if is_license_file(str(file)) and "dist-info" in str(file)]
        if parsed is not None and parsed.isliteral and len(files) == 1 and files[0].locate().is_file():
            yield parsed.render(), Path(str(files[0].locate()))


def test_license_files_of_packages_are_what_their_packages_declare():
    found = [(declared, license_of_text(path.read_text(errors="replace"))) for declared, path in installed_licenses()]
    known = [(declared, name) for declared, name in found if name is not None]
    assert len(known) > 20 and len(known) > 0.7 * len(found)
    # a wrong name is worse than none; some packages declare "BSD-3-Clause" and distribute two clauses
    assert sum(declared == name for declared, name in known) >= 0.95 * len(known)


def test_nothing_that_the_library_knows_is_unknown_here():
    for _, path in installed_licenses():
        identified = license_id(str(path))
        if identified is not None:
            assert license_of_text(path.read_text()) == parse_expression(identified).render()


def test_a_known_text_with_a_restriction_is_not_the_known_license():
    mit = next(path.read_text() for declared, path in installed_licenses() if license_of_text(path.read_text()) == "MIT")
    assert license_of_text(mit + '\n"Commons Clause" License Condition v1.0\n') is None
    assert license_of_text(mit + "\nThe Software shall be used for Good, not Evil.\n") is None


def test_lines_without_words_take_linear_time():
    assert license_of_text("\n" * 2**18) is license_of_text("#!\n" * 2**17) is None


GPL_2_OR_LATER = """\
/* This program is free software; you can redistribute it and/or modify
 * it under the terms of the GNU General Public License as published by
 * the Free Software Foundation; either version 2 of the License, or
 * (at your option) any later version. */
"""
BSD_3 = """\
# Redistribution and use in source and binary forms, with or without modification, are permitted provided that:
# * Neither the name of the copyright holder nor the names of its contributors may be used to endorse or promote
"""


@pytest.mark.parametrize(
    ("text", "expression"),
    [
        ("// SPDX-License-Identifier: MIT\n", "MIT"),
        ("/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note OR MIT */", "GPL-2.0-only WITH Linux-syscall-note OR MIT"),
        ("# SPDX-License-Identifier: Apache-2.0\n# SPDX-License-Identifier: MIT OR ISC\n", "Apache-2.0 AND (MIT OR ISC)"),
        ("// SPDX-License-Identifier: whatever you want\n", None),
        (GPL_2_OR_LATER, "GPL-2.0-or-later"),
        ("// the GNU General Public License version 2 only, as\n// published by the FSF", "GPL-2.0-only"),
        ("/* the GNU General Public License\n * version 2 only */\n#include <a.h>\n// of any later version\n", "GPL-2.0-only"),
        ("#!/usr/bin/env python\n\n# under the MIT license\n\nimport a\n", "MIT"),
        ("#include <a.h>\n/* under the MIT license */\nint a; /* of no license */\n", "MIT"),
        ("# under version 3 of the GNU Lesser General Public License", "LGPL-3.0-only"),
        (BSD_3, "BSD-3-Clause"),
        (BSD_3.splitlines()[0], "BSD-2-Clause"),
        (BSD_3 + "# All advertising materials mentioning features must display", "BSD-4-Clause"),
        ('// Licensed under the Apache License, Version 2.0 (the\n// "License");', "Apache-2.0"),
        ("// Part of the LLVM Project, under the Apache License v2.0 with LLVM Exceptions.", "Apache-2.0 WITH LLVM-exception"),
        (
            "// Licensed under the Apache License, Version 2.0, <LICENSE-APACHE or\n"
            "// http://apache.org/licenses/LICENSE-2.0> or the MIT license <LICENSE-MIT>, at your option.",
            "Apache-2.0 OR MIT",
        ),
        ("//  Use, modification and distribution is subject to the Boost Software\n//  License, Version 1.0.", "BSL-1.0"),
        ("// Use of this source code is governed by a BSD-style\n// license that can be found in the LICENSE file.", None),
        ("# released under the MIT License: https://www.opensource.org/licenses/mit-license.php", "MIT"),
        ("x = 1\n" * 1_000 + "LICENSE = 'SPDX-License-Identifier: MIT'", None),
        ("x = 1\n", None),
    ],
)
def test_headers_state_their_license(text, expression):
    assert stated_license(text) == expression
    assert expression is None or parse_expression(expression) is not None


def test_a_license_file_says_nothing_of_itself_as_a_source_file():
    assert file_license("COPYING", GPL_2_OR_LATER) is None
    assert file_license("main.c", GPL_2_OR_LATER) == "GPL-2.0-or-later"


@pytest.mark.parametrize(
    ("path", "is_one"),
    [
        ("LICENCE.md", True),
        ("sub/LICENSE-APACHE", True),
        ("UNLICENSE", True),
        ("COPYING.LIB", True),
        ("MIT-LICENSE.txt", True),
        ("licenses.go", False),
        ("src/license/mod.rs", False),
        ("sublicensing.txt", False),
    ],
)
def test_license_files_are_known_by_name(path, is_one):
    assert is_license_file(path) is is_one


@pytest.mark.parametrize(
    ("expression", "reason"),
    [
        ("MIT", None),
        ("mit", None),
        ("GPL-3.0", "license not allowed"),
        ("(GPL-2.0-only AND MIT) OR Apache-2.0", None),
        ("(GPL-2.0-only OR MIT) AND GPL-3.0-or-later", "license not allowed"),
        ("Apache-2.0 WITH LLVM-exception", None),
        ("GPL-2.0-only WITH Classpath-exception-2.0", "license not allowed"),
        ("LicenseRef-mine", "license not allowed"),
        ("not an expression (", "license not allowed"),
        (None, "no license"),
    ],
)
def test_expressions_are_allowed_by_their_logic(expression, reason):
    assert AllowedLicenses().reason(expression) == reason


def test_files_without_a_license_are_taken_by_choice():
    assert AllowedLicenses(unlicensed=True).reason(None) is None
    assert AllowedLicenses(unlicensed=True).reason("GPL-3.0-only") == "license not allowed"


def test_names_that_are_out_of_date_are_those_that_replaced_them():
    assert AllowedLicenses(("GPL-2.0", "MIT")).reason("GPL-2.0-only") is None


def test_an_allowed_name_that_is_none_is_refused():
    with pytest.raises(DataError, match="allowed license 'MTI' is no SPDX identifier"):
        AllowedLicenses(("Apache-2.0", "MTI"))


def test_every_permissive_name_is_spdxs():
    assert all(parse_expression(name) is not None for name in PERMISSIVE)
    assert {"MIT", "Apache-2.0", "BSD-3-Clause", "ISC", "0BSD"} <= set(PERMISSIVE)
    assert not {name for name in PERMISSIVE if name.startswith(("GPL", "LGPL", "AGPL", "MPL", "EPL", "CC-BY"))}


def test_what_is_no_expression_is_not_allowed():
    generator = random.Random(1)
    pieces = ["MIT", "AND", "OR", "WITH", "(", ")", "GPL-2.0", "Linux-syscall-note", "+", "/", "x y", "", "-", ",", "é"]
    reasons = {AllowedLicenses().reason(" ".join(generator.choices(pieces, k=generator.randrange(6)))) for _ in range(3_000)}
    assert reasons == {None, "license not allowed"}
