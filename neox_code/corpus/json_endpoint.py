"""Send JSON requests to a web address, and read the waiting time that the server asks for.

    endpoint = JsonEndpoint("https://api.github.com/graphql", {"Authorization": f"bearer {token}"})
    answer = endpoint.post({"query": ...})
    answer.status, answer.value               0, {"message": ...} if the server did not answer
    answer.read_retry_seconds()               seconds of the Retry-After header; None if there is none

No redirect is followed, so that credentials are sent only to the address itself. Over plain http, credentials are sent only to
this machine.
"""

import json
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.message import Message
from email.utils import parsedate_to_datetime
from http.client import HTTPException
from typing import Any
from urllib.parse import urlsplit

from neox_code.errors import DataError

LARGEST_ANSWER = 32 * 2**20

ATTEMPTS = 8
"""Maximum number of attempts for a request that fails for an unknown reason; the pause doubles after each attempt."""

FIRST_PAUSE_SECONDS = 2.0

LONGEST_PAUSE_SECONDS = 3600.0

PASSING = (500, 502, 503, 504)
"""HTTP statuses of a server that is overloaded or cannot complete a large query."""


@dataclass(frozen=True)
class Answer:
    status: int
    value: dict[str, Any]
    headers: Message = field(default_factory=Message)

    def read_retry_seconds(self) -> float | None:
        """Return the seconds until the time in the Retry-After header (seconds or a date); None without a valid header.

        >>> headers = Message()
        >>> headers["Retry-After"] = "17"
        >>> Answer(429, {}, headers).read_retry_seconds()
        17.0
        """
        value = self.headers.get("retry-after", "").strip()
        try:
            seconds = float(value) if value[:1].isdigit() else parsedate_to_datetime(value).timestamp() - time.time()
        except (TypeError, ValueError):
            return None
        return min(max(seconds, 0.0), LONGEST_PAUSE_SECONDS)


@dataclass(frozen=True)
class JsonEndpoint:
    url: str
    headers: Mapping[str, str]
    timeout_seconds: float = 60.0

    def __post_init__(self) -> None:
        try:
            place = urlsplit(self.url)
            is_address = place.scheme in ("http", "https") and place.hostname is not None and place.port != 0
        except ValueError:
            is_address = False
        if not is_address:
            raise DataError(f"--endpoint {self.url} is not a web address. Give one that begins with https://.")
        for name, value in self.headers.items():
            if not (value.isascii() and value.isprintable()):
                raise DataError(f"the header {name} holds a line end or another unusual character. Set the token or key again.")
        is_local = place.hostname in ("localhost", "127.0.0.1", "::1")
        if "Authorization" in self.headers and place.scheme != "https" and not is_local:
            raise DataError(f"--endpoint {self.url} would send the token in clear text. Give an address that begins with https.")

    def post(self, value: Mapping[str, Any]) -> Answer:
        """Send a value as JSON and return the answer; its status is 0 if the server cannot be reached or sends no JSON object."""
        request = urllib.request.Request(
            self.url,
            json.dumps(value).encode(),
            {"Content-Type": "application/json", "User-Agent": "neox-code", **self.headers},
        )
        try:
            with OPENER.open(request, timeout=self.timeout_seconds) as response:
                return Answer(response.status, parse_json_object(response.read(LARGEST_ANSWER)), response.headers)
        except urllib.error.HTTPError as error:
            with error:
                try:
                    content = parse_json_object(error.read(LARGEST_ANSWER))
                except (OSError, HTTPException, ValueError):
                    content = {"message": f"HTTP {error.code}"}
                return Answer(error.code, content, error.headers)
        except (OSError, HTTPException, ValueError) as error:
            return Answer(0, {"message": str(error) or type(error).__name__})


class NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *arguments: Any) -> None:
        return None


OPENER = urllib.request.build_opener(NoRedirect)


def parse_json_object(body: bytes) -> dict[str, Any]:
    try:
        value = json.loads(body)
    except RecursionError:
        raise ValueError("the answer is nested too deeply") from None
    if not isinstance(value, dict):
        raise ValueError("the answer is not a JSON object")
    return value
