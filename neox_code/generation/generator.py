"""Complete texts with a trained model: many prompts in batches, or one as a stream.

    generator = Generator(load_model(config), config.generation, config.training.seed)
    for completion in generator.complete(["def add(a, b):\\n", "int main("]):
        print(completion.prompt + completion.text)
    for piece in generator.stream("def add(a, b):\\n"):
        print(piece, end="", flush=True)

A prompt is text or token ids; an empty one begins a new document, after an end-of-document token. `newlines` sets how line ends
with CR are read. A completion depends on the seed, the prompt and the prompt's index, not on the other prompts of its batch.
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
from neox_code.generation.sampling import build_sampler, make_draws
from neox_code.generation.stopping import StopReason, StopRule
from neox_code.logs import Advance, get_logger, progress
from neox_code.tokenizer.newlines import select_newline_treatment

log = get_logger(__name__)

BATCH_SIZE = 8
"""Number of prompts in a batch."""

Prompt = str | Sequence[int]


@dataclass(frozen=True)
class Completion:
    prompt: str
    """The prompt after the treatment of line ends."""
    text: str
    """The text after the prompt, without the end-of-document token."""
    tokens: tuple[int, ...]
    """The text's token ids."""
    stop_reason: StopReason
    duration_seconds: float
    """Time from the start of the batch to this completion's last token."""


@dataclass(frozen=True)
class PromptSource:
    """A prompt as text, as token ids, and as the model's input."""

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
        """Return the completions in the order of the prompts; prompt i has the index `first_index + i`. Show progress in tokens.

        The DataError of a prompt that fills the context or cannot be encoded is stored in `refused` under its place in `prompts`.
        Without `refused` it is raised before anything is generated.
        """
        sources = self.prepare_prompts(prompts, first_index, refused)
        total = sum(map(self.max_new_tokens, sources))
        completions: dict[int, Completion] = {}
        by_length = sorted(sources, key=lambda source: len(source.model_input))
        with progress("generation", total, "tokens") as advance:
            for begin in range(0, len(by_length), BATCH_SIZE):
                batch = by_length[begin : begin + BATCH_SIZE]
                done = self.complete_batch(batch, advance)
                completions.update({source.index: completion for source, completion in zip(batch, done, strict=True)})
                total -= sum(map(self.max_new_tokens, batch)) - sum(len(completion.tokens) for completion in done)
                advance(0, total=total)
        return [completions[source.index] for source in sources]

    def stream(self, prompt: Prompt, index: int = 0) -> Iterator[str]:
        """Return an iterator over the text of one completion, in parts of whole characters. Raise DataError like `complete`."""
        return filter(None, self.stream_source(*self.prepare_prompts([prompt], index)))

    def stream_source(self, source: PromptSource) -> Iterator[str]:
        """Yield a part of the text, perhaps empty, for each new token, and then the rest."""
        detokenizer = Detokenizer(self.tokenizer, source.ids)
        for new_tokens in self.decode_sources([source]):
            if new_tokens[0] != self.rule.eod_id:
                yield detokenizer.feed(new_tokens[0])
        yield detokenizer.finish()

    def prepare_prompts(
        self, prompts: Sequence[Prompt], first_index: int, refused: dict[int, DataError] | None = None
    ) -> list[PromptSource]:
        """Return the prompts that can be completed, as sources; `complete` describes `refused`."""
        sources = []
        for number, prompt in enumerate(prompts):
            try:
                sources.append(self.prepare_prompt(prompt, first_index + number))
            except DataError as error:
                if refused is None:
                    raise
                refused[number] = error
        changed = sum("\r" in prompts[source.index - first_index] and "\r" not in source.text for source in sources)
        if changed:
            log.warning("prompts whose line ends were converted to LF: %d", changed)
        return sources

    def prepare_prompt(self, prompt: Prompt, index: int) -> PromptSource:
        """Return the source of a prompt; raise DataError if it fills the context or cannot be encoded."""
        if isinstance(prompt, str):
            text = self.treat_newlines(prompt, f"the prompt that begins with {prompt[:40]!r}")
            ids = self.tokenizer.encode(text)
        else:
            ids = list(prompt)
            text = self.tokenizer.decode(ids)
        source = PromptSource(index, text, ids, ids or [self.tokenizer.eod_id])
        if self.max_new_tokens(source) < 1:
            length, most = len(source.model_input), self.rule.context_length
            raise DataError(
                f"the prompt that begins with {text[:40]!r} has {length:,} tokens, but the model's context of {most:,} tokens "
                f"(max_position_embeddings) must hold it and at least one new token. Shorten it to {most - 1:,} tokens."
            )
        return source

    def max_new_tokens(self, source: PromptSource) -> int:
        return self.rule.max_new_tokens(len(source.model_input))

    def complete_batch(self, sources: Sequence[PromptSource], advance: Advance) -> list[Completion]:
        begin = time.monotonic()
        tokens: list[list[int]] = [[] for _ in sources]
        seconds = [0.0] * len(sources)
        for new_tokens in self.decode_sources(sources):
            for row, token in new_tokens.items():
                tokens[row].append(token)
                seconds[row] = time.monotonic() - begin
            advance(len(new_tokens))
        return [self.make_completion(*parts) for parts in zip(sources, tokens, seconds, strict=True)]

    def decode_sources(self, sources: Sequence[PromptSource]) -> Iterator[dict[int, int]]:
        """Return an iterator over {row: token} of each step, for the rows that have not ended."""
        loaded = self.loaded
        steps = max(map(self.max_new_tokens, sources))
        draws_BT = torch.from_numpy(np.stack([make_draws(self.seed, source.index, steps) for source in sources])).to(loaded.device)
        context = self.context_type(loaded.gpt, loaded.config, self.tokenizer.vocab_size)
        return decode(context, [source.model_input for source in sources], self.rule, self.sampler, draws_BT)

    def make_completion(self, source: PromptSource, tokens: list[int], seconds: float) -> Completion:
        """Return the completion of tokens, of which the last may be the end-of-document token."""
        reason = self.rule.find_reason(tokens)
        text_tokens = tokens[:-1] if reason is StopReason.END_OF_DOCUMENT else tokens
        detokenizer = Detokenizer(self.tokenizer, source.ids)
        text = "".join(map(detokenizer.feed, text_tokens)) + detokenizer.finish()
        return Completion(source.text, text, tuple(text_tokens), reason, seconds)
