"""What the text of a file says of its language: modelines of Vim and Emacs, the `#!` line, the declaration of XML.

    modeline("# vim: set ft=ruby :\n")              "Ruby"
    interpreter("#!/usr/bin/env -S python3 -u\n")   "python3"

All of it stands in a file's first and last lines.
"""

import re
from bisect import bisect_right

from neox_code.corpus.linguist.data import BY_ALIAS

MODELINE_LINES = 5
"""Lines at each end of a file that are searched."""
MODELINE_CHARACTERS = 400
"""Of each of them on average; linguist has no such limit, but its expressions take the cube of a line's length."""
SHEBANG_LINES = 5

NEWLINE = re.compile(r"\r\n|\r|\n")

EMACS = re.compile(
    r"-\*-(?:[ \t]*(?=[^:;\s]+[ \t]*-\*-)|(?:.*?[ \t;]|(?<=-\*-))[ \t]*mode[ \t]*:[ \t]*)"
    r"([^:;\s]+)(?=[ \t;]|(?<![-*])-\*-).*?-\*-",
    re.IGNORECASE | re.ASCII,
)

# Linguist's expression for Vim nests repetitions and takes exponential time. Its parts: where a modeline starts, as far as its
# options reach, and the last declaration of a type that begins there.
VIM_START = re.compile(
    r"(?:(?:^|[ \t])(?:vi|Vi(?=m))(?:m[<=>]?[0-9]+|m)?|[ \t]ex)(?=:(?=[ \t]*set?[ \t][^\r\n:]+:)|:(?![ \t]*set?[ \t]))",
    re.MULTILINE | re.ASCII,
)
VIM_OPTIONS = re.compile(r"(?:[\w \t:]++|=(?:[^\\\s]++|\\.)*+)*+", re.ASCII)
VIM_TYPE = re.compile(r"(?<!\\)(?:\\\\)*([ \t:])(?:filetype|ft|syntax)[ \t]*=(\w+)(?=$|\s|:)", re.MULTILINE | re.ASCII)

VIM_HELP = "vim modeline: help"
"""Stands in heuristics.json for the rule of Vim Help File, which is that expression once more."""

EXEC = re.compile(r"exec (\w+)[\s\"']+\$0[\s\"']+\$@", re.ASCII)


def vim_type(text: str) -> str | None:
    """The file type that the first modeline of Vim declares.

    >>> vim_type("/* vim: set ts=4 ft=cpp: */"), vim_type("# vim:ts=2:syntax=perl"), vim_type("// Vim is an editor")
    ('cpp', 'perl', None)
    """
    types = list(VIM_TYPE.finditer(text)) if "=" in text else []
    places = [declared.start(1) for declared in types]
    reach = 0
    for start in VIM_START.finditer(text) if types else ():
        if start.end() < reach:
            continue  # it begins within the options of one that declares no type
        options = VIM_OPTIONS.match(text, start.end())
        reach = options.end() if options else start.end()
        last = bisect_right(places, reach) - 1
        if last >= 0 and places[last] >= start.end():
            return types[last][2]
    return None


def lines_at_ends(text: str) -> tuple[list[str], list[str]]:
    """The first lines and the last, of which short texts have some in both."""
    span = (MODELINE_LINES + 1) * MODELINE_CHARACTERS
    first = NEWLINE.split(text[:span])[:MODELINE_LINES]
    end = NEWLINE.split(text[-span:])
    last = (end[:-1] if end[-1] == "" else end)[-MODELINE_LINES:]
    return first, last


def modeline(text: str) -> str | None:
    """The language that a modeline names, in the lines at either end."""
    first, last = lines_at_ends(text)
    if any("UseVimball" in line for line in first):
        return None
    ends = "\n".join((*first, *last))
    emacs = EMACS.search(ends) if "-*-" in ends else None
    mode = emacs[1] if emacs else vim_type(ends) if ":" in ends else None
    if mode is None:
        return None
    return BY_ALIAS.get(mode.lower()) or BY_ALIAS.get(mode.split(",", 1)[0].lower())


def interpreter(text: str) -> str | None:
    """The program that the `#!` line names, without its folder and the last part of its version.

    >>> interpreter("#!/usr/bin/python2.7 -E\\n"), interpreter("#! /bin/sh\\nexec wish $0 $@\\n"), interpreter("# no")
    ('python2', 'wish', None)
    """
    if not text.startswith("#!"):
        return None
    words = text[2:].split("\n", 1)[0].split()
    if not words:
        return None
    script = words[0].rsplit("/", 1)[-1]
    if script == "env":
        script = next((word for word in words[1:] if not is_argument_of_env(word)), "")
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


def is_argument_of_env(word: str) -> bool:
    return bool(re.fullmatch(r"-[i0uCSv]*|--\S+|\S+=\S+", word))


def is_xml(text: str) -> bool:
    """Whether one of the first two lines has the declaration of XML."""
    start = text[: 2 * MODELINE_CHARACTERS]
    return any("xml version=" in line for line in NEWLINE.split(start)[:2])
