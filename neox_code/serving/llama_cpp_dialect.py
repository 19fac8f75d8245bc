"""llama.cpp's server for editors: /infill, /completion, /tokenize, /detokenize, /props, /slots; and /tokenizer_info for lm-eval.

Sampling settings that a request leaves out are those of the configuration. Samplers that the engine lacks are ignored. A time limit
ends a completion early. If it ends while the prompt is read, the next request continues reading the prompt.
"""

import asyncio
import math
import re
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from importlib.metadata import version
from typing import Any

from fastapi import APIRouter
from fastapi import Request as HttpRequest
from fastapi.responses import JSONResponse, Response, StreamingResponse
from pydantic import Field

from neox_code.generation.engine import Row
from neox_code.generation.infilling import ContextFile
from neox_code.generation.request import Request, SamplingSettings
from neox_code.generation.stop_rules import StopRule, SuffixOverlap, build_stop_rules
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

MOST_PROBS = 100
RANDOM_SEEDS = (-1, 2**32 - 1)
MOST_COLUMNS = 1000
STOP_TYPES = {StopReason.END_OF_DOCUMENT: "eos", StopReason.STOP_RULE: "word"}
"""StopReason -> `stop_type` of llama.cpp; reasons that are not listed are `limit`."""

WITHOUT_SUFFIX = "The vocabulary has no infilling tokens: /infill completes the prefix and ends where it meets the suffix."
WITH_SUFFIX = "The model reads prefix and suffix; infilling_order of the configuration sets which comes first."


class Chunk(Body):
    text: str = ""
    filename: str = ""


class LlamaCppBody(Body):
    """Fields of /completion and /infill."""

    model: str = ""
    prompt: Any = ""
    n_predict: Whole = -1
    stop: str | list[str] = Field(default_factory=list)
    stream: bool = False
    seed: Whole = -1
    temperature: float | None = None
    top_k: Whole | None = None
    top_p: float | None = None
    min_p: float | None = None
    repeat_penalty: float | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    logit_bias: Any = None
    ignore_eos: bool = False
    n_indent: Whole = 0
    n_cmpl: Whole = 1
    n_probs: Whole = 0
    t_max_prompt_ms: float = 0.0
    t_max_predict_ms: float = 0.0
    id_slot: Whole = -1
    return_tokens: bool = False
    response_fields: list[str] = Field(default_factory=list)
    input_prefix: str = ""
    input_suffix: str = ""
    input_extra: list[Chunk] = Field(default_factory=list)


class TokenizeBody(Body):
    """`content` is llama.cpp's name of the text, `prompt` vLLM's."""

    content: str = ""
    prompt: str = ""
    parse_special: bool = True
    with_pieces: bool = False


class DetokenizeBody(Body):
    tokens: list[Whole] = Field(default_factory=list)


class MinimumIndent:
    """End before the first line that is indented by less than a number of columns."""

    def __init__(self, columns: int):
        self.pattern = re.compile(rf"\s*\n[ \t]{{0,{min(columns, MOST_COLUMNS) - 1}}}(?=[^ \t\r\n])")

    def find_end(self, text: str) -> int | None:
        """Return the end of the last line before the line that is indented less.

        >>> MinimumIndent(4).find_end("x\\n    y\\n\\n  z")
        7
        """
        match = self.pattern.search(text)
        return match.start() if match else None

    def count_unsettled(self, text: str) -> int:
        space = text[len(text.rstrip()) :]
        return len(space) if "\n" in space else 0


