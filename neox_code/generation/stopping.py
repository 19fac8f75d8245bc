"""Reasons for which a completion ends, and the rules that end it by its text."""

from enum import Enum
from typing import Protocol


class StopRule(Protocol):
    """A rule that ends a completion by its text."""

    def find_end(self, text: str) -> int | None:
        """Return the number of characters of the completion's text that are kept; None if the completion goes on."""
        ...

    def count_unsettled(self, text: str) -> int:
        """Return the number of last characters that a later `find_end` can still cut."""
        ...


class StopReason(Enum):
    END_OF_DOCUMENT = "end of document"
    STOP_RULE = "stop rule"
    MAXIMUM_TOKENS = "maximum tokens"
    FULL_CONTEXT = "full context"
    TIME_LIMIT = "time limit"
    CANCELLED = "cancelled"
    FAILED = "failed"
