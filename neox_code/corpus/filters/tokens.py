"""Filter by the number of tokens that Pygments' lexer of the language finds, white space included."""

from dataclasses import dataclass
from functools import cache
from itertools import islice
from typing import Literal

from pygments.lexer import Lexer
from pygments.lexers import find_lexer_class

from neox_code.corpus.filters.protocol import Candidate


@dataclass(frozen=True)
class MinTokens:
    """At least so many tokens; lexing stops once they are found, which is the decision of a whole lex.

    >>> MinTokens(100).keep(Candidate("x.py", "Python", 6, "x = 1\\n"))
    'under 100 tokens'
    """

    limit: int
    name = "minimal number of tokens"

    def keep(self, file: Candidate) -> Literal[True] | str:
        tokens = lexer(file.language).get_tokens(file.text)
        return next(islice(tokens, self.limit - 1, None), None) is not None or f"under {self.limit} tokens"


@cache
def lexer(language: str) -> Lexer:
    """The lexer of a language, by its Pygments name, with default options."""
    return find_lexer_class(language)()
