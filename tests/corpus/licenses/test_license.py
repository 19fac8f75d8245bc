"""Detection against licenses as they are distributed: those of Debian, and those of packages with declared names."""

import random
import time
from importlib.metadata import distributions
from pathlib import Path

import pytest
from identify.identify import license_id
from identify.vendor.licenses import LICENSES

from neox_code.corpus.licenses.license import (
    AllowedLicenses,
    find_source_license,
    identify_license_text,
    is_license_file,
    list_license_keys,
    read_license_file,
)
from neox_code.corpus.licenses.notices import UNKNOWN, find_header_license, parse_expression
from neox_code.corpus.licenses.permissive import PERMISSIVE
from neox_code.corpus.licenses.texts import find_license_texts
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
def test_license_texts_of_debian_are_never_taken_for_another_license(name):
    path = DEBIAN / name
    if not path.is_file():
        pytest.skip(f"{path} is not on this machine")
    assert identify_license_text(path.read_text()) == NAMES[name]


def installed_licenses():
    """License files of installed packages that declare one license as an SPDX identifier."""
    for distribution in distributions():
        declared = distribution.metadata.get("License-Expression")
        parsed = parse_expression(declared) if declared else None
        files = [file for file in distribution.files or () if is_license_file(str(file)) and "dist-info" in str(file)]
        if parsed is not None and parsed.isliteral and len(files) == 1 and files[0].locate().is_file():
            yield parsed.render(), Path(str(files[0].locate()))


def test_license_files_of_packages_agree_with_their_metadata():
    found = [(declared, identify_license_text(path.read_text(errors="replace"))) for declared, path in installed_licenses()]
    known = [(declared, name) for declared, name in found if name is not None]
    assert len(known) > 20 and len(known) > 0.7 * len(found)
    # some packages declare "BSD-3-Clause" and distribute two clauses; some distribute more licenses than they declare
    assert sum(list_license_keys(declared) <= list_license_keys(name) for declared, name in known) >= 0.9 * len(known)
    assert sum(declared == name for declared, name in known) >= 0.8 * len(known)


def test_every_license_text_of_the_library_is_recognized():
    for _, path in installed_licenses():
        identified = license_id(str(path))
        if identified is not None:
            assert identify_license_text(path.read_text()) == parse_expression(identified).render()


TEXTS = dict(LICENSES)
MIT, APACHE, BSD, GPL = (TEXTS[name] for name in ("MIT", "Apache-2.0", "BSD-3-Clause", "GPL-3.0"))
PROPRIETARY = "ACME LICENSE. All rights reserved. No copying, no machine learning without written consent.\n"
NON_COMMERCIAL = "Example Source Code License\n\nThe work and derivative works may be used only non-commercially.\n"
MEGATRON = f"""\
The following applies to all files unless otherwise noted:

{BSD}
--
This repository also contains code from others. Files from these organizations have notices at the top of each file.
Below are licenses used in those files, as indicated.

------------- LICENSE FOR one code  --------------
{APACHE}
------------- LICENSE FOR another code  --------------
{MIT}
------------- LICENSE FOR a third  --------------
{NON_COMMERCIAL}"""
LODASH = f"""\
Based on another library, copyright its editors <http://example.org/>

This software consists of voluntary contributions made by many individuals. For exact contribution history, see the revision
history. The following license applies to all parts of this software except as documented below:

====
{MIT}
====
Copyright and related rights for sample code are waived via CC0. Sample code is all source code displayed within the prose of the
documentation. Files located in the node_modules directory are externally maintained libraries which have their own licenses; we
recommend you read them, as their terms may differ from the terms above.
"""
JQ = f"""\
{MIT}
The documentation (everything found under the docs/ subdirectory) is licensed under the Creative Commons CC BY 3.0 license.

This project incorporates dtoa.c, which bears the following notice:

Permission to use, copy, modify, and distribute this software for any purpose without fee is hereby granted, provided that this
entire notice is included in all copies of any software which is or includes a copy or modification of this software.
"""
OPEN_CORE = f"""\
Portions of this software are licensed as follows:

* All content that resides under the "ee/" directory of this repository is licensed under the license defined in "ee/LICENSE".
* Content outside of the above mentioned directories is available under the "MIT Expat" license as defined below.

{MIT}"""


