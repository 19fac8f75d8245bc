"""Complete texts with a trained model: many prompts in batches, or one as a stream.

    generator = Generator(load_model(config), config.generation, config.training.seed)
    for completion in generator.complete(["def add(a, b):\\n", "int main("]):
        print(completion.prompt + completion.text)
    for piece in generator.stream("def add(a, b):\\n"):
        print(piece, end="", flush=True)

A prompt is text or token ids; an empty one begins a new document, after an end-of-document token. `newlines` sets how line ends
with CR are read. A completion depends on the seed, the prompt and the prompt's index, not on the prompts beside it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from neox_code.config.generation import GenerationConfig
from neox_code.errors import DataError
from neox_code.generation.engine import Engine, Row
from neox_code.generation.loading import LoadedModel
from neox_code.generation.prompts import keep_end
from neox_code.generation.request import Request, SamplingSettings
from neox_code.generation.stopping import StopReason
from neox_code.logs import format_plural, get_logger, progress
from neox_code.tokenizer.newlines import select_newline_treatment

log = get_logger(__name__)

Prompt = str | Sequence[int]


@dataclass(frozen=True)
class Completion:
    index: int
    """The prompt's index."""
    sample: int
    """Number of the sample among those of its prompt, from 0."""
    prompt: str
    """The prompt after the treatment of line ends."""
    text: str
    """The text after the prompt, without the end-of-document token."""
    tokens: tuple[int, ...]
    """New tokens; they contain what a stop rule has cut from the text, and what token healing has repeated from the prompt."""
    stop_reason: StopReason
    duration_seconds: float
    """Time from the start of the first prompt to this completion's last token."""


@dataclass(frozen=True)
class PreparedPrompt:
    text: str
    request: Request


