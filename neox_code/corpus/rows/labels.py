"""Instructions for functions that have none: a language model is asked what each does, as godot-dodo asks.

    labeler = Labeler(JsonEndpoint("http://localhost:8000/v1/chat/completions", {}), model="qwen")
    label = labeler.ask("func add(a, b):\\n\\treturn a + b\\n")
    label.instruction, label.refusal, label.spent

The endpoint is any with OpenAI's interface of chats. Rate limits, dropped connections and overloaded servers are waited out.
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
"""Statuses of a question that is at fault itself: too long, or not to the liking of a filter."""

TASK = """\
You know {language} very well. You are given one function. Write the instruction to which a programmer would answer with exactly \
this function: what it does, in words that another programmer understands, and with all details that matter. Use the imperative, \
for example "Return the larger of a and b." or "Create a timer and start it."

Answer with the instruction alone. Do not repeat code."""


@dataclass(frozen=True)
class Spent:
    """Tokens, as the endpoint counts them."""

    input_tokens: int = 0
    output_tokens: int = 0

    def __add__(self, other: "Spent") -> "Spent":
        return Spent(self.input_tokens + other.input_tokens, self.output_tokens + other.output_tokens)


@dataclass(frozen=True)
class Prices:
    """Of a million tokens."""

    input: float = 0.0
    output: float = 0.0

    def of(self, spent: Spent) -> float:
        """
        >>> Prices(0.5, 1.5).of(Spent(2_000_000, 1_000_000))
        2.5
        """
        return (self.input * spent.input_tokens + self.output * spent.output_tokens) / 1e6


@dataclass(frozen=True)
class Label:
    """What came of one question."""

    instruction: str
    """Empty where the model said nothing."""
    refusal: str | None
    """Why the endpoint does not take the question."""
    spent: Spent


@dataclass
class Labeler:
    """Asks for one instruction at a time, from any number of threads; a limit that one of them meets holds all of them."""

    endpoint: JsonEndpoint
    model: str
    language: str = "GDScript"
    max_tokens: int = 512
    """The longest answer."""
    _stopped: threading.Event = field(default_factory=threading.Event, init=False)
    _not_before: float = field(default=0.0, init=False)
    _added_tokens: int = field(default=100, init=False)
    _length_key: str = field(default="max_tokens", init=False)

    def key(self, code: str) -> str:
        """The same for the same question, and for no other."""
        return hashlib.sha256("\0".join((self.model, self._task(), code)).encode()).hexdigest()[:32]

    def stop(self) -> None:
        """No question is asked any more; those that wait for a limit to pass give up."""
        self._stopped.set()

    def worst_case(self, code: str) -> Spent:
        """More than a question can cost: a token is at least a byte, what the endpoint adds is as long as ever seen."""
        return Spent(self._num_bytes(code) + self._added_tokens, self.max_tokens)

    def ask(self, code: str) -> Label:
        """Raises DataError where waiting does not help."""
        failures = pauses = 0
        while True:
            length_key = self._length_key
            if self._stopped.wait(max(self._not_before - time.monotonic(), 0.0)):
                raise DataError("labeling was stopped. The same command resumes here.")
            answer = self.endpoint.post({
                "model": self.model,
                "messages": [{"role": "system", "content": self._task()}, {"role": "user", "content": code}],
                length_key: self.max_tokens,
            })  # fmt: skip
            said = content_of(answer)
            if said is not None:
                return Label(sanitized(said), None, self._spent(answer, code))
            message = message_of(answer)
            if answer.status in REFUSED:
                if "max_completion_tokens" in message and length_key == "max_tokens":
                    self._length_key = "max_completion_tokens"
                    continue
                return Label("", message, Spent())
            failures += answer.status != 429
            if answer.status not in (0, 200, 408, 409, 429, *PASSING) or "insufficient_quota" in message:
                raise DataError(
                    f"{self.endpoint.url} refuses (HTTP {answer.status}): {message}. Check --model, and the key in OPENAI_API_KEY; "
                    "what was answered is kept."
                )
            if failures == ATTEMPTS:
                raise DataError(
                    f"{self.endpoint.url} did not answer {ATTEMPTS} times ({message}). Check that it runs there; the same "
                    "command resumes here."
                )
            asked_for = answer.pause_asked_for()
            backoff = min(FIRST_PAUSE_SECONDS * 2 ** min(pauses, 30), LONGEST_BACKOFF_SECONDS)
            pause = backoff if asked_for is None else asked_for
            pauses += 1
            log.info("%s; waiting %.0f s", message, pause)
            self._not_before = max(self._not_before, time.monotonic() + pause)

    def _task(self) -> str:
        return TASK.format(language=self.language)

    def _spent(self, answer: Answer, code: str) -> Spent:
        """What the endpoint says, or the most that it can be."""
        usage = answer.value.get("usage")
        sent, said = (usage.get("prompt_tokens"), usage.get("completion_tokens")) if isinstance(usage, dict) else (None, None)
        if not (isinstance(sent, int) and isinstance(said, int) and min(sent, said) >= 0):
            return self.worst_case(code)
        spent = Spent(sent, said)
        self._added_tokens = max(self._added_tokens, spent.input_tokens - self._num_bytes(code))
        return spent

    def _num_bytes(self, code: str) -> int:
        return len(self._task().encode()) + len(code.encode())


def content_of(answer: Answer) -> str | None:
    """The model's words, "" where it says nothing; None where this is no answer of a model."""
    try:
        content = answer.value["choices"][0]["message"].get("content") or ""
    except (AttributeError, KeyError, IndexError, TypeError):
        return None
    return content if answer.status == 200 and isinstance(content, str) else None


def message_of(answer: Answer) -> str:
    error = answer.value.get("error")
    if isinstance(error, dict):
        return f"{error.get('message')} ({error['code']})" if error.get("code") else str(error.get("message"))
    return str(error or answer.value.get("message") or answer.value.get("detail") or f"HTTP {answer.status} without an answer")


def sanitized(instruction: str) -> str:
    """As godot-dodo's: without quotes around it, and without signs of comments; and such that a file can hold it.

    >>> sanitized('"// Return the sum of #a and b."'), sanitized(" Say \\"yes\\". "), sanitized("\\ud800Add.")
    ('Return the sum of a and b.', 'Say "yes".', '?Add.')
    """
    instruction = instruction.encode("utf-8", "replace").decode()
    if instruction.startswith('"') and instruction.endswith('"'):
        instruction = instruction[1:-1]
    return instruction.replace("//", "").replace("#", "").strip()
