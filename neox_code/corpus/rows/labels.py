"""Let a language model write instructions for functions without a description, as in godot-dodo.

    labeler = Labeler(JsonEndpoint("http://localhost:8000/v1/chat/completions", {}), model="qwen")
    label = labeler.request_label("func add(a, b):\\n\\treturn a + b\\n")
    label.instruction, label.refusal, label.usage

Any endpoint with OpenAI's chat completions API can be used. Requests are repeated after rate limits, dropped connections and
overload.
"""

import hashlib
import threading
import time
from dataclasses import dataclass, field

from neox_code.corpus.json_endpoint import ATTEMPTS, FIRST_PAUSE_SECONDS, PASSING, Answer, JsonEndpoint
from neox_code.errors import DataError
from neox_code.logs import get_logger

log = get_logger(__name__)

LONGEST_BACKOFF_SECONDS = 60.0
REFUSED = (400, 413, 422)
"""HTTP statuses for a faulty request: it is too long, or a content filter rejects it."""

TASK = """\
You know {language} very well. You are given one function. Write the instruction to which a programmer would answer with exactly \
this function: what it does, in words that another programmer understands, and with all details that matter. Use the imperative, \
for example "Return the larger of a and b." or "Create a timer and start it."

Answer with the instruction alone. Do not repeat code."""


@dataclass(frozen=True)
class TokenUsage:
    input_tokens: int = 0
    output_tokens: int = 0

    def __add__(self, other: "TokenUsage") -> "TokenUsage":
        return TokenUsage(self.input_tokens + other.input_tokens, self.output_tokens + other.output_tokens)


@dataclass(frozen=True)
class Prices:
    """Prices of a million input tokens and a million output tokens, in the currency of `max_cost`."""

    input: float = 0.0
    output: float = 0.0

    def compute_cost(self, usage: TokenUsage) -> float:
        """
        >>> Prices(0.5, 1.5).compute_cost(TokenUsage(2_000_000, 1_000_000))
        2.5
        """
        return (self.input * usage.input_tokens + self.output * usage.output_tokens) / 1e6


@dataclass(frozen=True)
class Label:
    instruction: str
    """The instruction that the model wrote; empty if its answer is empty."""
    refusal: str | None
    """The endpoint's reason for refusing the request; None if it answered."""
    usage: TokenUsage


@dataclass
class Labeler:
    """Request instructions, one per call. Several threads can share a labeler; after a rate limit all of them pause."""

    endpoint: JsonEndpoint
    model: str
    language: str = "GDScript"
    max_tokens: int = 512
    """Maximum length of an answer in tokens."""
    _stopped: threading.Event = field(default_factory=threading.Event, init=False)
    _not_before: float = field(default=0.0, init=False)
    _added_tokens: int = field(default=100, init=False)
    _length_key: str = field(default="max_tokens", init=False)

    def make_key(self, code: str) -> str:
        """Return a key that identifies the request for this code with this model and task."""
        return hashlib.sha256("\0".join((self.model, self._make_task(), code)).encode()).hexdigest()[:32]

    def stop(self) -> None:
        """Send no more requests; threads that wait for a rate limit raise DataError."""
        self._stopped.set()

    def estimate_max_usage(self, code: str) -> TokenUsage:
        """Return an upper bound of a request's tokens: one per byte, plus the most that the endpoint has added to a request."""
        return TokenUsage(self._num_bytes(code) + self._added_tokens, self.max_tokens)

    def request_label(self, code: str) -> Label:
        """Return the label of a function. Raise DataError for a failure that is not temporary."""
        failures = pauses = 0
        while True:
            length_key = self._length_key
            if self._stopped.wait(max(self._not_before - time.monotonic(), 0.0)):
                raise DataError("labeling was stopped. Rerun the same command to resume.")
            answer = self.endpoint.post({
                "model": self.model,
                "messages": [{"role": "system", "content": self._make_task()}, {"role": "user", "content": code}],
                length_key: self.max_tokens,
            })  # fmt: skip
            content = read_content(answer)
            if content is not None:
                return Label(clean_instruction(content), None, self._read_usage(answer, code))
            message = read_error_message(answer)
            if answer.status in REFUSED:
                if "max_completion_tokens" in message and length_key == "max_tokens":
                    self._length_key = "max_completion_tokens"
                    continue
                return Label("", message, TokenUsage())
            failures += answer.status != 429
            if answer.status not in (0, 200, 408, 409, 429, *PASSING) or "insufficient_quota" in message:
                raise DataError(
                    f"{self.endpoint.url} rejects requests (HTTP {answer.status}): {message}. Check --model and OPENAI_API_KEY. "
                    "The answers so far are kept. Rerun the same command to resume."
                )
            if failures == ATTEMPTS:
                raise DataError(
                    f"{self.endpoint.url} did not answer {ATTEMPTS} times ({message}). Check that a server runs there. "
                    "Rerun the same command to resume."
                )
            requested = answer.read_retry_seconds()
            backoff = min(FIRST_PAUSE_SECONDS * 2 ** min(pauses, 30), LONGEST_BACKOFF_SECONDS)
            pause = backoff if requested is None else requested
            pauses += 1
            log.info("%s; waiting %.0f s", message, pause)
            self._not_before = max(self._not_before, time.monotonic() + pause)

    def _make_task(self) -> str:
        return TASK.format(language=self.language)

    def _read_usage(self, answer: Answer, code: str) -> TokenUsage:
        """Return the number of tokens that the endpoint reports; if it reports none, the upper bound."""
        usage = answer.value.get("usage")
        sent, received = (usage.get("prompt_tokens"), usage.get("completion_tokens")) if isinstance(usage, dict) else (None, None)
        if not (isinstance(sent, int) and isinstance(received, int) and min(sent, received) >= 0):
            return self.estimate_max_usage(code)
        self._added_tokens = max(self._added_tokens, sent - self._num_bytes(code))
        return TokenUsage(sent, received)

    def _num_bytes(self, code: str) -> int:
        return len(self._make_task().encode()) + len(code.encode())


def read_content(answer: Answer) -> str | None:
    """Return the text that the model wrote, which can be ""; None if the response holds no completion."""
    try:
        content = answer.value["choices"][0]["message"].get("content") or ""
    except (AttributeError, KeyError, IndexError, TypeError):
        return None
    return content if answer.status == 200 and isinstance(content, str) else None


def read_error_message(answer: Answer) -> str:
    error = answer.value.get("error")
    if isinstance(error, dict):
        return f"{error.get('message')} ({error['code']})" if error.get("code") else str(error.get("message"))
    return str(error or answer.value.get("message") or answer.value.get("detail") or f"HTTP {answer.status} without an answer")


def clean_instruction(instruction: str) -> str:
    """Remove comment marks and the quotes around the text, as godot-dodo does. Replace characters that UTF-8 cannot encode.

    >>> clean_instruction('"// Return the sum of #a and b."'), clean_instruction(" Print \\"yes\\". ")
    ('Return the sum of a and b.', 'Print "yes".')
    >>> clean_instruction("\\ud800Add.")
    '?Add.'
    """
    instruction = instruction.encode("utf-8", "replace").decode()
    if instruction.startswith('"') and instruction.endswith('"'):
        instruction = instruction[1:-1]
    return instruction.replace("//", "").replace("#", "").strip()
