"""The engine against plain recomputation of the whole text, against transformers, and in a batch against alone."""

import dataclasses
import math
from pathlib import Path

import pytest
import torch
from numpy.testing import assert_allclose

from neox_code.errors import CheckpointError, DataError
from neox_code.evaluation.perplexity import score_files
from neox_code.generation import engine as engine_module
from neox_code.generation.engine import Engine, Row
from neox_code.generation.loading import LoadedModel, prepare_for_inference
from neox_code.generation.request import Request, SamplingSettings
from neox_code.generation.stopping import StopReason

VOCAB_SIZE = 250
LENGTHS = (5, 1, 17, 30, 17)
PROMPTS = [
    torch.randint(0, VOCAB_SIZE, (length,), generator=torch.Generator().manual_seed(row)).tolist()
    for row, length in enumerate(LENGTHS)
]
RESIDUALS = {"token_smear": True, "embedding_skip": True, "value_residual": True}
GREEDY, WARM = SamplingSettings(), SamplingSettings(temperature=0.9, top_k=40, top_p=0.95)


class NumberTokenizer:
    """A token is the letter with its number; there is no end of document unless `eod_id` is set."""

    vocab_size, eod_id = VOCAB_SIZE, -1

    def decode_bytes(self, ids):
        return "".join(chr(0x100 + token) for token in ids).encode()


class EndTokenizer(NumberTokenizer):
    eod_id = PROMPTS[3][0]


def make_loaded(gpt, model, dtype=torch.float32) -> LoadedModel:
    return LoadedModel(gpt, NumberTokenizer(), model, torch.device("cpu"), dtype, Path("global_step1"))


def run(engine: Engine, rows: list[Row]) -> list[list[int]]:
    """Step until all rows have ended; return their new tokens."""
    while any(row.stop_reason is None for row in rows):
        assert engine.step()
    return [row.tokens for row in rows]


def complete(loaded, prompts=PROMPTS, first=0, maximum_rows=8, recompute=False, **settings) -> list[list[int]]:
    engine = Engine(loaded, maximum_rows, recompute=recompute)
    settings = {"maximum_tokens": 34, "seed": 11, **settings}
    rows = [
        row for index, prompt in enumerate(prompts) for row in engine.add(Request(tuple(prompt), index=first + index, **settings))
    ]
    return run(engine, rows)


@pytest.fixture
def loaded(model_config, build_gpt) -> LoadedModel:
    model = model_config(**RESIDUALS)
    return make_loaded(build_gpt(model), model)


@pytest.mark.parametrize("keys", [{"pos_emb": "rotary"}, {"pos_emb": "learned"}, {"pos_emb": "alibi"}, RESIDUALS], ids=str)
@pytest.mark.parametrize("sampling", [GREEDY, WARM])
def test_a_ragged_batch_equals_recomputation_and_each_prompt_alone(model_config, build_gpt, keys, sampling, monkeypatch):
    model = model_config(**keys)
    loaded = make_loaded(build_gpt(model), model)
    found = complete(loaded, sampling=sampling)
    assert found == complete(loaded, sampling=sampling, recompute=True)
    assert found == [complete(loaded, [prompt], row, sampling=sampling)[0] for row, prompt in enumerate(PROMPTS)]
    assert list(map(len, found)) == [34] * 5 and len(set(map(tuple, found))) == 5
    monkeypatch.setattr(engine_module, "CHUNK_TOKENS", 8)
    monkeypatch.setattr(engine_module, "PASS_TOKENS", 10)
    assert found == complete(loaded, sampling=sampling, maximum_rows=2), "chunks, and rows that wait"


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("sampling, in_8bit, keys", [(GREEDY, False, {}), (WARM, False, RESIDUALS), (GREEDY, True, RESIDUALS)])
def test_bf16_rows_have_the_same_tokens_alone_and_in_any_batch(
    model_config, build_gpt, sampling, in_8bit, keys, compiled, monkeypatch
):
    """Exactly: a pass computes each row by itself, and packed matrices give a row the same bits beside any other."""
    if not compiled:
        monkeypatch.setattr("neox_code.generation.loading.build_decoder", lambda layers: None)
    model = model_config(hidden_size=128, num_layers=3, **keys)
    gpt = prepare_for_inference(build_gpt(model).bfloat16(), torch.device("cpu"), in_8bit)
    loaded = make_loaded(gpt, model, torch.bfloat16)
    prompts = PROMPTS * 3
    found = complete(loaded, prompts, sampling=sampling)
    assert found == complete(loaded, prompts, sampling=sampling, maximum_rows=3)
    assert found == [complete(loaded, [prompt], row, sampling=sampling)[0] for row, prompt in enumerate(prompts)]


