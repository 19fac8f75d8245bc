"""GitHub's GraphQL API: one question and its answer, through rate limits, dropped connections and servers that give up.

    api = GitHub(token)
    data = api.ask(QUERY, {"query": "language:Rust stars:>=50", "first": 100})

The token goes to the endpoint alone: no redirect is followed. Everything that may pass by waiting is waited for; everything else
is a DataError, at which what was asked before is not lost. Parts of an answer that the token may not see are null.
"""

import os
import time
from calendar import timegm
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from neox_code.corpus.json_endpoint import ATTEMPTS, FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS, PASSING, Answer, JsonEndpoint
from neox_code.errors import DataError
from neox_code.logs import get_logger

log = get_logger(__name__)

ENDPOINT = "https://api.github.com/graphql"
TOKEN_VARIABLE = "GITHUB_TOKEN"
LARGEST_PAGE = 100

SECONDARY_LIMIT_SECONDS = 60.0
"""The least pause that GitHub asks for at a secondary rate limit without a Retry-After header."""

HIDDEN = ("FORBIDDEN", "NOT_FOUND")
"""Types of errors about a part of the answer: organizations that want more of a token, repositories that have just gone."""

TOO_LARGE = "RESOURCE_LIMITS_EXCEEDED"
GAVE_UP = "Something went wrong while executing your query"
"""What GitHub says, under any status, when a question took it too long."""


class TooLarge(Exception):
    """The server gives up on a question again and again: a smaller page may be answered."""


@dataclass
class GitHub:
    """A connection to the API under a token; `sleep` and `clock` are for tests."""

    token: str
    endpoint: str = ENDPOINT
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.time
    remaining: int | None = field(default=None, init=False)
    """Points left until the limit is renewed."""
    page: int = field(default=LARGEST_PAGE, init=False)
    """Results to ask for at a time; made smaller where the server gives up, for the rest of the run."""

    def __post_init__(self) -> None:
        self.api = JsonEndpoint(self.endpoint, {"Authorization": f"bearer {self.token}"})

    def ask(self, query: str, variables: Mapping[str, Any]) -> dict[str, Any]:
        """The `data` of the answer. Raises DataError for what waiting does not mend, TooLarge where the server gives up."""
        failures = 0
        while True:
            answer = self.api.post({"query": query, "variables": variables})
            if is_answered(answer):
                self.heed(answer.value["data"])
                return dict(answer.value["data"])
            pause = self.pause(answer)
            if pause is None:
                failures += 1
                pause = self.pause_after(failures, answer)
            log.info("GitHub: %s; waiting %.0f s", message_of(answer.value), pause)
            self.sleep(pause)

    def pause_after(self, failures: int, answer: Answer) -> float:
        """Seconds to wait before a question is asked again that failed so often. Raises as `ask` does."""
        status, said = answer.status, message_of(answer.value)
        if status == 401:
            raise DataError(f"GitHub does not accept the token ({said}). Put a valid one into {TOKEN_VARIABLE}.")
        if any(error.get("type") == TOO_LARGE for error in errors_of(answer.value)):
            raise TooLarge
        has_given_up = status in PASSING or said.startswith(GAVE_UP)
        if status != 0 and not has_given_up:
            raise DataError(f"GitHub refuses the question (HTTP {status}): {said}. What was found so far is kept.")
        if failures == ATTEMPTS:
            raise DataError(
                f"{self.endpoint} did not answer {ATTEMPTS} times ({said}). Check the network and the address; the same "
                "command resumes here."
            )
        if failures % 3 == 0 and has_given_up:
            raise TooLarge
        return FIRST_PAUSE_SECONDS * 2 ** (failures - 1)

    def pause(self, answer: Answer) -> float | None:
        """Seconds to wait for a rate limit to pass; None where the trouble is none."""
        status, headers = answer.status, answer.headers
        is_limited = any(error.get("type") == "RATE_LIMITED" for error in errors_of(answer.value))
        is_limited = is_limited or (status in (200, 403) and "rate limit" in message_of(answer.value).lower())
        if not is_limited and status not in (403, 429):
            return None
        if (asked_for := answer.read_retry_seconds()) is not None:
            return asked_for
        if headers.get("x-ratelimit-remaining") == "0" and headers.get("x-ratelimit-reset", "").isdecimal():
            return min(max(float(headers["x-ratelimit-reset"]) - self.clock(), 0.0) + 1.0, LONGEST_PAUSE_SECONDS)
        return SECONDARY_LIMIT_SECONDS if is_limited or status == 429 else None

    def heed(self, data: Mapping[str, Any]) -> None:
        """Waits for the renewal where the points are used up, rather than be refused."""
        limit = data.get("rateLimit") or {}
        self.remaining = limit.get("remaining")
        if self.remaining is not None and self.remaining < limit.get("cost", 1):
            renewed = time.strptime(limit["resetAt"], "%Y-%m-%dT%H:%M:%SZ")
            pause = min(max(timegm(renewed) - self.clock(), 0.0) + 1.0, LONGEST_PAUSE_SECONDS)
            log.info("GitHub: no points left; waiting %.0f s", pause)
            self.sleep(pause)


def is_answered(answer: Answer) -> bool:
    """Whether there is data, and nothing wrong but with parts of it, which are logged."""
    errors = errors_of(answer.value)
    if answer.status != 200 or answer.value.get("data") is None:
        return False
    if not all(error.get("type") in HIDDEN and len(error.get("path") or ()) > 2 for error in errors):
        return False
    if errors:
        log.info("GitHub keeps %d parts of its answer to itself: %s", len(errors), message_of(answer.value))
    return True


def errors_of(answer: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [error for error in answer.get("errors") or () if isinstance(error, Mapping)]


def message_of(answer: Mapping[str, Any]) -> str:
    said = dict.fromkeys(str(error.get("message")) for error in errors_of(answer))
    return "; ".join(said) or str(answer.get("message") or "an answer without data")


def token_from_environment() -> str:
    """Raises DataError where there is none."""
    token = os.environ.get(TOKEN_VARIABLE, "").strip()
    if not token:
        raise DataError(f"{TOKEN_VARIABLE} is not set. Make a token on github.com (it needs no scopes), and export it.")
    return token