def make_router(service: Service) -> APIRouter:
    """Return the routes of this dialect."""
    router = APIRouter()

    @router.post("/completion")
    async def complete(body: dict[str, Any], http: HttpRequest) -> Response:
        return await answer_completion(service, body, http)

    @router.post("/infill")
    async def infill(body: dict[str, Any], http: HttpRequest) -> Response:
        parsed = LlamaCppBody.model_validate(body)
        return await answer(service, parsed, await asyncio.to_thread(make_infill_requests, service, parsed), http)

    @router.post("/tokenize")
    async def tokenize(body: dict[str, Any]) -> dict[str, Any]:
        parsed = TokenizeBody.model_validate(body)
        special_ids = service.special_ids if parsed.parse_special else {}
        ids = await asyncio.to_thread(service.encode_special, parsed.content or parsed.prompt, special_ids)
        tokens = [{"id": token, "piece": service.spell_piece(token)} for token in ids] if parsed.with_pieces else ids
        return {"tokens": tokens, "count": len(ids), "max_model_len": service.loaded.context_length}

    @router.post("/detokenize")
    async def detokenize(body: dict[str, Any]) -> dict[str, str]:
        ids = DetokenizeBody.model_validate(body).tokens
        text = service.tokenizer.decode([service.check_id(token) for token in ids])
        return {"content": text, "prompt": text}

    @router.get("/tokenizer_info")
    async def show_tokenizer() -> dict[str, Any]:
        names = {"eos_token": service.end_of_document, "bos_token": None, "pad_token": service.end_of_document}
        return {"tokenizer_class": service.tokenizer.identity["tokenizer_type"], "chat_template": None} | names

    @router.get("/props")
    async def show_properties() -> dict[str, Any]:
        settings = make_settings(service, service.build_sampling({}, **read_sampling(service, LlamaCppBody())))
        return {
            "default_generation_settings": {"n_ctx": service.loaded.context_length, "params": settings},
            "total_slots": service.thread.engine.maximum_rows,
            "endpoint_slots": True,
            "endpoint_metrics": True,
            "model_alias": service.model_name,
            "model_path": str(service.loaded.checkpoint),
            "chat_template": "",
            "eos_token": service.end_of_document,
            "bos_token": "",
            "modalities": {"vision": False, "audio": False},
            "build_info": f"neox-code {version('neox-code')}",
            "infill": {"reads_suffix": bool(service.markers), "note": WITH_SUFFIX if service.markers else WITHOUT_SUFFIX},
        }

    @router.get("/slots")
    async def list_slots() -> list[dict[str, Any]]:
        """Rows that run, and places that are free; the texts of other clients are not shown."""
        engine = service.thread.engine
        places = [*engine.running, *engine.maximum_rows * [None]][: engine.maximum_rows]
        return [make_slot(service, number, row) for number, row in enumerate(places)]

    return router


def make_slot(service: Service, number: int, row: Row | None) -> dict[str, Any]:
    """Return the state of a row that runs, or of a free place."""
    slot = {"id": number, "n_ctx": service.loaded.context_length, "speculative": False, "is_processing": row is not None}
    if row is None:
        return slot
    left = row.request.maximum_tokens - len(row.tokens)
    following = {"has_next_token": left > 0, "has_new_line": "\n" in row.text, "n_remain": left, "n_decoded": len(row.tokens)}
    cached = row.cached_tokens
    slot |= {"n_prompt_tokens": row.prompt_length, "n_prompt_tokens_processed": row.prompt_length - cached}
    return slot | {
        "n_prompt_tokens_cache": cached,
        "params": make_settings(service, row.request.sampling),
        "next_token": [following],
    }


async def answer_completion(service: Service, fields: dict[str, Any], http: HttpRequest) -> Response:
    body = LlamaCppBody.model_validate(fields)
    return await answer(service, body, await asyncio.to_thread(make_requests, service, body), http)


def read_sampling(service: Service, body: LlamaCppBody) -> dict[str, Any]:
    """Return the sampling settings of a request: those of the body, and the configuration's for fields that the body leaves out."""
    section = service.generator.section
    own = {
        "temperature": None if body.temperature is None else max(body.temperature, 0.0),
        "top_k": None if body.top_k is None else max(body.top_k, 0),
        "top_p": body.top_p,
        "min_p": body.min_p,
        "repetition_penalty": body.repeat_penalty,
        "frequency_penalty": body.frequency_penalty,
        "presence_penalty": body.presence_penalty,
    }
    return {name: getattr(section, name) if value is None else value for name, value in own.items()}


def make_request(service: Service, body: LlamaCppBody, index: int, **settings: Any) -> Request:
    """Return a request with the limits and sampling settings of `body`; `settings` are more fields of it. Raise RequestError."""
    if body.n_cmpl < 1:
        raise RequestError(f"n_cmpl ({body.n_cmpl}) must be at least 1.", "n_cmpl")
    if not 0 <= body.n_probs <= MOST_PROBS:
        raise RequestError(f"n_probs ({body.n_probs}) must be from 0 to {MOST_PROBS}.", "n_probs")
    bias = service.read_bias(body.logit_bias)
    sampling = service.build_sampling({"repetition_penalty": "repeat_penalty"}, **read_sampling(service, body), logit_bias=bias)
    return Request(
        maximum_tokens=get_maximum_tokens(service, body),
        sampling=sampling,
        seed=secrets.randbits(63) if body.seed in RANDOM_SEEDS else body.seed % 2**64,
        index=index,
        adapter=service.find_adapter(body.model),
        num_samples=body.n_cmpl,
        ignore_eod=body.ignore_eos,
        top_logprobs=body.n_probs or None,
        seconds=body.t_max_predict_ms / 1000 if body.t_max_predict_ms > 0 else math.inf,
        prompt_seconds=body.t_max_prompt_ms / 1000 if body.t_max_prompt_ms > 0 else math.inf,
        **settings,
    )


