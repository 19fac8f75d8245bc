import pytest

from neox_code.corpus.filters.headers import CopyrightHeaders
from neox_code.corpus.filters.protocol import Candidate

NOTICE = "Copyright 2020 Ann\n{mark} Licensed under the MIT license."


def edited(text, language="Python"):
    return CopyrightHeaders().edit(Candidate("x", language, len(text), text))


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("/*\n * Copyright 2020 JetBrains\n */\n\npackage a\n", "package a\n"),
        (
            "// Copyright 2009 The Go Authors.\n// BSD-style license.\n\n// Package a adds.\npackage a\n",
            "// Package a adds.\npackage a\n",
        ),
        ("<?php\n/**\n * (c) 2020 Ann\n */\n\nnamespace A;\n", "<?php\nnamespace A;\n"),
        (
            "#!/usr/bin/env python\n# -*- coding: utf-8 -*-\n# All rights reserved.\nx = 1\n",
            "#!/usr/bin/env python\n# -*- coding: utf-8 -*-\nx = 1\n",
        ),
        ("# frozen_string_literal: true\n\n# Copyright Ann\nclass A; end\n", "# frozen_string_literal: true\n\nclass A; end\n"),
        ("// run\n\n// Copyright 2020 Ann\n\n// Adds.\npackage a\n", "// run\n\n// Adds.\npackage a\n"),
        ("/* Copyright Ann */\r\npackage a;\r\n", "package a;\r\n"),
        ("-- SPDX-License-Identifier: ISC\nmain = 1\n", "main = 1\n"),
        ("# Copyright Ann", ""),
    ],
)
def test_only_notices_are_removed(text, left):
    assert edited(text) == left


@pytest.mark.parametrize(
    ("language", "text", "left"),
    [
        ("C", "/* Copyright Ann */\n#define copyright 1\nint x;\n", "#define copyright 1\nint x;\n"),
        ("C++", '#include "license.h"\nint x;\n', '#include "license.h"\nint x;\n'),
        ("Rust", "// Copyright Ann\n#![license]\nfn f() {}\n", "#![license]\nfn f() {}\n"),
        ("C#", "#region License\n// Copyright Ann\n\n// MIT\n#endregion\n\nusing System;\n", "using System;\n"),
        ("C#", "#region License\r\n// Ann\r\n#endregion\r\nusing A;\r\n", "using A;\r\n"),
        ("C#", "#region License\nusing System;\n#endregion\n", "#region License\nusing System;\n#endregion\n"),
        ("PHP", "<?php declare(strict_types=1);\n\n// (c) 2020 Ann\n\nf();\n", "<?php declare(strict_types=1);\n\nf();\n"),
    ],
)
def test_directives_and_attributes_are_no_comments(language, text, left):
    assert edited(text, language) == left


@pytest.mark.parametrize("lines", [600, 5_000])
def test_a_long_license_is_removed_in_whole_lines(lines):
    left = edited("// Copyright Ann\n" + "// A line of the license, as long as they are.\n" * lines + "int x;\n", "C")
    assert left.endswith("int x;\n") and set(left.split("\n")) <= {"int x;", "", "// A line of the license, as long as they are."}
    assert (left == "int x;\n") == (lines == 600)


@pytest.mark.parametrize(
    "text",
    [
        "# Adds.\nx = 1\n",
        "x = 1\n# Copyright 2020 Ann\n",
        "def license():\n    '''The license.'''\n",
        "/* never closed, copyright",
        "",
        "\n\n",
        "/**\n * Counts.\n */\nclass A {}\n/* Copyright */\n",
    ],
)
def test_texts_without_a_notice_at_their_head_stay_as_they_are(text):
    assert edited(text) == text


def test_a_second_edit_changes_nothing():
    text = "/* Copyright A */\n\n/* License B */\n/* Adds. */\nint x;\n"
    assert edited(text) == "/* Adds. */\nint x;\n" == edited(edited(text))


def test_a_comment_without_end_is_read_in_linear_time():
    assert edited("/*" + "*" * 100_000) == "/*" + "*" * 100_000
    assert edited("#" + " " * 100_000).startswith("#")
    assert edited("# coding:" * 20_000).startswith("#")