@pytest.mark.parametrize(
    ("text", "expression"),
    [
        (MEGATRON, "BSD-3-Clause"),
        (LODASH, "MIT"),
        (JQ, "MIT"),
        (OPEN_CORE, "MIT"),
        (f"Free software for both academic and commercial purposes at absolutely no cost.\n\n{MIT}", "MIT"),
        (f"{MIT}\nIt must not be used for any commercial purpose.\n", f"{UNKNOWN} AND MIT"),
        (f"{APACHE}\n-- code of others --\n{BSD}\n-- and --\n{APACHE}\n-- and --\n{MIT}", "Apache-2.0 AND BSD-3-Clause AND MIT"),
        (f"{MIT}\n\nBundled code:\n\n{GPL}", "GPL-3.0-only AND MIT"),
        (f"This is dual-licensed: choose either of the following.\n\n{MIT}\n\n{GPL}", "GPL-3.0-only OR MIT"),
        (f"{MIT}\nSome files are under the GNU General Public License, version 2.\n", "GPL-2.0-only AND MIT"),
        (f"{PROPRIETARY}\nThe following component is under another license:\n{MIT}", f"{UNKNOWN} AND MIT"),
        (f'{MIT}\n"Commons Clause" License Condition v1.0\n', f"{UNKNOWN} AND MIT"),
        (f"{MIT}\nThe Software shall be used for Good, not Evil.\n", f"{UNKNOWN} AND MIT"),
        (MIT.replace("without restriction", "for non-commercial purposes only"), f"{UNKNOWN} AND MIT"),
        (f"{APACHE}\nAdditional terms: it must not be offered as a managed service.\n", f"Apache-2.0 AND {UNKNOWN}"),
        (f"{APACHE}\n---- LLVM Exceptions to the Apache 2.0 License ----\nAs an exception, you may omit notices.\n",
         "Apache-2.0 WITH LLVM-exception"),
        (BSD.replace("3. Neither", "3. All advertising materials mentioning features must display this. Neither"), "BSD-4-Clause"),
        ("MIT", "MIT"),
        ("Released under the [BSD 3-Clause License](https://example.org).", "BSD-3-Clause"),
        ("This project is dual-licensed under the Unlicense and MIT licenses.\n\nUse it under either.", "MIT OR Unlicense"),
        ("The kernel is provided under:\n\n\tSPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note\n",
         "GPL-2.0-only WITH Linux-syscall-note"),
        (PROPRIETARY, UNKNOWN),
        ("The software may be used in production with a valid subscription. Everything else is under the MIT license.", UNKNOWN),
        ("YEAR: 2020\nCOPYRIGHT HOLDER: Ann Lee\n", None),
        ("../../LICENSE", "file:../../LICENSE"),
        ("Copyright (c) 2020 Ann Lee\n", None),
        ("#!/bin/sh\ngrep -r license .\n", None),
        ("", None),
    ],
)  # fmt: skip
def test_a_license_file_has_the_expression_of_all_its_texts(text, expression):
    assert read_license_file("LICENSE", text) == expression


def test_every_known_text_is_found_alone_and_between_other_texts():
    for name, text in LICENSES:
        rendered = parse_expression(name).render()
        assert identify_license_text(text) == rendered
        assert rendered in find_license_texts(f"Part one.\n{BSD}\nPart two.\n{text}\nPart three.\n{MIT}\n").names


def test_recognition_of_any_text_is_fast():
    start = time.process_time()
    for unit in ("permission is hereby granted free of charge ", MIT, "redistribution and use ", "the mit license ", "gnu gpl "):
        identify_license_text(unit * (2**18 // len(unit)))
    assert time.process_time() - start < 30, "of seconds, for 1.3 MB"
    identify_license_text("mit " * 2**16)
    assert identify_license_text("\n" * 2**18) is identify_license_text("#!\n" * 2**17) is None


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
        ("// ACME, Inc. Proprietary and confidential. Unauthorized copying of this file is not allowed.", UNKNOWN),
        ("// Licensed under the ACME Enterprise License; you may not use this file except in compliance", UNKNOWN),
        ("# under one or more contributor license agreements and the Elastic License 2.0;", "Elastic-2.0"),
        ("// the Business Source License 1.1", "BUSL-1.1"),
    ],
)
def test_headers_state_their_license(text, expression):
    assert find_header_license(text) == expression
    assert expression is None or parse_expression(expression) is not None


