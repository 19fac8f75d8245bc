"""Token by token: a context reads the prompts once (prefill), then one more token a row and step (decode_one_token).

    context = CachedContext(gpt, config.model, vocab_size)
    for tokens_by_row in decode(context, prompts, rule, sampler, draws_BT):
        ...                                             # {row: its new token} of the rows that still go on

    greedy_tokens(gpt, config.model, prompts_BS, 64)    # the same without stopping: [B, 64]

Rows may have different lengths. A row that ends leaves the batch, and the others go on in a smaller one.

Shape letters: B rows that still go on, S sequence, H hidden, V vocabulary without its padding, T new tokens.
"""

from collections.abc import Iterator, Sequence
from typing import Protocol

import torch

from neox_code.config.model import ModelConfig
from neox_code.errors import CheckpointError
from neox_code.generation.sampling import Sampler, most_probable
from neox_code.generation.stopping import StopRule
from neox_code.model.gpt import GPT
from neox_code.model.kv_cache import KVCache

Prompts = Sequence[Sequence[int]]


class Context(Protocol):
    """What a model has read so far, row by row. Logits are those of the next token, padded ids cut off."""

    def prefill(self, prompts: Prompts, max_length: int) -> torch.Tensor:
        """Reads the prompts, none empty, and makes room for rows of `max_length` tokens: logits_BV."""
        ...

    def decode_one_token(self, tokens_B: torch.Tensor) -> torch.Tensor:
        """Reads one more token a row: logits_BV."""
        ...

    def keep_rows(self, rows: Sequence[int]) -> None:
        """Forgets all rows but these, which take the places 0, 1, ..."""
        ...


class CachedContext:
    """Keeps keys and values: a token costs one column of work."""

    def __init__(self, gpt: GPT, model: ModelConfig, vocab_size: int | None):
        self.gpt, self.model, self.vocab_size = gpt, model, vocab_size

    def prefill(self, prompts: Prompts, max_length: int) -> torch.Tensor:
        weight = next(self.gpt.parameters())
        self.cache = KVCache.allocate(self.model, len(prompts), max_length, weight.dtype, weight.device)
        hidden_BSH = self.gpt.hidden(padded(prompts, weight.device), self.cache)
        lengths = [len(prompt) for prompt in prompts]
        self.cache.set_lengths(lengths)
        return last_logits(self.gpt, hidden_BSH, lengths, self.vocab_size)

    def decode_one_token(self, tokens_B: torch.Tensor) -> torch.Tensor:
        hidden_B1H = self.gpt.hidden(tokens_B[:, None], self.cache)
        return self.gpt.logits(hidden_B1H)[:, 0, : self.vocab_size]

    def keep_rows(self, rows: Sequence[int]) -> None:
        self.cache.keep_rows(rows)


class RecomputedContext:
    """Keeps the tokens alone and reads them all again at each step: slow, and what CachedContext is checked against."""

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
        hidden_BSH = self.gpt.hidden(padded(self.texts, next(self.gpt.parameters()).device))
        return last_logits(self.gpt, hidden_BSH, [len(text) for text in self.texts], self.vocab_size)

    def keep_rows(self, rows: Sequence[int]) -> None:
        self.texts = [self.texts[row] for row in rows]


def padded(texts: Prompts, device: torch.device) -> torch.Tensor:
    """tokens_BS with zeros behind the shorter rows, where no query of theirs looks."""
    longest = max(map(len, texts))
    return torch.tensor([[*text, *[0] * (longest - len(text))] for text in texts], device=device)


def last_logits(gpt: GPT, hidden_BSH: torch.Tensor, lengths: Sequence[int], vocab_size: int | None) -> torch.Tensor:
    """The head at each row's last token alone, without padded ids: logits_BV."""
    rows = torch.arange(len(lengths), device=hidden_BSH.device)
    last = torch.tensor(lengths, device=hidden_BSH.device) - 1
    return gpt.logits(hidden_BSH[rows, last][:, None])[:, 0, :vocab_size]


@torch.inference_mode()
def decode(
    context: Context, prompts: Prompts, rule: StopRule, sampler: Sampler, draws_BT: torch.Tensor
) -> Iterator[dict[int, int]]:
    """Yields {row: new token} after each step, for the rows that had not ended; a row's end-of-document token is its last.

    `draws_BT` holds a number in [0, 1) for every row and step. Prompts are not empty, and each has room by the rule.
    Raises CheckpointError for a model whose logits are no numbers.
    """
    rooms = [rule.room(len(prompt)) for prompt in prompts]
    logits_BV = context.prefill(prompts, max(len(prompt) + room for prompt, room in zip(prompts, rooms, strict=True)))
    rows = list(range(len(prompts)))
    for step in range(max(rooms)):
        check_finite(logits_BV)
        tokens_B = sampler(logits_BV, draws_BT[:, step])
        new_tokens = tokens_B.tolist()
        yield dict(zip(rows, new_tokens, strict=True))
        going = [
            place
            for place, (row, token) in enumerate(zip(rows, new_tokens, strict=True))
            if token != rule.eod_id and step + 1 < rooms[row]
        ]
        if not going:
            return
        if len(going) < len(rows):
            rows = [rows[place] for place in going]
            tokens_B, draws_BT = tokens_B[going], draws_BT[going]
            context.keep_rows(going)
        logits_BV = context.decode_one_token(tokens_B)


def check_finite(logits_BV: torch.Tensor) -> None:
    """Raises CheckpointError where a row's highest logit is no number; one NaN in a row makes it NaN."""
    if not logits_BV.amax(-1).isfinite().all():
        raise CheckpointError(
            "the model's logits are not finite: its weights are damaged, its training diverged, or its precision is too low. "
            "Choose an earlier checkpoint by --iteration, or --set precision=fp32."
        )


def greedy_tokens(
    gpt: GPT, model: ModelConfig, prompts_BS: torch.Tensor, new_tokens: int, vocab_size: int | None = None
) -> torch.Tensor:
    """The most probable continuation of prompts of one length, `new_tokens` long whatever the tokens are: [B, T].

    `vocab_size` None takes the padded vocabulary whole.
    """
    batch, length = prompts_BS.shape
    rule = StopRule(None, new_tokens, length + new_tokens)
    context = CachedContext(gpt, model, vocab_size)
    unused = torch.zeros(batch, new_tokens)
    steps = [list(tokens.values()) for tokens in decode(context, prompts_BS.tolist(), rule, most_probable, unused)]
    return torch.tensor(steps).t()
