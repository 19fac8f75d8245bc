r"""Rules that end a completion by its text: stop strings, the block or the bracket at the cursor, the text after the cursor.

    rules = build_stop_rules(["dedent"], ["\n\n\n"], prompt)
    ends = [end for rule in rules if (end := rule.find_end(text)) is not None]       # after each token; text[: min(ends)] remains

The rules read the code around the cursor without its language: brackets outside strings and comments, and indentation. Once
`find_end` has returned a place, it returns the same place for every longer text, whatever its tokens are. Some rules decide only at
the end of a line. When a completion ends for another reason, `find_end(text + "\n")` applies them to its last line.
"""

import itertools
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from neox_code.errors import ConfigError

CLOSING = {"(": ")", "[": "]", "{": "}"}
TAB_WIDTH = 8
"""Columns of a tab, as in Python's own rule."""


class StopRule(Protocol):
    """A rule that ends a completion by its text."""

    def find_end(self, text: str) -> int | None:
        """Return the number of characters of the completion before its end; None if the completion continues."""
        ...

    def count_unsettled(self, text: str) -> int:
        """Return how many characters at the end of `text` can still be cut after more text. Call it only if `find_end(text)` is
        None.
        """
        ...


def build_stop_rules(names: Iterable[str], strings: Sequence[str], prompt: str) -> tuple[StopRule, ...]:
    """Return the rules with these names (keys of STOP_RULES), and one for the stop strings. Raise ConfigError for another name."""
    rules = []
    for name in names:
        if name not in STOP_RULES:
            raise ConfigError(f"stop_rules has {name!r}. Known rules: {', '.join(STOP_RULES)}.")
        rules.append(STOP_RULES[name](prompt))
    return (*rules, StopStrings(strings)) if strings else tuple(rules)


class StopStrings:
    """End before the stop string whose last character comes first."""

    def __init__(self, strings: Sequence[str]):
        if "" in strings:
            raise ConfigError("stop has an empty string, which would end every completion at once. Remove it.")
        self.strings = strings

    def find_end(self, text: str) -> int | None:
        """Return the index of the first stop string.

        >>> StopStrings(["\\n\\n", "}"]).find_end("a\\n}\\n\\n")
        2
        """
        found = [(place + len(string), place) for string in self.strings if (place := text.find(string)) >= 0]
        return min(found)[1] if found else None

    def count_unsettled(self, text: str) -> int:
        """Return the length of the longest beginning of a stop string at the end of the text."""
        return max((count_overlap(string, text) for string in self.strings), default=0)


def count_overlap(string: str, text: str) -> int:
    """Return the length of the longest beginning of `string` that `text` ends with. The whole `string` does not count."""
    return next((length for length in range(min(len(string) - 1, len(text)), 0, -1) if text.endswith(string[:length])), 0)


STRING = r"""
    \"\"\"(?:\\[\s\S]|(?!\"\"\")[\s\S])*(?:\"\"\"|\Z) | '''(?:\\[\s\S]|(?!''')[\s\S])*(?:'''|\Z)
    | "(?:\\[\s\S]|[^"\\\n])*(?:"|(?=\n)|\\?\Z) | `(?:\\[\s\S]|[^`\\\n])*`"""
SINGLE_QUOTED = r"| (?:(?<!\w)|(?<=\b[bBrRfFuUL])|(?<=\b[bBrRfF][bBrRfF]))'(?:\\[\s\S]|[^'\\\n])*(?:'|(?=\n)|\\?\Z)"
RUST_CHARACTER = r"| '(?:\\[^'\n]*|[^'\\\n])'"
DIRECTIVE = r"(?<!\S)\#[ \t]*(?:include|define|undef|if|ifdef|ifndef|elif|else|endif|pragma|error|line|region|endregion|\[|!)"
SLASH_COMMENT = rf"//[^\n]* | /\*(?:(?!\*/)[\s\S])*(?:\*/|\Z) | {DIRECTIVE}[^\n]* | (?<!\S)\#(?=[ \#!])[^\n]*"
HASH_COMMENT = r"(?<![$&{\\])\#[^\n]*"
DASH_COMMENT = r"--\[\[(?:(?!\]\])[\s\S])*(?:\]\]|\Z) | --[^\n]*"

DIALECTS = {
    name: re.compile(rf"(?=[\"'`\#/-])(?:(?P<comment>{comment}) | (?P<string>{string}))", re.VERBOSE | re.MULTILINE)
    for name, comment, string in (
        ("braces", SLASH_COMMENT, STRING.replace(r"[^`\\\n])*`", r"[^`\\])*(?:`|\Z)") + SINGLE_QUOTED),
        ("rust", SLASH_COMMENT, STRING + RUST_CHARACTER),
        ("hash", HASH_COMMENT, STRING + SINGLE_QUOTED),
        ("dash", DASH_COMMENT, STRING + SINGLE_QUOTED),
        ("text", "(?!)", STRING + SINGLE_QUOTED),
    )
}
"""Family of languages -> pattern of its comments and strings. An unclosed comment or string reaches to the end of the text."""