class Generator:
    """`complete`, `complete_each` and `stream` share one engine, so that a prompt continues where an earlier one has been read."""

    def __init__(self, loaded: LoadedModel, section: GenerationConfig, seed: int):
        self.loaded, self.tokenizer, self.section, self.seed = loaded, loaded.tokenizer, section, seed
        self.sampling = SamplingSettings(
            section.temperature,
            section.top_k,
            section.top_p,
            section.min_p,
            section.repetition_penalty,
            section.frequency_penalty,
            section.presence_penalty,
        )
        self.engine = Engine(loaded, recompute=section.recompute)
        self.treat_newlines = select_newline_treatment(self.tokenizer, loaded.newlines)

    def complete(
        self, prompts: Sequence[Prompt], first_index: int = 0, refused: dict[int, DataError] | None = None
    ) -> list[Completion]:
        """Return the completions in the order of the prompts and their samples. Show progress in tokens.

        Prompt i has the index `first_index + i`. The DataError of a prompt that fills the context or cannot be encoded is stored in
        `refused` under its place in `prompts`. Without `refused` it is raised before anything is generated.
        """
        return sorted(
            self.complete_each(prompts, first_index, refused), key=lambda completion: (completion.index, completion.sample)
        )

    def complete_each(
        self, prompts: Sequence[Prompt], first_index: int = 0, refused: dict[int, DataError] | None = None
    ) -> Iterator[Completion]:
        """Return an iterator over the completions as they end; `complete` describes the arguments and errors."""
        prepared = self.prepare_prompts(prompts, first_index, refused)
        return self.run({row: prompt.text for prompt in prepared for row in self.engine.add(prompt.request)})

    def run(self, texts: dict[Row, str]) -> Iterator[Completion]:
        """Yield the completion of each row as it ends; a caller that stops early cancels the others."""
        total, generated, remaining = sum(map(self.count_expected, texts)), 0, set(texts)
        try:
            with progress("generation", total, "tokens") as advance:
                while remaining:
                    for row in self.engine.step():
                        if row.stop_reason is not None and row in remaining:
                            remaining.remove(row)
                            total -= self.count_expected(row) - len(row.tokens)
                            yield make_completion(row, texts[row])
                    done = sum(len(row.tokens) for row in texts)
                    advance(done - generated, total=total)
                    generated = done
        finally:
            for row in remaining:
                row.cancel()

    def stream(self, prompt: Prompt, index: int = 0) -> Iterator[str]:
        """Return an iterator over the text of one completion, in parts of whole characters. Raise DataError like `complete`."""
        (prepared,) = self.prepare_prompts([prompt], index)
        return self.stream_row(self.engine.add(prepared.request)[0])

    def stream_row(self, row: Row) -> Iterator[str]:
        """Yield the settled parts of a row's text until it ends; a caller that stops early cancels the row."""
        try:
            while row.stop_reason is None:
                self.engine.step()
                if text := row.take_text():
                    yield text
            if row.error is not None:
                raise row.error
        finally:
            row.cancel()

    def count_expected(self, row: Row) -> int:
        """Return the greatest number of tokens that a row can have."""
        return min(row.request.maximum_tokens, self.loaded.context_length - row.prompt_length)

    def prepare_prompts(
        self, prompts: Sequence[Prompt], first_index: int, refused: dict[int, DataError] | None = None
    ) -> list[PreparedPrompt]:
        """Return the prompts that can be completed; `complete` describes `refused`."""
        prepared = []
        for number, prompt in enumerate(prompts):
            try:
                prepared.append(self.prepare_prompt(prompt, first_index + number))
            except DataError as error:
                if refused is None:
                    raise
                refused[number] = error
        changed = sum("\r" in prompts[each.request.index - first_index] and "\r" not in each.text for each in prepared)
        if changed:
            log.warning("prompts whose line ends were converted to LF: %d", changed)
        return prepared

    def prepare_prompt(self, prompt: Prompt, index: int) -> PreparedPrompt:
        """Return the request of a prompt; raise DataError if it fills the context or cannot be encoded."""
        if isinstance(prompt, str):
            text = self.treat_newlines(prompt, f"the prompt that begins with {prompt[:40]!r}")
            ids = self.fit_context(self.tokenizer.encode(text), text)
        else:
            text = self.tokenizer.decode(prompt)
            ids = self.fit_context(list(prompt), text)
        request = Request(
            prompt_ids=tuple(ids) or (self.tokenizer.eod_id,),
            maximum_tokens=self.section.maximum_tokens,
            sampling=self.sampling,
            seed=self.seed,
            index=index,
            num_samples=self.section.samples_per_prompt,
        )
        return PreparedPrompt(text, request)

    def fit_context(self, ids: list[int], text: str) -> list[int]:
        """Return ids that leave room for a new token; cut the prompt if `long_prompts` is "cut", else raise DataError."""
        most = self.loaded.context_length - 1
        if len(ids) <= most:
            return ids
        if self.section.long_prompts == "error":
            raise DataError(
                f"the prompt that begins with {text[:40]!r} has {len(ids):,} tokens, but the model's context of {most + 1:,} "
                f"tokens (max_position_embeddings) must hold it and at least one new token. Shorten it to {most:,} tokens, or "
                "--set long_prompts=cut."
            )
        room = max(self.loaded.context_length - self.section.maximum_tokens, self.loaded.context_length // 2)
        kept = keep_end(self.tokenizer, ids, room, self.section.kept_head_tokens)
        log.warning(
            "the prompt that begins with %r has %s; its beginning was cut, %s are left",
            *(text[:40], format_plural(len(ids), "token"), f"{len(kept):,}"),
        )
        return kept


def make_completion(row: Row, prompt: str) -> Completion:
    """Return the completion of a row that has ended; raise its CheckpointError if it failed."""
    if row.error is not None:
        raise row.error
    assert row.stop_reason is not None
    return Completion(row.request.index, row.sample, prompt, row.text, tuple(row.tokens), row.stop_reason, row.seconds)
