"""Files as GPT-NeoX's users have them, in its spellings of 2021 and of today, load unmodified, alone and combined.

The values are facts about its model files; the files are written here.
"""

import itertools
import json

import pytest

from neox_code.config.fields import FIELDS
from neox_code.config.neox import NeoXConfig
from neox_code.errors import ConfigError

# name: layers, hidden, heads, lr, min_lr, micro batch, accumulation, steps, parallel residual, rotary share, attention, ZeRO stage
SIZES = {
    "19M": (6, 512, 8, 1e-3, 1e-4, 4, 1, 143_000, False, 1, None, 1),
    "49M": (10, 640, 10, 8e-4, 8e-5, 32, 1, 143_000, True, 0.25, None, 1),
    "125M": (12, 768, 12, 6e-4, 6e-5, 4, None, 320_000, False, 1, None, 1),
    "350M": (24, 1024, 16, 3e-4, 3e-5, 4, None, 320_000, False, 1, None, 1),
    "760M": (24, 1536, 16, 2.5e-4, 2.5e-5, 4, None, 320_000, False, 1, None, 1),
    "800M": (16, 2048, 8, 2.5e-4, 2.5e-5, 16, 1, 143_000, False, 1, None, 1),
    "1-3B": (24, 2048, 16, 2e-4, 2e-5, 4, None, 320_000, False, 1, None, 1),
    "2-7B": (32, 2560, 32, 1.6e-4, 1.6e-5, 4, None, 320_000, False, 1, None, 1),
    "6-7B": (32, 4096, 32, 1.2e-4, 1.2e-5, 4, None, 320_000, False, 1, None, 1),
    "13B": (40, 5120, 40, 1e-4, 1e-5, 4, None, 320_000, False, 1, None, 1),
    "20B": (44, 6144, 64, 9.7e-5, 9.7e-6, 4, 32, 150_000, True, 0.25, None, 1),
    "175B": (96, 12288, 96, 6e-5, 6e-6, 4, None, 320_000, False, 1, None, 1),
    "pythia-14M": (6, 128, 4, 1e-3, 1e-4, 32, 1, 143_000, True, 0.25, "flash", 0),
    "pythia-160M": (12, 768, 12, 6e-4, 6e-5, 32, 1, 143_000, True, 0.25, "flash", 1),
    "pythia-1B": (16, 2048, 8, 2.5e-4, 2.5e-5, 4, 4, 143_000, True, 0.25, "global", 0),
    "pythia-12B": (36, 5120, 40, 1.2e-4, 1.2e-5, 8, 2, 143_000, True, 0.25, "flash", 1),
}

SIDES = {
    "local_setup": {
        "data_path": "data/enwik8_text_document",
        "vocab_file": "data/gpt2-vocab.json",
        "merge_file": "data/gpt2-merges.txt",
        "save": "checkpoints",
        "load": "checkpoints",
        "checkpoint_validation_with_forward_pass": False,
        "tensorboard_dir": "tensorboard",
        "log_dir": "logs",
    },
    "slurm_local": {
        "data_path": "data/enwik8_text_document",
        "vocab_file": "data/gpt2-vocab.json",
        "merge_file": "data/gpt2-merges.txt",
        "save": "checkpoints",
        "checkpoint_validation_with_forward_pass": False,
        "tensorboard_dir": "tensorboard",
        "log_dir": "logs",
    },
    "text_generation": {
        "text_gen_type": "unconditional",
        "maximum_tokens": 102,
        "prompt_end": "\n",
        "temperature": 1.0,
        "top_p": 0.0,
        "top_k": 0,
        "recompute": False,
        "num_samples": 10,
        "sample_input_file": "sample_input.txt",
        "sample_output_file": "sample_output.txt",
    },
    "cpu_mock_config": {"global_num_gpus": 1},
    "prof": {
        "profile": True,
        "profile_step_start": 10,
        "profile_step_stop": 12,
        "memory_profiling": True,
        "memory_profiling_path": "tensorboard",
        "tensorboard_dir": "tensorboard",
    },
}


def size_file(name: str) -> dict[str, object]:
    layers, hidden, heads, rate, floor, micro, accumulation, steps, parallel, rotary, attention, stage = SIZES[name]
    few = {
        "gradient_accumulation_steps": accumulation,
        "rotary_pct": rotary if rotary != 1 else None,
        "attention_config": [[[attention], layers]] if attention else None,
        "gas": accumulation if attention else None,
    }
    return {
        "pipe_parallel_size": 1,
        "model_parallel_size": 1,
        "num_layers": layers,
        "hidden_size": hidden,
        "num_attention_heads": heads,
        "seq_length": 2048,
        "max_position_embeddings": 2048,
        "norm": "layernorm",
        "pos_emb": "rotary",
        "no_weight_tying": True,
        "gpt_j_residual": parallel,
        "output_layer_parallelism": "column",
        "scaled_upper_triang_masked_softmax_fusion": False,
        "bias_gelu_fusion": False,
        "rope_fusion": False,
        "layernorm_fusion": False,
        "init_method": "small_init",
        "output_layer_init_method": "wang_init",
        "optimizer": {"type": "Adam", "params": {"lr": rate, "betas": [0.9, 0.95], "eps": 1e-8}},
        "min_lr": floor,
        "zero_optimization": {"stage": stage, "allgather_partitions": True, "overlap_comm": True, "contiguous_gradients": True},
        "train_micro_batch_size_per_gpu": micro,
        "data_impl": "mmap",
        "checkpoint_activations": True,
        "checkpoint_num_layers": 1,
        "partition_activations": True,
        "synchronize_each_layer": True,
        "gradient_clipping": 1.0,
        "weight_decay": 0.1,
        "hidden_dropout": 0,
        "attention_dropout": 0,
        "fp16": {"enabled": True, "loss_scale": 0, "loss_scale_window": 1000, "hysteresis": 2, "min_loss_scale": 1},
        "train_iters": steps,
        "lr_decay_iters": steps,
        "distributed_backend": "nccl",
        "lr_decay_style": "cosine",
        "warmup": 0.01,
        "checkpoint_factor": 1000,
        "eval_interval": 1000,
        "eval_iters": 10,
        "log_interval": 100,
        "steps_per_print": 10,
        "keep_last_n_checkpoints": 4,
        "wall_clock_breakdown": True,
        **{key: value for key, value in few.items() if value is not None},
    }


