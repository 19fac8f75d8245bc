"""Every key that changes what is computed: two tensor ranks, a cache and torch's own attention against one plain pass."""

import dataclasses
import functools
from collections.abc import Sequence

import pytest
import torch
from distributed_runs import run_ranks

from neox_code.config.model import ModelConfig
from neox_code.config.model_size import count_parameters
from neox_code.config.parallelism import ParallelismConfig
from neox_code.model.form import ModelForm
from neox_code.model.gpt import GPT, build_layers
from neox_code.model.kv_cache import CacheView, RowCache
from neox_code.model.loss import WeightedLoss, make_vocab_shard
from neox_code.model.sharding import count_stacked_rows, get_sharding
from neox_code.parallel.divided_layers import DividedLayers
from neox_code.parallel.grid import ParallelGrid, single_process_grid
from neox_code.parallel.startup import startup

VOCAB_SIZE, PADDED = 250, 256
SHAPE = {"num_layers": 2, "hidden_size": 64, "num_attention_heads": 4, "max_position_embeddings": 64}
VARIANTS = {
    "rotary": {"pos_emb": "rotary", "rotary_pct": 0.25},
    "learned with rmsnorm": {"pos_emb": "learned", "norm": "rmsnorm"},
    "no positions": {"pos_emb": "none"},
    "grouped": {"num_kv_heads": 2, "pos_emb": "rotary"},
    "gated": {"activation": "swiglu", "intermediate_size": 288},
    "without biases": {"use_bias_in_attn_linear": False, "use_bias_in_mlp": False},
    "parallel residual without biases": {"gpt_j_residual": True, "use_bias_in_mlp": False, "activation": "mish"},
    "sinusoidal": {"pos_emb": "sinusoidal"},
    "alibi": {"pos_emb": "alibi"},
    "alibi of six heads in groups": {"pos_emb": "alibi", "num_attention_heads": 6, "hidden_size": 96, "num_kv_heads": 2},
    "alibi that grows with the layers": {"pos_emb": "alibi", "apply_query_key_layer_scaling": True, "num_layers": 4},
    "orthogonal in groups": {"init_method": "orthogonal", "output_layer_init_method": "scaled_orthogonal", "num_kv_heads": 2},
    "xavier with a gate": {
        "init_method": "xavier_uniform",
        "output_layer_init_method": "xavier_normal",
        "activation": "reglu",
        "intermediate_size": 288,
    },
    "llama": {
        "norm": "rmsnorm",
        "num_kv_heads": 2,
        "pos_emb": "rotary",
        "activation": "swiglu",
        "mlp_multiple_of": 16,
        "use_bias_in_attn_linear": False,
        "use_bias_in_mlp": False,
    },
}
RESIDUALS = {"token_smear": True, "embedding_skip": True, "value_residual": True}
VARIANTS |= {
    "qwen3": VARIANTS["llama"] | {"kv_channels": 24, "qk_norm": True, "rms_norm_epsilon": 1e-6},
    "qwen3 with keys and values of each head": {"pos_emb": "rotary", "kv_channels": 8, "qk_norm": True},
    "wide heads in a stream that they do not divide": {"hidden_size": 66, "kv_channels": 32, "pos_emb": "alibi"},
    "norms of queries and keys alone": {"qk_norm": True, "num_kv_heads": 2},
    "token before": {"token_smear": True, "pos_emb": "learned"},
    "all residuals": RESIDUALS | {"gpt_j_residual": True, "pos_emb": "rotary", "num_layers": 3},
}
VARIANTS["all residuals with qwen3"] = RESIDUALS | VARIANTS["qwen3"] | {"num_layers": 3}
variants = pytest.mark.parametrize("name", VARIANTS)


def make_variant(name: str) -> ModelConfig:
    return ModelConfig(**SHAPE | {"no_weight_tying": True} | VARIANTS[name])


def make_tokens(length: int = 40) -> torch.Tensor:
    return torch.randint(0, VOCAB_SIZE, (2, length), generator=torch.Generator().manual_seed(3))


def change_factors(gpt: GPT) -> GPT:
    """Change the learned factors, whose initial values turn token_smear and embedding_skip off."""
    with torch.no_grad():
        for name, parameter in gpt.named_parameters():
            if name.endswith(("smear", "embedding_skip", "value_residual")):
                parameter.add_(torch.linspace(-0.4, 0.7, len(parameter)))
    return gpt


