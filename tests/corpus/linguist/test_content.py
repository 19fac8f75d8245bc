import random
import re

import pytest

from neox_code.corpus.linguist.content import is_xml, read_interpreter, read_modeline, read_vim_type

LINGUIST_VIM = re.compile(
    r"""
    (?:(?:^|[ \t])(?:vi|Vi(?=m))(?:m[<=>]?[0-9]+|m)?|[ \t]ex)
    (?=:(?=[ \t]*set?[ \t][^\r\n:]+:)|:(?![ \t]*set?[ \t]))
    (?:(?:[ \t]*:[ \t]*|[ \t])\w*(?:[ \t]*=(?:[^\\\s]|\\.)*)?)*
    [ \t:](?:filetype|ft|syntax)[ \t]*=(\w+)(?=$|\s|:)
    """,
    re.VERBOSE | re.MULTILINE | re.ASCII,
)
"""Linguist's expression, VIM_MODELINE of modeline.rb."""

PIECES = [
    " ",
    " ",
    ":",
    ":",
    "\t",
    "=",
    "set ",
    "se ",
    "ft=c",
    "ft =d",
    "syntax=e",
    "filetype=f",
    "ts=4",
    "a",
    "et",
    "\\",
    "\\ ",
    ",",
    "\n",
    "vim:",
    " ex:",
]


def test_the_linear_search_equals_linguists_pattern():
    numbers = random.Random(3)
    found = 0
    for _ in range(20_000):
        text = numbers.choice(["vim:", "/* vim:", "# vim600:", " ex:", "Vim: set "]) + "".join(
            numbers.choices(PIECES, k=numbers.randrange(9))
        )
        match = LINGUIST_VIM.search(text)
        assert read_vim_type(text) == (match[1] if match else None), repr(text)
        found += match is not None
    assert found > 2000


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("# -*- ruby -*-", "Ruby"),
        ("# -*-ruby-*-\n", "Ruby"),
        ("/* -*- Mode: C++; c-basic-offset: 2 -*- */", "C++"),
        ("/* -*- foo: bar; mode: objective-c -*- */", "Objective-C"),
        ("# -*- coding: utf-8 -*-", None),
        ("# -*- mode: nonsense -*-", None),
        ("a\n" * 5 + "# -*- ruby -*-\n" + "a\n" * 5, None),
        ("a\n" * 4 + "# -*- ruby -*-\n" + "a\n" * 9, "Ruby"),
        ("a\n" * 9 + "# -*- ruby -*-\r\n" + "a\n" * 4, "Ruby"),
        ("UseVimball\nvim: ft=ruby", None),
    ],
)
def test_modelines_are_read_in_the_first_and_last_five_lines(text, language):
    assert read_modeline(text) == language


@pytest.mark.parametrize(
    ("line", "program"),
    [
        ("#!/bin/bash -e", "bash"),
        ("#! /usr/bin/env -i -S A=b C=d python3.11 -u", "python3"),
        ("#!/usr/bin/env --split-string=x node", "node"),
        ("#!perl", "perl"),
        ("#!/usr/bin/osascript -l JavaScript", None),
        ("#!/usr/bin/osascript", "osascript"),
        ("#!", None),
        (" #!/bin/sh", None),
    ],
)
def test_the_interpreter_is_read_from_the_first_line(line, program):
    assert read_interpreter(f"{line}\nexit\n") == program


def test_a_long_line_without_exec_is_searched_quickly():
    assert read_interpreter('#!/bin/sh\nexec perl "$0" "$@"\n') == "perl"
    assert read_interpreter('#!/bin/sh\nexec perl -x "$0" "$@"\n') == "sh"
    assert read_interpreter("#!/bin/sh\n" + "exec a $0 " * 100_000) == "sh"
    assert read_vim_type("vim: " * 200_000 + "ft=") is None
    assert read_vim_type("vim: , " * 200_000 + "ft=c vim: ts=4 ft=d") == "d"


def test_an_xml_declaration_is_found_in_the_first_two_lines():
    assert is_xml('<?xml version="1.0"?>') and is_xml('\r\n<?xml version="1.0"?>')
    assert not is_xml('\n\n<?xml version="1.0"?>')
