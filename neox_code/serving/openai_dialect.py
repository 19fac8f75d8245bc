"""OpenAI's completions: POST /v1/completions with every field of its reference and vLLM's additions, GET /v1/models.

The addresses of Copilot's and FauxPilot's plug-ins are here too.
"""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter
from fastapi import Request as HttpRequest
from fastapi.responses import JSONResponse, Response, StreamingResponse
from pydantic import Field

from neox_code.generation.engine import Row, TokenLogprobs
from neox_code.generation.request import Request
from neox_code.generation.stop_rules import SuffixOverlap
from neox_code.generation.stopping import StopReason
from neox_code.serving.engine_thread import Job
from neox_code.serving.service import (
    EVENT_STREAM,
    LEAST_LOGPROB,
    Body,
    LogprobReader,
    RequestError,
    Service,
    Whole,
    build_stop,
    encode_event,
    list_prompts,
    require_success,
)

MOST_LOGPROBS = 20


class CompletionBody(Body):
    """Fields of OpenAI's reference; then those of vLLM. A `model` that is no adapter's name is the model itself."""

    model: str = ""

    prompt: Any = ""
    """A text, a list of token ids, or a list of texts or of lists of token ids."""
    suffix: str = ""
    max_tokens: Whole = 16
    temperature: float = 1.0
    top_p: float = 1.0
    n: Whole = 1
    best_of: Whole | None = None
    stream: bool = False
    stream_options: dict[str, Any] = Field(default_factory=dict)
    logprobs: Whole | None = None
    echo: bool = False
    stop: str | list[str] = Field(default_factory=list)
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: Any = None
    seed: Whole | None = None
    top_k: Whole = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    ignore_eos: bool = False


def make_router(service: Service) -> APIRouter:
    """Return the routes of this dialect."""
    router = APIRouter()

    async def complete(body: dict[str, Any], http: HttpRequest) -> Response:
        return await answer_completion(service, body, http)

    for path in ("/v1/completions", "/v1/engines/codegen/completions", "/v1/engines/copilot-codex/completions"):
        router.post(path)(complete)
    common = {"object": "model", "created": service.created, "owned_by": "neox-code"}
    models = {name: {"id": name, **common} for name in (service.model_name, *service.loaded.adapters)}

    @router.get("/v1/models")
    @router.get("/models")
    async def list_models() -> dict[str, Any]:
        return {"object": "list", "data": [model | {"max_model_len": service.loaded.context_length} for model in models.values()]}

    @router.get("/v1/models/{name:path}")
    async def show_model(name: str) -> dict[str, Any]:
        if name not in models:
            raise RequestError(f"the model {name} does not exist; this server has {', '.join(models)}.", "model", 404)
        return models[name]

    @router.get("/copilot_internal/v2/token")
    async def make_token() -> dict[str, Any]:
        """Copilot's plug-in asks for a token before its first request; any value is accepted."""
        return {"token": "none", "expires_at": int(time.time()) + 86_400, "refresh_in": 43_200}

    return router


def check_counts(body: CompletionBody) -> None:
    """Raise RequestError if a number that SamplingSettings does not check is out of range."""
    best_of = body.n if body.best_of is None else body.best_of
    for name, value, is_allowed, expected in (
        ("max_tokens", body.max_tokens, body.max_tokens >= 0, "at least 0"),
        ("n", body.n, body.n >= 1, "at least 1"),
        ("best_of", best_of, best_of >= body.n, f"at least n ({body.n})"),
        ("suffix", body.suffix[:40], not (body.suffix and (body.echo or body.logprobs is not None)), "empty with echo or logprobs"),
        ("best_of", best_of, best_of == body.n or not body.stream, f"n ({body.n}) in a stream"),
        ("logprobs", body.logprobs, 0 <= (body.logprobs or 0) <= MOST_LOGPROBS, f"from 0 to {MOST_LOGPROBS}"),
    ):
        if not is_allowed:
            raise RequestError(f"{name} ({value}) must be {expected}.", name)


def make_requests(service: Service, body: CompletionBody) -> list[Request]:
    """Return one request for each prompt. Raise RequestError."""
    check_counts(body)
    sampling = service.build_sampling(
        {},
        temperature=body.temperature,
        top_k=max(body.top_k, 0),
        top_p=body.top_p,
        min_p=body.min_p,
        repetition_penalty=body.repetition_penalty,
        frequency_penalty=body.frequency_penalty,
        presence_penalty=body.presence_penalty,
        logit_bias=service.read_bias(body.logit_bias),
    )
    best_of = body.n if body.best_of is None else body.best_of
    heals = not body.echo and body.logprobs is None
    seed = secrets.randbits(63) if body.seed is None else body.seed % 2**64
    top_logprobs = 0 if body.logprobs is None and best_of > body.n else body.logprobs
    stop = build_stop(body.stop)
    requests = []
    for index, prompt in enumerate(list_prompts(body.prompt)):
        if body.suffix:
            prefix = prompt if isinstance(prompt, str) else service.tokenizer.decode(service.encode(prompt))
            ids, repeat_bytes = service.prepare_infill(prefix, body.suffix, body.max_tokens)
        else:
            ids, repeat_bytes = service.prepare(prompt, heals)
        request = Request(
            ids,
            body.max_tokens,
            sampling,
            seed,
            index,
            best_of,
            (*stop, SuffixOverlap(body.suffix)) if body.suffix else stop,
            body.ignore_eos,
            repeat_bytes,
            top_logprobs,
            prompt_logprobs=body.echo and body.logprobs is not None,
            adapter=service.find_adapter(body.model),
        )
        requests.append(request)
    return requests


