"""The states of a Pygments lexer with joined rules. A state finds the rule that matches at a position. It does not make tokens.

    state = State(lexer._tokens["root"], lexer.flags)
    for match, by_group in state[text[position : position + 1]]:       # "" at the end of the text
        found = match(text, position)
        if found:
            match, action, new_state, tokens, nested = by_group[found.lastindex if len(by_group) > 1 else None]

Each rule of a state is a regular expression. Pygments tries the rules one after another. Here neighboring rules are joined as
alternatives of one expression. The first alternative that matches is the rule that Pygments would choose; an empty group at its end
identifies the rule. Only rules whose match can begin with the next character are tried. All letters share one joined expression,
because compiling one for each letter takes more time than it saves. References to groups are renumbered, and flags apply only to
their alternative. The few rules that cannot be joined are tried separately.
"""

import re
from collections.abc import Callable, Sequence
from functools import cached_property
from string import ascii_letters
from typing import Any

from pygments.token import _TokenType

from neox_code.corpus.filters.first_characters import find_first_characters

INLINE_FLAGS = re.compile(r"\(\?([ims]+)\)")
UNMOVABLE = re.compile(r"\(\?P|\(\?\(|\(\?[aiLmsux]+\)|\\[1-9][0-9]{2}")
"""Parts of an expression that prevent joining: named groups, conditions, flags that are not at the start, octal numbers."""
REFERENCE_OR_CLASS = re.compile(r"\\([1-9][0-9]?)|\\.|\[\^?\]?(?:\\.|[^\]\\])*\]", re.DOTALL)
"""A reference such as `\\1` (match group 1 has its number), or another escape or character class, which is left unchanged."""

LETTERS = frozenset(ascii_letters + "_")
Match = Callable[..., Any]
Rule = tuple[Match, Any, Any]
"""A rule as in Pygments: match at a position, action, new state."""
Stack = tuple[str, ...]
JoinedRule = tuple[Match, Any, Any, tuple[int, ...], tuple[tuple[int, Stack | None], ...]]
"""A rule, and two tuples with the groups of the joined expression that are the rule's tokens. At least one tuple is empty.

The first tuple has groups that are one token each, unless their text is empty. The second tuple has pairs (group, states): the same
lexer reads the text of the group with this stack of states; if `states` is None, the group is one token.
"""
Joined = tuple[Match, dict[int | None, JoinedRule]]
"""The match function of several joined rules, and a table: last matched group -> rule. A single rule has the key None."""


class State(dict[str, list[Joined]]):
    """Next character of the text -> the joined rules that can match there. An entry is made when a character first occurs."""

    def __init__(self, rules: Sequence[Rule], flags: int) -> None:
        super().__init__()
        self.rules = rules
        self.flags = flags
        self.joined: dict[tuple[int, ...], list[Joined]] = {}

    @cached_property
    def first_characters(self) -> list[frozenset[str]]:
        return [find_first_characters(get_expression(rule)) for rule in self.rules]

    def __missing__(self, character: str) -> list[Joined]:
        all_can = not (character and character.isascii())
        alike = LETTERS if character in LETTERS else {character}
        chosen = tuple(number for number, first in enumerate(self.first_characters) if all_can or not first.isdisjoint(alike))
        if chosen not in self.joined:
            self.joined[chosen] = join_rules([self.rules[number] for number in chosen], self.flags)
        self[character] = self.joined[chosen]
        return self[character]


def join_rules(rules: Sequence[Rule], flags: int) -> list[Joined]:
    """Join the rules, in their order, to as few expressions as possible."""
    joined: list[Joined] = []
    patterns: list[str] = []
    table: dict[int | None, JoinedRule] = {}
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
        expression = get_expression(rule)
        pattern = make_alternative(expression, flags, groups)
        if pattern is None:
            close()
            pattern = make_alternative(expression, flags, 0)
        if pattern is None:
            joined.append((rule[0], {None: (*rule, *find_group_tokens(rule, 0))}))
            continue
        patterns.append(f"{pattern}()")
        made = find_group_tokens(rule, groups)
        groups += expression.groups + 1
        table[groups] = (*rule, *made)
    close()
    return joined


def make_alternative(expression: re.Pattern[str], flags: int, groups_before: int) -> str | None:
    """Return the expression's pattern for use behind `groups_before` other groups; None if it cannot be rewritten.

    >>> make_alternative(re.compile(r"(?i)([a-f])\\1"), re.UNICODE, 4)
    '(?i:([a-f])(?:\\\\5))'
    """
    inline = INLINE_FLAGS.match(expression.pattern)
    own = inline[1] if inline else ""
    pattern = expression.pattern[inline.end() :] if inline else expression.pattern
    same_flags = expression.flags == re.compile(f"(?{own})" if own else "", flags).flags
    if (pattern and not same_flags) or UNMOVABLE.search(pattern):
        return None
    references = [int(found[1]) + groups_before for found in REFERENCE_OR_CLASS.finditer(pattern) if found[1]]
    if max(references, default=0) > 99:  # the greatest number that can be referenced
        return None
    pattern = REFERENCE_OR_CLASS.sub(lambda found: rf"(?:\{int(found[1]) + groups_before})" if found[1] else found[0], pattern)
    return f"(?{own}:{pattern})"


def find_group_tokens(rule: Rule, groups_before: int) -> tuple[tuple[int, ...], tuple[tuple[int, Stack | None], ...]]:
    """Return the last two entries of the JoinedRule of a rule."""
    actions = read_closure(rule[1], "bygroups")
    if actions is None:
        stack = find_own_lexer_stack(rule[1])
        return (), () if stack is None else ((0, stack),)
    made: list[tuple[int, Stack | None]] = []
    for number, action in enumerate(actions["args"], groups_before + 1):
        stack = find_own_lexer_stack(action)
        if stack is not None or type(action) is _TokenType:
            made.append((number, stack))
        elif action is not None:
            return (), ()
    if len(made) > 1 and all(stack is None for _, stack in made):  # Match.group returns no tuple for one group
        return tuple(group for group, _ in made), ()
    return (), tuple(made)


def find_own_lexer_stack(action: Any) -> Stack | None:
    """Return the states with which the action `using(this)` lexes a text again; None for another action."""
    using = read_closure(action, "using")
    if using is None or "_other" in using or using["kwargs"]:
        return None
    return tuple(using["gt_kwargs"].get("stack", ("root",)))


def read_closure(action: Any, maker: str) -> dict[str, Any] | None:
    """Return the arguments of a callback of Pygments' `bygroups` or `using`; None for another action."""
    if getattr(action, "__qualname__", "") != f"{maker}.<locals>.callback":
        return None
    return {name: cell.cell_contents for name, cell in zip(action.__code__.co_freevars, action.__closure__, strict=True)}


def get_expression(rule: Rule) -> re.Pattern[str]:
    return rule[0].__self__  # type: ignore[attr-defined]  # the bound method `match` of a pattern
