"""Our adapters beside PEFT's on the exported base: logits, losses of training, files in both directions, merged weights."""

import json

import pytest
import torch
from random_base import write_random_base
from transformers import AutoModelForCausalLM

from neox_code.adapters.attach import get_linear, prepare_adapters
from neox_code.adapters.files import make_peft_config, make_sample, read_adapter, write_adapter
from neox_code.adapters.low_rank import Selection
from neox_code.checkpoint.weights import load_weights, read_weights
from neox_code.config.neox import NeoXConfig
from neox_code.conversion.convert import convert
from neox_code.conversion.options import ConversionOptions
from neox_code.model.form import ModelForm
from neox_code.model.gpt import GPT, build_layers
from neox_code.model.loss import WeightedLoss, make_vocab_shard
from neox_code.parallel.grid import single_process_grid
from neox_code.training.engine import PlainModel
from neox_code.training.optimizer import build_optimizer

peft = pytest.importorskip("peft", reason="the peer of these tests: pip install -e '.[peft]'")
pytestmark = [pytest.mark.filterwarnings("ignore::FutureWarning"), pytest.mark.filterwarnings("ignore::UserWarning:peft")]
GRID = single_process_grid()
ROWS = 640
LLAMA = {"norm": "rmsnorm", "activation": "swiglu", "use_bias_in_attn_linear": False, "use_bias_in_mlp": False}
CASES = {
    "neox lora": ({}, {}),
    "neox rslora, tied, rows": ({"no_weight_tying": False}, {"use_rslora": True, "trained_token_rows": [9, 3]}),
    "llama dora, rows": ({**LLAMA, "num_kv_heads": 2}, {"use_dora": True, "trained_token_rows": [3, 600]}),
    "llama some parts, lora+": (LLAMA, {"lora_target_modules": ["q_proj", "v_proj", "up_proj"], "loraplus_lr_ratio": 8.0}),
    "qwen3 dora": (
        {**LLAMA, "qk_norm": True},
        {"use_dora": True, "frozen_layers": [0], "lora_target_modules": ["k_proj", "up_proj"]},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_training_and_files_equal_those_of_peft(job, tmp_path, case):
    shape, method = CASES[case]
    base = write_random_base(NeoXConfig.load([job(**shape)]), tmp_path / "base", ROWS)
    config = NeoXConfig.load([job(**shape, load=str(base), save=str(tmp_path / "save"), lora_rank=4, lora_alpha=8, **method)])
    vocabulary = {"vocab_file": config.data.vocab_file, "merge_file": config.data.merge_file}
    convert(base, tmp_path / "hf", "huggingface", ConversionOptions(), overrides=vocabulary)
    layers = build_layers(config.model, ROWS, ROWS, GRID, torch.float32, form=ModelForm(has_loss=True))
    ours = PlainModel(layers, WeightedLoss(make_vocab_shard(ROWS, ROWS, GRID)), recompute=False)
    prepare_adapters(ours, config, ROWS, GRID)

    def list_trained():
        return {name: parameter for name, parameter in ours.named_parameters() if parameter.requires_grad}

    sample = make_sample(read_weights(base, config.model))
    described = make_peft_config(config, ROWS)
    write_adapter(tmp_path / "begin", described, config.model, list_trained(), sample)
    peer = AutoModelForCausalLM.from_pretrained(tmp_path / "hf", dtype=torch.float32)
    peer = peft.PeftModel.from_pretrained(peer, tmp_path / "begin", is_trainable=True)
    assert sum(parameter.numel() for parameter in peer.parameters() if parameter.requires_grad) == sum(
        parameter.numel() for parameter in list_trained().values()
    )
    optimizer = build_optimizer(config.optimizer, ours.named_parameters(), config.model, single_process_grid())
    for group in optimizer.param_groups:
        group |= {"weight_decay": 0.0, "lr": 3e-3 * group["lr_ratio"]}
    fast = [parameter for name, parameter in peer.named_parameters() if parameter.requires_grad and "lora_B" in name]
    slow = [parameter for name, parameter in peer.named_parameters() if parameter.requires_grad and "lora_B" not in name]
    groups = [{"params": slow, "lr": 3e-3}, {"params": fast, "lr": 3e-3 * config.adapter.loraplus_lr_ratio}]
    peer_optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.95), weight_decay=0.0)
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(0, ROWS, (2, 33), generator=generator)
    tokens[:, 5::7] = 3  # a token whose row is trained
    losses = []
    for _ in range(20):
        labels = tokens[:, 1:].contiguous(), torch.full((2, 32), 1 / 64)
        loss = ours((tokens[:, :-1].contiguous(), labels))
        loss.backward()
        other = torch.nn.functional.cross_entropy(peer(input_ids=tokens[:, :-1]).logits.flatten(0, 1), tokens[:, 1:].flatten())
        other.backward()
        for each in (optimizer, peer_optimizer):
            each.step()
            each.zero_grad()
        losses.append((loss.item(), other.item()))
    assert losses[-1][0] < losses[0][0] - 0.2
    for loss, other in losses:
        assert loss == pytest.approx(other, abs=1e-4)

    write_adapter(tmp_path / "adapter", described, config.model, list_trained(), sample)
    inputs = torch.randint(0, ROWS, (1, 24), generator=generator)
    loaded = peft.PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(tmp_path / "hf", dtype=torch.float32), tmp_path / "adapter"
    ).eval()
    peer.save_pretrained(tmp_path / "theirs")
    with torch.no_grad():
        expected = loaded(inputs).logits
        for folder, wanted in ((tmp_path / "adapter", expected), (tmp_path / "theirs", peer.eval()(inputs).logits)):
            adapter = read_adapter(folder, config.model)
            gpt = GPT(build_layers(config.model, ROWS, ROWS, GRID, torch.float32)).eval()
            load_weights(gpt, base, config.model, ROWS)
            plain = gpt(inputs)
            if not config.adapter.trains_rows:  # applied beside the base, and not applied
                selection = Selection("x")
                for name, change in adapter.changes.items():
                    change.fix(get_linear(gpt.sequential, name))
                    change.attach(get_linear(gpt.sequential, name), "x", selection)
                torch.testing.assert_close(gpt(inputs), wanted, atol=1e-5 * wanted.abs().max().item(), rtol=0)
                selection.name = None
                assert torch.equal(gpt(inputs), plain)
            for name, parameter in gpt.named_parameters():
                parameter.copy_(adapter.merge(name, parameter))
            torch.testing.assert_close(gpt(inputs), wanted, atol=1e-5 * wanted.abs().max().item(), rtol=0)
        assert not torch.allclose(plain, expected, atol=1e-2)
    assert json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())["base_model_name_or_path"] == str(base)
