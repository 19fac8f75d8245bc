"""Separated documents of a row against the same documents as rows of their own, forward and backward."""

import pytest
import torch
from torch.nn import functional as F

from neox_code.config.model import ModelConfig
from neox_code.model.flexible_attention import flexible_attention, make_block_mask
from neox_code.model.form import ModelForm
from neox_code.model.gpt import GPT, build_layers
from neox_code.model.positions import find_document_starts
from neox_code.parallel.grid import single_process_grid

EOD, LENGTH = 3, 300
STARTS = (
    (0, 40, 41, 150),
    (0, 129, 260),
)  # the second row's first document begins without the token; 300 are three blocks of queries
SHAPE = {"num_layers": 2, "hidden_size": 32, "num_attention_heads": 4, "max_position_embeddings": LENGTH, "no_weight_tying": True}
POSITIONS = {
    "rotary": {"pos_emb": "rotary", "rotary_pct": 0.5},
    "learned": {"pos_emb": "learned"},
    "sinusoidal in groups": {"pos_emb": "sinusoidal", "num_kv_heads": 2},
    "alibi": {"pos_emb": "alibi"},
    "alibi in groups": {"pos_emb": "alibi", "num_kv_heads": 2},
    "all residuals": {"pos_emb": "rotary", "token_smear": True, "embedding_skip": True, "value_residual": True},
}


def make_tokens() -> torch.Tensor:
    tokens = torch.randint(EOD + 1, 60, (2, LENGTH), generator=torch.Generator().manual_seed(1))
    for row, starts in zip(tokens, STARTS, strict=True):
        row[list(starts)] = EOD
    tokens[1, 0] = 7
    return tokens


def build(model: ModelConfig, dtype: torch.dtype, eod_id: int | None) -> GPT:
    gpt = GPT(build_layers(model, 60, 64, single_process_grid(), dtype, form=ModelForm(eod_id=eod_id)))
    with torch.no_grad():
        for parameter in gpt.parameters():
            parameter.mul_(3)  # attention's scores are not nearly equal
        for name, parameter in gpt.named_parameters():
            if name.endswith(("smear", "embedding_skip")):
                parameter.fill_(0.5)
    return gpt


def read_with_gradients(gpt: GPT, pieces: list[torch.Tensor]) -> list[torch.Tensor]:
    """Return the logits and the gradients of the parameters, in fp32."""
    logits = torch.cat([gpt(piece).flatten(0, 1) for piece in pieces])
    loss = F.cross_entropy(logits.float(), make_tokens().roll(-1, 1).flatten())
    return [tensor.float() for tensor in (logits.detach(), *torch.autograd.grad(loss, list(gpt.parameters())))]


@pytest.mark.parametrize("in_blocks", [True, False], ids=["in blocks", "masked"])
@pytest.mark.parametrize("name", POSITIONS)
def test_documents_of_a_row_equal_documents_in_rows_of_their_own(monkeypatch, name, in_blocks):
    """In fp32 to 1e-5. In bf16 the distance from fp32 is at most twice that of the separate rows, whose sums are shorter."""
    plain = ModelConfig(**SHAPE | POSITIONS[name])
    model = ModelConfig(**SHAPE | POSITIONS[name] | {"reset_position_ids": True, "reset_attention_mask": True})
    tokens = make_tokens()
    alone = [piece[None] for row, starts in zip(tokens, STARTS, strict=True) for piece in row.tensor_split(starts[1:])]
    expected = read_with_gradients(build(plain, torch.float32, None), alone)
    rounded = read_with_gradients(build(plain, torch.bfloat16, None), alone)
    if not in_blocks:
        monkeypatch.setattr("neox_code.model.attention.is_better_in_blocks", lambda query: False)
    ours = read_with_gradients(build(model, torch.float32, EOD), [tokens])
    ours_rounded = read_with_gradients(build(model, torch.bfloat16, EOD), [tokens])
    for part, wanted in zip(ours, expected, strict=True):
        assert (part - wanted).norm() <= 1e-5 * wanted.norm()
    for part in (slice(1), slice(1, None)):  # the logits, and all gradients together
        near, nearest, exact = (
            torch.cat([value.flatten() for value in values[part]]) for values in (ours_rounded, rounded, expected)
        )
        assert (near - exact).norm() <= 2 * (nearest - exact).norm() < 0.2 * exact.norm()


@pytest.mark.parametrize("key", ["reset_position_ids", "reset_attention_mask"])
def test_each_key_alone_changes_the_result(key):
    logits = [
        read_with_gradients(build(ModelConfig(**SHAPE | POSITIONS["learned"] | keys), torch.float32, EOD), [make_tokens()])[0]
        for keys in ({}, {key: True}, {"reset_position_ids": True, "reset_attention_mask": True})
    ]
    first_document = slice(0, 40)
    torch.testing.assert_close(logits[1][first_document], logits[0][first_document], atol=1e-5, rtol=0)
    assert (logits[1] - logits[0])[40:].abs().max() > 0.01 < (logits[1] - logits[2])[40:].abs().max()


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize("slopes", [None, (0.5, 0.25, 0.125, 0.0625)], ids=["no bias", "alibi"])
def test_the_mask_for_gpus_equals_the_plain_one(slopes):
    """FlexAttention without its compiler has no backward pass on a CPU."""
    generator = torch.Generator().manual_seed(2)
    query, key, value = (torch.randn(2, heads, LENGTH, 16, generator=generator) for heads in (4, 2, 2))
    tokens = make_tokens()
    document_BS = (tokens == EOD).cumsum(1)
    distance = torch.arange(LENGTH) - torch.arange(LENGTH)[:, None]
    mask = (document_BS[:, :, None] == document_BS[:, None])[:, None] & (distance <= 0)
    bias = torch.tensor(slopes or [0.0] * 4)[:, None, None] * distance
    expected = F.scaled_dot_product_attention(query, key, value, bias.masked_fill(~mask, -torch.inf), enable_gqa=True)
    block_mask = make_block_mask(LENGTH, tokens.device, find_document_starts(tokens, EOD))
    context = flexible_attention(query, key, value, block_mask, slopes)
    torch.testing.assert_close(context, expected, atol=1e-5, rtol=0)
