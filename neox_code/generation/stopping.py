"""Conditions that end a completion: the end-of-document token, the maximum number of tokens, or a full context."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum


class StopReason(Enum):
    END_OF_DOCUMENT = "end of document"
    MAXIMUM_TOKENS = "maximum tokens"
    FULL_CONTEXT = "full context"


@dataclass(frozen=True)
class StopRule:
    eod_id: int | None
    """The token that ends a completion and is not part of it; None if only the length ends it."""

    maximum_tokens: int
    context_length: int
    """Greatest number of tokens of prompt and completion."""

    def max_new_tokens(self, prompt_length: int) -> int:
        """Return the greatest number of new tokens after a prompt.

        >>> rule = StopRule(eod_id=0, maximum_tokens=64, context_length=2048)
        >>> rule.max_new_tokens(100), rule.max_new_tokens(2040), rule.max_new_tokens(2048)
        (64, 8, 0)
        """
        return min(self.maximum_tokens, self.context_length - prompt_length)

    def find_reason(self, new_tokens: Sequence[int]) -> StopReason:
        """Return why a finished completion ended; the tokens include its end-of-document token.

        >>> rule = StopRule(eod_id=0, maximum_tokens=3, context_length=8)
        >>> rule.find_reason([7, 0]).value, rule.find_reason([7, 7, 7]).value, rule.find_reason([7, 7]).value
        ('end of document', 'maximum tokens', 'full context')
        """
        if new_tokens and new_tokens[-1] == self.eod_id:
            return StopReason.END_OF_DOCUMENT
        return StopReason.MAXIMUM_TOKENS if len(new_tokens) == self.maximum_tokens else StopReason.FULL_CONTEXT
