"""The names in DeepSpeed's dictionaries are DeepSpeed's own, and it takes what is accepted."""

import pytest
from deepspeed.runtime.precision_config import DeepSpeedBF16Config, DeepSpeedFP16Config
from deepspeed.runtime.zero.config import DeepSpeedZeroConfig
from deepspeed.runtime.zero.offload_config import DeepSpeedZeroOffloadOptimizerConfig, DeepSpeedZeroOffloadParamConfig

from neox_code.config.deepspeed import ZERO_NUMERICS, make_deepspeed_dict
from neox_code.config.deepspeed_settings import BF16, FP16, ZERO, find_problems
from neox_code.config.neox import NeoXConfig

MODELS = {
    "zero_optimization": (DeepSpeedZeroConfig, ZERO, {"stage"}),
    "offload_param": (DeepSpeedZeroOffloadParamConfig, ZERO["offload_param"], set()),
    "offload_optimizer": (DeepSpeedZeroOffloadOptimizerConfig, ZERO["offload_optimizer"], set()),
    "fp16": (DeepSpeedFP16Config, FP16, {"enabled"}),
    "bf16": (DeepSpeedBF16Config, BF16, {"enabled"}),
}
EXAMPLES = {int: 2, float: 0.5, bool: True, str: "text"}


@pytest.mark.parametrize("name", MODELS)
def test_the_names_are_deepspeeds(name):
    model, known, ours = MODELS[name]
    names = {name for field, info in model.model_fields.items() for name in (field, info.alias) if name}
    assert known.keys() == names - ours


@pytest.mark.parametrize("name", MODELS)
def test_deepspeed_takes_values_of_the_types(name):
    model, known, _ = MODELS[name]
    examples = {name: EXAMPLES[kind] for name, kind in known.items() if kind in list(EXAMPLES)}
    assert list(find_problems(examples, known)) == []
    for example in examples.items():
        model(**dict([example]))


def test_deepspeed_accepts_null_and_auto(shape):
    left = dict.fromkeys((name for name, kind in ZERO.items() if kind in (int, bool)), None)
    config = NeoXConfig.load([], {**shape, "train_batch_size": 1, "zero_optimization": {**left, "reduce_bucket_size": "auto"}})
    settings = make_deepspeed_dict(config, config.batch_sizes(1))["zero_optimization"]
    assert settings == {**ZERO_NUMERICS, "stage": 1, "reduce_bucket_size": "auto"}
    assert DeepSpeedZeroConfig(**settings).reduce_bucket_size == DeepSpeedZeroConfig().reduce_bucket_size