EVIDENCE = {
    "dash": re.compile(r"^[ \t]*(?:--[ \t-]|local\b)|\bthen[ \t\r]*$", re.MULTILINE),
    "hash": re.compile(
        r"^[ \t]*(?:\#(?!\w*clude|define|if|end|pragma|\[)|(?:async\ )?def\b|from\ \w|elif\b)|:[ \t\r]*$", re.M | re.X
    ),
    "braces": re.compile(rf"[;{{}}][ \t\r]*$|^[ \t]*(?://|/\*)|{DIRECTIVE}", re.MULTILINE | re.VERBOSE),
}
RUST = re.compile(r"\bfn\s+\w+\s*[<(]|^impl\b|\blet mut\b|&'\w|&mut\b", re.MULTILINE)

HALF_COMMENT = re.compile(r"(?:[/-]|#[ \t]*\w*)\Z")
"""The end of a text that a further character may turn into a comment or a directive."""

OPENS_BLOCK = re.compile(r"(?:[:{=(\[]|[-=]>|\b(?:do|then|else|begin|repeat|of|where)|\bdo\s*\|[^|]*\|)$")
KEYWORD = re.compile(
    r"(?:(?:local|async|static|export|pub)\s+)*"
    r"(?:def|class|module|function|if|unless|while|until|for|begin|case|repeat|do|loop|try|switch|else|elsif|elseif)\b"
)
CLOSES_BLOCK = re.compile(r"(?:end(?:if|for|while|function|case|module|def)?|fi|done|esac)\b(?!\s*=)[);,]*|[)\]}]+[);,]*")
CLOSING_WORDS = ("endfunction", "endmodule", "endwhile", "endcase", "endfor", "endif", "enddef", "done", "esac", "end", "fi")


def guess_dialect(prompt: str) -> str:
    """Return the key of DIALECTS that fits most lines of the prompt.

    >>> guess_dialect("def f(x):\\n    y = x // 2\\n"), guess_dialect("int f(int x) {\\n"), guess_dialect("local x = 1\\n")
    ('hash', 'braces', 'dash')
    """
    counts = {name: len(evidence.findall(prompt)) for name, evidence in EVIDENCE.items()}
    dialect = max(counts, key=counts.__getitem__) if any(counts.values()) else "braces"
    return "rust" if dialect == "braces" and RUST.search(prompt) else dialect


def mask_comments_and_strings(text: str, dialect: str) -> str:
    """Return a text of the same length in which comments are spaces and strings have no brackets and line ends.

    >>> mask_comments_and_strings("f('(', x) # (", "hash")
    "f(''', x)    "
    """

    def fill(match: re.Match[str]) -> str:
        if match["comment"] is None:
            return "'" * len(match[0])
        return re.sub(r"[^\n]", " ", match[0])

    return DIALECTS[dialect].sub(fill, text)


def count_columns(line: str) -> int:
    """Return the width of the line's indentation in columns."""
    return len(line[: len(line) - len(line.lstrip())].expandtabs(TAB_WIDTH))


def change_stack(stack: str, bracket: str) -> str:
    """Return the open brackets, outermost first, after one more bracket. A closing bracket also closes the brackets open inside its
    pair.

    >>> change_stack("(", "["), change_stack("{([", ")"), change_stack("(", "]")
    ('([', '{', '(')
    """
    if bracket in CLOSING:
        return stack + bracket
    place = max(stack.rfind(opening) for opening, closing in CLOSING.items() if closing == bracket)
    return stack if place < 0 else stack[:place]


def is_continued(stack: str, dialect: str) -> bool:
    """Return True if a line end inside these open brackets does not end a statement."""
    return stack[-1:] in (("(", "[") if dialect in ("braces", "rust") else ("(", "[", "{"))


@dataclass(frozen=True)
class Cursor:
    """The code around the end of a prompt."""

    dialect: str
    tail: str
    """The statement at the end of the prompt, from the beginning of its line."""
    stack_before: str
    """The brackets that are open before `tail`, outermost first."""
    stack: str
    """The brackets that are open at the end of the prompt."""
    header: str
    """The last statement before `tail`, masked."""


