"""A configuration that contradicts the weights is refused with both values, before memory is taken for it."""

from dataclasses import replace

import pytest
import torch
from foreign_checkpoint import FORMS, STEP, build_peer, write_foreign_checkpoint
from safetensors.torch import load_file
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

from neox_code.checkpoint.layer_writer import write_layer_files
from neox_code.checkpoint.layout import get_layer_path
from neox_code.checkpoint.record import read_stored_config
from neox_code.checkpoint.resume import check_model
from neox_code.checkpoint.weights import load_weights, read_weights
from neox_code.config.model import ModelConfig
from neox_code.config.neox import NeoXConfig
from neox_code.errors import CheckpointError
from neox_code.model.gpt import GPT, build_layers
from neox_code.parallel.grid import single_process_grid

KEYS = {"num_layers": 2, "hidden_size": 64, "num_attention_heads": 4, "max_position_embeddings": 64}
KEYS |= {"pos_emb": "rotary", "no_weight_tying": True}
MODEL = ModelConfig(**KEYS)
ROWS = 640


def build_gpt(model: ModelConfig, rows: int = ROWS) -> GPT:
    return GPT(build_layers(model, rows, rows, single_process_grid(), torch.float32))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        ({"rotary_pct": 0.5}, r"has 8 values, the last 0\.000316\d in .*inv_freq, and .* gives 4 values.*: rotary_pct 0\.5, "),
        ({"rotary_emb_base": 5000}, r"has 8 values, the last 0\.000316\d .* the last 0\.00058: .* rotary_emb_base 5000"),
        ({"pos_emb": "none"}, r"inv_freq, which contradicts pos_emb \(none\)"),
        ({"use_bias_in_attn_linear": False}, r"has attention\.dense\.bias, which contradicts use_bias_in_attn_linear \(False\)"),
        ({"use_bias_in_mlp": False}, r"has mlp\.dense_4h_to_h\.bias, which contradicts use_bias_in_mlp \(False\)"),
        ({"norm": "rmsnorm"}, r"has input_layernorm\.weight, which contradicts norm \(rmsnorm\)"),
        ({"no_weight_tying": False}, r"has final_linear\.weight, which contradicts no_weight_tying \(False\)"),
        ({"token_smear": True}, r"has no smear, which contradicts token_smear \(True\)"),
        ({"qk_norm": True}, r"has no attention\.k_norm\.scale, which contradicts qk_norm \(True\)"),
        ({"num_layers": 3}, r"has 2 blocks, and num_layers is 3"),
        ({"num_layers": 10**9}, r"has 2 blocks, and num_layers is 1000000000"),
        ({"num_attention_heads": 8, "rotary_pct": 0.5}, r"gives 2 values|with num_attention_heads 4, and the configuration has 8"),
        ({"num_attention_heads": 2, "rotary_pct": 0.5}, r"written with num_attention_heads 4, and the configuration has 2"),
        ({"hidden_size": 1_000_000}, r"and the configured model needs 24,|gives .* values"),
        ({"hidden_size": 10**12, "kv_channels": 16}, r"is too large for any machine"),
    ],
    ids=str,
)
def test_a_key_that_contradicts_the_files_of_gpt_neox_is_named(tmp_path, form, keys, sentence):
    write_foreign_checkpoint(tmp_path, build_peer(KEYS, ROWS), KEYS, "v1", form)
    assert len(read_weights(tmp_path / STEP, MODEL)) == 28
    with pytest.raises(CheckpointError, match=sentence):
        read_weights(tmp_path / STEP, replace(MODEL, **keys))


@pytest.mark.parametrize("keys", [{"gpt_j_residual": True}, {"layernorm_epsilon": 1e-3}, {"bias_gelu_fusion": True}], ids=str)
def test_the_configuration_of_gpt_neox_beside_latest_is_compared(tmp_path, keys):
    """The files themselves do not show these keys."""
    write_foreign_checkpoint(tmp_path, build_peer(KEYS, ROWS), KEYS, "v1", "layers")
    stored = read_stored_config(tmp_path / STEP, None)
    check_model(tmp_path / STEP, stored, NeoXConfig.load([tmp_path / "configs" / "model.yml"]))
    changed = NeoXConfig.load([tmp_path / "configs" / "model.yml"], keys)
    with pytest.raises(CheckpointError, match=rf"Use its configuration \({tmp_path}/configs\)(.|\n)*{next(iter(keys))} \("):
        check_model(tmp_path / STEP, stored, changed)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_rounded_frequencies_belong(tmp_path, dtype):
    keys = {**KEYS, "hidden_size": 320}
    write_foreign_checkpoint(tmp_path, build_peer(keys, ROWS, dtype), keys, "v1", "layers")
    assert read_weights(tmp_path / STEP, ModelConfig(**keys))


