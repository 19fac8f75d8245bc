"""The generated reference is current, and the schema judges as the configuration does."""

import json
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft7Validator

from neox_code.config.fields import FIELDS, SECTIONS
from neox_code.config.legacy_keys import KEYS, PREFIXES
from neox_code.config.neox import NeoXConfig
from neox_code.config.reference import DICTIONARIES, make_readme, make_schema, make_schema_text, read_explanations
from neox_code.errors import ConfigError

CONFIGS = Path(__file__).parents[2] / "configs"


@pytest.fixture(scope="module")
def validator() -> Draft7Validator:
    Draft7Validator.check_schema(make_schema())
    return Draft7Validator(make_schema())


@pytest.mark.parametrize(("name", "text"), [("README.md", make_readme), ("schema.json", make_schema_text)])
def test_the_files_are_current(name, text):
    assert (CONFIGS / name).read_text(encoding="utf-8") == text(), "run: python tools/describe_config.py"


def test_every_configuration_file_is_named():
    table = make_readme().partition("This page")[0]
    assert [path.stem for path in CONFIGS.glob("*.yml") if f"`{path.stem}`" not in table] == []


def test_every_field_is_explained():
    for section, kind in SECTIONS.items():
        assert read_explanations(section).keys() == set(kind.__dataclass_fields__)
        assert all(read_explanations(section).values())


def test_every_key_is_in_the_readme_and_in_the_schema(validator):
    text, known = make_readme(), validator.schema["properties"]
    assert [key for key in KEYS if f"`{key}`" not in text] == []
    assert [prefix for prefix in PREFIXES if f"`{prefix}*`" not in text] == []
    assert KEYS.keys() <= known.keys()
    assert DICTIONARIES.keys() <= KEYS.keys()


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yml")), ids=lambda path: path.name)
def test_our_files_name_the_schema_and_keep_to_it(validator, path):
    assert path.read_text(encoding="utf-8").startswith("# yaml-language-server: $schema=schema.json\n")
    assert list(validator.iter_errors(yaml.safe_load(path.read_text(encoding="utf-8")))) == []


@pytest.mark.parametrize(
    "keys",
    [
        {"hidden_dropout": 1},
        {"hidden_dropout": 0.5},
        {"hidden-dropout": "much"},
        {"train_iters": 1.5},
        {"train-iters": 100},
        {"hiden_size": 64},
        {"precision": "fp8"},
        {"precision": None},
        {"betas": [0.9, 0.95]},
        {"betas": [0.9]},
        {"betas": [0.9, 1]},
        {"train_data_paths": "one"},
        {"train_data_paths": ["one", "two"]},
        {"train_data_paths": [1]},
        {"extra_save_iters": [0, 1, 512]},
        {"optimizer": {"type": "Adam", "params": {"lr": 1e-4, "betas": [0.9, 0.95]}}},
        {"optimizer": {"type": "LION"}},
        {"optimizer": {"type": "sm3"}},
        {"optimizer": {"lr": 1e-4}},
        {"zero_optimization": {"stage": 1, "overlap_comm": True}},
        {"zero_optimization": {"stage": 4}},
        {"zero_optimization": {"stage": None, "reduce_bucket_size": "auto", "contiguous_gradients": None}},
        {"zero_optimization": {"overlap_com": True}},
        {"zero_optimization": {"stage": 3, "offload_param": {"device": "cpu", "pin_memory": True}}},
        {"data_types": {"grad_accum_dtype": "fp32"}},
        {"data_types": {"param_dtype": "fp32"}},
        {"communication_data_type": "float32"},
        {"communication_data_type": "auto"},
        {"elasticity": {"enabled": False}},
        {"elasticity": {"enabled": True}},
        {"zero_optimization": {"offload_param": {"devise": "cpu"}}},
        {"zero_optimization": {"offload_param": True}},
        {"fp16": {"enabled": True, "type": "bfloat16", "loss_scale": 0, "hysteresis": 2}},
        {"fp16": {"loss_scal": 0}},
        {"bf16": {"enabled": True, "check_grad_overflow": False}},
        {"bf16": {"enabled": "true"}},
        {"seed": 2**32},
        {"num_gpus": 10_000},
        {"use_mup": True},
        {"use_mup": False},
        {"moe_num_experts": 8},
        {"moe-num-experts": 1},
        {"mamba_selective_scan_fusion": True},
        {"partition_activations": True},
        {"checkpoint_in_cpu": None},
        {"save-interval": 1000},
        {"save-interval": 0},
        {"split": "969, 30, 1"},
        {"split": {"train": 1}},
        {"eod_mask_loss": "yes"},
        {"num_layers": None},
    ],
    ids=json.dumps,
)
def test_the_schema_accepts_exactly_the_values_that_load(validator, write, shape, keys):
    needed = {key: value for key, value in shape.items() if key not in keys}
    try:
        NeoXConfig.load([write("file.yml", yaml.safe_dump({**needed, **keys}))])
        loads = True
    except ConfigError:
        loads = False
    assert validator.is_valid(keys) == loads


def test_defaults_are_valid_values(validator):
    for name, field in FIELDS.items():
        if not field.required and field.default not in ((), {}):
            default = list(field.default) if isinstance(field.default, tuple) else field.default
            assert validator.is_valid({name: default}), name