def test_samples_of_a_request_equal_those_that_read_the_prompt_themselves(loaded):
    (prompt,) = PROMPTS[3:4]
    engine = Engine(loaded, maximum_rows=3)
    rows = engine.add(Request(tuple(prompt), 20, WARM, seed=5, num_samples=5))
    found = run(engine, rows)
    assert len(set(map(tuple, found))) == 5
    assert [row.cached_tokens for row in rows] == [0, *[len(prompt) - 1] * 4]
    for sample, tokens in enumerate(found):
        other = Engine(loaded, cache_bytes=0)
        alone = other.add(Request(tuple(prompt), 20, WARM, seed=5, num_samples=5))
        for row in alone[:sample] + alone[sample + 1 :]:
            row.cancel()
        assert run(other, alone)[sample] == tokens


def test_a_prompt_continues_where_an_earlier_text_had_been_read(loaded):
    engine = Engine(loaded)
    (prompt,) = PROMPTS[3:4]
    (first,) = engine.add(Request(tuple(prompt), 10))
    run(engine, [first])
    longer = prompt + first.tokens[:6] + [7, 8]
    (second,) = engine.add(Request(tuple(longer), 10))
    run(engine, [second])
    assert second.cached_tokens == len(prompt) + 6
    assert [second.tokens] == complete(loaded, [longer], maximum_tokens=10)
    branch = [*prompt[:4], 9, 9, 9]
    (third,) = engine.add(Request(tuple(branch), 10))
    run(engine, [third])
    assert third.cached_tokens == 4 and [third.tokens] == complete(loaded, [branch], maximum_tokens=10)
    (again,) = engine.add(Request(tuple(longer), 10))
    run(engine, [again])
    assert again.cached_tokens == len(longer) - 1 and again.tokens == second.tokens, "the branch was copied"
    for number in range(40):
        run(engine, engine.add(Request((number, number, number), 3)))
    assert engine.prefixes.num_bytes <= engine.prefixes.maximum_bytes
    small = Engine(loaded, cache_bytes=3 * first_cache_bytes(loaded))
    for number in range(9):
        run(small, small.add(Request((number, number, number), 3)))
    assert len(small.prefixes.entries) == 3


def first_cache_bytes(loaded) -> int:
    model = loaded.config
    return 2 * model.num_layers * model.hidden_size * model.max_position_embeddings * 4


def test_reading_alone_generates_nothing_and_helps_the_next_request(loaded):
    engine = Engine(loaded)
    (warm,) = engine.add(Request(tuple(PROMPTS[3]), 0))
    run(engine, [warm])
    assert (warm.tokens, warm.stop_reason) == ([], StopReason.MAXIMUM_TOKENS)
    (row,) = engine.add(Request(tuple(PROMPTS[3]), 3))
    assert run(engine, [row]) == complete(loaded, PROMPTS[3:4], maximum_tokens=3)
    assert row.cached_tokens == len(PROMPTS[3]) - 1


def test_greedy_tokens_equal_those_of_transformers(model_config, build_gpt, as_transformers):
    model = model_config(rotary_pct=0.25)
    gpt = build_gpt(model)
    with torch.no_grad():
        gpt.get_parameter("sequential.7.final_linear.weight")[VOCAB_SIZE:] = 0
    peer = as_transformers(gpt, model)
    for prompt, ours in zip(PROMPTS, complete(make_loaded(gpt, model), maximum_tokens=30), strict=True):
        theirs = peer.generate(
            torch.tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
            max_new_tokens=30,
            do_sample=False,
            suppress_tokens=list(range(VOCAB_SIZE, 256)),
            pad_token_id=0,
            eos_token_id=None,
        )
        assert ours == theirs[0, len(prompt) :].tolist()


@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-5), (torch.bfloat16, 0.05)])
def test_logprobs_of_prompt_and_completion_equal_those_of_one_plain_pass(model_config, build_gpt, dtype, tolerance, monkeypatch):
    monkeypatch.setattr(engine_module, "CHUNK_TOKENS", 8)
    model = model_config()
    gpt = build_gpt(model).to(dtype)
    engine = Engine(make_loaded(gpt, model, dtype))
    rows = [row for prompt in PROMPTS for row in engine.add(Request(tuple(prompt), 5, top_logprobs=3, prompt_logprobs=True))]
    run(engine, rows)
    for row in rows:
        with torch.no_grad():
            expected = gpt(torch.tensor([row.ids]))[0, :, :VOCAB_SIZE].float().log_softmax(-1)
        found = [*row.prompt_logprobs, *row.logprobs]
        assert [entry.token for entry in found] == row.ids and found[0].logprob is None
        for place, entry in enumerate(found[1:]):
            values, tokens = expected[place].topk(3)
            assert_allclose(entry.logprob, expected[place, entry.token], atol=tolerance)
            assert_allclose(list(entry.top.values()), values, atol=tolerance)
            if dtype is torch.float32:
                assert list(entry.top) == tokens.tolist()
        assert all(max(entry.top.values()) == entry.logprob for entry in row.logprobs)


