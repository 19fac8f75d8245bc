"""Filter files by their number of tokens. Pygments' lexer of the language finds the tokens; white space is counted."""

import re
from dataclasses import dataclass
from functools import cache
from typing import Literal

from pygments.lexers import find_lexer_class

from neox_code.corpus.filters.protocol import Candidate
from neox_code.corpus.filters.token_count import TokenCounter

GENERIC_TOKEN = re.compile(r"\w+|\s+|[^\w\s]")


@dataclass(frozen=True)
class MinTokens:
    """Keep files of at least `limit` tokens. Counting stops at the limit.

    >>> MinTokens(100).keep(Candidate("x.py", "Python", 6, "x = 1\\n"))
    'under 100 tokens'
    """

    limit: int
    name = "minimal number of tokens"

    def keep(self, file: Candidate) -> Literal[True] | str:
        return load_token_counter(file.language).count(file.text, self.limit) >= self.limit or f"under {self.limit} tokens"


class GenericTokenCounter:
    """The counter of a language without a lexer: a token is a word, white space, or one other character."""

    def count(self, text: str, limit: int | None = None) -> int:
        return len(GENERIC_TOKEN.findall(text))


@cache
def load_token_counter(language: str) -> TokenCounter | GenericTokenCounter:
    """Return the counter of a language by its Pygments name, with the lexer's default options."""
    lexer = find_lexer_class(language)
    return TokenCounter(lexer()) if lexer else GenericTokenCounter()