def parse_cursor(prompt: str) -> Cursor:
    """Return the code around the end of a prompt."""
    dialect = guess_dialect(prompt)
    masked = mask_comments_and_strings(prompt, dialect)
    starts, stack, stack_before = [0], "", ""
    for match in re.finditer(r"[()\[\]{}\n]", masked):
        if match[0] != "\n":
            stack = change_stack(stack, match[0])
        elif not is_continued(stack, dialect):
            starts.append(match.end())
            stack_before = stack
    for match in DIALECTS[dialect].finditer(prompt):
        if match["comment"] and match.end() == len(prompt):
            starts = [start for start in starts if start <= match.start()]  # an open comment of several lines
    statements = [masked[begin:end].replace("\n", " ") for begin, end in itertools.pairwise(starts)]
    header = next((statement for statement in reversed(statements) if statement.strip()), "")
    return Cursor(dialect, prompt[starts[-1] :], stack_before, stack, header)


def opens_block(statement: str) -> bool:
    """Return True if a masked line opens a block: its last character shows it, or its first word if the line has no colon."""
    code = statement.strip()
    is_header = KEYWORD.match(code) and not re.search(r":(?:\s|$)|\bend$|[;}]$", code)
    return bool(OPENS_BLOCK.search(code) or is_header)


class Dedent:
    """End before the first line that is indented less than the block at the cursor.

    The block is the one that the cursor's statement opens, or else the one that contains the statement. Lines inside brackets and
    strings never end the block. Comment lines belong to the code after them.
    """

    closes = False
    """True if the line that closes the block belongs to it."""

    def __init__(self, prompt: str):
        self.cursor = parse_cursor(prompt)

    def find_end(self, text: str) -> int | None:
        return self._read(text)[0]

    def count_unsettled(self, text: str) -> int:
        """Return the number of characters after the block's last line of code."""
        return len(text) - self._read(text)[1]

    def _read(self, text: str) -> tuple[int | None, int]:
        """Return the end or None, and the number of characters that more text cannot cause to be cut."""
        text = HALF_COMMENT.sub("", text)
        dialect, offset = self.cursor.dialect, len(self.cursor.tail)
        source = self.cursor.tail + text
        masked = mask_comments_and_strings(source, dialect)
        is_blank = not masked[:offset].strip()
        level = self._find_first_level() if is_blank else None
        stack, statement, is_pending, is_first = self.cursor.stack_before, "", False, True
        settled = place = 0
        for line in masked.split("\n"):
            raw = source[place : place + len(line)]
            is_lower = not statement and level is not None and count_columns(raw) < level and place >= offset
            if line.strip():
                if is_lower:
                    return self._end_before(line, source, place - offset, settled), settled
                if is_first and is_blank:
                    level = max(level or 0, count_columns(raw))
                is_first = False
                statement += line
                for bracket in re.findall(r"[()\[\]{}]", line):
                    stack = change_stack(stack, bracket)
                is_pending = False
            elif raw.strip() and is_lower:
                is_pending = True
            if raw.strip() and not is_pending:
                settled = max(place + len(raw.rstrip()) - offset, 0)
            place += len(line) + 1
            if statement and place <= len(source) and not is_continued(stack, dialect):
                level = count_columns(statement) + opens_block(statement) if level is None else level
                statement = ""
        return None, settled

    def _find_first_level(self) -> int | None:
        """Return the indentation, in columns, of a block at an empty line: more than that of a header before it, else the line's
        own; None for 0.
        """
        columns = count_columns(self.cursor.tail)
        if opens_block(self.cursor.header):
            return max(count_columns(self.cursor.header) + 1, columns)
        return columns or None

    def _end_before(self, line: str, source: str, place: int, settled: int) -> int | None:
        """Return the end of a block whose first line outside, indented less, begins at the index `place` of the completion; None to
        wait.
        """
        if not self.closes:
            return settled
        code = line.strip()
        is_last = source.endswith(line)
        if is_last and any(word.startswith(code) for word in CLOSING_WORDS):
            return None
        if closing := CLOSES_BLOCK.match(code):
            return None if is_last and closing[0] == code else place + line.index(code) + closing.end()
        return settled


class IndentedBlock(Dedent):
    """End after the block at the cursor, with the line that closes it: `end`, `fi`, `}`."""

    closes = True


