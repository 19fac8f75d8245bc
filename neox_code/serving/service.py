"""The parts that all routes share: the engine's thread, preparation of prompts, the model's name and the figures of /metrics."""

import asyncio
import dataclasses
import json
import math
import re
import time
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from fastapi import Request as HttpRequest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from pydantic import BaseModel, BeforeValidator, ConfigDict, model_validator

from neox_code.errors import ConfigError, DataError
from neox_code.generation.detokenize import Detokenizer
from neox_code.generation.engine import Row, TokenLogprobs
from neox_code.generation.generator import Generator
from neox_code.generation.infilling import ContextFile
from neox_code.generation.request import Request, SamplingSettings
from neox_code.generation.stop_rules import StopRule, StopStrings
from neox_code.generation.stopping import StopReason
from neox_code.serving.engine_thread import EngineThread, Job
from neox_code.tokenizer.infilling import find_markers

MODEL_NAME = "neox-code"
"""Default name of the model. Editors choose a prompt format by names such as gpt, starcoder and qwen, so the name contains none of
them.
"""

LEAST_LOGPROB = -9999.0
"""JSON has no -inf."""

MOST_STOP_STRINGS, LONGEST_STOP_STRING = 128, 1000

Prompt = str | list[int | str]


class RequestError(Exception):
    """A request that cannot be answered; the client reads the message, the name of the field and the status."""

    def __init__(self, message: str, param: str | None = None, status: int = 400):
        super().__init__(message)
        self.param, self.status = param, status


class Body(BaseModel):
    """The fields of a request. Unknown fields are ignored, and null means the default."""

    model_config = ConfigDict(strict=True, extra="ignore")

    @model_validator(mode="before")
    @classmethod
    def drop_nulls(cls, fields: Any) -> Any:
        is_object = isinstance(fields, dict)
        return {name: value for name, value in fields.items() if value is not None} if is_object else fields


EVENT_STREAM = "text/event-stream"


def encode_event(value: Any) -> bytes:
    """Return a server-sent event with a value as JSON, without spaces, as some clients search it for `"content":`.

    >>> encode_event({"content": "é"})
    b'data: {"content":"\\xc3\\xa9"}\\n\\n'
    """
    return f"data: {json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(',', ':'))}\n\n".encode()


Whole = Annotated[int, BeforeValidator(lambda value: int(value) if isinstance(value, float) and value.is_integer() else value)]
"""A whole number; some clients write 16.0."""


