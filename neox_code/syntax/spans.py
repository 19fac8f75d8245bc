"""Spans of source code by their syntactic kind, as byte offsets.

    for span in list_spans("Python", b"if f(x):\n    g()\n"):
        source[span.begin : span.end]        # f(x) as a call, f(x) as a condition, x as an argument, g() as a block ...

| kind | what it is |
|---|---|
| call | a call with its arguments; an object's creation |
| argument | one argument of a call |
| condition | of a branch, a loop or a conditional expression, without its parentheses |
| block | the statements of a block, without the braces or keywords and the whitespace around them |
| function | the definition of a function or method that has a body |
| string | a string with its quotes |
| comment | one comment |
| whitespace | the end of a line and all whitespace up to the next text, outside strings and comments |

Nothing is listed inside or around what the grammar does not accept. Spans may overlap.
"""

import itertools
import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from neox_code.syntax.grammars import parse

if TYPE_CHECKING:
    import tree_sitter

Kind = Literal["call", "condition", "block", "comment", "argument", "function", "string", "whitespace"]
KINDS: tuple[Kind, ...] = get_args(Kind)

NODES: dict[Kind | Literal["opaque"], str] = {
    "call": "call call_expression new_expression invocation_expression object_creation_expression method_invocation "
    "function_call_expression member_call_expression nullsafe_member_call_expression scoped_call_expression macro_invocation "
    "function_call attribute_call base_call",
    "block": "block compound_statement statement_block constructor_body colon_block body_statement block_body then do "
    "indented_block body",
    "function": "function_definition function_declaration function_item generator_function_declaration method method_declaration "
    "method_definition singleton_method local_function_statement constructor_declaration constructor_definition "
    "secondary_constructor variable_declarator",
    "comment": "comment line_comment block_comment html_comment",
    "string": "string string_literal concatenated_string char_literal raw_string_literal verbatim_string_literal template_string "
    "interpolated_string_expression interpreted_string_literal encapsed_string heredoc nowdoc_string multiline_string_literal",
    "opaque": "heredoc_body nowdoc text jsx_text regex system_lib_string preproc_arg",
}
"""Kind -> types of its nodes in all grammars. `opaque` is text whose line ends are not the code's."""

KIND_OF_NODE = {node: kind for kind, nodes in NODES.items() for node in nodes.split()}
ARGUMENTS = {"argument_list", "arguments", "value_arguments"}
FUNCTION_VALUES = {"arrow_function", "function_expression", "generator_function"}

LINE_END = re.compile(rb"[ \t\f\v]*(?:\r\n?|\n)\s*")
OPENING, CLOSING = ("{", "then", "do", ":"), ("}", "end")


@dataclass(frozen=True, slots=True, order=True)
class Span:
    begin: int
    end: int
    kind: Kind


def list_spans(language: str, source: bytes) -> list[Span]:
    """Return the spans of a text in the order of their beginnings; none if the text exceeds the limits of `parse`, which raises."""
    tree = parse(language, source)
    if tree is None:
        return []
    spans, opaque = set(), []
    for node, kind in find_nodes(tree):
        if kind in ("comment", "string", "opaque"):
            opaque.append(node.byte_range)
        if kind == "opaque":
            continue
        begin, end = strip(source, *cut_delimiters(node, kind))
        if begin < end and not node.has_error:
            spans.add(Span(begin, end, kind))
    spans |= {Span(*match, "whitespace") for match in find_line_ends(source, opaque)}
    return sorted(spans)


def find_nodes(tree: "tree_sitter.Tree") -> Iterator[tuple["tree_sitter.Node", Kind | Literal["opaque"]]]:
    """Yield the nodes that have a kind, each before those inside it. Time is proportional to the number of nodes."""
    cursor = tree.walk()
    parents = [""]
    before = ""
    while True:
        node = cursor.node
        assert node is not None
        kind = KIND_OF_NODE.get(node.type) if node.is_named else None
        if kind and (kind != "function" or has_body(node)):
            yield node, kind
        if node.is_named and kind != "comment":
            if parents[-1] in ARGUMENTS:
                yield node, "argument"
            elif (cursor.field_name or name_condition(parents[-1], before, node.type)) == "condition":
                yield node, "condition"
        before = ""
        if node.type != "ERROR" and cursor.goto_first_child():
            parents.append(node.type)
            continue
        before = node.type
        while not cursor.goto_next_sibling():
            if not cursor.goto_parent():
                return
            before = parents.pop()


def name_condition(parent: str, before: str, node: str) -> str | None:
    """Return "condition" for one that its grammar does not name: of Python's expressions, and of Go's `for` without clauses."""
    if parent == "for_statement":
        is_condition = before == "for" and node.endswith(("expression", "identifier"))
    else:
        is_condition = before == "if" and parent in ("conditional_expression", "if_clause")
    return "condition" if is_condition else None


def has_body(node: "tree_sitter.Node") -> bool:
    """Return True for a definition with a body, and for a variable that is defined as a function with a block."""
    if node.type == "variable_declarator":
        value = node.child_by_field_name("value")
        return value is not None and value.type in FUNCTION_VALUES and has_block(value)
    return node.child_by_field_name("body") is not None or has_block(node)


def has_block(node: "tree_sitter.Node") -> bool:
    return any(child.type in ("block", "function_body", "statement_block") for child in node.children)


def cut_delimiters(node: "tree_sitter.Node", kind: Kind) -> tuple[int, int]:
    """Return the byte range of a node, without the braces or keywords of a block and the parentheses of a condition."""
    if kind == "block":
        inner = node.children
        if inner and inner[0].type in OPENING:
            inner = inner[1:]
        if inner and inner[-1].type in CLOSING:
            inner = inner[:-1]
        return (inner[0].start_byte, inner[-1].end_byte) if inner else (node.start_byte, node.start_byte)
    if kind == "condition" and node.type in ("parenthesized_expression", "condition_clause"):
        return node.start_byte + 1, node.end_byte - 1
    return node.start_byte, node.end_byte


def strip(source: bytes, begin: int, end: int) -> tuple[int, int]:
    text = source[begin:end]
    return begin + len(text) - len(text.lstrip()), end - len(text) + len(text.rstrip())


def find_line_ends(source: bytes, opaque: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Yield the ranges of line ends with the whitespace around, between two texts and outside the sorted ranges `opaque`."""
    begins = [begin for begin, _ in opaque]
    ends = [0, *itertools.accumulate((end for _, end in opaque), max)]
    for match in LINE_END.finditer(source):
        begin, end = match.span()
        if begin > 0 and end < len(source) and ends[bisect_right(begins, begin)] <= begin:
            yield begin, end
