"""The embedding (tokens to vectors) and the head (vectors to logits). Tensor ranks divide the vocabulary between them.

Shape letters: B batch, S sequence, H hidden, V rows of the padded vocabulary on this tensor rank.
"""

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from neox_code.config.model import ModelConfig
from neox_code.model.dropout import AFTER_EMBEDDING, drop_hidden
from neox_code.model.form import INFERENCE, HiddenState, LayerState, ModelForm, unpack_state
from neox_code.model.initialization import initialize_without_padding, make_input_init
from neox_code.model.kv_cache import CacheView
from neox_code.model.loss import HeadInput
from neox_code.model.norms import build_norm
from neox_code.model.positions import compute_sinusoidal_vectors, count_from_starts, find_document_starts
from neox_code.parallel.collectives import GatherParts, TakePart, sum_gradients
from neox_code.parallel.grid import ParallelGrid
from neox_code.parallel.plain_layers import PlainEmbedding


class Embedding(nn.Module):
    """Word embeddings plus learned or sinusoidal positions, if the model has these: tokens_BS -> [B, S, H]."""

    def __init__(
        self,
        model: ModelConfig,
        vocab_size: int,
        padded_vocab_size: int,
        grid: ParallelGrid,
        dtype: torch.dtype,
        initialize: bool = True,
        form: ModelForm = INFERENCE,
    ):
        super().__init__()
        self.model, self.form = model, form
        self.dropout = model.hidden_dropout
        self.is_sinusoidal = model.pos_emb == "sinusoidal"
        fill = initialize_without_padding(make_input_init(model), vocab_size) if initialize else None
        self.word_embeddings = grid.layers.vocab_embedding(padded_vocab_size, model.hidden_size, dtype, fill)
        self.position_embeddings = (
            PlainEmbedding(model.max_position_embeddings, model.hidden_size, dtype, make_input_init(model) if initialize else None)
            if model.pos_emb == "learned"
            else None
        )
        self.smear = nn.Parameter(torch.zeros(model.hidden_size, dtype=dtype)) if model.token_smear else None
        """The factors of the vector of the token before."""

    def forward(self, tokens: HiddenState, cache: CacheView | None = None) -> HiddenState:
        """Return the vectors of tokens_BS, with the starts of their documents if the form has `eod_id` and there is no cache.

        With dropout the argument is (tokens_BS, keys_B). In training, rows without keys get random ones.
        """
        tokens_BS, keys_B = tokens if isinstance(tokens, tuple) else (tokens, None)
        if keys_B is None and self.training and (self.dropout or self.model.attention_dropout):
            keys_B = torch.randint(1 << 62, tokens_BS.shape[:1], device="cpu").to(tokens_BS.device)
        hidden_BSH = self.word_embeddings(tokens_BS)
        eod_id = None if cache is not None else self.form.eod_id
        starts_BS = None if eod_id is None else find_document_starts(tokens_BS, eod_id)
        if self.smear is not None:
            hidden_BSH = hidden_BSH + self.read_previous(tokens_BS, hidden_BSH, cache, starts_BS) * self.smear
        positions = read_positions(tokens_BS, cache, starts_BS if self.model.reset_position_ids else None)
        if self.position_embeddings is not None:
            hidden_BSH = hidden_BSH + self.position_embeddings(positions)
        elif self.is_sinusoidal:
            hidden_BSH = hidden_BSH + compute_sinusoidal_vectors(positions, hidden_BSH.shape[-1], hidden_BSH.dtype)
        if self.dropout and self.training:
            assert keys_B is not None
            hidden_BSH = drop_hidden(hidden_BSH, keys_B, AFTER_EMBEDDING, self.dropout)
        return LayerState(hidden_BSH, starts_BS, keys_B=keys_B).pack()

    def read_previous(
        self, tokens_BS: torch.Tensor, vectors_BSH: torch.Tensor, cache: CacheView | None, starts_BS: torch.Tensor | None
    ) -> torch.Tensor:
        """Return the vector of the token before each token: [B, S, H]; zeros at the start of a text.

        With `reset_attention_mask` the start of a document is the start of a text. Otherwise its first token is the
        end-of-document token, and the token before it is the last one of another document.
        """
        if cache is not None:
            previous_1S = cache.exchange_tokens(tokens_BS)
            return self.word_embeddings(previous_1S.clamp_min(0)) * (previous_1S >= 0)[..., None]
        previous_BSH = F.pad(vectors_BSH[:, :-1], (0, 0, 1, 0))
        if starts_BS is None or not self.model.reset_attention_mask:
            return previous_BSH
        return previous_BSH * (count_from_starts(starts_BS) > 0)[..., None]


