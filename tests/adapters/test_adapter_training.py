"""Training with adapters: every layout gives the same losses, a run resumes in any layout, and bad settings are refused."""

import pytest
import torch
from distributed_runs import losses_of
from random_base import write_random_base
from safetensors.torch import load_file

from neox_code.adapters.attach import prepare_adapters
from neox_code.adapters.quantized_base import QuantizedBase
from neox_code.checkpoint.layout import make_step_name
from neox_code.config.neox import NeoXConfig
from neox_code.errors import NeoXError
from neox_code.model.form import ModelForm
from neox_code.model.gpt import GPT, build_layers
from neox_code.parallel.grid import single_process_grid
from neox_code.parallel.plain_layers import PlainLinear

GRID = single_process_grid()
LLAMA = {"norm": "rmsnorm", "activation": "swiglu", "use_bias_in_attn_linear": False, "use_bias_in_mlp": False}
CASES = {
    "llama dora": (
        {**LLAMA, "num_kv_heads": 2, "mlp_multiple_of": 8},
        {"use_dora": True, "lora_target_modules": ["q_proj", "v_proj", "o_proj", "gate_proj", "down_proj"]},
    ),
    "neox in 8 bits with rows, tied": ({"no_weight_tying": False}, {"base_bits": 8, "trained_token_rows": [7, 400]}),
}


@pytest.mark.parametrize("case", CASES)
def test_every_layout_gives_the_same_losses_and_resumes_those_of_another(job, tmp_path, case):
    shape, method = CASES[case]
    base = write_random_base(NeoXConfig.load([job(**shape)]), tmp_path / "base", 640)
    keys = {**shape, **method, "load": str(base), "finetune": True, "lora_rank": 4, "eval_iters": 0}
    save = tmp_path / "parts"
    losses_of(1, job(**keys), save, exit_interval=3)
    found = losses_of(2, job(**keys, model_parallel_size=2), save)
    expected = losses_of(2, job(**keys, checkpoint_activations=True), tmp_path / "data")
    assert found == pytest.approx(expected, abs=5e-6)
    assert not list((save / make_step_name(6)).glob("layer*"))
    one, other = (load_file(folder / "adapter" / "adapter_model.safetensors") for folder in (save, tmp_path / "data"))
    for name, tensor in one.items():
        assert tensor.abs().max() > 1e-3
        torch.testing.assert_close(other[name], tensor, atol=1e-4, rtol=0)


def make_gpt(job, tmp_path, **keys):
    """A model prepared for training on a random base."""
    config = NeoXConfig.load([job(**keys, load=str(tmp_path / "base"), save=str(tmp_path / "save"))])
    if not (tmp_path / "base").exists():
        write_random_base(config, tmp_path / "base", 640)
    gpt = GPT(build_layers(config.model, 640, 640, GRID, torch.float32, form=ModelForm()))
    prepare_adapters(gpt, config, 640, GRID)
    return gpt


def test_a_base_in_8_bits_has_the_gradient_of_the_rounded_weights(job, tmp_path):
    linear = make_gpt(job, tmp_path, lora_rank=2, base_bits=8).sequential["2"].attention.query_key_value
    assert isinstance(linear, QuantizedBase)
    assert linear.weight.dtype == torch.int8
    plain = PlainLinear(64, 192, torch.float32, None)
    plain.weight.data, plain.bias.data = linear.dequantize(), linear.bias.data
    whole = make_gpt(job, tmp_path, lora_rank=2).sequential["2"].attention.query_key_value
    assert (plain.weight - whole.weight).abs().max() <= whole.weight.abs().max() / 250
    inputs = [torch.randn(3, 64, generator=torch.Generator().manual_seed(0)).requires_grad_() for _ in range(2)]
    outputs = [layer(input_) for layer, input_ in zip((linear, plain), inputs, strict=True)]
    for output in outputs:
        output.square().sum().backward()
    torch.testing.assert_close(outputs[0], outputs[1])
    torch.testing.assert_close(inputs[0].grad, inputs[1].grad)


def test_only_the_chosen_parameters_are_trained(job, tmp_path):
    frozen = make_gpt(job, tmp_path, frozen_layers=[1], frozen_modules=["word_embeddings", "final_linear"])
    trained = {name for name, parameter in frozen.named_parameters() if parameter.requires_grad}
    assert {name.split(".")[1] for name in trained} == {"2", "5"}
    rows = make_gpt(job, tmp_path, first_trained_token_row=638)
    assert [tuple(parameter.shape) for parameter in rows.parameters() if parameter.requires_grad] == [(2, 64)] * 2
    before = rows.sequential["0"].word_embeddings.weight.detach().clone()
    optimizer = torch.optim.AdamW(
        [parameter for parameter in rows.parameters() if parameter.requires_grad], lr=0.1, weight_decay=0.5
    )
    rows(torch.tensor([[1, 638, 2, 639]])).square().mean().backward()
    optimizer.step()
    after = rows.sequential["0"].word_embeddings.weight.detach()
    assert torch.equal(after[:638], before[:638])
    assert (after[638:] != before[638:]).all()


def test_dropout_changes_what_the_adapter_reads_in_training_alone(job, tmp_path):
    tokens = torch.arange(40)[None]
    gpt = make_gpt(job, tmp_path, lora_rank=4, lora_dropout=0.5)
    plain = gpt.eval()(tokens)
    assert torch.equal(gpt.train()(tokens), plain)  # B is 0
    with torch.no_grad():
        for name, parameter in gpt.named_parameters():
            if "lora_B" in name:
                parameter.fill_(0.05)
    adapted = gpt.eval()(tokens)
    assert not torch.allclose(adapted, plain, atol=1e-3)
    assert not torch.allclose(gpt.train()(tokens), adapted, atol=1e-3)
    assert torch.equal(gpt.eval()(tokens), adapted)


def test_noise_is_added_to_the_embedding_in_training_alone(job, tmp_path):
    embedding = make_gpt(job, tmp_path, neftune_noise_alpha=5.0).sequential["0"].word_embeddings
    ids = torch.arange(600).view(2, 300)
    noise = embedding.train()(ids) - embedding.eval()(ids)
    most = 5.0 / (300 * 64) ** 0.5
    assert noise.abs().max() <= most * 1.0001
    assert noise.std().item() == pytest.approx(most / 3**0.5, rel=0.02)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"lora_rank": 4, "lora_target_modules": ["q_proj"]}, r"no linear layer .* Choose among dense, dense_4h_to_h"),
        ({"lora_rank": 4, "pipe_parallel_size": 2}, r"lora_rank .* cannot be trained with pipe_parallel_size"),
        ({"frozen_layers": [0], "pipe_parallel_size": 2}, r"frozen_layers .* cannot be trained with pipe_parallel_size"),
        ({"base_bits": 8}, r"base_bits .* needs frozen weights. Set lora_rank"),
        ({"lora_rank": 4, "base_bits": 4}, r"base_bits is 4, which needs a GPU"),
        ({"frozen_layers": [2]}, r"the blocks are 0 to 1"),
        ({"frozen_modules": ["lm_head"]}, r"'lm_head', which is in no parameter's name"),
        ({"trained_token_rows": [640]}, r"trained_token_rows .* ids are 0 to 639"),
        ({"lora_dropout": 1.5}, r"lora_dropout .* must be at least 0 and below 1"),
    ],
)
def test_settings_that_cannot_be_trained_are_refused(job, tmp_path, keys, message):
    with pytest.raises(NeoXError, match=message):
        make_gpt(job, tmp_path, **keys)