def compute_logits_and_gradients(name: str, grid: ParallelGrid) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Return this rank's part of the logits and the gradients of its parameters, for the initial weights."""
    gpt = change_factors(GPT(build_layers(make_variant(name), VOCAB_SIZE, PADDED, grid, torch.float32)))
    logits = gpt(make_tokens())
    (logits.square().sum() / 20_000).backward()
    return logits.detach(), {name: parameter.grad for name, parameter in gpt.named_parameters()}


Values = tuple[torch.Tensor, dict[str, torch.Tensor]]
"""Logits or a loss, and gradients by the names of the parameters."""

SEQUENCE_PARALLEL = (
    "rotary",
    "learned with rmsnorm",
    "parallel residual without biases",
    "alibi",
    "llama",
    "qwen3",
    "all residuals",
)
TRAINING = {"reset_position_ids": True, "reset_attention_mask": True}
DROPOUT = {"hidden_dropout": 0.2, "attention_dropout": 0.1}


def compute_loss_and_gradients(name: str, grid: ParallelGrid, **keys: float) -> Values:
    """Return the loss with separated documents and this rank's gradients; the head is tied where positions are learned."""
    model = make_variant(name)
    model = dataclasses.replace(model, no_weight_tying=model.pos_emb != "learned", **TRAINING, **keys)
    form = ModelForm(has_loss=True, eod_id=5)
    gpt = change_factors(GPT(build_layers(model, VOCAB_SIZE, PADDED, grid, torch.float32, form=form)))
    tokens = make_tokens().index_fill(1, torch.tensor([0, 11, 30]), 5)
    torch.manual_seed(9)
    loss = WeightedLoss(make_vocab_shard(VOCAB_SIZE, PADDED, grid), 0.1)(
        gpt(tokens), (tokens.roll(-1, 1), torch.rand(tokens.shape))
    )
    loss.backward()
    return loss.detach(), {name: parameter.grad for name, parameter in gpt.named_parameters()}


def compute_on_tensor_rank() -> tuple[dict[str, Values], dict[str, Values], list[Values]]:
    """Return the values of all variants, those of training with parts of sequences, and one with dropout without and with parts."""
    with startup(ParallelismConfig(model_parallel_size=2)) as grid:
        layers = DividedLayers(2, grid.tensor_group, grid.tensor_group)
        in_parts = dataclasses.replace(grid, layers=layers, sequence_group=grid.tensor_group)
        return (
            {name: compute_logits_and_gradients(name, grid) for name in VARIANTS},
            {name: compute_loss_and_gradients(name, in_parts) for name in SEQUENCE_PARALLEL},
            [compute_loss_and_gradients("rotary", layout, **DROPOUT) for layout in (grid, in_parts)],
        )


@functools.cache
def run_two_tensor_ranks() -> list[tuple[dict[str, Values], dict[str, Values], list[Values]]]:
    return run_ranks(2, compute_on_tensor_rank)


@variants
def test_two_tensor_ranks_compute_the_values_of_one_process(name):
    logits, gradients = compute_logits_and_gradients(name, single_process_grid())
    ranks = [rank[0][name] for rank in run_two_tensor_ranks()]
    torch.testing.assert_close(torch.cat([part for part, _ in ranks], -1), logits, atol=1e-5, rtol=0)
    assert_equal_gradients(name, [part for _, part in ranks], gradients)


@pytest.mark.parametrize("name", SEQUENCE_PARALLEL)
def test_parts_of_sequences_on_two_ranks_have_the_loss_and_gradients_of_one_process(name):
    expected, gradients = compute_loss_and_gradients(name, single_process_grid())
    ranks = [rank[1][name] for rank in run_two_tensor_ranks()]
    for loss, _ in ranks:
        torch.testing.assert_close(loss, expected, atol=0, rtol=1e-6)
    assert_equal_gradients(name, [part for _, part in ranks], gradients, 1e-5)


def test_tensor_ranks_with_whole_sequences_and_with_parts_have_the_dropout_masks_of_one_process():
    expected, gradients = compute_loss_and_gradients("rotary", single_process_grid(), **DROPOUT)
    for layout in (0, 1):
        ranks = [rank[2][layout] for rank in run_two_tensor_ranks()]
        for loss, _ in ranks:
            torch.testing.assert_close(loss, expected, atol=0, rtol=1e-6)
        assert_equal_gradients("rotary", [part for _, part in ranks], gradients, 1e-5)
    assert (expected - compute_loss_and_gradients("rotary", single_process_grid())[0]).abs() > 0.01


