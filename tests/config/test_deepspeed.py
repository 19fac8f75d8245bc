"""DeepSpeed's dictionary: its content, and that DeepSpeed reads the same values."""

import json
import subprocess
import sys

import pytest
from deepspeed.runtime.config import _REMOVED_TOP_LEVEL_CONFIG_KEYS, _REMOVED_ZERO_CONFIG_KEYS

from neox_code.config.deepspeed import make_deepspeed_dict
from neox_code.config.deepspeed_settings import DTYPE_NAMES, OTHERS
from neox_code.config.neox import NeoXConfig
from neox_code.errors import ConfigError

READ_BY_DEEPSPEED = """
import json, sys
from deepspeed.runtime.config import DeepSpeedConfig, DtypeEnum
for text in sys.argv[1:]:
    config = DeepSpeedConfig(json.loads(text), mpu=None)
    fp16, bf16, zero = config.float16_config, config.bfloat16_config, config.zero_config
    kept = config.grad_accum_dtype and DtypeEnum(config.grad_accum_dtype).value
    print(json.dumps([[config.train_batch_size, config.train_micro_batch_size_per_gpu, config.gradient_accumulation_steps,
        zero.stage, bf16.enabled, fp16.enabled, config.gradient_clipping, config.steps_per_print, zero.overlap_comm],
        [str(kept), str(config.communication_data_type),
        config.prescale_gradients, config.gradient_predivide_factor, bf16.check_grad_overflow, bf16.bf16_master_weights_and_grads,
        zero.round_robin_gradients, zero.zero_quantized_gradients, fp16.initial_scale_power, fp16.hysteresis]]))
"""


def test_accumulation_follows_from_the_number_of_ranks(shape):
    config = NeoXConfig.load([], {**shape, "train_batch_size": 128, "train_micro_batch_size_per_gpu": 8})
    assert [make_deepspeed_dict(config, config.batch_sizes(ranks))["gradient_accumulation_steps"] for ranks in (1, 2, 16)] == [
        16,
        8,
        1,
    ]
    with pytest.raises(ConfigError, match=r"8 \* 5 \* 3 = 120"):
        config.batch_sizes(3)


@pytest.mark.parametrize(("precision", "keys"), [("fp32", set()), ("fp16", {"fp16"}), ("bfloat16", {"bf16"})])
def test_a_precision_is_one_dictionary(shape, precision, keys):
    config = NeoXConfig.load([], {**shape, "train_batch_size": 1, "precision": precision})
    settings = make_deepspeed_dict(config, config.batch_sizes(1))
    assert settings.keys() & {"fp16", "bf16"} == keys
    assert all(settings[key]["enabled"] is True for key in keys)


@pytest.mark.parametrize(("stage", "runs_as"), [(0, 1), (1, 1), (2, 2), (3, 3)])
def test_stage_zero_runs_as_one(shape, stage, runs_as):
    config = NeoXConfig.load([], {**shape, "train_batch_size": 1, "zero_stage": stage})
    assert make_deepspeed_dict(config, config.batch_sizes(1))["zero_optimization"]["stage"] == runs_as


def test_null_is_deepspeeds_own_default(shape):
    keys = {**shape, "train_batch_size": 8}
    nulls = {"flops_profiler": None, "data_types": None, "comms_logger": None}
    with_nulls, without = (NeoXConfig.load([], {**keys, **more}) for more in (nulls, {}))
    sizes = without.batch_sizes(1)
    assert make_deepspeed_dict(with_nulls, sizes) == make_deepspeed_dict(without, sizes)


def test_deepspeed_reads_the_configured_values_and_accepts_every_passed_setting(shape):
    """One process reads all dictionaries: their values, the precision of sums, and that DeepSpeed refuses no setting."""
    base = {**shape, "train_batch_size": 8}
    sizes = {"train_micro_batch_size_per_gpu": 2, "gradient_clipping": 0.5, "precision": "bfloat16"}
    sums = [
        {"precision": "bfloat16"},
        {"precision": "bfloat16", "data_types": {"grad_accum_dtype": "bf16"}, "communication_data_type": "bf16"},
        {"precision": "bfloat16", "prescale_gradients": True},
        {"precision": "fp16", "fp16": {"enabled": True, "hysteresis": 4}, "fp32_allreduce": True},
        {"precision": "fp32"},
    ]
    accepted = [
        {"data_types": {"grad_accum_dtype": name}, "precision": precision}
        for precision in DTYPE_NAMES
        for name in DTYPE_NAMES[precision]
    ]
    accepted += [{"communication_data_type": name} for name in ("fp32", "fp16", "bf16")]
    accepted += [
        dict.fromkeys(OTHERS, "auto")
        | {name: dict.fromkeys(kind, "auto") for name, kind in OTHERS.items() if isinstance(kind, dict)}
    ]
    accepted += [{key: nothing} for key in _REMOVED_TOP_LEVEL_CONFIG_KEYS for nothing in (False, None, {"enabled": False})]
    accepted += [{"zero_optimization": {key: None}} for key in _REMOVED_ZERO_CONFIG_KEYS]
    given = [{**sizes, "zero_optimization": {"stage": 0, "overlap_comm": True}}, *sums, *accepted]
    configs = [NeoXConfig.load([], {**base, **keys}) for keys in given]
    texts = [json.dumps(make_deepspeed_dict(config, config.batch_sizes(1))) for config in configs]
    words = [sys.executable, "-c", READ_BY_DEEPSPEED, *texts]
    ended = subprocess.run(words, capture_output=True, text=True, check=True)
    read = [json.loads(line) for line in ended.stdout.splitlines()[-len(given) :]]
    assert read[0][0] == [8, 2, 4, 1, True, False, 0.5, None, True]
    fp32, bf16 = "torch.float32", "torch.bfloat16"
    assert [effective for _, effective in read[1 : 1 + len(sums)]] == [
        [fp32, fp32, False, 1.0, True, False, False, False, 16, 2],
        [bf16, bf16, False, 1.0, True, False, False, False, 16, 2],
        [fp32, fp32, True, 1.0, True, False, False, False, 16, 2],
        ["None", fp32, False, 1.0, True, False, False, False, 16, 4],
        ["None", "None", False, 1.0, True, False, False, False, 16, 2],
    ]