def test_logprobs_count_padding_rows_that_have_probabilities_as_evaluation_does(loaded):
    loaded = dataclasses.replace(loaded, scored_rows=256)
    engine = Engine(loaded)
    (row,) = engine.add(Request(tuple(PROMPTS[3]), 5, top_logprobs=0, prompt_logprobs=True))
    run(engine, [row])
    (score,) = score_files(dataclasses.replace(loaded, tokenizer=EndTokenizer()), [row.ids[1:]])
    found = [entry.logprob for entry in (*row.prompt_logprobs[1:], *row.logprobs)]
    assert_allclose(sum(found), -math.log(2) * score.bits, rtol=1e-5)
    assert row.ids[0] == EndTokenizer.eod_id


@pytest.mark.parametrize("sampling", [GREEDY, SamplingSettings(2.0), SamplingSettings(1.0, 3), SamplingSettings(1.0, 0, 0.5)])
def test_padded_ids_are_never_generated(model_config, build_gpt, sampling):
    model = model_config()
    gpt = build_gpt(model)
    with torch.no_grad():
        head = gpt.get_parameter("sequential.7.final_linear.weight")
        head[VOCAB_SIZE:253] = 1000 * head[:3]
        head[253:] = -1000 * head[:3]
        assert (gpt(torch.tensor(PROMPTS[2:3])).argmax(-1) >= VOCAB_SIZE).all()
    assert max(map(max, complete(make_loaded(gpt, model), sampling=sampling))) < VOCAB_SIZE


@pytest.mark.parametrize("sampling", [GREEDY, WARM])
def test_ids_that_stand_for_no_token_are_never_generated_or_reported(loaded, sampling):
    class GapTokenizer(NumberTokenizer):
        def decode_bytes(self, ids):
            if set(ids) & {3, 7}:
                raise DataError("unused")
            return super().decode_bytes(ids)

    engine = Engine(dataclasses.replace(loaded, tokenizer=GapTokenizer()))
    sampling = dataclasses.replace(sampling, logit_bias={3: 100, 7: 100})
    (row,) = engine.add(Request(tuple(PROMPTS[2]), 8, sampling, top_logprobs=VOCAB_SIZE))
    (tokens,) = run(engine, [row])
    assert len(tokens) == 8 and engine.unused_ids == {3, 7} and not {3, 7} & set(tokens)
    assert all(set(entry.top) == set(range(VOCAB_SIZE)) - {3, 7} for entry in row.logprobs)


def test_a_row_ends_at_its_end_token_or_a_full_context_and_the_others_go_on(model_config, build_gpt):
    model = model_config(max_position_embeddings=40)
    loaded = make_loaded(build_gpt(model), model)
    endless = complete(loaded, sampling=WARM)
    assert list(map(len, endless)) == [34, 34, 23, 10, 23]
    stop = endless[2][9]
    loaded.tokenizer.eod_id = stop
    expected = [row[: row.index(stop)] if stop in row else row for row in endless]
    assert complete(loaded, sampling=WARM) == expected != endless
    assert complete(loaded, sampling=WARM, ignore_eod=True) == endless


def test_cancelled_rows_and_rows_over_their_time_end_at_the_next_step(loaded):
    engine = Engine(loaded, maximum_rows=2)
    late, kept, cancelled, unread = (
        engine.add(Request(tuple(prompt), 10, seconds=seconds, prompt_seconds=prompt_seconds))[0]
        for prompt, seconds, prompt_seconds in zip(PROMPTS, (0, 9e9, 9e9, 9e9), (9e9, 9e9, 9e9, -1), strict=False)
    )
    cancelled.cancel()
    run(engine, [late, kept, cancelled, unread])
    assert [row.stop_reason for row in (late, kept, cancelled, unread)] == [
        StopReason.TIME_LIMIT,
        StopReason.MAXIMUM_TOKENS,
        StopReason.CANCELLED,
        StopReason.TIME_LIMIT,
    ]
    assert [len(late.tokens), len(cancelled.tokens), len(unread.tokens)] == [1, 0, 0]
    assert engine.is_idle


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_row_whose_logits_become_non_finite_fails_alone(model_config, build_gpt, value):
    model = model_config(pos_emb="learned")
    gpt = build_gpt(model)
    expected = complete(make_loaded(gpt, model), maximum_tokens=10)
    with torch.no_grad():
        gpt.get_parameter("sequential.0.position_embeddings.weight")[33] = value
    engine = Engine(make_loaded(gpt, model))
    rows = [engine.add(Request(tuple(prompt), 10))[0] for prompt in PROMPTS]
    found = run(engine, rows)
    assert found == [*expected[:3], expected[3][:4], expected[4]]
    assert [row.stop_reason is StopReason.FAILED for row in rows] == [False, False, False, True, False]
    assert isinstance(rows[3].error, CheckpointError) and "not finite" in str(rows[3].error)