def test_slopes_of_alibi_are_compared_on_each_tensor_rank(tmp_path):
    model = replace(MODEL, pos_emb="alibi")
    write_layer_files(tmp_path, build_gpt(model).state_dict().items(), model, ROWS, tensor_size=2)
    assert read_weights(tmp_path, model)
    with pytest.raises(CheckpointError, match=r"has 2 values, the last 0\.0625 in .*slopes, .* gives 4 values, .*heads 8"):
        read_weights(tmp_path, replace(model, num_attention_heads=8))
    path = get_layer_path(tmp_path, 3, 1)
    state = torch.load(path, weights_only=True)
    torch.save({**state, "attention.alibi_embed.slopes": torch.tensor([0.5, 0.25])}, path)
    with pytest.raises(CheckpointError, match=r"layer 03 of .* has 2 values, the last 0\.25 in attention\.alibi_embed\.slopes"):
        read_weights(tmp_path, model)


def test_frequencies_in_files_of_earlier_transformers_are_compared(tmp_path):
    shape = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 256, "vocab_size": ROWS}
    peer = GPTNeoXForCausalLM(GPTNeoXConfig(**shape, max_position_embeddings=64, rotary_pct=1.0))
    peer.save_pretrained(tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    (tmp_path / "model.safetensors").unlink()
    frequencies = 1 / 10000 ** (torch.arange(0, 16, 2) / 16)
    for base in (1.0, 1.1):
        name = "gpt_neox.layers.0.attention.rotary_emb.inv_freq"
        torch.save({**state, name: frequencies * base}, tmp_path / "pytorch_model.bin")
        if base == 1.0:
            assert read_weights(tmp_path, MODEL)
        else:
            with pytest.raises(CheckpointError, match=r"pytorch_model\.bin has 8 values.* in gpt_neox\.layers\.0\..*inv_freq"):
                read_weights(tmp_path, MODEL)


def test_a_missing_layer_and_a_missing_parameter_are_named(tmp_path):
    write_foreign_checkpoint(tmp_path, build_peer(KEYS, ROWS), KEYS, "legacy", "layers")
    path = get_layer_path(tmp_path / STEP, 3, 0)
    state = torch.load(path, weights_only=True)
    torch.save({name: value for name, value in state.items() if name != "mlp.dense_4h_to_h.weight"}, path)
    with pytest.raises(CheckpointError, match=r"holds no sequential\.3\.mlp\.dense_4h_to_h\.weight"):
        read_weights(tmp_path / STEP, MODEL)
    path.unlink()
    with pytest.raises(CheckpointError, match=r"has 1 blocks, and num_layers is 2"):
        read_weights(tmp_path / STEP, MODEL)


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        (torch.zeros(1).expand(2**40), r"shape \(1099511627776,\) in .* and \(64,\)|that is not a dense tensor"),
        (torch.zeros(1).expand(64), "that is not a dense tensor"),
        (torch.zeros(65), r"norm\.bias has shape \(65,\)"),
        (torch.zeros(64, dtype=torch.int64), r"norm\.bias has values of type torch\.int64"),
        (torch.zeros(64, dtype=torch.complex64), r"norm\.bias has values of type torch\.complex64"),
        (torch.zeros(64).to(torch.float8_e4m3fn), r"norm\.bias has values of type torch\.float8_e4m3fn"),
        (torch.full((64,), float("nan")), r"norm\.bias has values that are not finite"),
        (torch.full((64,), float("-inf")), r"norm\.bias has values that are not finite"),
    ],
    ids=lambda value: "",
)  # fmt: skip
def test_a_value_that_is_no_parameter_is_named_before_it_takes_memory(tmp_path, value, sentence):
    write_foreign_checkpoint(tmp_path, build_peer(KEYS, ROWS), KEYS, "legacy", "layers")
    path = get_layer_path(tmp_path / STEP, 5, 0)
    torch.save({**torch.load(path, weights_only=True), "norm.bias": value}, path)
    with pytest.raises(CheckpointError, match=sentence):
        dict(read_weights(tmp_path / STEP, MODEL))


def test_a_vocabulary_that_padding_does_not_explain_is_reported(tmp_path, capfd):
    write_foreign_checkpoint(tmp_path, build_peer(KEYS, ROWS), KEYS, "legacy", "layers")
    gpt = build_gpt(MODEL)
    for entries, is_reported in ((640, False), (513, False), (512, True)):
        load_weights(gpt, tmp_path / STEP, MODEL, entries)
        line = f"has 640 vocabulary rows, but {entries} entries with their padding make 512"
        assert (line in capfd.readouterr().err) == is_reported
    with pytest.raises(CheckpointError, match="640 rows, but the vocabulary has 641 entries"):
        load_weights(build_gpt(MODEL, 768), tmp_path / STEP, MODEL, 641)
