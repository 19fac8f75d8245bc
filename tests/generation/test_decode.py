"""Decoding with a cache against recomputation, against transformers, and in a batch against alone."""

import pytest
import torch

from neox_code.errors import CheckpointError
from neox_code.generation.decode import CachedContext, RecomputedContext, decode, decode_greedily
from neox_code.generation.sampling import build_sampler, make_draws
from neox_code.generation.stopping import StopRule

VOCAB_SIZE = 250
LENGTHS = (5, 1, 17, 30, 17)
PROMPTS = [
    torch.randint(0, VOCAB_SIZE, (length,), generator=torch.Generator().manual_seed(row)).tolist()
    for row, length in enumerate(LENGTHS)
]


def completed(gpt, model, rule, prompts=PROMPTS, *, context=CachedContext, sampler=(0.0,), first=0) -> list[list[int]]:
    """The new tokens of each prompt."""
    draws_BT = torch.stack([torch.from_numpy(make_draws(11, first + row, 64)) for row in range(len(prompts))])
    found: list[list[int]] = [[] for _ in prompts]
    for new_tokens in decode(context(gpt, model, VOCAB_SIZE), prompts, rule, build_sampler(*sampler), draws_BT):
        for row, token in new_tokens.items():
            found[row].append(token)
    return found


def rule(maximum_tokens=40, context_length=64, eod_id=None) -> StopRule:
    return StopRule(eod_id, maximum_tokens, context_length)


@pytest.mark.parametrize("pos_emb", ["rotary", "learned"])
@pytest.mark.parametrize("sampler", [(0.0,), (1.0, 20, 0.9)])
def test_cached_decoding_equals_full_recomputation(model_config, build_gpt, pos_emb, sampler):
    model = model_config(pos_emb=pos_emb)
    gpt = build_gpt(model)
    cached, recomputed = (
        completed(gpt, model, rule(), context=kind, sampler=sampler) for kind in (CachedContext, RecomputedContext)
    )
    assert cached == recomputed
    assert list(map(len, cached)) == [40, 40, 40, 34, 40]


@pytest.mark.parametrize("sampler", [(0.0,), (1.0,), (0.8, 20, 0.9)])
def test_a_batch_of_different_lengths_equals_each_prompt_alone(model_config, build_gpt, sampler):
    model = model_config()
    gpt = build_gpt(model)
    together = completed(gpt, model, rule(), sampler=sampler)
    assert len(set(map(tuple, together))) == len(PROMPTS)
    for row, prompt in enumerate(PROMPTS):
        assert completed(gpt, model, rule(), [prompt], sampler=sampler, first=row) == [together[row]]


@pytest.mark.parametrize("context", [CachedContext, RecomputedContext])
def test_a_row_that_ends_does_not_change_the_others(model_config, build_gpt, context):
    model = model_config()
    gpt = build_gpt(model)
    endless = completed(gpt, model, rule(), sampler=(1.0,))
    stop = endless[2][10]
    expected = [row[: row.index(stop) + 1] if stop in row else row for row in endless]
    assert completed(gpt, model, rule(eod_id=stop), context=context, sampler=(1.0,)) == expected


def test_greedy_tokens_equal_those_of_transformers(model_config, build_gpt, as_transformers):
    model = model_config(rotary_pct=0.25)
    gpt = build_gpt(model)
    with torch.no_grad():
        gpt.get_parameter("sequential.7.final_linear.weight")[VOCAB_SIZE:] = 0
    peer = as_transformers(gpt, model)
    for prompt in PROMPTS:
        theirs = peer.generate(
            torch.tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
            max_new_tokens=30,
            do_sample=False,
            suppress_tokens=list(range(VOCAB_SIZE, 256)),
            pad_token_id=0,
            eos_token_id=None,
        )
        assert completed(gpt, model, rule(30), [prompt]) == [theirs[0, len(prompt) :].tolist()]


def test_greedy_tokens_of_a_batch_equal_those_of_its_rows(model_config, build_gpt):
    model = model_config()
    gpt = build_gpt(model)
    prompts = [PROMPTS[2], PROMPTS[4]]
    found = decode_greedily(gpt, model, torch.tensor(prompts), 20, VOCAB_SIZE)
    assert found.tolist() == completed(gpt, model, rule(20), prompts)


@pytest.mark.parametrize("sampler", [(0.0,), (2.0,), (1.0, 3), (1.0, 0, 0.5)])
@pytest.mark.parametrize("context", [CachedContext, RecomputedContext])
def test_padded_ids_are_never_generated(model_config, build_gpt, sampler, context):
    model = model_config()
    gpt = build_gpt(model)
    with torch.no_grad():
        head = gpt.get_parameter("sequential.7.final_linear.weight")
        head[VOCAB_SIZE:253] = 1000 * head[:3]
        head[253:] = -1000 * head[:3]
        assert (gpt(torch.tensor(PROMPTS[2:3])).argmax(-1) >= VOCAB_SIZE).all()
    assert max(map(max, completed(gpt, model, rule(10), context=context, sampler=sampler))) < VOCAB_SIZE


def test_a_full_context_ends_only_its_row(model_config, build_gpt):
    model = model_config(max_position_embeddings=32)
    assert list(map(len, completed(build_gpt(model), model, rule(20, 32)))) == [20, 20, 15, 2, 15]


def test_gradients_are_enabled_between_the_steps(model_config, build_gpt):
    model = model_config()
    steps = decode(CachedContext(build_gpt(model), model, None), PROMPTS, rule(), build_sampler(0.0), torch.zeros(5, 40))
    next(steps)
    assert torch.is_grad_enabled() and not torch.is_inference_mode_enabled()
    steps.close()


@pytest.mark.parametrize("sampler", [(0.0,), (1.0, 20, 0.9)])
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_logits_that_become_non_finite_are_an_error_at_their_step(model_config, build_gpt, sampler, value):
    model = model_config(pos_emb="learned")
    gpt = build_gpt(model)
    with torch.no_grad():
        gpt.get_parameter("sequential.0.position_embeddings.weight")[33] = value
    found = []
    with pytest.raises(CheckpointError, match="not finite"):
        for new_tokens in decode(
            CachedContext(gpt, model, VOCAB_SIZE), PROMPTS, rule(), build_sampler(*sampler), torch.full((5, 40), 0.5)
        ):
            found.append(new_tokens)
    assert len(found) == 34 - 30
    assert all(token < VOCAB_SIZE for new_tokens in found for token in new_tokens.values())


def test_non_finite_weights_are_an_error(model_config, build_gpt):
    model = model_config()
    gpt = build_gpt(model)
    with torch.no_grad():
        gpt.get_parameter("sequential.3.mlp.dense_4h_to_h.bias")[0] = torch.nan
    with pytest.raises(CheckpointError, match=r"not finite.*--iteration"):
        completed(gpt, model, rule())
