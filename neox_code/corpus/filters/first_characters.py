"""Find the characters with which a match of a regular expression can begin.

    find_first_characters(re.compile(r"//|/\\*"))        frozenset("/")
    find_first_characters(re.compile(r"\\s*x|[0-9]+"))   white space, x and digits

The set may be too large, but never too small: no match begins with a character outside the set. Characters beyond ASCII are not
considered. The result for an expression that can match the empty text is all characters. Python's parser of regular expressions
provides the syntax tree.
"""

import re
from collections.abc import Iterable
from re import _constants as ops  # type: ignore[attr-defined]
from re import _parser  # type: ignore[attr-defined]
from typing import Any

ASCII = frozenset(map(chr, range(128)))
NONE: frozenset[str] = frozenset()
CLASSES = {
    ops.CATEGORY_DIGIT: frozenset(filter(str.isdigit, ASCII)),
    ops.CATEGORY_SPACE: frozenset(filter(str.isspace, ASCII)),
    ops.CATEGORY_WORD: frozenset(filter(str.isalnum, ASCII)) | {"_"},
}
CLASSES |= {
    ops.CATEGORY_NOT_DIGIT: ASCII - CLASSES[ops.CATEGORY_DIGIT],
    ops.CATEGORY_NOT_SPACE: ASCII - CLASSES[ops.CATEGORY_SPACE],
    ops.CATEGORY_NOT_WORD: ASCII - CLASSES[ops.CATEGORY_WORD],
}


def find_first_characters(expression: re.Pattern[str]) -> frozenset[str]:
    """Return the ASCII characters with which a match can begin.

    >>> sorted(find_first_characters(re.compile(r"(?i)(?<!a)(?:b|[01])+c"))), len(find_first_characters(re.compile("a*")))
    (['0', '1', 'B', 'b'], 128)
    """
    tree = _parser.parse(expression.pattern, expression.flags & ~re.UNICODE)
    characters, may_be_empty = find_sequence_starts(tree, tree.state.flags)
    return ASCII if may_be_empty else characters


def find_sequence_starts(items: Iterable[tuple[Any, Any]], flags: int) -> tuple[frozenset[str], bool]:
    """Return the characters with which a match of a sequence of items can begin, and True if it can match the empty text."""
    characters = NONE
    for op, argument in items:
        of_first, may_be_empty = find_item_starts(op, argument, flags)
        characters |= of_first
        if not may_be_empty:
            return characters, False
    return characters, True


def find_item_starts(op: Any, argument: Any, flags: int) -> tuple[frozenset[str], bool]:
    """Return the characters with which a match of one item of the tree can begin, and True if it can match the empty text."""
    if op is ops.LITERAL:
        return find_literal_starts(chr(argument), flags), False
    if op is ops.IN:
        return find_class_starts(argument, flags), False
    if op is ops.NOT_LITERAL:
        return ASCII if flags & re.IGNORECASE else ASCII - {chr(argument)}, False
    if op is ops.ANY:
        return ASCII, False
    if op is ops.BRANCH:
        branches = [find_sequence_starts(branch, flags) for branch in argument[1]]
        return NONE.union(*(characters for characters, _ in branches)), any(may_be_empty for _, may_be_empty in branches)
    if op is ops.SUBPATTERN:
        _, added, removed, items = argument
        return find_sequence_starts(items, (flags | added) & ~removed)
    if op in (ops.MAX_REPEAT, ops.MIN_REPEAT, ops.POSSESSIVE_REPEAT):
        least, _, items = argument
        characters, may_be_empty = find_sequence_starts(items, flags)
        return characters, may_be_empty or least == 0
    if op is ops.ATOMIC_GROUP:
        return find_sequence_starts(argument, flags)
    if op in (ops.AT, ops.ASSERT, ops.ASSERT_NOT):
        return NONE, True
    return ASCII, True  # references and conditions


def find_literal_starts(character: str, flags: int) -> frozenset[str]:
    if not flags & re.IGNORECASE:
        return ASCII & {character}
    # some characters beyond ASCII are the other case of an ASCII one
    return frozenset({character.lower(), character.upper()}) if character.isascii() else ASCII


def find_class_starts(members: Iterable[tuple[Any, Any]], flags: int) -> frozenset[str]:
    """Return the ASCII characters in a class such as [^a-f\\d]."""
    characters = NONE
    negated = beyond_ascii = False
    for op, argument in members:
        if op is ops.NEGATE:
            negated = True
        elif op in (ops.LITERAL, ops.RANGE):
            least, most = (argument, argument) if op is ops.LITERAL else argument
            characters |= frozenset(map(chr, range(least, min(most, 127) + 1)))
            beyond_ascii |= most > 127
        else:
            characters |= CLASSES[argument]
    if flags & re.IGNORECASE:
        if negated or beyond_ascii:
            return ASCII
        return characters | {case for character in characters for case in (character.lower(), character.upper())}
    return ASCII - characters if negated else characters
