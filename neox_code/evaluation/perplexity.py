"""The bits that a model needs to predict files. Each file is read after an end-of-document token; each token is scored once.

    for score in score_files(model, [tokenizer.encode(text) for text in texts]):
        bits[score.file] += score.bits

A file longer than the context is read in windows that overlap by half. Each window scores the tokens that no earlier window scores.
Example, for a file of the tokens a to g and a context of 4:

    window 0   reads <eod> a b c            scores a b c d
    window 1   reads         b c d e        scores         e f
    window 2   reads             d e f      scores             g

Shape letters: B windows, S sequence, H hidden, V vocabulary, P scored positions of all windows.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch

from neox_code.generation.loading import LoadedModel
from neox_code.machine import cpu_computes_bf16
from neox_code.model.loss import compute_token_losses, make_vocab_shard
from neox_code.parallel.grid import single_process_grid

TOKENS_AT_ONCE = {"cpu": 2048, "cuda": 65_536}
"""Type of device -> tokens of a batch, padding included."""

POSITIONS_AT_ONCE = 1024
"""Number of positions whose logits are in memory at once."""


@dataclass(frozen=True, slots=True)
class ScoredWindow:
    """A part of a file after an end-of-document token. Positions `begin` to `end` are read, and each predicts the next token."""

    file: int
    begin: int
    end: int
    scored: int
    """Positions `scored` to `end` are scored on the token that follows. Earlier windows scored the positions before `scored`."""

    @property
    def length(self) -> int:
        return self.end - self.begin


@dataclass(frozen=True, slots=True)
class Score:
    """The bits of some tokens of one file; several scores can belong to one file."""

    file: int
    """Index of the file."""
    tokens: int
    bits: float
    """Sum of -log2 of the tokens' probabilities."""


def make_scoring_model(model: LoadedModel) -> LoadedModel:
    """Return the model in the type that reads whole windows fastest, with the same weights.

    On a CPU without instructions for bf16 the matrix products of fp32 take a quarter of the time.
    """
    if model.device.type != "cpu" or model.dtype != torch.bfloat16 or cpu_computes_bf16():
        return model
    return replace(model, gpt=model.gpt.float(), dtype=torch.float32)


def split_into_windows(file: int, num_tokens: int, context_length: int) -> Iterator[ScoredWindow]:
    """Yield the windows of a file. Every token is scored once, with at least half a context before it, or all earlier tokens.

    >>> [(window.begin, window.end, window.scored) for window in split_into_windows(0, num_tokens=7, context_length=4)]
    [(0, 4, 0), (2, 6, 4), (4, 7, 6)]
    """
    begin = scored = 0
    while scored < num_tokens:
        end = min(begin + context_length, num_tokens)
        yield ScoredWindow(file, begin, end, scored)
        begin, scored = begin + max(context_length // 2, 1), end


def split_into_rolling_windows(file: int, num_tokens: int, context_length: int) -> Iterator[ScoredWindow]:
    """Yield the windows of lm-evaluation-harness's `loglikelihood_rolling`: every window but the last scores all of its tokens.

    >>> [(window.begin, window.end, window.scored) for window in split_into_rolling_windows(0, num_tokens=34, context_length=10)]
    [(0, 10, 0), (10, 20, 10), (20, 30, 20), (24, 34, 30)]
    """
    for scored in range(0, num_tokens, context_length):
        end = min(scored + context_length, num_tokens)
        yield ScoredWindow(file, max(end - context_length, 0), end, scored)


def group_into_batches(windows: Sequence[ScoredWindow], tokens_at_once: int) -> Iterator[list[ScoredWindow]]:
    """Yield batches of windows, longest first, with at most `tokens_at_once` tokens including padding, but at least one window."""
    ordered = sorted(windows, key=lambda window: (-window.length, window.file, window.begin))
    begin = 0
    while begin < len(ordered):
        end = begin + max(tokens_at_once // ordered[begin].length, 1)
        yield ordered[begin:end]
        begin = end


def score_files(
    model: LoadedModel, files: Sequence[Sequence[int]], tokens_at_once: int | None = None, rolling_length: int | None = None
) -> Iterator[Score]:
    """Yield the bits of every file's tokens, window by window, longest first; `tokens_at_once` changes only the speed.

    Windows overlap by half of the model's context; with `rolling_length` they are those of `split_into_rolling_windows`, of
    at most this length.
    """
    texts = [torch.tensor([model.tokenizer.eod_id, *ids], dtype=torch.int32) for ids in files]
    length, split = model.context_length, split_into_windows
    if rolling_length:
        length, split = min(rolling_length, length), split_into_rolling_windows
    spans = [window for file, ids in enumerate(files) for window in split(file, len(ids), length)]
    for batch in group_into_batches(spans, tokens_at_once or TOKENS_AT_ONCE[model.device.type]):
        yield from score_batch(model, texts, batch)


@torch.inference_mode()
def score_batch(model: LoadedModel, texts: Sequence[torch.Tensor], batch: Sequence[ScoredWindow]) -> list[Score]:
    """Return the scores of a batch of windows, longest first. Padding is on the right, where no scored position attends to it."""
    shape = (len(batch), batch[0].length)
    tokens_BS = torch.zeros(shape, dtype=torch.int64)
    labels_BS = torch.zeros(shape, dtype=torch.int64)
    is_scored_BS = torch.zeros(shape, dtype=torch.bool)
    for row, window in enumerate(batch):
        text = texts[window.file]
        tokens_BS[row, : window.length] = text[window.begin : window.end]
        labels_BS[row, : window.length] = text[window.begin + 1 : window.end + 1]
        is_scored_BS[row, window.scored - window.begin : window.length] = True
    hidden_BSH = model.gpt.hidden(tokens_BS.to(model.device))
    losses_P = compute_position_losses(model, hidden_BSH[is_scored_BS.to(model.device)], labels_BS[is_scored_BS].to(model.device))
    parts = losses_P.cpu().double().split([window.end - window.scored for window in batch])
    return [Score(window.file, len(part), part.sum().item() / math.log(2)) for window, part in zip(batch, parts, strict=True)]


def compute_position_losses(model: LoadedModel, hidden_PH: torch.Tensor, labels_P: torch.Tensor) -> torch.Tensor:
    """Return -ln of the labels' probabilities, fp32 of shape [P]."""
    losses = []
    for hidden, labels in zip(hidden_PH.split(POSITIONS_AT_ONCE), labels_P.split(POSITIONS_AT_ONCE), strict=True):
        logits_1PV = model.gpt.logits(hidden[None])
        rows = model.scored_rows or model.tokenizer.vocab_size
        shard = make_vocab_shard(rows, logits_1PV.shape[-1], single_process_grid())
        losses.append(compute_token_losses(logits_1PV, labels[None], shard)[0])
    return torch.cat(losses)
