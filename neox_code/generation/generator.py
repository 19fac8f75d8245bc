"""Complete texts with a trained model: many prompts in batches, or one as a stream.

    generator = Generator(load_model(config), config.generation, config.training.seed)
    for completion in generator.complete(["def add(a, b):\\n", "int main("]):
        print(completion.prompt + completion.text)
    for piece in generator.stream("def add(a, b):\\n"):
        print(piece, end="", flush=True)

A prompt is text or token ids; an empty one begins a new document, after an end-of-document token. `newlines` sets how line ends
with CR are read. A completion depends on the seed, the prompt and the prompt's index. It does not depend on other prompts of the
batch.
"""

import dataclasses
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from neox_code.config.generation import GenerationConfig
from neox_code.errors import DataError
from neox_code.generation.engine import Engine, Row
from neox_code.generation.infilling import ContextFile, InfillingPrompt, build_infilling_prompt
from neox_code.generation.loading import LoadedModel
from neox_code.generation.prompts import Prompt, PromptItem, keep_head_and_end
from neox_code.generation.request import Request, SamplingSettings
from neox_code.generation.stop_rules import StopRule, SuffixOverlap, build_stop_rules
from neox_code.generation.stopping import StopReason
from neox_code.logs import format_plural, get_logger, progress
from neox_code.tokenizer.newlines import select_newline_treatment

log = get_logger(__name__)

NO_INFILLING_TOKENS = "the vocabulary has no infilling tokens"
LEFT_OUT = "left out of the context"
CUT = "the beginning was cut"


@dataclass(frozen=True)
class Completion:
    index: int
    """The prompt's index."""
    sample: int
    """Index of the sample among the samples of its prompt, from 0."""
    prompt: str
    """The prompt after the treatment of line ends."""
    text: str
    """The text after the prompt, without the end-of-document token."""
    tokens: tuple[int, ...]
    """The text's tokens; if a stop rule cut the text, they contain what was cut."""
    stop_reason: StopReason
    duration_seconds: float
    """Seconds from the start of the prompt to the last token of this completion."""


@dataclass(frozen=True)
class PreparedPrompt:
    text: str
    """The prompt after the treatment of line ends."""
    request: Request


@dataclass(frozen=True)
class Refusal:
    """A prompt that cannot be completed, for example because it fills the context."""

    index: int
    prompt: Prompt
    error: DataError


Prepared = PreparedPrompt | Refusal
TakePrompt = Callable[[bool], Prepared | None]
"""Function of `wait` that returns the next prompt. If no prompt is there yet, it waits (`wait` true) or returns None (false). It
raises StopIteration after the last prompt."""


