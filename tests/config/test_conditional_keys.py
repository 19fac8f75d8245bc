"""A value that takes no part is reported with the key that it waits for."""

import pytest

from neox_code.checkpoint.model_folder import load_config
from neox_code.config.command_line import parse_command_line
from neox_code.config.conditional_keys import CONDITIONS
from neox_code.config.fields import FIELDS
from neox_code.config.neox import NeoXConfig


@pytest.mark.parametrize(
    ("keys", "reported"),
    [
        ({"rotary_pct": 0.5}, {"rotary_pct": "pos_emb: rotary"}),
        ({"rotary_pct": 0.5, "pos_emb": "rotary"}, {}),
        ({"rotary_pct": 1.0}, {}),
        ({"rms_norm_epsilon": 1e-6}, {"rms_norm_epsilon": "norm: rmsnorm"}),
        ({"rms_norm_epsilon": 1e-6, "norm": "rmsnorm"}, {}),
        ({"rms_norm_epsilon": 1e-6, "qk_norm": True}, {}),
        ({"layernorm_epsilon": 1e-6, "norm": "rmsnorm"}, {"layernorm_epsilon": "norm: layernorm"}),
        ({"attention_config": [[["flash"], 2]]}, {"attention_config": "global and flash compute the same"}),
        ({"attention_config": [[["flash"], 2]], "pos_emb": "alibi", "apply_query_key_layer_scaling": True}, {}),
        ({"bias_gelu_fusion": True, "activation": "relu"}, {"bias_gelu_fusion": "activation: gelu"}),
        (
            {"init_method": "small_init", "output_layer_init_method": "wang_init", "init_method_std": 0.1},
            {"init_method_std": "normal, scaled_normal"},
        ),
        ({"init_method": "small_init", "init_method_std": 0.1}, {}),
        ({"checkpoint_num_layers": 2, "checkpoint_activations": True}, {"checkpoint_num_layers": "pipe_parallel_size above 0"}),
        ({"checkpoint_num_layers": 2, "checkpoint_activations": True, "pipe_parallel_size": 1}, {}),
        ({"pipe_partition_method": "uniform", "pipe_parallel_size": 1}, {"pipe_partition_method": "above 1"}),
        ({"fp16": {"loss_scale": 128}, "precision": "bfloat16"}, {"fp16": "precision: fp16"}),
        ({"fp16": {"enabled": True, "loss_scale": 128, "auto_cast": True}}, {"fp16.auto_cast": "not cast"}),
        ({"bf16": {"enabled": True, "check_grad_overflow": False}}, {"bf16.check_grad_overflow": "always skipped"}),
        (
            {
                "bf16": {"enabled": True, "check_grad_overflow": True},
                "zero_optimization": {"stage": 1, "allgather_partitions": True},
            },
            {},
        ),
        (
            {"zero_optimization": {"stage": 2, "allgather_partitions": False, "stage3_max_live_parameters": 10}},
            {"zero_optimization.allgather_partitions": "no longer", "zero_optimization.stage3_max_live_parameters": "stage: 3"},
        ),
        ({"zero_optimization": {"stage": 3, "sub_group_size": 1000}, "pipe_parallel_size": 0}, {}),
        ({"split": "8,1,1"}, {"split": "data_path, which is not set"}),
        ({"split": "8,1,1", "data_path": "x"}, {}),
        ({"tokenizer_type": "HFTokenizer", "merge_file": "m"}, {"merge_file": "GPT2BPETokenizer alone"}),
        ({"heldout_split": "valid"}, {"heldout_split": "heldout_path"}),
        ({"temperature": 0, "top_p": 0.9, "top_k": 40}, {"top_k": "temperature is 0", "top_p": "temperature is 0"}),
        ({"temperature": 0.2, "top_p": 0.9}, {}),
        (
            {"text_gen_type": "interactive", "num_samples": 3, "sample_output_file": "x"},
            {"num_samples": "", "sample_output_file": ""},
        ),
        (
            {"text_gen_type": "unconditional", "prompt_end": "x", "sample_input_file": "y"},
            {"prompt_end": "", "sample_input_file": ""},
        ),
    ],
)
def test_a_value_without_effect_is_reported_with_its_condition(shape, keys, reported):
    config = NeoXConfig.load([], {**shape, **keys})
    found = {entry.key: entry for entry in config.ignored}
    assert found.keys() == reported.keys()
    for key, words in reported.items():
        assert words in found[key].because and found[key].place == "--set" and found[key].requests_feature
    assert {entry.key for entry in config.replace(seed=5).ignored} == reported.keys()


def test_the_keys_of_the_conditions_are_fields():
    assert {key for condition in CONDITIONS for key in condition.fields.split()} <= FIELDS.keys()


def test_a_command_logs_values_without_effect_at_its_start(write, shape, capfd):
    lines = [f"{key}: {value}\n" for key, value in shape.items()]
    path = write("a.yml", "".join([*lines, "partition_activations: false\n", "rotary_pct: 0.5\n"]))
    load_config(parse_command_line([str(path), "--set", "steps_per_print=10"], "Tests."))
    assert capfd.readouterr().err == (
        "keys that are accepted but have no effect (--dry-run lists the reasons): steps_per_print, rotary_pct\n"
    )
