import random
import re

import pytest

from neox_code.corpus.linguist.content import interpreter, is_xml, modeline, vim_type

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


def test_the_linear_search_finds_what_the_exponential_expression_finds():
    numbers = random.Random(3)
    found = 0
    for _ in range(20_000):
        text = numbers.choice(["vim:", "/* vim:", "# vim600:", " ex:", "Vim: set "]) + "".join(
            numbers.choices(PIECES, k=numbers.randrange(9))
        )
        match = LINGUIST_VIM.search(text)
        assert vim_type(text) == (match[1] if match else None), repr(text)
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
def test_modelines_are_read_in_five_lines_at_either_end(text, language):
    assert modeline(text) == language


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
def test_the_interpreter_is_the_program_of_the_first_line(line, program):
    assert interpreter(f"{line}\nexit\n") == program


def test_a_line_that_calls_no_program_takes_no_time():
    assert interpreter('#!/bin/sh\nexec perl "$0" "$@"\n') == "perl"
    assert interpreter('#!/bin/sh\nexec perl -x "$0" "$@"\n') == "sh"
    assert interpreter("#!/bin/sh\n" + "exec a $0 " * 100_000) == "sh"
    assert vim_type("vim: " * 200_000 + "ft=") is None
    assert vim_type("vim: , " * 200_000 + "ft=c vim: ts=4 ft=d") == "d"


def test_xml_declares_itself_in_the_first_two_lines():
    assert is_xml('<?xml version="1.0"?>') and is_xml('\r\n<?xml version="1.0"?>')
    assert not is_xml('\n\n<?xml version="1.0"?>')
