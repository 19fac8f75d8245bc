"""Remove copyright and license notices from the start of a file: a model should learn code, not notices.

The license of a file is read from its notice before the notice is removed.
"""

import re
from dataclasses import dataclass

from neox_code.corpus.filters.protocol import Candidate

FIRST = re.compile(
    r"\ufeff?(?:#!.*\n|<\?php\b(?:[ \t]+declare\([ \t]*strict_types[ \t]*=[ \t]*[01][ \t]*\);)?[ \t]*\r?\n"
    r"|#(?=.*coding[:=]).*\n|#[ \t]*frozen_string_literal:.*\n|\s*\n)*"
)
"""Lines before a notice, which are kept: a shebang, `<?php`, an encoding."""
HASH_IS_CODE = frozenset(
    {"C", "C#", "C++", "Cuda", "F#", "GLSL", "HLSL", "Objective-C", "Objective-C++", "OpenCL", "Rust", "Swift", "Vala"}
)
"""Languages in which # begins directives or attributes."""


def make_comment_pattern(marks: str) -> re.Pattern[str]:
    """Return the pattern of one comment, or of consecutive lines that begin with the same mark."""
    return re.compile(
        r"[ \t]*(?:/\*(?:[^*]|\*(?!/))*\*/[ \t]*"
        r"|<!--(?:[^-]|-(?!->))*-->[ \t]*"
        r"|\{-(?:[^-]|-(?!\}))*-\}[ \t]*"
        rf"|(?P<mark>{marks})[^\n]*(?:\r?\n[ \t]*(?P=mark)[^\n]*)*"
        r"|\#region\b[^\n]*\n(?:[ \t]*(?://[^\n]*)?\r?\n)*[ \t]*\#endregion\b[^\n]*)"  # C#: a region that contains only comments
        r"(?:\r?\n|\Z)"
    )


WITH_HASH = make_comment_pattern(r"//|\#|--|;|%")
WITHOUT_HASH = make_comment_pattern(r"//|--|;|%")
BLANK_LINES = re.compile(r"(?:[ \t]*\r?\n)*")
NOTICE = re.compile(r"copyright|licen[cs]e|SPDX-|all rights reserved|public domain|©|\(c\)[ \t]+(?:19|20)\d\d", re.IGNORECASE)
LONGEST = 50_000
"""Number of characters at the start that are searched for notices. The longest common licenses, GNU's, have 35,000."""


@dataclass(frozen=True)
class CopyrightHeaders:
    """Remove each comment before the first line of code that states a copyright or a license.

    >>> file = Candidate("x.py", "Python", 60, "#!/bin/sh\\n# Copyright 2020 Ann\\n# MIT License\\n\\n# Adds.\\nx = 1\\n")
    >>> CopyrightHeaders().edit(file)
    '#!/bin/sh\\n# Adds.\\nx = 1\\n'
    """

    name = "copyright header removed"

    def edit(self, file: Candidate) -> str:
        """Return the text without the notices in its first comments."""
        head = file.text[:LONGEST]
        if len(head) < len(file.text):
            head = head[: head.rfind("\n") + 1]
        expression = WITHOUT_HASH if file.language in HASH_IS_CODE else WITH_HASH
        start = find_match_end(FIRST, head, 0)
        kept = [head[:start]]
        while found := expression.match(head, start):
            end = find_match_end(BLANK_LINES, head, found.end())
            if not NOTICE.search(found[0]):
                kept.append(head[start:end])
            start = end
        return "".join((*kept, file.text[start:]))


def find_match_end(pattern: re.Pattern[str], text: str, start: int) -> int:
    """Return the end of a match that begins at `start`; `start` if there is none."""
    found = pattern.match(text, start)
    return start if found is None else found.end()