def get_maximum_tokens(service: Service, body: LlamaCppBody) -> int:
    return service.loaded.context_length if body.n_predict < 0 else body.n_predict


def make_stop(service: Service, body: LlamaCppBody, prefix: str) -> tuple[StopRule, ...]:
    """Return the stop rules of the request, then those of the configuration for `prefix`, the text before the cursor."""
    section = service.generator.section
    indent = (MinimumIndent(body.n_indent),) if body.n_indent > 0 else ()
    return (*build_stop(body.stop), *indent, *build_stop_rules(section.stop_rules, section.stop, prefix))


def make_requests(service: Service, body: LlamaCppBody) -> list[Request]:
    requests = []
    for index, prompt in enumerate(list_prompts(body.prompt)):
        text = prompt if isinstance(prompt, str) else ""
        ids, repeat_bytes = service.prepare(prompt, heals=not body.n_probs)
        requests.append(
            make_request(service, body, index, prompt_ids=ids, repeat_bytes=repeat_bytes, stop=make_stop(service, body, text))
        )
    return requests


def make_infill_requests(service: Service, body: LlamaCppBody) -> list[Request]:
    """Return the request of /infill: `prompt` is the text between the prefix and the cursor."""
    if not isinstance(body.prompt, str):
        raise RequestError("prompt must be a text.", "prompt")
    files = [ContextFile(chunk.filename, chunk.text) for chunk in body.input_extra]
    ids, repeat_bytes = service.prepare_infill(
        body.input_prefix, body.input_suffix, get_maximum_tokens(service, body), files, not body.n_probs, body.prompt
    )
    stop = (*make_stop(service, body, body.input_prefix + body.prompt), SuffixOverlap(body.input_suffix))
    return [make_request(service, body, 0, prompt_ids=ids, repeat_bytes=repeat_bytes, stop=stop)]


async def answer(service: Service, body: LlamaCppBody, requests: Sequence[Request], http: HttpRequest) -> Response:
    """Return the completion, or a list of several, or a stream."""
    job = service.submit(http, requests, body.stream)
    if body.stream:
        return StreamingResponse(stream_parts(service, body, job), media_type=EVENT_STREAM)
    rows = await job.wait()
    require_success(rows)
    answers = [make_answer(service, body, number, row) for number, row in enumerate(rows)]
    return JSONResponse(answers[0] if len(answers) == 1 else answers)


async def stream_parts(service: Service, body: LlamaCppBody, job: Job) -> AsyncIterator[bytes]:
    """Yield server-sent events: one for each new text of a row, and after the last text one with the row's figures."""
    readers: dict[int, LogprobReader] = {}
    num_sent: Counter[int] = Counter()
    try:
        async for delta in job.read():
            row = job.rows[delta.number]
            if delta.text:
                reader = readers.setdefault(delta.number, LogprobReader(service, row))
                tokens = row.tokens[num_sent[delta.number] : delta.num_tokens]
                num_sent[delta.number] = delta.num_tokens
                part = {"index": delta.number, "content": delta.text, "tokens": tokens, "stop": False, "id_slot": body.id_slot}
                part |= {"tokens_predicted": delta.num_tokens, "tokens_evaluated": service.count_prompt(row.request)}
                yield encode_event(part | make_probabilities(service, body, reader, delta.num_logprobs, delta.text, delta.is_last))
            if delta.is_last:
                require_success([row])
                yield encode_event(make_answer(service, body, delta.number, row))
    except Exception as error:
        yield encode_event({"error": {"code": 500, "message": str(error), "type": "server_error"}})