class Service:
    """One model with its engine. The thread is not started yet."""

    def __init__(self, generator: Generator, model_name: str = MODEL_NAME, maximum_open_rows: int | None = None):
        self.generator, self.loaded, self.tokenizer = generator, generator.loaded, generator.tokenizer
        self.model_name, self.created = model_name, int(time.time())
        self.thread = EngineThread(generator.engine, *(() if maximum_open_rows is None else (maximum_open_rows,)))
        self.metrics = Metrics(self.thread)
        self.thread.on_end = self.metrics.count
        self.healing = generator.engine.healing
        self.longest_token = max(map(len, self.healing.bytes_of_id))
        self.special_ids = {
            self.tokenizer.decode([token]): token
            for token, data in enumerate(self.healing.bytes_of_id)
            if not data and token not in generator.engine.unused_ids
        }
        self.end_of_document = self.tokenizer.decode([self.tokenizer.eod_id])
        self.infilling_names = {self.tokenizer.decode([token]): token for token in self.tokenizer.infilling_ids.values()}
        self.markers = [name for name, token in self.infilling_names.items() if token in find_markers(self.tokenizer)]
        """Names of the three tokens that mark prefix, suffix and middle; empty if the vocabulary lacks one."""
        self.watchers: set[asyncio.Task[None]] = set()

    def find_adapter(self, name: str) -> str | None:
        """Return the adapter that a request names as its model; None for any other name."""
        return name if name in self.loaded.adapters else None

    def encode(self, prompt: Prompt) -> list[int]:
        """Return the ids of a prompt; raise RequestError if it has an unknown id, a text without tokens, or too many characters.

        A text of a length that no context can hold is shortened before it is encoded, or refused. In a text with the names of
        all three infilling tokens, which a client's template has put there, names of infilling tokens stand for their ids.
        """
        if not isinstance(prompt, str):
            return [token for part in prompt for token in (self.encode(part) if isinstance(part, str) else [self.check_id(part)])]
        if self.markers and all(name in prompt for name in self.markers):
            return self.encode_special(prompt, self.infilling_names)
        context = self.loaded.context_length
        most = context * self.longest_token
        if len(prompt) > 2 * most:
            if self.generator.section.long_prompts == "error":
                raise RequestError(
                    f"the prompt has {len(prompt):,} characters, at least {len(prompt) // self.longest_token:,} tokens, but the "
                    f"model's context has {context:,} tokens. Shorten it.",
                    "prompt",
                )
            prompt = prompt[:most] + prompt[-most:]
        try:
            return self.tokenizer.encode(self.generator.treat_newlines(prompt, "the prompt"))
        except DataError as error:
            raise RequestError(str(error), "prompt") from None

    def encode_special(self, text: str, special_ids: Mapping[str, int]) -> list[int]:
        """Return the ids of a text in which names of special tokens stand for their ids."""
        parts = re.split("(" + "|".join(map(re.escape, special_ids)) + ")", text) if special_ids else [text]
        return [token for part in parts if part for token in ([special_ids[part]] if part in special_ids else self.encode(part))]

    def spell_piece(self, token: int) -> str | list[int]:
        """Return the text of a token, or its bytes if they are not UTF-8."""
        data = self.healing.bytes_of_id[token] or self.tokenizer.decode_bytes([token])
        try:
            return data.decode()
        except UnicodeDecodeError:
            return list(data)

    def check_id(self, token: int) -> int:
        if not 0 <= token < self.tokenizer.vocab_size or token in self.generator.engine.unused_ids:
            most = self.tokenizer.vocab_size - 1
            raise RequestError(f"prompt has the token id {token}; ids are 0 to {most}, and each stands for a token.", "prompt")
        return token

    def fit(self, ids: list[int]) -> tuple[int, ...]:
        """Return at most `context_length - 1` ids of a prompt. `long_prompts` decides whether a longer prompt is cut or raises
        RequestError.
        """
        try:
            fitting = self.generator.fit_context(ids, self.tokenizer.decode(ids[:40]), self.generator.section)
        except DataError as error:
            raise RequestError(str(error), "prompt") from None
        self.generator.log_remarks()
        return tuple(fitting) or (self.tokenizer.eod_id,)

    def prepare(self, prompt: Prompt, heals: bool = True) -> tuple[tuple[int, ...], bytes]:
        """Return the ids of a prompt, and with `heals` the bytes at the end of a text that the completion repeats first."""
        ids = self.fit(self.encode(prompt))
        if not (heals and self.generator.section.token_healing) or not isinstance(prompt, str) or not prompt:
            return ids, b""
        kept, repeat_bytes = self.healing.split(ids)
        return tuple(kept), repeat_bytes

    def count_prompt(self, request: Request) -> int:
        """Return the number of tokens of the prompt that the client sent. Its end, which the completion repeats, is included."""
        if not request.repeat_bytes:
            return len(request.prompt_ids)
        before = 0 if request.prompt_ids == (self.tokenizer.eod_id,) else len(request.prompt_ids)
        return before + len(self.tokenizer.encode(request.repeat_bytes.decode(errors="replace")))

    def prepare_infill(
        self,
        prefix: str,
        suffix: str,
        maximum_tokens: int,
        files: Sequence[ContextFile] = (),
        heals: bool = True,
        middle: str = "",
    ) -> tuple[tuple[int, ...], bytes]:
        """Return the ids of a prompt for the text between prefix + middle and suffix, and the bytes that it repeats first."""
        section = dataclasses.replace(self.generator.section, maximum_tokens=maximum_tokens)
        try:
            prompt = self.generator.make_infilling_prompt(prefix, suffix, section, files, middle=middle, heals=heals)
        except (ConfigError, DataError) as error:
            raise RequestError(str(error), "input_prefix") from None
        return tuple(prompt.ids), prompt.repeat_bytes

    def read_bias(self, bias: Any) -> dict[int, float]:
        """Return token id -> bias. A text stands for all its tokens; false excludes a token. Raise RequestError."""
        pairs = list(bias.items()) if isinstance(bias, dict) else bias
        found = {}
        try:
            for token, value in pairs or ():
                is_id = type(token) is int or token.lstrip("-").isdecimal()
                for token_id in [int(token)] if is_id else self.encode(token):
                    found[token_id] = -math.inf if value is False else float(value)
        except (TypeError, ValueError, AttributeError):
            raise RequestError(
                "logit_bias must be an object or a list of pairs: token id or text, and a number or false.", "logit_bias"
            ) from None
        return found

    def build_sampling(self, names: Mapping[str, str], **values: Any) -> SamplingSettings:
        """Return the sampling settings. A RequestError names a field as the client does; `names` maps our names to the client's
        names.
        """
        if values.get("top_p") == 0:
            values |= {"top_p": 1.0, "top_k": 1}
        try:
            settings = SamplingSettings(**values)
            settings.check_ids(self.tokenizer.vocab_size)
        except ConfigError as error:
            own, _, rest = str(error).partition(" ")
            raise RequestError(f"{names.get(own, own)} {rest}", names.get(own, own)) from None
        return settings

    def submit(self, http: HttpRequest, requests: Sequence[Request], is_streamed: bool) -> Job:
        """Queue requests, which are cancelled when the client disconnects. Raise RequestError for more rows than the server can
        hold.
        """
        num_rows = sum(request.num_samples for request in requests)
        if num_rows > self.thread.maximum_open_rows:
            most = self.thread.maximum_open_rows
            raise RequestError(
                f"{num_rows:,} completions are requested at once; this server takes at most {most:,}. Request fewer.", "prompt"
            )
        job = self.thread.submit(requests, is_streamed)
        watcher = asyncio.create_task(cancel_when_client_goes(http, job))
        self.watchers.add(watcher)
        watcher.add_done_callback(self.watchers.discard)
        return job