class Generator:
    """Complete prompts with one model and the settings of a configuration. What a prompt has in common with an earlier one is not
    computed again.
    """

    def __init__(self, loaded: LoadedModel, section: GenerationConfig, seed: int):
        self.loaded, self.tokenizer, self.section, self.seed = loaded, loaded.tokenizer, section, seed
        cache_bytes = int(section.prefix_cache_gib * 2**30)
        self.engine = Engine(loaded, section.maximum_rows, cache_bytes, section.recompute, section.prompt_lookup_num_tokens)
        self.treat_newlines = select_newline_treatment(self.tokenizer, loaded.newlines)
        self.remarks: defaultdict[str, list[str]] = defaultdict(list)
        """Kind -> remarks on prepared prompts that `log_remarks` has not logged yet."""

    def complete(self, prompts: Sequence[Prompt | PromptItem], first_index: int = 0) -> list[Completion]:
        """Return the completions in the order of the prompts and their samples. Show progress in tokens.

        Prompt i has the index `first_index + i`. Before anything is generated, raise the DataError of the first prompt that fills
        the context or cannot be encoded.
        """
        prepared = self.prepare_prompts(prompts, first_index)
        for each in prepared:
            if isinstance(each, Refusal):
                raise each.error
        return [result for result in self.run(take_from(prepared), len(prompts)) if isinstance(result, Completion)]

    def run(self, take: TakePrompt, expected: int | None = None) -> Iterator[Completion | Refusal]:
        """Yield the completions and refusals in the order of the prompts, each as early as possible. Show progress in tokens.

        `expected` is the number of prompts, if it is known. Raise CheckpointError if the logits of a row are not finite. A caller
        that stops early cancels the other rows.
        """
        queue: deque[tuple[Prepared, list[Row]]] = deque()
        started, finished_tokens, reported, is_open = 0, 0, 0, True
        try:
            with progress("generation", None, "tokens") as advance:
                while is_open or queue:
                    while is_open and len(self.engine.waiting) < self.engine.maximum_rows:
                        try:
                            prompt = take(not queue)
                        except StopIteration:
                            is_open = False
                            break
                        if prompt is None:
                            break
                        started += 1
                        queue.append((prompt, [] if isinstance(prompt, Refusal) else self.engine.add(prompt.request)))
                    self.engine.step()
                    while queue and all(row.stop_reason is not None for row in queue[0][1]):
                        prompt, rows = queue.popleft()
                        finished_tokens += sum(len(row.tokens) for row in rows)
                        yield from [prompt] if isinstance(prompt, Refusal) else [make_completion(row, prompt.text) for row in rows]
                    running = [row for _, rows in queue for row in rows]
                    done = finished_tokens + sum(len(row.tokens) for row in running)
                    unread = 0 if expected is None else (expected - started) * self.section.maximum_tokens
                    advance(done - reported, total=finished_tokens + sum(map(self.count_expected, running)) + unread)
                    reported = done
        finally:
            for _, rows in queue:
                for row in rows:
                    row.cancel()

    def stream(self, prompt: Prompt | PromptItem, index: int = 0) -> Iterator[str]:
        """Return an iterator over the text of one completion, in parts of whole characters. Raise DataError like `complete`."""
        (prepared,) = self.prepare_prompts([prompt], index)
        if isinstance(prepared, Refusal):
            raise prepared.error
        return self.stream_row(self.engine.add(prepared.request)[0])

    def stream_row(self, row: Row) -> Iterator[str]:
        """Yield the parts of a row's text that no stop rule can remove, until the row ends. A caller that stops early cancels the
        row.
        """
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
        """Return the maximum number of tokens that a row can have."""
        return min(row.request.maximum_tokens, self.loaded.context_length - row.prompt_length)

    def prepare_prompts(self, prompts: Sequence[Prompt | PromptItem], first_index: int = 0) -> list[Prepared]:
        """Return the prompts as requests or refusals."""
        prepared = [self.prepare_or_refuse(prompt, first_index + number) for number, prompt in enumerate(prompts)]
        changed = sum(
            isinstance(made, PreparedPrompt) and "\r" in get_prompt(each) and "\r" not in made.text
            for each, made in zip(prompts, prepared, strict=True)
        )
        if changed:
            log.warning("prompts whose line ends were converted to LF: %d", changed)
        self.log_remarks()
        return prepared

    def log_remarks(self) -> None:
        """Log the first remark of each kind on the prompts that were prepared, and the number of the others."""
        for kind, remarks in self.remarks.items():
            log.warning("%s: %s", kind, remarks[0])
            if len(remarks) > 1:
                log.warning("%s: %s in all", kind, format_plural(len(remarks), "prompt"))
        self.remarks.clear()

    def prepare_or_refuse(self, prompt: Prompt | PromptItem, index: int) -> Prepared:
        try:
            return self.prepare_prompt(prompt, index)
        except DataError as error:
            return Refusal(index, get_prompt(prompt), error)

    def prepare_prompt(self, prompt: Prompt | PromptItem, index: int) -> PreparedPrompt:
        """Return the request of a prompt; raise DataError if it fills the context or cannot be encoded."""
        item = prompt if isinstance(prompt, PromptItem) else PromptItem(prompt)
        section = dataclasses.replace(self.section, **item.settings)
        repeat_bytes = b""
        suffix_rule: tuple[StopRule, ...] = ()
        if not isinstance(item.prompt, str):
            text = self.tokenizer.decode(item.prompt)
            ids = self.fit_context(list(item.prompt), text, section)
        else:
            text = self.treat_newlines(item.prompt, f"the prompt that begins with {item.prompt[:40]!r}")
            if item.suffix is not None:
                infilling = self.make_infilling_prompt(text, item.suffix, section)
                if not infilling.reads_suffix:
                    self.remarks[NO_INFILLING_TOKENS].append(
                        "the model reads only the prefix; the text ends where it meets the suffix"
                    )
                if any(infilling.left_out.values()):
                    self.remarks[LEFT_OUT].append(f"bytes {infilling.left_out} of the prompt that begins with {text[:40]!r}")
                ids, repeat_bytes = infilling.ids, infilling.repeat_bytes
                suffix_rule = (SuffixOverlap(item.suffix),)
            else:
                ids = self.fit_context(self.tokenizer.encode(text), text, section)
                if section.token_healing:
                    ids, repeat_bytes = self.engine.healing.split(ids)
        request = Request(
            prompt_ids=tuple(ids) or (self.tokenizer.eod_id,),
            maximum_tokens=section.maximum_tokens,
            sampling=make_sampling_settings(section),
            seed=self.seed,
            index=index,
            num_samples=section.samples_per_prompt,
            stop=(*build_stop_rules(section.stop_rules, section.stop, text), *suffix_rule),
            repeat_bytes=repeat_bytes,
        )
        return PreparedPrompt(text, request)

    def make_infilling_prompt(
        self,
        prefix: str,
        suffix: str,
        section: GenerationConfig,
        files: Sequence[ContextFile] = (),
        repository: str = "",
        path: str = "",
        middle: str = "",
        heals: bool = True,
    ) -> InfillingPrompt:
        """Return the prompt for the text between prefix and suffix, whose line ends are treated as in training.

        Raise ConfigError and DataError like `build_infilling_prompt` and the tokenizer.
        """
        prefix, suffix, middle = (self.treat_newlines(text, path or "the prompt") for text in (prefix, suffix, middle))
        files = [ContextFile(file.path, self.treat_newlines(file.text, file.path)) for file in files]
        budget, heals = self.compute_prompt_budget(section), heals and section.token_healing
        order, healing = section.infilling_order, self.engine.healing
        return build_infilling_prompt(healing, prefix, suffix, budget, files, repository, path, order, heals, middle)

    def compute_prompt_budget(self, section: GenerationConfig) -> int:
        """Return the maximum number of tokens of a prompt that is cut: the completion gets at most half of the context."""
        return max(self.loaded.context_length - max(section.maximum_tokens, 1), self.loaded.context_length // 2)

    def fit_context(self, ids: list[int], text: str, section: GenerationConfig) -> list[int]:
        """Return at most `context_length - 1` ids of a prompt. `long_prompts` decides whether a longer prompt is cut or raises
        DataError.
        """
        most = self.loaded.context_length - 1
        if len(ids) <= most:
            return ids
        if section.long_prompts == "error":
            raise DataError(
                f"the prompt that begins with {text[:40]!r} has {len(ids):,} tokens, but the model's context of {most + 1:,} "
                f"tokens (max_position_embeddings) must hold it and at least one new token. Shorten it to {most:,} tokens, or "
                "--set long_prompts=cut."
            )
        kept = keep_head_and_end(self.tokenizer, ids, self.compute_prompt_budget(section), section.kept_head_tokens)
        self.remarks[CUT].append(
            f"the prompt that begins with {text[:40]!r} has {format_plural(len(ids), 'token')}, and {len(kept):,} tokens are left"
        )
        return kept


def make_completion(row: Row, prompt: str) -> Completion:
    """Return the completion of a row that has ended; raise its CheckpointError if it failed."""
    if row.error is not None:
        raise row.error
    assert row.stop_reason is not None
    return Completion(row.request.index, row.sample, prompt, row.text, tuple(row.tokens), row.stop_reason, row.seconds)


def get_prompt(prompt: Prompt | PromptItem) -> Prompt:
    return prompt.prompt if isinstance(prompt, PromptItem) else prompt


def take_from(prepared: Sequence[Prepared]) -> TakePrompt:
    """Return a function that returns the prompts of a list, one for each call."""
    remaining = iter(prepared)
    return lambda wait: next(remaining)


def make_sampling_settings(section: GenerationConfig) -> SamplingSettings:
    names = [field.name for field in dataclasses.fields(SamplingSettings) if hasattr(section, field.name)]
    return SamplingSettings(**{name: getattr(section, name) for name in names})