def read_positions(tokens_BS: torch.Tensor, cache: CacheView | None, starts_BS: torch.Tensor | None) -> torch.Tensor:
    """Return the position of each token in its text, or in its document if its start is given: [1 or B, S]."""
    if starts_BS is not None:
        return count_from_starts(starts_BS)
    return torch.arange(tokens_BS.shape[1], device=tokens_BS.device)[None] if cache is None else cache.positions_S[None]


def enter_blocks(state: HiddenState, grid: ParallelGrid, keeps_embedded: bool) -> HiddenState:
    """Return the input of the first block: the state, or with `sequence_parallel` this rank's part [S / ranks, B, H] of it.

    With `keeps_embedded` all blocks receive the hidden state as it is here.
    """
    hidden_BSH, starts_BS, *_, keys_B = unpack_state(state)
    if grid.sequence_group is not None:
        hidden_BSH = TakePart.apply(hidden_BSH.transpose(0, 1), grid.sequence_group)
    return LayerState(hidden_BSH, starts_BS, hidden_BSH if keeps_embedded else None, keys_B=keys_B).pack()


class FinalNorm(nn.Module):
    """The last normalization: [B, S, H] -> [B, S, H], of the hidden state alone."""

    def __init__(self, model: ModelConfig, grid: ParallelGrid, dtype: torch.dtype):
        super().__init__()
        self.norm = build_norm(model, dtype, grid.sequence_group)

    def forward(self, state: HiddenState) -> torch.Tensor:
        return self.norm(unpack_state(state).hidden_BSH)


class Head(nn.Module):
    """The untied head: [B, S, H] -> logits [B, S, V]; in training, the arguments of `WeightedLoss`, which computes the logits."""

    def __init__(
        self,
        model: ModelConfig,
        vocab_size: int,
        padded_vocab_size: int,
        grid: ParallelGrid,
        dtype: torch.dtype,
        initialize: bool = True,
        form: ModelForm = INFERENCE,
    ):
        super().__init__()
        self.grid, self.has_loss = grid, form.has_loss
        fill = initialize_without_padding(make_input_init(model), vocab_size) if initialize else None
        self.final_linear = grid.layers.column_linear(model.hidden_size, padded_vocab_size, dtype, fill, bias=False)

    def forward(self, hidden_BSH: torch.Tensor) -> torch.Tensor | HeadInput:
        return make_head_input(hidden_BSH, self.final_linear, self.grid) if self.has_loss else self.final_linear(hidden_BSH)


@dataclass(frozen=True)
class TiedHead:
    """The tied head as a function of the embedding and the hidden state, with the results of Head. It is a class so that it can be
    pickled."""

    grid: ParallelGrid
    has_loss: bool

    def __call__(self, embedding: nn.Module, hidden_BSH: torch.Tensor) -> torch.Tensor | HeadInput:
        assert isinstance(embedding, Embedding)
        if self.has_loss:
            return make_head_input(hidden_BSH, embedding.word_embeddings, self.grid)
        weight = embedding.word_embeddings.weight
        assert isinstance(weight, torch.Tensor)
        return self.grid.layers.tied_logits(hidden_BSH, weight)


def make_head_input(hidden_BSH: torch.Tensor, head: nn.Module, grid: ParallelGrid) -> HeadInput:
    """Return the arguments of `WeightedLoss`. The gradient of the hidden state is summed over the parts of the vocabulary."""
    assert isinstance(head.weight, torch.Tensor)
    if grid.sequence_group is not None:
        return GatherParts.apply(hidden_BSH, grid.sequence_group).transpose(0, 1), head.weight
    return sum_gradients(hidden_BSH, grid.tensor_group), head.weight