def order_by_rank(weight: torch.Tensor, parts: Sequence[int], tensor_size: int) -> torch.Tensor:
    """Reorder the rows [part 0 | part 1 | ...] to [rank 0's share of each part | rank 1's share of each part | ...]."""
    shares = [part.chunk(tensor_size) for part in weight.split(list(parts))]
    return torch.cat([share for rank in zip(*shares, strict=True) for share in rank])


def assert_equal_gradients(
    name: str, ranks: list[dict[str, torch.Tensor]], gradients: dict[str, torch.Tensor], tolerance: float = 1e-7
) -> None:
    """Assert that the gradients of all tensor ranks together equal those of one process."""
    for key, expected in gradients.items():
        parts = [part[key] for part in ranks]
        if rows := count_stacked_rows(key, make_variant(name)):
            expected = order_by_rank(expected, rows, 2)
        dim = get_sharding(key).dim
        whole = parts[1] if dim is None else torch.cat(parts, dim)
        torch.testing.assert_close(whole, expected, atol=tolerance, rtol=1e-4)


def compare_with_peer(build_gpt, as_llama, keys):
    """Assert equal logits of the variant `llama` with these keys and of transformers; return both models with their gradients."""
    model = ModelConfig(**SHAPE | {"no_weight_tying": True} | VARIANTS["llama"] | keys)
    gpt = build_gpt(model)
    peer = as_llama(gpt, model)
    ours, theirs = gpt(make_tokens()), peer(make_tokens()).logits
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)
    ours.square().mean().backward()
    theirs.square().mean().backward()
    return gpt, peer


