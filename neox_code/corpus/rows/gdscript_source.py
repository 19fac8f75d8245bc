"""The functions of a GDScript file, by its own rules of strings, comments, brackets and indentation.

    for function in gdscript_functions(text):
        function.code             from its annotations to the last line of its body, byte for byte
        function.description      the comments directly above it, else its docstring; "" where there are none

Functions are those of the script and of its inner classes; lambdas belong to the function around them. A function without a body
(abstract, or cut off) is left out.
"""

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from neox_code.corpus.rows.descriptions import description_of_lines, description_of_string

TOKEN = re.compile(
    r'(?P<string>"""(?:[^"\\]|\\.|"(?!""))*+"""'
    r"|'''(?:[^'\\]|\\.|'(?!''))*+'''"
    r'|"(?:[^"\\]|\\.)*+"'
    r"|'(?:[^'\\]|\\.)*+')"
    r"|(?P<comment>\#[^\n]*)"
    r"|(?P<continued>\\\r?\n)"
    r"|(?P<open>[(\[{])|(?P<close>[)\]}])|(?P<newline>\n)",
    re.DOTALL,
)
FUNCTION = re.compile(
    r"[ \t]*(?:@\w+(?:[ \t]*\([^)]*\))?[ \t]*)*"
    r"(?:(?:static|remote|remotesync|sync|master|mastersync|puppet|puppetsync|slave)[ \t]+)*"
    r"func[ \t]+\w+[ \t]*(?=\()"
)
AT_THE_MARGIN = re.compile(r"(?:static[ \t]+)?func[ \t]+\w")
"""A function that begins within brackets: one before it was not closed."""

ANNOTATIONS = re.compile(r"[ \t]*(?:@\w+(?:[ \t]*\([^)]*\))?[ \t\r]*)+(?:#.*)?")
ANNOTATIONS_OF_SCRIPTS = re.compile(
    r"@(?:tool|icon|static_unload|export_\w*group|export_category|warning_ignore_(?:start|restore))\b"
)
TAB_WIDTH = 4
"""Of lines of which some are indented with tabs and some with spaces, as Godot's editor shows them."""


class GDScriptFunction(NamedTuple):
    code: str
    description: str


class Line(NamedTuple):
    """A logical line: it goes on where a string, a bracket or a backslash makes it."""

    start: int
    end: int
    """Its line end included."""
    masked: str
    """As long as the line, strings as underscores, comments as number signs."""
    indent: int

    @property
    def is_blank(self) -> bool:
        return not self.masked.strip()

    @property
    def is_comment(self) -> bool:
        return self.masked.lstrip().startswith("#")

    @property
    def is_code(self) -> bool:
        return not (self.is_blank or self.is_comment)

    @property
    def is_annotation(self) -> bool:
        """Whether it annotates the declaration that follows."""
        return ANNOTATIONS.fullmatch(self.masked.rstrip("\n")) is not None and not ANNOTATIONS_OF_SCRIPTS.search(self.masked)


def gdscript_functions(text: str) -> Iterator[GDScriptFunction]:
    if "func" not in text:
        return
    lines = logical_lines(text)
    index = 0
    while index < len(lines):
        header = FUNCTION.match(lines[index].masked)
        if header is None:
            index += 1
            continue
        last = last_of_body(lines, index)
        if last > index or has_body_in_line(lines[index].masked, header.end()):
            first, comments = above(text, lines, index)
            description = description_of_lines(comments) or docstring(text, lines[index + 1 : last + 1])
            yield GDScriptFunction(text[lines[first].start : lines[last].end], description)
        index = last + 1


def logical_lines(text: str) -> list[Line]:
    """
    >>> [line.masked for line in logical_lines('var a = "# no" # yes\\nf(1,\\n  2)\\n')]
    ['var a = ______ #####\\n', 'f(1,   2)\\n']
    """
    masked, end, depth = [], 0, 0
    for token in TOKEN.finditer(text):
        masked.append(text[end : token.start()])
        kind, length, end = token.lastgroup, token.end() - token.start(), token.end()
        if kind == "open":
            depth += 1
        elif kind == "close":
            depth = max(depth - 1, 0)
        elif kind == "newline" and depth:
            depth = 0 if AT_THE_MARGIN.match(text, end) else depth
            masked.append(" " if depth else "\n")
            continue
        masked.append({"string": "_" * length, "comment": "#" * length, "continued": " " * length}.get(kind or "", token[0]))
    masked.append(text[end:])
    lines, start = [], 0
    for line in "".join(masked).split("\n"):
        if start < len(text):
            whole = text[start : start + len(line) + 1]
            lines.append(Line(start, start + len(whole), line + whole[len(line) :], indent_of(line)))
        start += len(line) + 1
    return lines


def indent_of(line: str) -> int:
    """
    >>> indent_of("\\t\\tpass"), indent_of("        pass"), indent_of("pass")
    (8, 8, 0)
    """
    return len(line[: len(line) - len(line.lstrip(" \t"))].expandtabs(TAB_WIDTH))


def last_of_body(lines: Sequence[Line], header: int) -> int:
    """The last line that is indented deeper; blank lines and comments within belong to it, those after it do not."""
    last = header
    for index in range(header + 1, len(lines)):
        line = lines[index]
        if line.is_blank:
            continue
        if line.indent > lines[header].indent:
            last = index
        elif line.is_code:
            break
    return last if any(line.is_code for line in lines[header + 1 : last + 1]) else header


def has_body_in_line(masked: str, parameters: int) -> bool:
    """Whether code follows the colon, as in `func area() -> float: return a * b`; `parameters` is where they begin."""
    depth = 0
    for index in range(parameters, len(masked)):
        depth += (masked[index] in "([{") - (masked[index] in ")]}")
        if masked[index] == ":" and not depth:
            return bool(masked[index + 1 :].partition("#")[0].strip())
    return False


def above(text: str, lines: Sequence[Line], header: int) -> tuple[int, list[str]]:
    """The first of the annotations directly above a function, and the comments among and above them."""
    first, comments = header, []
    for index in range(header - 1, -1, -1):
        line = lines[index]
        if line.indent != lines[header].indent or not (line.is_comment or line.is_annotation):
            break
        if line.is_annotation:
            first = index
        else:
            comments.append(text[line.start : line.end])
    return first, comments[::-1]


def docstring(text: str, body: Sequence[Line]) -> str:
    """What a string says that stands alone as the first statement."""
    first = next((line for line in body if line.is_code), None)
    if first is None or first.masked.strip("_ \t\r\n"):
        return ""
    return description_of_string(text[first.start : first.end].strip())
