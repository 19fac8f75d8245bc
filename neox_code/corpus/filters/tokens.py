"""Filter files by their number of tokens. Pygments' lexer of the language finds the tokens; white space is counted."""

import re
from dataclasses import dataclass
from functools import cache
from typing import Literal

from pygments.lexers import find_lexer_class

from neox_code.corpus.filters.protocol import Candidate
from neox_code.corpus.filters.token_count import TokenCounter

GENERIC_TOKEN = re.compile(r"\w+|\s+|[^\w\s]")
"""A token of a language without lexer: a word, white space, or one other character."""


@dataclass(frozen=True)
class MinTokens:
    """Keep files of at least `limit` tokens. Counting stops at the limit.

    >>> MinTokens(100).keep(Candidate("x.py", "Python", 6, "x = 1\\n"))
    'under 100 tokens'
    """

    limit: int
    name = "minimal number of tokens"

    def keep(self, file: Candidate) -> Literal[True] | str:
        counter = load_token_counter(file.language)
        count = len(GENERIC_TOKEN.findall(file.text)) if counter is None else counter.count(file.text, self.limit)
        return count >= self.limit or f"under {self.limit} tokens"


@cache
def load_token_counter(language: str) -> TokenCounter | None:
    """Return the counter of a language by its Pygments name; None for a language without a lexer."""
    lexer = find_lexer_class(language)
    return lexer and TokenCounter(lexer())
