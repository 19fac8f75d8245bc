"""Copyright and license notices at the head of a file.

What a file says of its license is read before (filters/license.py); a notice tells a model nothing about code.
"""

import re
from dataclasses import dataclass

from neox_code.corpus.filters.protocol import Candidate

FIRST = re.compile(r"\ufeff?(?:#!.*\n|<\?php\b[ \t]*\r?\n|#.*coding[:=].*\n|#[ \t]*frozen_string_literal:.*\n|\s*\n)*")
"""What may stand before a notice and stays: a shebang, `<?php`, an encoding."""
COMMENT = re.compile(
    r"[ \t]*(?:/\*(?:[^*]|\*(?!/))*\*/[ \t]*"  # one of C
    r"|<!--(?:[^-]|-(?!->))*-->[ \t]*"
    r"|\{-(?:[^-]|-(?!\}))*-\}[ \t]*"
    r"|(?P<mark>//|\#|--|;|%)[^\n]*(?:\r?\n[ \t]*(?P=mark)[^\n]*)*)"  # lines with one mark
    r"(?:\r?\n|\Z)"
)
BLANK_LINES = re.compile(r"(?:[ \t]*\r?\n)*")
NOTICE = re.compile(r"copyright|licen[cs]e|SPDX-|all rights reserved|public domain|©|\(c\)[ \t]+(?:19|20)\d\d", re.IGNORECASE)
LONGEST = 20_000
"""Characters at the head in which notices are looked for: the text of a whole license is shorter than that."""


@dataclass(frozen=True)
class CopyrightHeaders:
    """Takes out those of the comments before the first line of code that state a copyright or a license, each as a whole.

    >>> file = Candidate("x.py", "Python", 60, "#!/bin/sh\\n# Copyright 2020 Ann\\n# MIT License\\n\\n# Adds.\\nx = 1\\n")
    >>> CopyrightHeaders().edit(file)
    '#!/bin/sh\\n# Adds.\\nx = 1\\n'
    """

    name = "copyright header removed"

    def edit(self, file: Candidate) -> str:
        head = file.text[:LONGEST]
        start = end_of(FIRST, head, 0)
        kept = [head[:start]]
        while comment := COMMENT.match(head, start):
            end = end_of(BLANK_LINES, head, comment.end())
            if not NOTICE.search(comment[0]):
                kept.append(head[start:end])
            start = end
        return "".join((*kept, file.text[start:]))


def end_of(pattern: re.Pattern[str], text: str, start: int) -> int:
    """The end of a match that begins at `start`."""
    found = pattern.match(text, start)
    return start if found is None else found.end()