def test_no_removed_setting_is_passed(shape):
    for key in _REMOVED_TOP_LEVEL_CONFIG_KEYS:
        with pytest.raises(ConfigError, match=rf"^{key} \(.*\) cannot be used"):
            NeoXConfig.load([], {**shape, key: {"enabled": True}})


TIED = {"pipe_parallel_size": 2, "no_weight_tying": False}
OFFLOADED = {"zero_optimization": {"offload_optimizer": {"device": "cpu"}}, "optimizer": {"type": "cpu_adam"}}


@pytest.mark.parametrize("key", ["data_types", "deepspeed_extra_args"])
@pytest.mark.parametrize("keys", [{"precision": "fp16"}, {"precision": "bfloat16", **OFFLOADED}])
def test_an_fp32_sum_that_would_lose_the_gradient_of_the_tied_embedding_is_refused(write, shape, keys, key):
    asked = {"data_types": {"grad_accum_dtype": "fp32"}}
    asked = asked if key == "data_types" else {key: asked}
    path = write("a.yml", json.dumps(asked))
    with pytest.raises(ConfigError) as caught:
        NeoXConfig.load([path], {**shape, **TIED, **keys})
    assert str(caught.value).startswith("data_types (" if key == "data_types" else "deepspeed_extra_args.data_types (")
    assert f"{path}:1): with {'zero_optimization' if 'optimizer' in keys else 'precision'} (" in str(caught.value)
    assert "loses the fp32 gradient of the tied embedding (no_weight_tying (false, --set))" in str(caught.value)
    for change in ({"pipe_parallel_size": 1}, {"no_weight_tying": True}):
        NeoXConfig.load([path], {**shape, **TIED, **keys, **change})
    NeoXConfig.load([path], {**shape, **TIED, "precision": "bfloat16"})


def test_gradients_are_summed_in_the_precision_or_fp32(shape):
    with pytest.raises(
        ConfigError, match=r"data_types \(\{grad_accum_dtype: fp16\}, --set\): gradients of precision \(bfloat16, --set\)"
    ):
        NeoXConfig.load([], {**shape, "precision": "bfloat16", "data_types": {"grad_accum_dtype": "fp16"}})


@pytest.mark.parametrize("keys", [{"prescale_gradients": True}, {"gradient_predivide_factor": 2.0}])
def test_gradient_scaling_before_the_sum_needs_a_zero_stage_that_supports_it(shape, keys):
    NeoXConfig.load([], {**shape, **keys, "zero_stage": 1})
    NeoXConfig.load([], {**shape, **keys, "zero_optimization": {"stage": 2, "reduce_scatter": False}})
    with pytest.raises(ConfigError, match=r"cannot scale gradients before their sum with zero_stage \(2, --set\)"):
        NeoXConfig.load([], {**shape, **keys, "zero_stage": 2})


def test_a_setting_without_effect_at_its_stage_is_refused(shape):
    with pytest.raises(ConfigError, match="offload_param has an effect at ZeRO stage 3 only"):
        NeoXConfig.load([], {**shape, "zero_optimization": {"stage": 1, "offload_param": {"device": "cpu"}}})
    with pytest.raises(ConfigError, match="master weights in 16 bits need optimizer states in the host's memory"):
        NeoXConfig.load([], {**shape, "bf16": {"enabled": True, "bf16_master_weights_and_grads": True}})


def test_settings_of_stage_3_are_not_passed_on_at_other_stages(shape):
    given = {"sub_group_size": 1000, "stage3_max_live_parameters": 10, "pipeline_loading_checkpoint": True, "overlap_comm": True}
    passed = {}
    for stage in (1, 3):
        config = NeoXConfig.load([], {**shape, "train_batch_size": 1, "zero_optimization": {"stage": stage, **given}})
        passed[stage] = make_deepspeed_dict(config, config.batch_sizes(1))["zero_optimization"].keys() & given.keys()
    assert passed == {1: {"overlap_comm"}, 3: given.keys()}
