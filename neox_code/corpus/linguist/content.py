r"""Language declarations in the text of a file: modelines of Vim and Emacs, the `#!` line, the XML declaration.

    read_modeline("# vim: set ft=ruby :\n")              "Ruby"
    read_interpreter("#!/usr/bin/env -S python3 -u\n")   "python3"

Only the first and last lines of a file are searched.
"""

import re
from bisect import bisect_right

from neox_code.corpus.linguist.tables import BY_ALIAS

MODELINE_LINES = 5
"""Lines at each end of a file that are searched."""
MODELINE_CHARACTERS = 400
"""Mean number of characters searched per line. Linguist has no such limit, but its patterns take cubic time in the line length."""
SHEBANG_LINES = 5

NEWLINE = re.compile(r"\r\n|\r|\n")

EMACS = re.compile(
    r"-\*-(?:[ \t]*(?=[^:;\s]+[ \t]*-\*-)|(?:.*?[ \t;]|(?<=-\*-))[ \t]*mode[ \t]*:[ \t]*)"
    r"([^:;\s]+)(?=[ \t;]|(?<![-*])-\*-).*?-\*-",
    re.IGNORECASE | re.ASCII,
)

# Linguist's pattern for Vim nests repetitions and takes exponential time. It is divided here into three patterns: the start of a
# modeline, its options, and the last declaration of a file type in the options.
VIM_START = re.compile(
    r"(?:(?:^|[ \t])(?:vi|Vi(?=m))(?:m[<=>]?[0-9]+|m)?|[ \t]ex)(?=:(?=[ \t]*set?[ \t][^\r\n:]+:)|:(?![ \t]*set?[ \t]))",
    re.MULTILINE | re.ASCII,
)
VIM_OPTIONS = re.compile(r"(?:[\w \t:]++|=(?:[^\\\s]++|\\.)*+)*+", re.ASCII)
VIM_TYPE = re.compile(r"(?<!\\)(?:\\\\)*([ \t:])(?:filetype|ft|syntax)[ \t]*=(\w+)(?=$|\s|:)", re.MULTILINE | re.ASCII)

VIM_HELP = "vim modeline: help"
"""Placeholder for a pattern in heuristics.json. The rule for the language Vim Help File calls `read_vim_type` instead."""

EXEC = re.compile(r"exec (\w+)[\s\"']+\$0[\s\"']+\$@", re.ASCII)
ARGUMENT_OF_ENV = re.compile(r"-[i0uCSv]*|--\S+|\S+=\S+")


def read_vim_type(text: str) -> str | None:
    """Return the file type that the first Vim modeline declares.

    >>> read_vim_type("/* vim: set ts=4 ft=cpp: */"), read_vim_type("# vim:ts=2:syntax=perl"), read_vim_type("// Vim is an editor")
    ('cpp', 'perl', None)
    """
    types = list(VIM_TYPE.finditer(text)) if "=" in text else []
    places = [declared.start(1) for declared in types]
    reach = 0
    for start in VIM_START.finditer(text) if types else ():
        if start.end() < reach:
            continue  # this match lies inside the options of a modeline that declares no type
        options = VIM_OPTIONS.match(text, start.end())
        reach = options.end() if options else start.end()
        last = bisect_right(places, reach) - 1
        if last >= 0 and places[last] >= start.end():
            return types[last][2]
    return None


def get_first_and_last_lines(text: str) -> tuple[list[str], list[str]]:
    """Return the first and the last MODELINE_LINES lines; in a short text they overlap."""
    span = (MODELINE_LINES + 1) * MODELINE_CHARACTERS
    first = NEWLINE.split(text[:span])[:MODELINE_LINES]
    end = NEWLINE.split(text[-span:])
    last = (end[:-1] if end[-1] == "" else end)[-MODELINE_LINES:]
    return first, last


def read_modeline(text: str) -> str | None:
    """Return the language that a modeline in the first or last lines declares."""
    first, last = get_first_and_last_lines(text)
    if any("UseVimball" in line for line in first):
        return None
    ends = "\n".join((*first, *last))
    emacs = EMACS.search(ends) if "-*-" in ends else None
    mode = emacs[1] if emacs else read_vim_type(ends) if ":" in ends else None
    if mode is None:
        return None
    return BY_ALIAS.get(mode.lower()) or BY_ALIAS.get(mode.split(",", 1)[0].lower())


def read_interpreter(text: str) -> str | None:
    """Return the program of the `#!` line, without its folder and the last part of its version.

    >>> read_interpreter("#!/usr/bin/python2.7 -E\\n"), read_interpreter("#! /bin/sh\\nexec wish $0 $@\\n"), read_interpreter("#")
    ('python2', 'wish', None)
    """
    if not text.startswith("#!"):
        return None
    words = text[2:].split("\n", 1)[0].split()
    if not words:
        return None
    script = words[0].rsplit("/", 1)[-1]
    if script == "env":
        script = next((word for word in words[1:] if not ARGUMENT_OF_ENV.fullmatch(word)), "")
    script = re.sub(r"\.\d+$", "", script)
    if script == "sh":
        for line in text.split("\n", SHEBANG_LINES)[:SHEBANG_LINES]:
            called = EXEC.search(line[:MODELINE_CHARACTERS])
            if called:
                script = called[1]
                break
    if script == "osascript" and "-l" in words[1:]:
        return None
    return script.rsplit("/", 1)[-1] or None


def is_xml(text: str) -> bool:
    """Return True if one of the first two lines contains the XML declaration."""
    start = text[: 2 * MODELINE_CHARACTERS]
    return any("xml version=" in line for line in NEWLINE.split(start)[:2])
