"""Linguist's rules by content, for extensions that several languages have.

    by_content(".h", "template <class T> struct Pair;")     ("C++",)
    by_content(".rs", "#pragma version(1)")                 ("RenderScript",)
    by_content(".py", "pass")                               (): no rule

The languages are those of the first rule of the extension whose expressions are found.
"""

import re
from functools import cache

from neox_code.corpus.linguist.content import VIM_HELP, vim_type
from neox_code.corpus.linguist.data import load

CONSIDERED_CHARACTERS = 50 * 1024

RULES = load("heuristics.json")


@cache
def compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.MULTILINE | re.ASCII)


def has(pattern: str, text: str) -> bool:
    if pattern == VIM_HELP:
        return vim_type(text) == "help"
    return compiled(pattern).search(text) is not None


def by_content(extension: str, text: str) -> tuple[str, ...]:
    """The languages of the first rule that holds for the beginning of the text; none where no rule does."""
    text = text[:CONSIDERED_CHARACTERS]
    for languages, tests in RULES.get(extension, ()):
        if all(has(pattern, text) is found for pattern, found in tests):
            return tuple(languages)
    return ()
