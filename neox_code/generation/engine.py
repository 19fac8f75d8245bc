"""Complete many requests at once: rows join the running batch and leave it, and each row has its own settings.

    engine = Engine(load_model(config))
    row, = engine.add(Request(prompt_ids, maximum_tokens=64))
    while row.stop_reason is None:
        engine.step()                          # one pass of the model over the running rows
        print(row.take_text(), end="")

A step can give a row several tokens: the guesses of `prompt_lookup.py` are read in the same pass, and those are kept that the row
generates anyway. Prompts are read in chunks, so that a step stays short. The keys and values of ended rows stay in memory, up to a
number of bytes. A prompt that begins like an ended or running row reuses its keys and values, so the samples of a request read
their prompt once.

The tokens of a row depend on its request alone, not on the other rows; see model/kv_cache.py. The engine has no threads: `add` and
`step` are called by one thread.

Shape letters: S tokens, G guesses of a row and one more, V vocabulary without its padding.
"""

import math
import time
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain

import numpy as np
import torch
from numpy.typing import NDArray

from neox_code.errors import CheckpointError
from neox_code.generation.detokenize import Detokenizer
from neox_code.generation.loading import LoadedModel
from neox_code.generation.prefix_cache import PrefixCache
from neox_code.generation.prompt_lookup import PromptLookup
from neox_code.generation.request import Request
from neox_code.generation.sampling import sample_token
from neox_code.generation.stopping import StopReason
from neox_code.generation.token_healing import TokenHealing
from neox_code.model.kv_cache import LENGTH_STEP, CacheView, RowCache
from neox_code.parallel.emulated import FEW_ROWS
from neox_code.tokenizer.protocol import find_unused_ids

CHUNK_TOKENS = 512
"""A chunk of a prompt ends at a multiple of this number of tokens."""

PASS_TOKENS = 512
"""Maximum number of tokens that one pass reads of several prompts."""

GUESSED_PASS_TOKENS = FEW_ROWS
"""Maximum number of tokens, guesses included, that a pass reads for the rows that generate: products with so few rows take little
more time than with one, and every CPU computes them in the same way."""

MAXIMUM_ROWS = 8
CACHE_BYTES = 1 << 30


@dataclass(frozen=True)
class TokenLogprobs:
    """Natural logarithms of the model's probabilities, before temperature and penalties."""

    token: int
    logprob: float | None
    """Log-probability of the token; None for the first token of a text, which nothing predicts."""
    top: dict[int, float] = field(default_factory=dict)
    """The most probable tokens, most probable first."""


class Row:
    """One sample of a request: waiting, running, or ended (`stop_reason` is set)."""

    def __init__(self, request: Request, sample: int, detokenizer: Detokenizer):
        self.request, self.sample = request, sample
        self.ids = list(request.prompt_ids)
        """The prompt and the new tokens."""
        self.remaining = request.repeat_bytes
        """Bytes at the end of the prompt that the completion still has to repeat; see token_healing.py."""
        self.tokens: list[int] = []
        """Tokens of the completion without the end-of-document token. If a stop rule cut the text, they contain what was cut."""
        self.text = ""
        """Text of the completion; while the row runs, a stop rule can still cut its end."""
        self.logprobs: list[TokenLogprobs] = []
        """One entry per new token, if the request asks for log-probabilities."""
        self.prompt_logprobs: list[TokenLogprobs] = []
        self.stop_reason: StopReason | None = None
        self.error: CheckpointError | None = None
        """The error that ended the row with StopReason.FAILED."""
        self.cached_tokens = 0
        """Number of prompt tokens whose keys and values were reused from another row."""
        self.prompt_seconds = self.seconds = 0.0
        """Seconds from `add` until the prompt has been read, and until the last token."""
        self.is_cancelled = False
        self.cache: RowCache | None = None
        self.lookup = PromptLookup()
        self.detokenizer = detokenizer
        self.taken_characters = 0
        self.begin = time.monotonic()

    @property
    def prompt_length(self) -> int:
        return len(self.request.prompt_ids)

    @property
    def is_reading(self) -> bool:
        """True until the last token of the prompt has been read."""
        return self.cache is None or self.cache.length < self.prompt_length

    @cached_property
    def prompt_counts(self) -> Counter[int]:
        return Counter(self.request.prompt_ids)

    def count_tokens(self) -> dict[int, tuple[int, int]]:
        """Return token id -> (occurrences in prompt and completion, occurrences in the completion), for the penalties."""
        if not self.request.sampling.has_penalties:
            return {}
        new = Counter(self.tokens)
        return {token: (self.prompt_counts[token] + new[token], new[token]) for token in self.prompt_counts | new}

    def take_text(self) -> str:
        """Return the text that is new since the last call and that no stop rule can cut any more."""
        unsettled = 0
        if self.stop_reason is None:
            unsettled = max((rule.count_unsettled(self.text) for rule in self.request.stop), default=0)
        begin = self.taken_characters
        self.taken_characters = max(begin, len(self.text) - unsettled)
        return self.text[begin : self.taken_characters]

    def cancel(self) -> None:
        """End the row at the next step."""
        self.is_cancelled = True


