"""Scores in windows and batches equal those of one token at a time and of transformers."""

import dataclasses
import math
from collections.abc import Sequence

import pytest
import torch
from example_model import CONTEXT_LENGTH, PADDED, SHAPE, VOCAB_SIZE, random_gpt
from torch.nn import functional as F
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

from neox_code.evaluation.perplexity import group_into_batches, make_scoring_model, score_files, split_into_windows
from neox_code.generation.loading import LoadedModel

RELATIVE = 2e-6


def sum_bits_by_file(model: LoadedModel, files: Sequence[Sequence[int]], tokens_at_once: int | None = None) -> list[float]:
    bits = [0.0] * len(files)
    for score in score_files(model, files, tokens_at_once):
        bits[score.file] += score.bits
    return bits


def find_context_begin(place: int, context_length: int) -> int:
    """Return the begin of the context that predicts the token after `place`; it advances rarely, by half a context."""
    half = context_length // 2
    return math.ceil(max(place + 1 - context_length, 0) / half) * half


def score_one_by_one(logits_of, text: Sequence[int]) -> float:
    """Return the bits of all tokens but the first, each predicted by a pass of its own over its context."""
    bits = 0.0
    for place, label in enumerate(text[1:]):
        context = torch.tensor([text[find_context_begin(place, CONTEXT_LENGTH) : place + 1]])
        with torch.no_grad():
            logits = logits_of(context)[0, -1, :VOCAB_SIZE]
        bits -= F.log_softmax(logits.double(), -1)[label].item() / math.log(2)
    return bits


@pytest.mark.parametrize("context_length", [1, 2, 5, 8, 32])
@pytest.mark.parametrize("num_tokens", [0, 1, 7, 8, 9, 31, 32, 33, 100])
def test_every_token_is_scored_once_with_at_least_half_a_context(num_tokens, context_length):
    scored = []
    for window in split_into_windows(0, num_tokens, context_length):
        assert window.length <= context_length
        scored += range(window.scored, window.end)
        assert window.scored - window.begin + 1 >= min(window.scored + 1, context_length / 2)
    assert scored == list(range(num_tokens))


def test_batches_have_every_window_once_and_at_most_the_allowed_tokens():
    spans = [window for file, length in enumerate((3, 90, 8, 40, 1)) for window in split_into_windows(file, length, 16)]
    groups = list(group_into_batches(spans, 40))
    assert sorted(repr(window) for group in groups for window in group) == sorted(map(repr, spans))
    assert all(len(group) * max(window.length for window in group) <= 40 for group in groups)
    assert [len(group) for group in group_into_batches(spans, 1)] == [1] * len(spans)


def test_bits_equal_those_of_one_token_at_a_time(model, files):
    assert len(list(split_into_windows(0, len(files[-1]), CONTEXT_LENGTH))) > 3
    expected = [score_one_by_one(model.gpt, [model.tokenizer.eod_id, *ids]) for ids in files]
    assert sum_bits_by_file(model, files) == pytest.approx(expected, rel=RELATIVE)


@pytest.mark.parametrize("tokens_at_once", [1, 64, 100, 100_000])
def test_bits_do_not_depend_on_the_batch_size(model, files, tokens_at_once):
    assert sum_bits_by_file(model, files, tokens_at_once) == pytest.approx(sum_bits_by_file(model, files), rel=RELATIVE)


def test_bits_do_not_depend_on_the_other_files(model, files):
    assert sum_bits_by_file(model, files[-1:]) == pytest.approx(sum_bits_by_file(model, files)[-1:], rel=RELATIVE)


def test_scores_count_every_token_of_the_files(model, files):
    tokens = [0] * len(files)
    for score in score_files(model, files):
        tokens[score.file] += score.tokens
    assert tokens == list(map(len, files))


@pytest.mark.parametrize("mask_padded_vocab", [True, False])
def test_a_uniform_model_needs_the_logarithm_of_the_vocabulary(model, files, mask_padded_vocab):
    uniform = dataclasses.replace(model, gpt=random_gpt(), scored_rows=None if mask_padded_vocab else PADDED)
    torch.nn.init.zeros_(uniform.gpt.sequential["6"].final_linear.weight)
    choices = VOCAB_SIZE if mask_padded_vocab else PADDED
    assert sum_bits_by_file(uniform, files) == pytest.approx([math.log2(choices) * len(ids) for ids in files], rel=1e-7)


def test_the_scoring_model_has_the_weights_of_the_loaded_one(model, files):
    rounded = dataclasses.replace(model, gpt=random_gpt().bfloat16(), dtype=torch.bfloat16)
    before = {name: value.clone() for name, value in rounded.gpt.state_dict().items()}
    scoring = make_scoring_model(rounded)
    for name, value in scoring.gpt.state_dict().items():
        assert value.dtype == scoring.dtype
        assert torch.equal(value.bfloat16(), before[name])
    assert sum(sum_bits_by_file(scoring, files)) == pytest.approx(sum(sum_bits_by_file(model, files)), rel=0.01)


@pytest.mark.parametrize("tied", [False, True])
def test_bits_equal_those_of_transformers(model, files, tied):
    ours = dataclasses.replace(model, gpt=random_gpt(no_weight_tying=not tied))
    peer = build_transformers_model(ours.gpt, tied)
    expected = [score_one_by_one(lambda tokens: peer(tokens).logits, [model.tokenizer.eod_id, *ids]) for ids in files[-3:]]
    assert sum_bits_by_file(ours, files[-3:]) == pytest.approx(expected, rel=RELATIVE)


def build_transformers_model(gpt: torch.nn.Module, tied: bool) -> GPTNeoXForCausalLM:
    """Return a transformers model with the same weights."""
    config = GPTNeoXConfig(
        vocab_size=PADDED,
        hidden_size=SHAPE["hidden_size"],
        num_hidden_layers=SHAPE["num_layers"],
        num_attention_heads=SHAPE["num_attention_heads"],
        intermediate_size=4 * SHAPE["hidden_size"],
        max_position_embeddings=CONTEXT_LENGTH,
        rotary_pct=1.0,
        use_parallel_residual=False,
        tie_word_embeddings=tied,
    )
    peer = GPTNeoXForCausalLM(config).eval()
    head = "lm_head" if hasattr(peer, "lm_head") else "embed_out"
    names = {
        "sequential.0.word_embeddings": "gpt_neox.embed_in",
        "sequential.2": "gpt_neox.layers.0",
        "sequential.3": "gpt_neox.layers.1",
        "sequential.5.norm": "gpt_neox.final_layer_norm",
        "sequential.6.final_linear": head,
    }
    weights = {}
    for name, value in gpt.state_dict().items():
        prefix = next(prefix for prefix in names if name.startswith(prefix + "."))
        weights[names[prefix] + name.removeprefix(prefix)] = value
    if tied:
        weights[f"{head}.weight"] = weights["gpt_neox.embed_in.weight"]
    peer.load_state_dict(weights, strict=True)
    return peer
