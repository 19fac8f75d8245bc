"""What ends a completion: the end-of-document token, enough tokens, or a full context."""

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
    """The token that ends a completion and is no part of it; None where nothing but the length does."""

    maximum_tokens: int
    context_length: int
    """Most tokens of prompt and completion together."""

    def room(self, prompt_length: int) -> int:
        """Most new tokens after a prompt.

        >>> rule = StopRule(eod_id=0, maximum_tokens=64, context_length=2048)
        >>> rule.room(100), rule.room(2040), rule.room(2048)
        (64, 8, 0)
        """
        return min(self.maximum_tokens, self.context_length - prompt_length)

    def reason(self, new_tokens: Sequence[int]) -> StopReason:
        """Why a finished completion ended, its end-of-document token included.

        >>> rule = StopRule(eod_id=0, maximum_tokens=3, context_length=8)
        >>> rule.reason([7, 0]).value, rule.reason([7, 7, 7]).value, rule.reason([7, 7]).value
        ('end of document', 'maximum tokens', 'full context')
        """
        if new_tokens and new_tokens[-1] == self.eod_id:
            return StopReason.END_OF_DOCUMENT
        return StopReason.MAXIMUM_TOKENS if len(new_tokens) == self.maximum_tokens else StopReason.FULL_CONTEXT
