"""Linguist's heuristics for the content of files, for extensions that several languages share.

    match_heuristics(".h", "template <class T> struct Pair;")     ("C++",)
    match_heuristics(".rs", "#pragma version(1)")                 ("RenderScript",)
    match_heuristics(".py", "pass")                               (): no rule

The result is the languages of the first rule of the extension whose patterns all match.
"""

import re
from functools import cache

from neox_code.corpus.linguist.content import VIM_HELP, read_vim_type
from neox_code.corpus.linguist.tables import load_table

CONSIDERED_CHARACTERS = 50 * 1024

RULES = load_table("heuristics.json")


@cache
def compile_pattern(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.MULTILINE | re.ASCII)


def is_match(pattern: str, text: str) -> bool:
    if pattern == VIM_HELP:
        return read_vim_type(text) == "help"
    return compile_pattern(pattern).search(text) is not None


def match_heuristics(extension: str, text: str) -> tuple[str, ...]:
    """Return the languages of the first rule that matches the beginning of the text; () if no rule matches."""
    text = text[:CONSIDERED_CHARACTERS]
    for languages, tests in RULES.get(extension, ()):
        if all(is_match(pattern, text) is found for pattern, found in tests):
            return tuple(languages)
    return ()