class ClosingBracket:
    """End after the bracket that closes the innermost bracket open at the cursor, or else the first bracket that the completion
    opens.
    """

    brackets = "([{"

    def __init__(self, prompt: str):
        self.cursor = parse_cursor(prompt)

    def find_end(self, text: str) -> int | None:
        """Return the index after the closing bracket."""
        cursor, source = self.cursor, self.cursor.tail + text
        masked = mask_comments_and_strings(source, cursor.dialect)
        depth = max(map(cursor.stack.rfind, self.brackets))
        stack = cursor.stack_before
        for match in re.finditer(r"[()\[\]{}]", masked):
            bracket = match[0]
            if depth < 0 and bracket in self.brackets and match.start() >= len(cursor.tail):
                depth = len(stack)
            stack = change_stack(stack, bracket)
            is_closing = any(bracket == CLOSING[opening] for opening in self.brackets)
            if is_closing and match.start() >= len(cursor.tail) and 0 <= depth >= len(stack):
                return self._find_last(masked, match.end(), stack)
        return None

    def count_unsettled(self, text: str) -> int:
        return 0

    def _find_last(self, masked: str, end: int, stack: str) -> int | None:
        return end - len(self.cursor.tail)


class BracedBlock(ClosingBracket):
    """End after the brace that closes the block at the cursor, and after the `)`, `]` and `;` that follow at once."""

    brackets = "{"

    def _find_last(self, masked: str, end: int, stack: str) -> int | None:
        while masked[end : end + 1] == ";" or (stack and masked[end : end + 1] == CLOSING[stack[-1]] != "}"):
            stack = stack if masked[end] == ";" else stack[:-1]
            end += 1
        return end - len(self.cursor.tail) if end < len(masked) else None


def build_end_of_block(prompt: str) -> StopRule:
    """Return the rule for the end of the block at the cursor, by braces or by indentation."""
    cursor = parse_cursor(prompt)
    statement = mask_comments_and_strings(cursor.tail, cursor.dialect).strip() or cursor.header.strip()
    is_braced = "{" in cursor.stack or not statement.endswith(":")
    return BracedBlock(prompt) if cursor.dialect in ("braces", "rust") and is_braced else IndentedBlock(prompt)


STOP_RULES: dict[str, Callable[[str], StopRule]] = {
    "dedent": Dedent,
    "block": build_end_of_block,
    "bracket": ClosingBracket,
}
"""Name in the configuration -> function that builds the rule for a prompt."""


class SuffixOverlap:
    """End where the completion repeats the text after the cursor: the rest of the cursor's line, or else the first line with text.

    The rest of the line counts only outside brackets that the completion opens. Inside a word it counts only at the end of the
    completion's line, because a suffix can begin inside a word and inside a token. A line counts if it is equal, including
    indentation.
    """

    def __init__(self, suffix: str):
        rest, _, others = suffix.partition("\n")
        self.rest = rest.strip()
        self.spaces = rest[: len(rest) - len(rest.lstrip())]
        self.line = next((line.rstrip() for line in others.split("\n") if line.strip()), "")
        self.is_word, rest = self.rest[:1].isalnum(), re.escape(self.rest)
        self.pattern = re.compile(rf"(?<!\w){rest}|{rest}(?=[ \t\r]*\n)" if self.is_word else rest)

    def find_end(self, text: str) -> int | None:
        """Return the index before the repeated rest of the cursor's line, or the end of the line before the repeated line."""
        if not self.rest:
            return self._find_line(text)
        if len(self.rest) == 1 and self.rest.isalnum():
            return None
        masked = "" if self.rest[0] in "\"'`" else mask_comments_and_strings(text, "text")
        for match in self.pattern.finditer(text):
            stack = ""
            for bracket in re.findall(r"[()\[\]{}]", masked[: match.start()]):
                stack = change_stack(stack, bracket)
            if not stack:
                return self._skip_spaces(text, match.start())
        return None

    def count_unsettled(self, text: str) -> int:
        """Return the number of characters at the end of the text that may belong to the suffix or to the space before it."""
        if self.rest:
            line = text.rstrip(" \t\r")
            is_met = self.is_word and line.endswith(self.rest)
            begin = len(line) - len(self.rest) if is_met else len(text) - count_overlap(self.rest, text)
            return len(text) - self._skip_spaces(text, begin)
        if not self.line:
            return 0
        before, newline, last = text.rpartition("\n")
        is_begun = self.line.startswith(last) if newline else self.line.strip().startswith(last.strip())
        return len(text) - len((before if is_begun else text).rstrip())

    def _skip_spaces(self, text: str, end: int) -> int:
        """Return the index before the spaces that end `text[:end]` and begin the suffix."""
        length = next(
            length for length in range(len(self.spaces), -1, -1) if text[:end].endswith(self.spaces[-length:] if length else "")
        )
        return end - length

    def _find_line(self, text: str) -> int | None:
        """Return the end of the last line before the line that equals the suffix's first line. The completion's first line may lack
        indentation.
        """
        place = 0
        for line in text.split("\n")[:-1] if self.line else ():
            if line.rstrip() == self.line or (not place and len(self.line.strip()) > 2 and line.strip() == self.line.strip()):
                return len(text[:place].rstrip())
            place += len(line) + 1
        return None
