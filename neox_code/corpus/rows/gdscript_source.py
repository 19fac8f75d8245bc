"""Find the functions of a GDScript file by the language's rules for strings, comments, brackets and indentation.

    for function in find_gdscript_functions(text):
        function.code             from its annotations to the last line of its body, byte for byte
        function.description      the comments directly above it, else its docstring; "" if it has neither

Functions of the script and of its inner classes are found. A lambda is part of the function around it. A function without a body
(abstract, or at the end of a truncated file) is left out.
"""

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from neox_code.corpus.rows.descriptions import describe_from_comments, describe_from_docstring

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
"""A function without indentation. If it seems to be within brackets, an earlier bracket was not closed."""

ANNOTATIONS = re.compile(r"[ \t]*(?:@\w+(?:[ \t]*\([^)]*\))?[ \t\r]*)+(?:#.*)?")
ANNOTATIONS_OF_SCRIPTS = re.compile(
    r"@(?:tool|icon|static_unload|export_\w*group|export_category|warning_ignore_(?:start|restore))\b"
)
TAB_WIDTH = 4
"""Columns per tab, as in Godot's editor, to compare the indentation of lines with tabs and lines with spaces."""


class GDScriptFunction(NamedTuple):
    code: str
    description: str


class SourceLine(NamedTuple):
    """A logical line. A string, an open bracket or a backslash can continue it over several lines of the file."""

    start: int
    end: int
    """Position in the file after the logical line and its line end."""
    masked: str
    """The logical line with its strings replaced by underscores and its comments by number signs; its length is unchanged."""
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
        """True if the line is an annotation (`@rpc`) of the declaration after it."""
        return ANNOTATIONS.fullmatch(self.masked.rstrip("\n")) is not None and not ANNOTATIONS_OF_SCRIPTS.search(self.masked)


def find_gdscript_functions(text: str) -> Iterator[GDScriptFunction]:
    """Yield the functions of a file in their order."""
    if "func" not in text:
        return
    lines = split_logical_lines(text)
    index = 0
    while index < len(lines):
        header = FUNCTION.match(lines[index].masked)
        if header is None:
            index += 1
            continue
        last = find_last_line(lines, index)
        if last > index or has_body_in_line(lines[index].masked, header.end()):
            first, comments = find_lines_above(text, lines, index)
            description = describe_from_comments(comments) or find_docstring(text, lines[index + 1 : last + 1])
            yield GDScriptFunction(text[lines[first].start : lines[last].end], description)
        index = last + 1


def split_logical_lines(text: str) -> list[SourceLine]:
    """Split a file into logical lines.

    >>> [line.masked for line in split_logical_lines('var a = "# no" # yes\\nf(1,\\n  2)\\n')]
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
            lines.append(SourceLine(start, start + len(whole), line + whole[len(line) :], measure_indent(line)))
        start += len(line) + 1
    return lines


def measure_indent(line: str) -> int:
    """Return the columns of white space at the start of a line.

    >>> measure_indent("\\t\\tpass"), measure_indent("        pass"), measure_indent("pass")
    (8, 8, 0)
    """
    return len(line[: len(line) - len(line.lstrip(" \t"))].expandtabs(TAB_WIDTH))


def find_last_line(lines: Sequence[SourceLine], header: int) -> int:
    """Return the index of the last line of a function's body; `header`, the index of its first line, if it has no body.

    The body consists of the next lines that are indented deeper than the header, and of blank lines and comments between them.
    """
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
    """Return True if code follows the colon, as in `func area() -> float: return a * b`.

    parameters: position of the parenthesis that opens the parameters.
    """
    depth = 0
    for index in range(parameters, len(masked)):
        depth += (masked[index] in "([{") - (masked[index] in ")]}")
        if masked[index] == ":" and not depth:
            return bool(masked[index + 1 :].partition("#")[0].strip())
    return False


def find_lines_above(text: str, lines: Sequence[SourceLine], header: int) -> tuple[int, list[str]]:
    """Return the index of the first annotation of a function (`header` if it has none), and the comments directly above it."""
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


def find_docstring(text: str, body: Sequence[SourceLine]) -> str:
    """Return the text of the string that is the first statement of a body; "" if there is none."""
    first = next((line for line in body if line.is_code), None)
    if first is None or first.masked.strip("_ \t\r\n"):
        return ""
    return describe_from_docstring(text[first.start : first.end].strip())