def make_probabilities(
    service: Service, body: LlamaCppBody, reader: LogprobReader, num_logprobs: int, text: str, is_last: bool
) -> dict[str, Any]:
    """Return the log-probabilities of the tokens that begin in the next part of the text; an empty object if none are requested."""

    def format_token(token: int, logprob: float | None) -> dict[str, Any]:
        data = service.healing.bytes_of_id[token] or service.tokenizer.decode_bytes([token])
        value = max(logprob or 0.0, LEAST_LOGPROB)
        return {"id": token, "token": data.decode(errors="replace"), "bytes": list(data), "logprob": value}

    if not body.n_probs:
        return {}
    entries = [entry for entry, _ in reader.read(num_logprobs, text, is_last)]
    return {
        "completion_probabilities": [
            format_token(entry.token, entry.logprob) | {"top_logprobs": [format_token(*pair) for pair in entry.top.items()]}
            for entry in entries
            if entry.token != service.tokenizer.eod_id
        ]
    }


def make_answer(service: Service, body: LlamaCppBody, number: int, row: Row) -> dict[str, Any]:
    """Return the answer for an ended row, reduced to the fields that the request names; a stream has had text and tokens."""
    assert row.stop_reason is not None
    rest = service.tokenizer.decode(row.tokens)[len(row.text) :]
    strings = [body.stop] if isinstance(body.stop, str) else body.stop
    is_cut = row.stop_reason is StopReason.STOP_RULE
    answer = {
        "index": number,
        "content": "" if body.stream else row.text,
        "tokens": row.tokens if body.return_tokens and not body.stream else [],
        "id_slot": body.id_slot,
        "stop": True,
        "model": service.model_name,
        "tokens_predicted": len(row.tokens),
        "tokens_evaluated": service.count_prompt(row.request),
        "tokens_cached": len(row.ids) - bool(len(row.ids) > row.prompt_length),
        "generation_settings": make_settings(service, row.request.sampling)
        | {"seed": row.request.seed, "max_tokens": body.n_predict}
        | {name: getattr(body, name) for name in ("n_predict", "n_probs", "stop", "stream", "ignore_eos")},
        "prompt": service.tokenizer.decode(row.request.prompt_ids),
        "has_new_line": "\n" in row.text,
        "truncated": row.stop_reason is StopReason.FULL_CONTEXT,
        "stop_type": STOP_TYPES.get(row.stop_reason, "limit"),
        "stopping_word": next((string for string in strings if is_cut and rest.startswith(string)), ""),
        "timings": make_timings(row),
    }
    if not body.stream:
        answer |= make_probabilities(service, body, LogprobReader(service, row), len(row.logprobs), row.text, True)
    return select_fields(answer, body.response_fields) if body.response_fields else answer


def make_settings(service: Service, sampling: SamplingSettings) -> dict[str, Any]:
    """Return the sampling settings under llama.cpp's names."""
    return {
        "n_ctx": service.loaded.context_length,
        "temperature": sampling.temperature,
        "top_k": sampling.top_k,
        "top_p": sampling.top_p,
        "min_p": sampling.min_p,
        "repeat_penalty": sampling.repetition_penalty,
        "presence_penalty": sampling.presence_penalty,
        "frequency_penalty": sampling.frequency_penalty,
    }


def make_timings(row: Row) -> dict[str, float]:
    """Return the numbers of tokens and the times in milliseconds of reading the prompt and of generating."""
    timings: dict[str, float] = {"cache_n": row.cached_tokens}
    for phase, count, seconds in (
        ("prompt", row.prompt_length - row.cached_tokens, row.prompt_seconds),
        ("predicted", len(row.tokens), max(row.seconds - row.prompt_seconds, 0.0)),
    ):
        timings |= {
            f"{phase}_n": count,
            f"{phase}_ms": 1000 * seconds,
            f"{phase}_per_token_ms": 1000 * seconds / max(count, 1),
            f"{phase}_per_second": count / seconds if seconds else 0.0,
        }
    return timings


def select_fields(answer: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """Return the named fields; `a/b` is field b of field a, and keeps this name. Unknown names are left out.

    >>> select_fields({"content": "x", "timings": {"prompt_n": 3}}, ["content", "timings/prompt_n", "other"])
    {'content': 'x', 'timings/prompt_n': 3}
    """
    found = {}
    for name in names:
        value: Any = answer
        for part in name.split("/"):
            value = value.get(part) if isinstance(value, dict) else None
        if value is not None:
            found[name] = value
    return found
