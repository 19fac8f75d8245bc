"""Send queries to GitHub's GraphQL API, and repeat them after rate limits, dropped connections and overload.

    api = GitHub(token)
    data = api.query(QUERY, {"query": "language:Rust stars:>=50", "first": 100})

The token is sent only to the endpoint: no redirect is followed. After a temporary failure the query is repeated; every other
failure is a DataError. Parts of an answer to which the token has no access are null.
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
"""Pause that GitHub requires after a secondary rate limit without a Retry-After header."""

HIDDEN = ("FORBIDDEN", "NOT_FOUND")
"""Types of errors that concern one part of an answer: a repository that requires more rights, or that was just deleted."""

TOO_LARGE = "RESOURCE_LIMITS_EXCEEDED"
GAVE_UP = "Something went wrong while executing your query"
"""Start of GitHub's message for a query that took too long; the HTTP status varies."""


class QueryTooLarge(Exception):
    """The server failed several times to complete a query. A query for fewer results can succeed."""


@dataclass
class GitHub:
    """A client of the API; tests pass their own `sleep` and `clock`."""

    token: str
    endpoint: str = ENDPOINT
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.time
    remaining: int | None = field(default=None, init=False)
    """Points of the rate limit that remain until it is reset; None before the first answer."""
    page: int = field(default=LARGEST_PAGE, init=False)
    """Number of results per request. If the server cannot complete a query, it is reduced for the rest of the run."""

    def __post_init__(self) -> None:
        self.api = JsonEndpoint(self.endpoint, {"Authorization": f"bearer {self.token}"})

    def query(self, query: str, variables: Mapping[str, Any]) -> dict[str, Any]:
        """Return the `data` of the answer. Raise DataError for a permanent failure, QueryTooLarge if fewer results can succeed."""
        failures = 0
        while True:
            answer = self.api.post({"query": query, "variables": variables})
            if is_answered(answer):
                self.wait_for_points(answer.value["data"])
                return dict(answer.value["data"])
            pause = self.read_rate_limit_seconds(answer)
            if pause is None:
                failures += 1
                pause = self.compute_backoff_seconds(failures, answer)
            log.info("GitHub: %s; waiting %.0f s", read_message(answer.value), pause)
            self.sleep(pause)

    def compute_backoff_seconds(self, failures: int, answer: Answer) -> float:
        """Return the seconds to wait before a query is repeated that has failed `failures` times. Raise the errors of `query`."""
        status, message = answer.status, read_message(answer.value)
        if status == 401:
            raise DataError(f"GitHub does not accept the token ({message}). Put a valid one into {TOKEN_VARIABLE}.")
        if any(error.get("type") == TOO_LARGE for error in read_errors(answer.value)):
            raise QueryTooLarge
        is_overloaded = status in PASSING or message.startswith(GAVE_UP)
        if status != 0 and not is_overloaded:
            raise DataError(
                f"GitHub rejects the query (HTTP {status}): {message}. Check {TOKEN_VARIABLE}; earlier results are kept."
            )
        if failures == ATTEMPTS:
            raise DataError(
                f"{self.endpoint} did not answer {ATTEMPTS} times ({message}). Check the network and the address. "
                "Rerun the same command to resume."
            )
        if failures % 3 == 0 and is_overloaded:
            raise QueryTooLarge
        return FIRST_PAUSE_SECONDS * 2 ** (failures - 1)

    def read_rate_limit_seconds(self, answer: Answer) -> float | None:
        """Return the seconds until a rate limit is reset; None if the answer reports no rate limit."""
        status, headers = answer.status, answer.headers
        is_limited = any(error.get("type") == "RATE_LIMITED" for error in read_errors(answer.value))
        is_limited = is_limited or (status in (200, 403) and "rate limit" in read_message(answer.value).lower())
        if not is_limited and status not in (403, 429):
            return None
        if (requested := answer.read_retry_seconds()) is not None:
            return requested
        if headers.get("x-ratelimit-remaining") == "0" and headers.get("x-ratelimit-reset", "").isdecimal():
            return min(max(float(headers["x-ratelimit-reset"]) - self.clock(), 0.0) + 1.0, LONGEST_PAUSE_SECONDS)
        return SECONDARY_LIMIT_SECONDS if is_limited or status == 429 else None

    def wait_for_points(self, data: Mapping[str, Any]) -> None:
        """Sleep until the rate limit is reset if too few points remain for another query."""
        limit = data.get("rateLimit") or {}
        self.remaining = limit.get("remaining")
        if self.remaining is not None and self.remaining < limit.get("cost", 1):
            renewed = time.strptime(limit["resetAt"], "%Y-%m-%dT%H:%M:%SZ")
            pause = min(max(timegm(renewed) - self.clock(), 0.0) + 1.0, LONGEST_PAUSE_SECONDS)
            log.info("GitHub: the rate limit is reached; waiting %.0f s", pause)
            self.sleep(pause)


def is_answered(answer: Answer) -> bool:
    """Return True if the answer has data, and log errors about parts of it. Return False for an answer without data."""
    errors = read_errors(answer.value)
    if answer.status != 200 or answer.value.get("data") is None:
        return False
    if not all(error.get("type") in HIDDEN and len(error.get("path") or ()) > 2 for error in errors):
        return False
    if errors:
        log.info("GitHub left out %d parts of its answer: %s", len(errors), read_message(answer.value))
    return True


def read_errors(answer: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [error for error in answer.get("errors") or () if isinstance(error, Mapping)]


def read_message(answer: Mapping[str, Any]) -> str:
    messages = dict.fromkeys(str(error.get("message")) for error in read_errors(answer))
    return "; ".join(messages) or str(answer.get("message") or "an answer without data")


def read_token() -> str:
    """Return GitHub's token from the environment variable TOKEN_VARIABLE. Raise DataError if the variable is not set."""
    token = os.environ.get(TOKEN_VARIABLE, "").strip()
    if not token:
        raise DataError(f"{TOKEN_VARIABLE} is not set. Create a token on github.com (no scopes needed) and export it.")
    return token
