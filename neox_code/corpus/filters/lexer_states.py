"""The states of a Pygments lexer with their rules joined, for those who want to know which rule matches and no more.

    state = State(lexer._tokens["root"], lexer.flags)
    for match, by_group in state[text[position : position + 1]]:       # "" at the end of the text
        found = match(text, position)
        if found:
            match, action, new_state, tokens, nested = by_group[found.lastindex if len(by_group) > 1 else None]

Pygments tries the rules of a state one after another, each a regular expression. Here neighboring rules are alternatives of one
expression: the first alternative that matches is the rule that Pygments would have taken, and the empty group behind it tells
which. Before each character only those rules are tried of which a match can begin with it; letters are taken together, since
compiling an expression for each costs more than it gains. References to groups are renumbered and flags set for the alternative
alone; the few rules that cannot stand with others are tried by themselves.
"""

import re
from collections.abc import Callable, Sequence
from functools import cached_property
from string import ascii_letters
from typing import Any

from pygments.token import _TokenType

from neox_code.corpus.filters.first_characters import first_characters

INLINE_FLAGS = re.compile(r"\(\?([ims]+)\)")
UNMOVABLE = re.compile(r"\(\?P|\(\?\(|\(\?[aiLmsux]+\)|\\[1-9][0-9]{2}")
"""Named groups, conditions, flags that are not at the beginning, octal numbers."""
REFERENCE_OR_CLASS = re.compile(r"\\([1-9][0-9]?)|\\.|\[\^?\]?(?:\\.|[^\]\\])*\]", re.DOTALL)
"""A reference to a group (its number is the group), or what looks like none: another escape, a class of characters."""

LETTERS = frozenset(ascii_letters + "_")
Match = Callable[..., Any]
Rule = tuple[Match, Any, Any]
"""As Pygments has them: match at a position, action, new state."""
Stack = tuple[str, ...]
Known = tuple[Match, Any, Any, tuple[int, ...], tuple[tuple[int, Stack | None], ...]]
"""A rule, and what it makes of groups of the joined expression: a token of each, unless empty; or, of rules that lex some of their
groups with the same lexer, a token (None) or the tokens from this stack of states on. Both are () where that is not all."""
Joined = tuple[Match, dict[int | None, Known]]
"""One expression for several rules, and a table from its last group to the rule; a rule by itself is in it under None."""


class State(dict[str, list[Joined]]):
    """The rules that can match before a character, joined; filled as characters come."""

    def __init__(self, rules: Sequence[Rule], flags: int) -> None:
        super().__init__()
        self.rules = rules
        self.flags = flags
        self.joined: dict[tuple[int, ...], list[Joined]] = {}

    @cached_property
    def first_characters(self) -> list[frozenset[str]]:
        return [first_characters(expression_of(rule)) for rule in self.rules]

    def __missing__(self, character: str) -> list[Joined]:
        all_can = not (character and character.isascii())
        alike = LETTERS if character in LETTERS else {character}
        chosen = tuple(number for number, first in enumerate(self.first_characters) if all_can or not first.isdisjoint(alike))
        if chosen not in self.joined:
            self.joined[chosen] = join([self.rules[number] for number in chosen], self.flags)
        self[character] = self.joined[chosen]
        return self[character]


def join(rules: Sequence[Rule], flags: int) -> list[Joined]:
    joined: list[Joined] = []
    patterns: list[str] = []
    table: dict[int | None, Known] = {}
    groups = 0

    def close() -> None:
        nonlocal patterns, table, groups
        if len(patterns) == 1:
            (rule,) = table.values()
            joined.append((rule[0], {None: rule}))
        elif patterns:
            joined.append((re.compile("|".join(patterns), flags).match, table))
        patterns, table, groups = [], {}, 0

    for rule in rules:
        expression = expression_of(rule)
        pattern = alternative(expression, flags, groups)
        if pattern is None:
            close()
            pattern = alternative(expression, flags, 0)
        if pattern is None:
            joined.append((rule[0], {None: (*rule, *made_of_groups(rule, 0))}))
            continue
        patterns.append(f"{pattern}()")
        made = made_of_groups(rule, groups)
        groups += expression.groups + 1
        table[groups] = (*rule, *made)
    close()
    return joined


def alternative(expression: re.Pattern[str], flags: int, groups_before: int) -> str | None:
    """The pattern as it means the same behind other groups; None where it cannot.

    >>> alternative(re.compile(r"(?i)([a-f])\\1"), re.UNICODE, 4)
    '(?i:([a-f])(?:\\\\5))'
    """
    inline = INLINE_FLAGS.match(expression.pattern)
    own = inline[1] if inline else ""
    pattern = expression.pattern[inline.end() :] if inline else expression.pattern
    same_flags = expression.flags == re.compile(f"(?{own})" if own else "", flags).flags
    if (pattern and not same_flags) or UNMOVABLE.search(pattern):
        return None
    references = [int(found[1]) + groups_before for found in REFERENCE_OR_CLASS.finditer(pattern) if found[1]]
    if max(references, default=0) > 99:  # as many groups can be referred to
        return None
    pattern = REFERENCE_OR_CLASS.sub(lambda found: rf"(?:\{int(found[1]) + groups_before})" if found[1] else found[0], pattern)
    return f"(?{own}:{pattern})"


def made_of_groups(rule: Rule, groups_before: int) -> tuple[tuple[int, ...], tuple[tuple[int, Stack | None], ...]]:
    """The last two of Known."""
    actions = closure(rule[1], "bygroups")
    if actions is None:
        stack = same_lexer(rule[1])
        return (), () if stack is None else ((0, stack),)
    made: list[tuple[int, Stack | None]] = []
    for number, action in enumerate(actions["args"], groups_before + 1):
        stack = same_lexer(action)
        if stack is not None or type(action) is _TokenType:
            made.append((number, stack))
        elif action is not None:
            return (), ()
    if len(made) > 1 and all(stack is None for _, stack in made):  # of one group Match.group gives no tuple
        return tuple(group for group, _ in made), ()
    return (), tuple(made)


def same_lexer(action: Any) -> Stack | None:
    """The states from which the action lexes its text with its own lexer, using(this); None where it does something else."""
    using = closure(action, "using")
    if using is None or "_other" in using or using["kwargs"]:
        return None
    return tuple(using["gt_kwargs"].get("stack", ("root",)))


def closure(action: Any, maker: str) -> dict[str, Any] | None:
    """What a callback of Pygments' `bygroups` or `using` was made with; None for another action."""
    if getattr(action, "__qualname__", "") != f"{maker}.<locals>.callback":
        return None
    return {name: cell.cell_contents for name, cell in zip(action.__code__.co_freevars, action.__closure__, strict=True)}


def expression_of(rule: Rule) -> re.Pattern[str]:
    return rule[0].__self__  # type: ignore[attr-defined]  # the bound method `match` of a pattern
