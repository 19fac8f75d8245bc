"""Questions to a web address that answers with JSON, and how long to wait where it does not.

    endpoint = JsonEndpoint("https://api.github.com/graphql", {"Authorization": f"bearer {token}"})
    answer = endpoint.post({"query": ...})
    answer.status, answer.value               0, {"message": ...} where there was no answer at all
    answer.read_retry_seconds()                  seconds, where it says how many

No redirect is followed: what authorizes goes to the address alone, and never in clear text but to this machine.
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
"""Of one question that fails for no stated reason; the pauses between them double."""

FIRST_PAUSE_SECONDS = 2.0

LONGEST_PAUSE_SECONDS = 3600.0

PASSING = (500, 502, 503, 504)
"""Statuses of a server that is overloaded, or to which the question was too large."""


@dataclass(frozen=True)
class Answer:
    status: int
    value: dict[str, Any]
    headers: Message = field(default_factory=Message)

    def read_retry_seconds(self) -> float | None:
        """What the header Retry-After says, in either of its forms.

        >>> headers = Message()
        >>> headers["Retry-After"] = "17"
        >>> Answer(429, {}, headers).read_retry_seconds()
        17.0
        """
        said = self.headers.get("retry-after", "").strip()
        try:
            seconds = float(said) if said[:1].isdigit() else parsedate_to_datetime(said).timestamp() - time.time()
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
            raise DataError(f"--endpoint {self.url} is no address. Give one that begins with https://.")
        for name, value in self.headers.items():
            if not (value.isascii() and value.isprintable()):
                raise DataError(f"what is to be sent as {name} holds a line end or other odd character. Set the token or key anew.")
        is_near = place.hostname in ("localhost", "127.0.0.1", "::1")
        if "Authorization" in self.headers and place.scheme != "https" and not is_near:
            raise DataError(f"--endpoint {self.url} would send the token in clear text. Give an address that begins with https.")

    def post(self, question: Mapping[str, Any]) -> Answer:
        request = urllib.request.Request(
            self.url,
            json.dumps(question).encode(),
            {"Content-Type": "application/json", "User-Agent": "neox-code", **self.headers},
        )
        try:
            with OPENER.open(request, timeout=self.timeout_seconds) as response:
                return Answer(response.status, json_object(response.read(LARGEST_ANSWER)), response.headers)
        except urllib.error.HTTPError as error:
            with error:
                try:
                    value = json_object(error.read(LARGEST_ANSWER))
                except (OSError, HTTPException, ValueError):
                    value = {"message": f"HTTP {error.code}"}
                return Answer(error.code, value, error.headers)
        except (OSError, HTTPException, ValueError) as error:
            return Answer(0, {"message": str(error) or type(error).__name__})


class NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *arguments: Any) -> None:
        return None


OPENER = urllib.request.build_opener(NoRedirect)


def json_object(body: bytes) -> dict[str, Any]:
    try:
        value = json.loads(body)
    except RecursionError:
        raise ValueError("the answer is nested too deeply") from None
    if not isinstance(value, dict):
        raise ValueError("the answer is no JSON object")
    return value