@pytest.mark.parametrize("biases", [False, True])
@pytest.mark.parametrize("num_kv_heads", [None, 1, 2])
def test_logits_and_gradients_equal_those_of_transformers_llama(build_gpt, as_llama, num_kv_heads, biases):
    keys = {"num_kv_heads": num_kv_heads, "use_bias_in_attn_linear": biases, "use_bias_in_mlp": biases}
    gpt, peer = compare_with_peer(build_gpt, as_llama, keys)
    gradient = gpt.get_parameter("sequential.2.mlp.dense_h_to_4h.weight").grad
    up, gate = peer.model.layers[0].mlp.up_proj.weight.grad, peer.model.layers[0].mlp.gate_proj.weight.grad
    torch.testing.assert_close(gradient, torch.cat([up, gate]), atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("num_kv_heads", [None, 1, 2])
@pytest.mark.parametrize("kv_channels", [None, 8, 24])
@pytest.mark.parametrize("qk_norm", [False, True])
def test_heads_of_any_width_and_their_norms_equal_those_of_transformers(build_gpt, as_llama, num_kv_heads, kv_channels, qk_norm):
    keys = {"num_kv_heads": num_kv_heads, "kv_channels": kv_channels, "qk_norm": qk_norm, "rms_norm_epsilon": 1e-6}
    gpt, peer = compare_with_peer(build_gpt, as_llama, keys)
    pairs = {"attention.dense": "o_proj"} | ({"attention.q_norm": "q_norm", "attention.k_norm": "k_norm"} if qk_norm else {})
    for name, peer_name in pairs.items():
        (gradient,) = (parameter.grad for parameter in gpt.get_submodule(f"sequential.2.{name}").parameters())
        expected = peer.model.layers[0].self_attn.get_submodule(peer_name).weight.grad
        torch.testing.assert_close(gradient, expected, atol=1e-7, rtol=1e-4)


@pytest.mark.parametrize("num_kv_heads", [None, 2])
def test_bf16_logits_of_qwen3_are_as_near_to_fp32_as_those_of_transformers(build_gpt, as_llama, num_kv_heads):
    model = ModelConfig(**SHAPE | {"no_weight_tying": True} | VARIANTS["qwen3"] | {"num_kv_heads": num_kv_heads})
    gpt = build_gpt(model)
    with torch.no_grad():
        peer = as_llama(gpt.bfloat16().float(), model)
        exact = peer(make_tokens()).logits
        ours, theirs = (module.bfloat16()(make_tokens()) for module in (gpt, peer))
    assert (ours - exact).norm() < 1.1 * (theirs.logits - exact).norm()
    assert (ours - exact).norm() < 0.02 * exact.norm()


@pytest.mark.parametrize(("hidden_size", "heads"), [(64, 4), (96, 6), (64, 1)])
def test_logits_of_a_model_with_alibi_equal_those_of_transformers_bloom(build_gpt, as_bloom, hidden_size, heads):
    keys = {"hidden_size": hidden_size, "num_attention_heads": heads, "pos_emb": "alibi", "bias_gelu_fusion": True}
    model = ModelConfig(**SHAPE | keys)
    gpt = build_gpt(model)
    with torch.no_grad():
        torch.testing.assert_close(gpt(make_tokens()), as_bloom(gpt, model)(make_tokens()).logits, atol=1e-5, rtol=0)


@variants
def test_the_parameter_count_is_that_of_the_built_model(name):
    built = GPT(build_layers(make_variant(name), VOCAB_SIZE, PADDED, single_process_grid(), torch.float32))
    assert count_parameters(make_variant(name), PADDED) == sum(parameter.numel() for parameter in built.parameters())


@variants
def test_reading_with_caches_equals_reading_at_once(build_gpt, name):
    """Two rows of different lengths in one pass: in pieces, token by token, and one row beside the other's long piece."""
    model = make_variant(name)
    gpt = build_gpt(model)
    text = make_tokens()
    caches = [RowCache(model, torch.float32, capacity=8) for _ in text]
    counts = [(20, 13), *[(1, 1)] * 7, (10, 1), (3, 19)]
    found: list[list[torch.Tensor]] = [[], []]
    with torch.no_grad():
        for pair in counts:
            pieces = [row[cache.length : cache.length + count] for row, cache, count in zip(text, caches, pair, strict=True)]
            logits_1SV = gpt(torch.cat(pieces)[None], CacheView(caches, pair))
            for row, part in enumerate(logits_1SV[0].split(pair)):
                found[row].append(part)
        torch.testing.assert_close(torch.stack([torch.cat(parts) for parts in found]), gpt(text), atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ["token before", "all residuals", "all residuals with qwen3"])
def test_a_token_changes_the_logits_of_its_position_and_later_ones_only(build_gpt, name):
    gpt, text = build_gpt(make_variant(name)), make_tokens()
    changed = text.clone()
    changed[:, 17:] = text[:, 17:].flip(1)
    with torch.no_grad():
        difference = (gpt(text) - gpt(changed)).abs()
    assert difference[:, :17].max() == 0 < difference[:, 17:19].amax(-1).min()


def test_the_token_before_is_added_by_the_plain_formula(build_gpt):
    gpt, text = build_gpt(make_variant("token before")), make_tokens()
    embedding = gpt.sequential["0"]
    vectors, positions = embedding.word_embeddings.weight[text], embedding.position_embeddings.weight[: text.shape[1]]
    expected = vectors + torch.cat([torch.zeros(2, 1, 64), vectors[:, :-1]], 1) * embedding.smear + positions
    torch.testing.assert_close(embedding(text), expected, atol=1e-6, rtol=0)


@variants
def test_a_copy_of_a_cache_continues_independently(build_gpt, name):
    model = make_variant(name)
    gpt = build_gpt(model)
    first, second = make_tokens()
    original = RowCache(model, torch.float32)
    with torch.no_grad():
        gpt(first[None, :30], CacheView([original], [30]))
        copy = original.copy(20)
        gpt(second[None, 20:30], CacheView([copy], [10]))
        original.truncate(25)
        continued = gpt(first[None, 25:], CacheView([original], [15]))[0]
        torch.testing.assert_close(continued, gpt(first[None])[0, 25:], atol=1e-5, rtol=0)
        mixed = torch.cat([first[:20], second[20:]])
        torch.testing.assert_close(gpt(mixed[None, 30:], CacheView([copy], [10])), gpt(mixed[None])[:, 30:], atol=1e-5, rtol=0)


@variants
def test_attention_with_torchs_own_kernel_equals_attention_in_blocks(build_gpt, name, monkeypatch):
    gpt = build_gpt(make_variant(name))
    with torch.no_grad():
        in_blocks = gpt(make_tokens())
        monkeypatch.setattr("neox_code.model.attention.is_better_in_blocks", lambda query: False)
        torch.testing.assert_close(gpt(make_tokens()), in_blocks, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ["grouped", "alibi", "alibi of six heads in groups"])
def test_attention_with_a_tiny_dropout_equals_attention_without_dropout(build_gpt, name):
    gpt = build_gpt(make_variant(name))
    trained = build_gpt(dataclasses.replace(make_variant(name), attention_dropout=1e-9)).train()
    torch.testing.assert_close(trained(make_tokens()), gpt(make_tokens()), atol=1e-5, rtol=0)