class Engine:
    """See the file's docstring. On a CPU, a row guesses up to `lookup_tokens` tokens at a time."""

    def __init__(
        self,
        loaded: LoadedModel,
        maximum_rows: int = MAXIMUM_ROWS,
        cache_bytes: int = CACHE_BYTES,
        recompute: bool = False,
        lookup_tokens: int = 0,
    ):
        self.loaded, self.maximum_rows, self.recompute = loaded, maximum_rows, recompute
        self.lookup_tokens = lookup_tokens if loaded.device.type == "cpu" and not recompute else 0
        self.prefixes = PrefixCache(0 if recompute else cache_bytes)
        self.waiting: list[Row] = []
        self.running: list[Row] = []

    @cached_property
    def healing(self) -> TokenHealing:
        return TokenHealing(self.loaded.tokenizer)

    @cached_property
    def unused_ids(self) -> frozenset[int]:
        """Ids of the vocabulary that stand for no token and are never generated."""
        return frozenset(find_unused_ids(self.loaded.tokenizer))

    @cached_property
    def used_ids(self) -> NDArray[np.int64] | None:
        """The ids of tokens, ascending; None if all ids of the vocabulary are tokens."""
        return np.delete(np.arange(self.loaded.tokenizer.vocab_size), list(self.unused_ids)) if self.unused_ids else None

    @property
    def is_idle(self) -> bool:
        return not self.waiting and not self.running

    def add(self, request: Request) -> list[Row]:
        """Queue a request; return its samples. The prompt has at least one token and fits the context."""
        assert 0 < len(request.prompt_ids) <= self.loaded.context_length
        detokenizers = (
            Detokenizer(self.loaded.tokenizer, request.prompt_ids, len(request.repeat_bytes)) for _ in range(request.num_samples)
        )
        rows = [Row(request, sample, detokenizer) for sample, detokenizer in enumerate(detokenizers)]
        self.waiting += rows
        return rows

    @torch.inference_mode()
    def step(self) -> list[Row]:
        """Read a chunk of each new prompt, and generate at least a token in each other row; return the rows that changed."""
        changed = self.end_early()
        self.start_rows()
        rows, counts = self.plan_pass()
        for adapter in dict.fromkeys(row.request.adapter for row in rows):  # a pass for each adapter
            own = [place for place, row in enumerate(rows) if row.request.adapter == adapter]
            with self.loaded.apply(adapter):
                self.run_pass([rows[place] for place in own], [counts[place] for place in own])
        self.remove_ended()
        return changed + rows

    def run_pass(self, rows: Sequence[Row], counts: Sequence[int]) -> None:
        """Read the next `counts` tokens of rows of one adapter, and generate at least a token in each whose prompt is read."""
        caches = [row.cache for row in rows if row.cache is not None]
        begins = [cache.length for cache in caches]
        is_complete = [begin + count == len(row.ids) for row, begin, count in zip(rows, begins, counts, strict=True)]
        guesses = self.guess_tokens(rows, is_complete)
        parts = [
            row.ids[begin : begin + count] + guess for row, begin, count, guess in zip(rows, begins, counts, guesses, strict=True)
        ]
        exact_counts = [(1 + len(guess)) * complete for guess, complete in zip(guesses, is_complete, strict=True)]
        view = CacheView(caches, list(map(len, parts)), exact_counts)
        hidden_1SH = self.loaded.gpt.hidden(torch.tensor([list(chain(*parts))], device=self.loaded.device), view)
        self.read_prompt_logprobs(rows, begins, hidden_1SH.split(view.counts, dim=1))
        places = [view.exact_places[place] for place, complete in enumerate(is_complete) if complete]
        if places:
            logits_SV = self.select_logits(self.loaded.gpt.exact_logits(hidden_1SH[:, list(chain(*places))]))
            complete = [(row, guess) for row, guess, done in zip(rows, guesses, is_complete, strict=True) if done]
            for (row, guess), logits_GV in zip(complete, logits_SV.split(list(map(len, places))), strict=True):
                self.add_tokens(row, guess, logits_GV)

    def end_early(self) -> list[Row]:
        """End the rows that are cancelled or have exceeded their time limit, waiting rows included; return these rows."""
        now = time.monotonic()
        ended = []
        for row in (*self.waiting, *self.running):
            seconds = now - row.begin
            if row.is_cancelled:
                row.stop_reason = StopReason.CANCELLED
            elif (row.is_reading and seconds > row.request.prompt_seconds) or (
                not row.is_reading and seconds > row.prompt_seconds + row.request.seconds
            ):
                row.stop_reason = StopReason.TIME_LIMIT
            if row.stop_reason is not None:
                self.finish(row)
                ended.append(row)
        self.waiting = [row for row in self.waiting if row.stop_reason is None]
        self.remove_ended()
        return ended

    def start_rows(self) -> None:
        """Move waiting rows to the running batch, in the order of the queue.

        A sample waits while another sample of its request reads the prompt.
        """
        for row in list(self.waiting):
            if len(self.running) >= self.maximum_rows:
                return
            if any(other.request is row.request and other.is_reading for other in self.running):
                continue
            adapter = row.request.adapter
            others = [
                (other.ids, other.cache) for other in self.running if other.cache is not None and other.request.adapter == adapter
            ]
            if not self.recompute and not row.request.prompt_logprobs:
                row.cache = self.prefixes.take(row.ids, others, adapter)
            if row.cache is None:
                row.cache = RowCache(self.loaded.config, self.loaded.dtype, self.loaded.device)
            row.cache.reserve(min(len(row.ids) + min(row.request.maximum_tokens, LENGTH_STEP), self.loaded.context_length))
            row.cached_tokens = row.cache.length
            self.waiting.remove(row)
            self.running.append(row)

    def plan_pass(self) -> tuple[list[Row], list[int]]:
        """Return the rows of the next pass, and the number of tokens that each of them reads."""
        rows, counts, prompt_tokens = [], [], 0
        for row in self.running:
            assert row.cache is not None
            if self.recompute:
                row.cache.truncate(0)
            length = row.cache.length
            count = len(row.ids) - length
            if row.is_reading and not self.recompute:
                count = min(count, CHUNK_TOKENS - length % CHUNK_TOKENS)
                if prompt_tokens and prompt_tokens + count > PASS_TOKENS:
                    continue
                prompt_tokens += count
            rows.append(row)
            counts.append(count)
        return rows, counts

    def guess_tokens(self, rows: Sequence[Row], is_complete: Sequence[bool]) -> list[list[int]]:
        """Return guessed next tokens for each row. A row whose prompt is not completely read in this pass has no guesses."""
        limit = GUESSED_PASS_TOKENS // max(sum(is_complete), 1) - 1
        limits = [
            min(
                limit,
                self.lookup_tokens,
                self.loaded.context_length - len(row.ids) - 1,
                row.request.maximum_tokens - len(row.tokens) - 1,
            )
            for row in rows
        ]
        return [
            row.lookup.guess(row.ids, most) if complete and most > 0 and not row.remaining else []
            for row, complete, most in zip(rows, is_complete, limits, strict=True)
        ]

    def add_tokens(self, row: Row, guess: list[int], logits_GV: torch.Tensor) -> None:
        """Add the token that follows the row's ids, and one more for each guess that equals the token before; forget the others.

        `logits_GV` are fp32, those of the last id and of each guess.
        """
        before = len(row.ids)
        for place, logits_V in enumerate(logits_GV.cpu()):
            self.add_token(row, logits_V)
            if row.stop_reason is not None or row.ids[-1:] != guess[place : place + 1]:
                break
        if guess:
            assert row.cache is not None
            row.lookup.adapt(len(guess), place)
            row.cache.truncate(before + place)

    def select_logits(self, logits_1SV: torch.Tensor) -> torch.Tensor:
        """Return fp32 logits of the tokens, and after them those of the padding rows that have probabilities: [S, V or more]."""
        rows = self.loaded.scored_rows or self.loaded.tokenizer.vocab_size
        return logits_1SV[0, :, :rows].float()

    def read_prompt_logprobs(self, rows: Sequence[Row], begins: Sequence[int], parts: Sequence[torch.Tensor]) -> None:
        """Add the log-probability of each prompt token whose previous token this pass has read."""
        for row, begin, hidden_1SH in zip(rows, begins, parts, strict=True):
            if not row.request.prompt_logprobs or begin >= row.prompt_length:
                continue
            if not begin:
                row.prompt_logprobs = [TokenLogprobs(row.ids[0], None)]
            following = row.ids[begin + 1 : min(begin + hidden_1SH.shape[1] + 1, row.prompt_length)]
            logits_SV = self.select_logits(self.loaded.gpt.logits(hidden_1SH[:, : len(following)]))
            row.prompt_logprobs += [
                make_logprobs(logits_V, self.loaded.tokenizer.vocab_size, token, row.request.top_logprobs or 0, self.unused_ids)
                for logits_V, token in zip(logits_SV, following, strict=True)
            ]

    def add_token(self, row: Row, logits_V: torch.Tensor) -> None:
        """Add the next token of a row whose tokens have all been read, and end the row if it is complete."""
        request = row.request
        if len(row.ids) == row.prompt_length:
            row.prompt_seconds = time.monotonic() - row.begin
        if not np.isfinite(logits_V.numpy().max()):  # by one thread; torch would wake its others
            row.error, row.stop_reason = make_logits_error(), StopReason.FAILED
        elif not request.maximum_tokens:
            row.stop_reason = StopReason.MAXIMUM_TOKENS
        elif len(row.ids) == self.loaded.context_length:
            row.stop_reason = StopReason.FULL_CONTEXT
        if row.stop_reason is not None:
            self.finish(row)
            return
        noise_key = (request.seed, request.index, row.sample, len(row.ids))
        allowed = self.healing.find_allowed(row.remaining) if row.remaining else self.used_ids
        vocab_size = self.loaded.tokenizer.vocab_size
        token = sample_token(logits_V[:vocab_size], request.sampling, row.count_tokens(), noise_key, allowed)
        if request.top_logprobs is not None:
            row.logprobs.append(make_logprobs(logits_V, vocab_size, token, request.top_logprobs, self.unused_ids))
        row.ids.append(token)
        if token == self.loaded.tokenizer.eod_id and not request.ignore_eod:
            row.stop_reason = StopReason.END_OF_DOCUMENT
        else:
            row.text += row.detokenizer.feed(token)
            if not row.remaining or len(self.healing.bytes_of_id[token]) > len(row.remaining):
                row.tokens.append(token)
            row.remaining = self.healing.drop_repeated(row.remaining, token) if row.remaining else b""
            self.apply_limits(row)
        if row.stop_reason is not None:
            self.finish(row)

    def apply_limits(self, row: Row) -> None:
        """End a row if a stop rule matches, it has its maximum number of tokens, or the context is full."""
        ends = [end for rule in row.request.stop if (end := rule.find_end(row.text)) is not None]
        if ends:
            row.text, row.stop_reason = row.text[: min(ends)], StopReason.STOP_RULE
        elif len(row.tokens) >= row.request.maximum_tokens:
            row.stop_reason = StopReason.MAXIMUM_TOKENS
        elif len(row.ids) >= self.loaded.context_length:
            row.stop_reason = StopReason.FULL_CONTEXT

    def finish(self, row: Row) -> None:
        """Complete the text of a row that has ended."""
        row.seconds = time.monotonic() - row.begin
        if row.stop_reason is StopReason.STOP_RULE:
            return
        row.text += row.detokenizer.finish()
        if row.stop_reason is StopReason.END_OF_DOCUMENT:
            ends = [end for rule in row.request.stop if (end := rule.find_end(row.text + "\n")) is not None]
            row.text = row.text[: min(ends, default=None)]

    def remove_ended(self) -> None:
        for row in self.running:
            if row.stop_reason is not None and row.cache is not None:
                self.prefixes.store(row.ids, row.cache, row.request.adapter)
                row.cache = None
        self.running = [row for row in self.running if row.stop_reason is None]


def make_logprobs(logits: torch.Tensor, vocab_size: int, token: int, count: int, unused_ids: Collection[int] = ()) -> TokenLogprobs:
    """Return the log-probability of a token and of the `count` most probable tokens; logits are fp32 [V or more].

    All logits enter the softmax, those of padding too, as in training and evaluation.
    """
    logprobs_V = logits.log_softmax(-1)[:vocab_size]
    logprobs_V[list(unused_ids)] = -math.inf
    values, tokens = logprobs_V.topk(min(count, len(logprobs_V)))
    top = {each: value for each, value in zip(tokens.tolist(), values.tolist(), strict=True) if value > -math.inf}
    return TokenLogprobs(token, logprobs_V[token].item(), top)


def make_logits_error() -> CheckpointError:
    return CheckpointError(
        "the model's logits are not finite: its weights are damaged, its training diverged, or its precision is too low. "
        "Choose an earlier checkpoint by --iteration, or --set precision=fp32."
    )
