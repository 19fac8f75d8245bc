"""Count the tokens that a Pygments lexer finds in a text. The result is the same as with Pygments, and it is faster.

    TokenCounter(find_lexer_class("Rust")()).count(text, limit=100)      # min(tokens, about 100)

A counter steps through the states of a lexer as Pygments does, but with joined rules (lexer_states.py). If a lexer does more than
apply its rules, Pygments runs it.
"""

import re
from itertools import islice
from typing import Any

from pygments.lexer import ExtendedRegexLexer, Lexer, LexerContext, RegexLexer
from pygments.lexers.c_cpp import CFamilyLexer
from pygments.lexers.php import PhpLexer
from pygments.token import _TokenType

from neox_code.corpus.filters.lexer_states import State


class TokenCounter:
    """A counter of the tokens of one lexer."""

    def __init__(self, lexer: Lexer) -> None:
        self.lexer = lexer
        self.states: dict[str, State] = {}
        if has_only_rule_actions(lexer):
            self.states = {name: State(rules, lexer.flags) for name, rules in lexer._tokens.items()}

    def count(self, text: str, limit: int) -> int:
        """Return the number of tokens if it is below `limit`; else a number that is not below `limit`."""
        if not self.states:
            return sum(1 for _ in islice(self.lexer.get_tokens(text), limit))
        text = self.lexer._preprocess_lexer_input(text)
        if isinstance(self.lexer, ExtendedRegexLexer):
            return self._count_with_context(text, limit)
        return self._count(text, limit, ["root"])

    def _count(self, text: str, limit: int, stack: list[str]) -> int:
        """Return the number of tokens that RegexLexer.get_tokens_unprocessed yields. Counting stops soon after `limit`."""
        state = self.states[stack[-1]]
        position = count = 0
        while count < limit:
            for match, by_group in state[text[position : position + 1]]:
                found = match(text, position)
                if found is None:
                    continue
                alone, action, new_state, tokens, nested = by_group[found.lastindex if len(by_group) > 1 else None]
                if type(action) is _TokenType:
                    count += 1
                elif tokens:
                    count += sum(map(bool, found.group(*tokens)))
                elif nested:
                    for group, states in nested:
                        part = found[group]
                        if states is None:
                            count += bool(part)
                        elif part is not None:
                            count += self._count(part, limit - count, list(states))
                elif action is not None:
                    count += sum(1 for _ in action(self.lexer, alone(text, position)))
                position = found.end()
                if new_state is not None:
                    change_stack(stack, new_state)
                    state = self.states[stack[-1]]
                break
            else:
                if position >= len(text):
                    break
                if text[position] == "\n":
                    stack = ["root"]
                    state = self.states["root"]
                count += 1
                position += 1
        return count

    def _count_with_context(self, text: str, limit: int) -> int:
        """Return the number of tokens that ExtendedRegexLexer.get_tokens_unprocessed yields. Counting stops soon after `limit`.

        The actions of the lexer may move the position and change the stack.
        """
        context = LexerContext(text, 0)
        state = self.states["root"]
        count = 0
        while count < limit:
            for match, by_group in state[text[context.pos : context.pos + 1]]:
                found = match(text, context.pos, context.end)
                if found is None:
                    continue
                alone, action, new_state, tokens, _ = by_group[found.lastindex if len(by_group) > 1 else None]
                if type(action) is _TokenType:
                    count += 1
                    context.pos = found.end()
                elif tokens:
                    count += sum(map(bool, found.group(*tokens)))
                    context.pos = found.end()
                elif action is not None:
                    count += sum(1 for _ in action(self.lexer, alone(text, context.pos, context.end), context))
                if new_state is not None:
                    change_stack(context.stack, new_state)
                state = self.states[context.stack[-1]]
                break
            else:
                if context.pos >= context.end:
                    break
                if text[context.pos] == "\n":
                    context.stack = ["root"]
                    state = self.states["root"]
                count += 1
                context.pos += 1
        return count


def has_only_rule_actions(lexer: Lexer) -> bool:
    """Return True if a lexer adds only rules to RegexLexer or ExtendedRegexLexer. It may also change a token's kind."""
    walk = type(lexer).get_tokens_unprocessed
    same = {kind.get_tokens_unprocessed for kind in (RegexLexer, ExtendedRegexLexer, CFamilyLexer, PhpLexer)}
    return walk in same and not lexer.filters and not lexer.flags & re.VERBOSE


def change_stack(stack: list[str], new_state: Any) -> None:
    """Change the stack of states after a rule, as in RegexLexer.get_tokens_unprocessed."""
    if isinstance(new_state, int):
        # the lowest state stays
        del stack[1 if abs(new_state) >= len(stack) else new_state :]
        return
    for state in new_state if isinstance(new_state, tuple) else (new_state,):
        if state == "#pop":
            if len(stack) > 1:
                stack.pop()
        else:
            stack.append(stack[-1] if state == "#push" else state)