def spelled(keys: dict[str, object], year: int) -> dict[str, object]:
    """Files of 2021 have dashes at the top level, and another name for the distance of checkpoints."""
    if year > 2021:
        return keys
    return {("save_interval" if key == "checkpoint_factor" else key).replace("_", "-"): value for key, value in keys.items()}


@pytest.mark.parametrize("year", [2021, 2026])
@pytest.mark.parametrize("name", SIZES)
def test_a_model_file_loads_equally_alone_and_with_every_other_file(write, name, year):
    layers, hidden, heads, rate, floor, micro, accumulation, steps, parallel, rotary, _, stage = SIZES[name]
    suffix = "json" if year == 2021 else "yml"
    files = {
        part: write(f"{part}.{suffix}", json.dumps(spelled(keys, year), indent=4))
        for part, keys in {name: size_file(name), **SIDES}.items()
    }
    alone = NeoXConfig.load([files[name]])
    model, optimizer, training = alone.model, alone.optimizer, alone.training
    assert (model.num_layers, model.hidden_size, model.num_attention_heads) == (layers, hidden, heads)
    assert (model.gpt_j_residual, model.rotary_pct, model.precision) == (parallel, rotary, "fp16")
    assert (optimizer.lr, optimizer.min_lr, optimizer.betas, optimizer.zero_stage) == (rate, floor, (0.9, 0.95), stage)
    assert (training.train_iters, training.checkpoint_factor) == (steps, 1000)
    assert alone.batch_sizes(8).train_batch_size == micro * (accumulation or 1) * 8
    for count in range(1, len(SIDES) + 1):
        for sides in itertools.combinations(SIDES, count):
            keys = [key for side in sides for key in SIDES[side]]
            if len(set(keys)) == len(keys):
                together = NeoXConfig.load([files[name], *(files[side] for side in sides)])
                assert together.model == model
                assert all(together.values()[key] == value for side in sides for key, value in SIDES[side].items() if key in FIELDS)


@pytest.mark.parametrize(
    ("keys", "reason"),
    [
        ({"attention_config": [[["mamba"], 12]], "mamba_causal_conv_fusion": True}, "Mamba layers are not built. Remove them."),
        ({"attention_config": [[["mamba"], 12]], "num_attention_heads": 7}, "Mamba layers are not built. Remove it."),
        ({"attention_config": [[["rwkv"], 12]]}, "RWKV layers are not built. Remove it."),
        ({"attention_config": [[["rwkv"], 12]], "ffn_dim": 9, "intermediate_size": 0}, "RWKV layers are not built. Remove them."),
        ({"attention_config": [[["gmlp"], "all"]]}, "gMLP layers are not built. Remove it."),
        ({"attention_config": [[["local", "global"], "all"]], "sparsity_config": {"block": 16}}, "sparse attention is not built"),
        ({"moe_num_experts": 8, "moe_top_k": 1}, "mixtures of experts are not built"),
        ({"train_impl": "dpo", "dpo_beta": 0.1, "pos_train_data_paths": ["a"]}, "learning from preferences is not built"),
        ({"te_mha": True, "te_fp8_format": "hybrid"}, "Transformer Engine's layers are not built. Remove them."),
        ({"autotuning": {"enabled": True}}, "DeepSpeed's autotuning is not built. Remove it."),
        (
            {"autotuning": {"enabled": True}, "zero_optimization": {"stage": [0, 1, 2, 3]}},
            "DeepSpeed's autotuning is not built. Remove them.",
        ),
        ({"sliding_window_width": 4096}, "sliding windows are not built"),
        ({"text_gen_type": "humaneval"}, "HumanEval's mode of PolyCoder's fork is not built. Use input-file."),
        (
            {"optimizer": {"type": "sm3", "params": {}}},
            "sm3 is not built. Use adam, adamw, sgd, lion, cpu_adam, muon or adafactor.",
        ),
    ],
)
def test_unbuilt_features_are_refused_by_name_in_one_message(write, keys, reason):
    path = write("125M.yml", json.dumps({**size_file("125M"), **keys}, indent=4))
    with pytest.raises(ConfigError) as caught:
        NeoXConfig.load([path])
    [sentence] = str(caught.value).splitlines()
    assert f"cannot be used: {reason}" in sentence
    only_follow = ("moe_top_k", "num_attention_heads", "intermediate_size")
    assert all(f"{key} (" in sentence for key in keys if key not in only_follow)
    assert str(path) in sentence