def test_a_license_file_is_not_read_as_a_source_file():
    assert find_source_license("COPYING", GPL_2_OR_LATER) is None
    assert find_source_license("main.c", GPL_2_OR_LATER) == "GPL-2.0-or-later"


def test_a_header_may_offer_a_choice_of_licenses():
    both = (
        "/* This is licensed under both the BSD-style license (found in the LICENSE file)\n * and the GPLv2 (found in COPYING).\n"
    )
    assert find_source_license("main.c", f"{both} * You may select, at your option, one of the above-listed licenses. */\n") == (
        "BSD-3-Clause OR GPL-2.0-only"
    )
    assert find_source_license("main.c", f"{both} */\n") is None


@pytest.mark.parametrize(
    ("path", "is_one"),
    [
        ("LICENCE.md", True),
        ("sub/LICENSE-APACHE", True),
        ("UNLICENSE", True),
        ("COPYING.LIB", True),
        ("MIT-LICENSE.txt", True),
        ("LICENSE.GPL", True),
        ("LICENSE.enterprise", True),
        ("EULA.txt", True),
        ("LICENSE.pdf", True),
        ("LICENSES/Apache-2.0.txt", True),
        ("LICENSES/readme.txt", False),
        ("THIRD-PARTY-LICENSES", False),
        ("license-header.txt", False),
        ("license.svg", False),
        ("license.yml", False),
        ("licenses.go", False),
        ("src/license/mod.rs", False),
        ("sublicensing.txt", False),
    ],
)
def test_license_files_are_recognized_by_name(path, is_one):
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
        ("MIT License", None),
        ("Apache License 2.0", None),
        ("MIT/GPL-2.0", None),
        ("GNU General Public License v3 or later (GPLv3+)", "license not allowed"),
        (UNKNOWN, "unknown license"),
        (f"MIT AND {UNKNOWN}", "unknown license"),
        (None, "no license"),
    ],
)
def test_an_expression_is_allowed_by_its_operators(expression, reason):
    assert AllowedLicenses().find_drop_reason(expression) == reason


def test_files_without_a_license_are_kept_if_the_recipe_allows_it():
    assert AllowedLicenses(unlicensed=True).find_drop_reason(None) is None
    assert AllowedLicenses(unlicensed=True).find_drop_reason("GPL-3.0-only") == "license not allowed"
    assert AllowedLicenses(unlicensed=True).find_drop_reason(UNKNOWN) == "unknown license"


def test_deprecated_names_are_replaced_by_current_ones():
    assert AllowedLicenses(("GPL-2.0", "MIT")).find_drop_reason("GPL-2.0-only") is None


def test_an_unknown_allowed_license_is_refused():
    with pytest.raises(DataError, match="allowed license 'MTI' is not an SPDX identifier"):
        AllowedLicenses(("Apache-2.0", "MTI"))


def test_every_permissive_license_is_an_spdx_identifier():
    assert all(parse_expression(name) is not None for name in PERMISSIVE)
    assert {"MIT", "Apache-2.0", "BSD-3-Clause", "ISC", "0BSD"} <= set(PERMISSIVE)
    assert not {name for name in PERMISSIVE if name.startswith(("GPL", "LGPL", "AGPL", "MPL", "EPL", "CC-BY"))}


def test_an_invalid_expression_is_not_allowed():
    generator = random.Random(1)
    pieces = ["MIT", "AND", "OR", "WITH", "(", ")", "GPL-2.0", "Linux-syscall-note", "+", "/", "x y", "", "-", ",", "é"]
    reasons = {
        AllowedLicenses().find_drop_reason(" ".join(generator.choices(pieces, k=generator.randrange(6)))) for _ in range(3_000)
    }
    assert reasons == {None, "license not allowed"}
