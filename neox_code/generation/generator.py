"""A trained model that completes text, many prompts together or one as it comes.

    generator = Generator(load_model(config), config.generation, config.training.seed)
    for completion in generator.complete(["def add(a, b):\\n", "int main("]):
        print(completion.prompt + completion.text)
    for piece in generator.stream("def add(a, b):\\n"):
        print(piece, end="", flush=True)

A prompt is text or token ids; an empty one begins a new document, after an end-of-document token. `newlines` says what becomes of
line ends with CR. A completion depends on the seed, the prompt and the prompt's index, not on what else is in the batch.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from neox_code.config.generation import GenerationConfig
from neox_code.errors import DataError
from neox_code.generation.decode import CachedContext, RecomputedContext, decode
from neox_code.generation.detokenize import Detokenizer
from neox_code.generation.loading import LoadedModel
from neox_code.generation.sampling import build_sampler, draws
from neox_code.generation.stopping import StopReason, StopRule
from neox_code.logs import Advance, get_logger, progress
from neox_code.tokenizer.newlines import select_newline_treatment

log = get_logger(__name__)

BATCH_SIZE = 8
"""Prompts that are completed together."""

Prompt = str | Sequence[int]


@dataclass(frozen=True)
class Completion:
    prompt: str
    """As the model read it."""
    text: str
    """Exactly what follows the prompt; the end-of-document token is no part of it."""
    tokens: tuple[int, ...]
    """The text's token ids."""
    stop_reason: StopReason
    duration_seconds: float
    """From the reading of the prompt's batch to this completion's last token."""


@dataclass(frozen=True)
class Source:
    """A prompt as text and as what the model reads."""

    index: int
    text: str
    ids: list[int]
    model_input: list[int]


class Generator:
    def __init__(self, loaded: LoadedModel, section: GenerationConfig, seed: int):
        self.loaded, self.tokenizer, self.seed = loaded, loaded.tokenizer, seed
        self.rule = StopRule(self.tokenizer.eod_id, section.maximum_tokens, loaded.context_length)
        self.sampler = build_sampler(section.temperature, section.top_k, section.top_p)
        self.treat_newlines = select_newline_treatment(self.tokenizer, loaded.newlines)
        self.context_type = RecomputedContext if section.recompute else CachedContext

    def complete(
        self, prompts: Sequence[Prompt], first_index: int = 0, refused: dict[int, DataError] | None = None
    ) -> list[Completion]:
        """The completions in the prompts' order; prompt i has the index `first_index + i`. Shows a bar in tokens.

        A prompt that fills the context, or that the vocabulary cannot hold, is left out and put into `refused`, by its place in
        `prompts`. Without `refused` its DataError is raised before anything is generated.
        """
        sources = self.sources(prompts, first_index, refused)
        total = sum(map(self.room, sources))
        completions: dict[int, Completion] = {}
        by_length = sorted(sources, key=lambda source: len(source.model_input))
        with progress("generation", total, "tokens") as advance:
            for begin in range(0, len(by_length), BATCH_SIZE):
                batch = by_length[begin : begin + BATCH_SIZE]
                done = self.complete_batch(batch, advance)
                completions.update({source.index: completion for source, completion in zip(batch, done, strict=True)})
                total -= sum(map(self.room, batch)) - sum(len(completion.tokens) for completion in done)
                advance(0, total=total)
        return [completions[source.index] for source in sources]

    def stream(self, prompt: Prompt, index: int = 0) -> Iterator[str]:
        """The text of one completion in pieces, each as soon as its characters are whole. Raises DataError like `complete`."""
        return filter(None, self.pieces(*self.sources([prompt], index)))

    def pieces(self, source: Source) -> Iterator[str]:
        """A piece of text, perhaps empty, for each new token, and the rest."""
        detokenizer = Detokenizer(self.tokenizer, source.ids)
        for new_tokens in self.new_tokens([source]):
            if new_tokens[0] != self.rule.eod_id:
                yield detokenizer.feed(new_tokens[0])
        yield detokenizer.finish()

    def sources(self, prompts: Sequence[Prompt], first_index: int, refused: dict[int, DataError] | None = None) -> list[Source]:
        sources = []
        for number, prompt in enumerate(prompts):
            try:
                sources.append(self.source(prompt, first_index + number))
            except DataError as error:
                if refused is None:
                    raise
                refused[number] = error
        changed = sum("\r" in prompts[source.index - first_index] and "\r" not in source.text for source in sources)
        if changed:
            log.warning("prompts whose line ends were made LF: %d", changed)
        return sources

    def source(self, prompt: Prompt, index: int) -> Source:
        if isinstance(prompt, str):
            text = self.treat_newlines(prompt, f"the prompt that begins with {prompt[:40]!r}")
            ids = self.tokenizer.encode(text)
        else:
            ids = list(prompt)
            text = self.tokenizer.decode(ids)
        source = Source(index, text, ids, ids or [self.tokenizer.eod_id])
        if self.room(source) < 1:
            length, most = len(source.model_input), self.rule.context_length
            raise DataError(
                f"the prompt that begins with {text[:40]!r} has {length:,} tokens, but the model's context of {most:,} tokens "
                f"(max_position_embeddings) must hold it and at least one new token. Shorten it to {most - 1:,} tokens."
            )
        return source

    def room(self, source: Source) -> int:
        return self.rule.room(len(source.model_input))

    def complete_batch(self, sources: Sequence[Source], advance: Advance) -> list[Completion]:
        begin = time.monotonic()
        tokens: list[list[int]] = [[] for _ in sources]
        seconds = [0.0] * len(sources)
        for new_tokens in self.new_tokens(sources):
            for row, token in new_tokens.items():
                tokens[row].append(token)
                seconds[row] = time.monotonic() - begin
            advance(len(new_tokens))
        return [self.completion(*parts) for parts in zip(sources, tokens, seconds, strict=True)]

    def new_tokens(self, sources: Sequence[Source]) -> Iterator[dict[int, int]]:
        """Step by step {row: token} of the rows that have not ended."""
        loaded = self.loaded
        steps = max(map(self.room, sources))
        draws_BT = torch.from_numpy(np.stack([draws(self.seed, source.index, steps) for source in sources])).to(loaded.device)
        context = self.context_type(loaded.gpt, loaded.config, self.tokenizer.vocab_size)
        return decode(context, [source.model_input for source in sources], self.rule, self.sampler, draws_BT)

    def completion(self, source: Source, tokens: list[int], seconds: float) -> Completion:
        """The completion of tokens that may end with the end-of-document token."""
        reason = self.rule.reason(tokens)
        text_tokens = tokens[:-1] if reason is StopReason.END_OF_DOCUMENT else tokens
        detokenizer = Detokenizer(self.tokenizer, source.ids)
        text = "".join(map(detokenizer.feed, text_tokens)) + detokenizer.finish()
        return Completion(source.text, text, tuple(text_tokens), reason, seconds)
