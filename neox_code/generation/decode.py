"""Decode token by token: a context reads the prompts (`prefill`), and then one token per row and step (`decode_one_token`).

    context = CachedContext(gpt, config.model, vocab_size)
    for tokens_by_row in decode(context, prompts, rule, sampler, draws_BT):
        ...                                             # {row: its new token} of the rows that have not ended

    decode_greedily(gpt, config.model, prompts_BS, 64)    # without stopping: [B, 64]

Rows may have different lengths. A row that ends leaves the batch, and the other rows continue in a smaller one.

Shape letters: B rows that have not ended, S sequence, H hidden, V vocabulary without its padding, T new tokens.
"""

from collections.abc import Iterator, Sequence
from typing import Protocol

import torch

from neox_code.config.model import ModelConfig
from neox_code.errors import CheckpointError
from neox_code.generation.sampling import Sampler, select_most_probable
from neox_code.generation.stopping import StopRule
from neox_code.model.gpt import GPT
from neox_code.model.kv_cache import KVCache

Prompts = Sequence[Sequence[int]]


class Context(Protocol):
    """The tokens that a model has read in each row. Returned logits are for the next token, without padded ids."""

    def prefill(self, prompts: Prompts, max_length: int) -> torch.Tensor:
        """Read the prompts, none of them empty, and allocate rows of `max_length` tokens; return logits_BV."""
        ...

    def decode_one_token(self, tokens_B: torch.Tensor) -> torch.Tensor:
        """Read one more token in each row; return logits_BV."""
        ...

    def keep_rows(self, rows: Sequence[int]) -> None:
        """Keep only these rows, which become rows 0, 1, ..."""
        ...


class CachedContext:
    """A context that caches keys and values, so that a step computes one position per row."""

    def __init__(self, gpt: GPT, model: ModelConfig, vocab_size: int | None):
        self.gpt, self.model, self.vocab_size = gpt, model, vocab_size

    def prefill(self, prompts: Prompts, max_length: int) -> torch.Tensor:
        weight = next(self.gpt.parameters())
        self.cache = KVCache.allocate(self.model, len(prompts), max_length, weight.dtype, weight.device)
        hidden_BSH = self.gpt.hidden(pad_rows(prompts, weight.device), self.cache)
        lengths = [len(prompt) for prompt in prompts]
        self.cache.set_lengths(lengths)
        return compute_last_logits(self.gpt, hidden_BSH, lengths, self.vocab_size)

    def decode_one_token(self, tokens_B: torch.Tensor) -> torch.Tensor:
        hidden_B1H = self.gpt.hidden(tokens_B[:, None], self.cache)
        return self.gpt.logits(hidden_B1H)[:, 0, : self.vocab_size]

    def keep_rows(self, rows: Sequence[int]) -> None:
        self.cache.keep_rows(rows)


class RecomputedContext:
    """A context that reads all tokens again at each step: slow, used to test CachedContext."""

    def __init__(self, gpt: GPT, model: ModelConfig, vocab_size: int | None):
        self.gpt, self.vocab_size = gpt, vocab_size

    def prefill(self, prompts: Prompts, max_length: int) -> torch.Tensor:
        self.texts = [list(prompt) for prompt in prompts]
        return self.read()

    def decode_one_token(self, tokens_B: torch.Tensor) -> torch.Tensor:
        for text, token in zip(self.texts, tokens_B.tolist(), strict=True):
            text.append(token)
        return self.read()

    def read(self) -> torch.Tensor:
        hidden_BSH = self.gpt.hidden(pad_rows(self.texts, next(self.gpt.parameters()).device))
        return compute_last_logits(self.gpt, hidden_BSH, [len(text) for text in self.texts], self.vocab_size)

    def keep_rows(self, rows: Sequence[int]) -> None:
        self.texts = [self.texts[row] for row in rows]


def pad_rows(texts: Prompts, device: torch.device) -> torch.Tensor:
    """Return tokens_BS, int64. Shorter rows are padded with zeros on the right, which earlier positions do not attend to."""
    longest = max(map(len, texts))
    return torch.tensor([[*text, *[0] * (longest - len(text))] for text in texts], device=device)


def compute_last_logits(gpt: GPT, hidden_BSH: torch.Tensor, lengths: Sequence[int], vocab_size: int | None) -> torch.Tensor:
    """Return logits_BV at each row's last token, without padded ids."""
    rows = torch.arange(len(lengths), device=hidden_BSH.device)
    last = torch.tensor(lengths, device=hidden_BSH.device) - 1
    return gpt.logits(hidden_BSH[rows, last][:, None])[:, 0, :vocab_size]


@torch.inference_mode()
def decode(
    context: Context, prompts: Prompts, rule: StopRule, sampler: Sampler, draws_BT: torch.Tensor
) -> Iterator[dict[int, int]]:
    """Yield {row: new token} after each step for the rows that had not ended; a row's last token may be the end-of-document token.

    `draws_BT` has a number in [0, 1) for every row and step. Prompts are not empty, and the rule allows each a new token.
    Raise CheckpointError if the logits are not finite.
    """
    limits = [rule.max_new_tokens(len(prompt)) for prompt in prompts]
    logits_BV = context.prefill(prompts, max(len(prompt) + limit for prompt, limit in zip(prompts, limits, strict=True)))
    rows = list(range(len(prompts)))
    for step in range(max(limits)):
        check_finite(logits_BV)
        tokens_B = sampler(logits_BV, draws_BT[:, step])
        new_tokens = tokens_B.tolist()
        yield dict(zip(rows, new_tokens, strict=True))
        continuing = [
            place
            for place, (row, token) in enumerate(zip(rows, new_tokens, strict=True))
            if token != rule.eod_id and step + 1 < limits[row]
        ]
        if not continuing:
            return
        if len(continuing) < len(rows):
            rows = [rows[place] for place in continuing]
            tokens_B, draws_BT = tokens_B[continuing], draws_BT[continuing]
            context.keep_rows(continuing)
        logits_BV = context.decode_one_token(tokens_B)


def check_finite(logits_BV: torch.Tensor) -> None:
    """Raise CheckpointError if a row's highest logit is not finite; one NaN in a row makes it NaN."""
    if not logits_BV.amax(-1).isfinite().all():
        raise CheckpointError(
            "the model's logits are not finite: its weights are damaged, its training diverged, or its precision is too low. "
            "Choose an earlier checkpoint by --iteration, or --set precision=fp32."
        )


def decode_greedily(
    gpt: GPT, model: ModelConfig, prompts_BS: torch.Tensor, new_tokens: int, vocab_size: int | None = None
) -> torch.Tensor:
    """Return the most probable continuations, int64 of shape [B, T]; all prompts have one length, and no token ends a row.

    `vocab_size` None selects the whole padded vocabulary.
    """
    batch, length = prompts_BS.shape
    rule = StopRule(None, new_tokens, length + new_tokens)
    context = CachedContext(gpt, model, vocab_size)
    unused = torch.zeros(batch, new_tokens)
    steps = [list(tokens.values()) for tokens in decode(context, prompts_BS.tolist(), rule, select_most_probable, unused)]
    return torch.tensor(steps).t()
