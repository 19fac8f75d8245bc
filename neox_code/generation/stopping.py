"""Reasons why a completion ends."""

from enum import Enum


class StopReason(Enum):
    END_OF_DOCUMENT = "end of document"
    STOP_RULE = "stop rule"
    MAXIMUM_TOKENS = "maximum tokens"
    FULL_CONTEXT = "full context"
    TIME_LIMIT = "time limit"
    CANCELLED = "cancelled"
    FAILED = "failed"