def list_prompts(value: Any) -> list[Prompt]:
    """Return the prompts of a request: texts, token ids, or lists with both; raise RequestError for another form.

    >>> list_prompts("a"), list_prompts([1, "b"]), list_prompts(["a", [1, "b"]])
    (['a'], [[1, 'b']], ['a', [1, 'b']])
    """

    def is_mixed(value: Any) -> bool:
        return isinstance(value, list) and all(isinstance(part, str) or type(part) is int for part in value)

    if isinstance(value, str) or (is_mixed(value) and any(isinstance(part, int) for part in value)):
        return [value]
    if isinstance(value, list) and value and all(isinstance(part, str) or is_mixed(part) for part in value):
        return value
    raise RequestError("prompt must be a text, a list of token ids and texts, or a list of prompts, and not empty.", "prompt")


class LogprobReader:
    """Read the log-probabilities of a row's tokens, each when the text in which the token begins has been settled."""

    def __init__(self, service: Service, row: Row, is_echoed: bool = False):
        self.row, self.detokenizer = row, Detokenizer(service.tokenizer, () if is_echoed else row.request.prompt_ids)
        self.num_read = self.num_characters = self.end = 0
        self.waiting = [] if not is_echoed else list(map(self.find_offset, row.prompt_logprobs))

    def find_offset(self, entry: TokenLogprobs) -> tuple[TokenLogprobs, int]:
        """Return the next entry with the offset of its token in the text, in characters."""
        offset = self.end
        self.end += len(self.detokenizer.feed(entry.token))
        return entry, offset

    def read(self, num_logprobs: int, text: str, is_last: bool) -> list[tuple[TokenLogprobs, int]]:
        """Return the entries, of the row's first `num_logprobs`, whose tokens begin in the next part of the text; with offsets."""
        self.num_characters += len(text)
        self.waiting += map(self.find_offset, self.row.logprobs[self.num_read : num_logprobs])
        self.num_read = num_logprobs
        is_whole = is_last and self.row.stop_reason is not StopReason.STOP_RULE
        ready = [entry for entry in self.waiting if is_whole or entry[1] < self.num_characters]
        self.waiting = self.waiting[len(ready) :]
        return ready


def require_success(rows: Sequence[Row]) -> None:
    """Raise RequestError if an ended row has failed."""
    if error := next((row.error for row in rows if row.error is not None), None):
        raise RequestError(str(error), status=500)


async def cancel_when_client_goes(http: HttpRequest, job: Job) -> None:
    while (await http.receive())["type"] != "http.disconnect":
        pass
    job.cancel()


def build_stop(strings: str | list[str]) -> tuple[StopRule, ...]:
    """Return the rule of stop strings; raise RequestError for too many strings, and for an empty or too long string."""
    strings = [strings] if isinstance(strings, str) else strings
    if len(strings) > MOST_STOP_STRINGS or max(map(len, strings), default=0) > LONGEST_STOP_STRING:
        raise RequestError(f"stop must have at most {MOST_STOP_STRINGS} strings of {LONGEST_STOP_STRING} characters.", "stop")
    try:
        return (StopStrings(strings),) if strings else ()
    except ConfigError as error:
        raise RequestError(str(error), "stop") from None


class Metrics:
    """Figures in a registry of their own."""

    def __init__(self, thread: EngineThread):
        self.registry = registry = CollectorRegistry()
        self.requests = Counter("neox_code_requests", "HTTP requests", ["path", "status"], registry=registry)
        self.prompt_tokens = Counter("neox_code_prompt_tokens", "Prompt tokens of ended rows", registry=registry)
        self.cached_tokens = Counter("neox_code_cached_prompt_tokens", "Prompt tokens found in the cache", registry=registry)
        self.new_tokens = Counter("neox_code_completion_tokens", "Generated tokens", registry=registry)
        self.ended_rows = Counter("neox_code_ended_rows", "Rows by the reason of their end", ["reason"], registry=registry)
        self.prompt_seconds = Histogram("neox_code_prompt_seconds", "Time from arrival to the first token", registry=registry)
        self.row_seconds = Histogram("neox_code_row_seconds", "Time from arrival to the last token", registry=registry)
        for name, description, count in (
            ("neox_code_open_rows", "Rows that wait or run", lambda: thread.num_open_rows),
            ("neox_code_running_rows", "Rows that run", lambda: len(thread.engine.running)),
            ("neox_code_cache_bytes", "Bytes of the prefix cache", lambda: thread.engine.prefixes.num_bytes),
        ):
            Gauge(name, description, registry=registry).set_function(count)

    def count(self, row: Row) -> None:
        """Count a row that has ended."""
        assert row.stop_reason is not None
        self.ended_rows.labels(row.stop_reason.value).inc()
        self.prompt_tokens.inc(row.prompt_length)
        self.cached_tokens.inc(row.cached_tokens)
        self.new_tokens.inc(len(row.tokens))
        self.prompt_seconds.observe(row.prompt_seconds)
        self.row_seconds.observe(row.seconds)