async def answer_completion(service: Service, fields: dict[str, Any], http: HttpRequest) -> Response:
    body = CompletionBody.model_validate(fields)
    requests = await asyncio.to_thread(make_requests, service, body)
    job = service.submit(http, requests, body.stream)
    answer = {"id": f"cmpl-{secrets.token_hex(12)}", "object": "text_completion", "created": int(time.time())}
    answer |= {"model": service.find_adapter(body.model) or service.model_name}
    if body.stream:
        return StreamingResponse(stream_chunks(service, body, job, answer), media_type=EVENT_STREAM)
    rows = await job.wait()
    require_success(rows)
    choices: list[dict[str, Any]] = []
    for row in select_best(rows, body):
        writer = ChoiceWriter(service, body, row)
        choices.append(writer.make(len(choices), row.text, len(row.logprobs), is_last=True))
    return JSONResponse(answer | {"choices": choices, "usage": count_usage(service, rows)})


def select_best(rows: Sequence[Row], body: CompletionBody) -> list[Row]:
    """Return the n rows of each prompt with the highest mean log-probability of a token, best first."""
    if body.best_of is None or body.best_of == body.n:
        return list(rows)
    best = []
    for begin in range(0, len(rows), body.best_of):
        group = rows[begin : begin + body.best_of]
        best += sorted(group, key=compute_mean_logprob, reverse=True)[: body.n]
    return best


def compute_mean_logprob(row: Row) -> float:
    return sum(entry.logprob or 0.0 for entry in row.logprobs) / max(len(row.logprobs), 1)


def count_usage(service: Service, rows: Sequence[Row]) -> dict[str, Any]:
    first_rows = [row for row in rows if not row.sample]
    prompt, new = sum(service.count_prompt(row.request) for row in first_rows), sum(len(row.tokens) for row in rows)
    cached = sum(row.cached_tokens for row in first_rows)
    usage: dict[str, Any] = {"prompt_tokens": prompt, "completion_tokens": new, "total_tokens": prompt + new}
    return usage | {"prompt_tokens_details": {"cached_tokens": cached}}


async def stream_chunks(service: Service, body: CompletionBody, job: Job, answer: dict[str, Any]) -> AsyncIterator[bytes]:
    """Yield server-sent events: a chunk for each new text, perhaps one with the usage, and [DONE]."""
    writers: dict[int, ChoiceWriter] = {}
    usage = {"usage": None} if body.stream_options.get("include_usage") else {}
    try:
        async for delta in job.read():
            row = job.rows[delta.number]
            writer = writers.setdefault(delta.number, ChoiceWriter(service, body, row))
            if delta.is_last:
                require_success([row])
            choice = writer.make(delta.number, delta.text, delta.num_logprobs, delta.is_last)
            yield encode_event(answer | {"choices": [choice]} | usage)
        if usage:
            yield encode_event(answer | {"choices": [], "usage": count_usage(service, job.rows)})
    except Exception as error:
        yield encode_event({"error": {"message": str(error), "type": "server_error", "param": None, "code": None}})
    yield b"data: [DONE]\n\n"


@dataclass
class ChoiceWriter:
    """Make the entries of `choices` of one row, part by part."""

    service: Service
    body: CompletionBody
    row: Row

    def __post_init__(self) -> None:
        is_echoed = self.body.echo and list_prompts(self.body.prompt)[self.row.request.index] != ""
        self.echo = self.service.tokenizer.decode(self.row.request.prompt_ids) if is_echoed else ""
        self.logprobs = LogprobReader(self.service, self.row, is_echoed)

    def make(self, index: int, text: str, num_logprobs: int, is_last: bool) -> dict[str, Any]:
        """Return the choice with new text, and the log-probabilities of the tokens that begin in it."""
        text, self.echo = self.echo + text, ""
        logprobs = None
        if self.body.logprobs is not None:
            entries = [self.format_logprobs(*entry) for entry in self.logprobs.read(num_logprobs, text, is_last)]
            names = ("tokens", "token_logprobs", "top_logprobs", "text_offset")
            logprobs = {name: [entry[place] for entry in entries] for place, name in enumerate(names)}
        reason = FINISH_REASONS.get(self.row.stop_reason, "length") if is_last else None
        return {"index": index, "text": text, "logprobs": logprobs, "finish_reason": reason}

    def format_logprobs(self, entry: TokenLogprobs, offset: int) -> tuple[str, float | None, dict[str, float] | None, int]:
        """Return the token, its log-probability, those of the most probable tokens and itself, and its offset in the text."""
        if entry.logprob is None:
            return self.spell(entry.token), None, None, offset
        top: dict[str, float] = {}
        for token, value in [*entry.top.items(), (entry.token, entry.logprob)]:
            top.setdefault(self.spell(token), max(value, LEAST_LOGPROB))
        return self.spell(entry.token), max(entry.logprob, LEAST_LOGPROB), top, offset

    def spell(self, token: int) -> str:
        r"""Return a token's text, or `bytes:\xe2\x80` for one with a part of a character, as OpenAI does."""
        piece = self.service.spell_piece(token)
        return piece if isinstance(piece, str) else "bytes:" + "".join(f"\\x{byte:02x}" for byte in piece)


FINISH_REASONS: dict[StopReason | None, str] = {StopReason.END_OF_DOCUMENT: "stop", StopReason.STOP_RULE: "stop"}
