"""The whole configuration: merging, last word, problems told together, and the way back to a file."""

import dataclasses
from pathlib import Path

import pytest
import yaml

from neox_code.config.fields import FIELDS, SECTIONS, convert
from neox_code.config.neox import NeoXConfig
from neox_code.config.yaml_merge import parse_value
from neox_code.errors import ConfigError

CONFIGS = Path(__file__).parents[2] / "configs"
SIZES = {
    "small": (12, 768, 12, 6e-4),
    "medium": (24, 1024, 16, 3e-4),
    "large": (24, 1536, 16, 2.5e-4),
    "XL": (24, 2048, 16, 2e-4),
    "2-7B": (32, 2560, 32, 1.6e-4),
}


def problems(paths, overrides=None):
    with pytest.raises(ConfigError) as caught:
        NeoXConfig.load(paths, overrides)
    return str(caught.value).splitlines()


@pytest.mark.parametrize(("name", "shape_and_rate"), SIZES.items())
def test_a_model_file_has_polycoders_settings(name, shape_and_rate):
    config = NeoXConfig.load([CONFIGS / f"{name}.yml", CONFIGS / "local_setup.yml", CONFIGS / "text_generation.yml"])
    model = config.model
    assert (model.num_layers, model.hidden_size, model.num_attention_heads, config.optimizer.lr) == shape_and_rate
    assert model.sample_length * config.training.train_batch_size == 262_144
    assert config.training.train_iters == config.optimizer.lr_decay_iters == 160_000
    assert (model.pos_emb, model.rotary_pct, model.no_weight_tying, model.gpt_j_residual) == ("rotary", 1.0, True, False)
    assert config.data.split == (98.9, 0.1, 1.0)
    config.require_training_keys()
    for ranks in (1, 2, 8, 16):
        assert config.batch_sizes(ranks).train_batch_size == 128


def test_the_generation_file_leaves_the_mode_to_the_command_line():
    shape = CONFIGS / "small.yml"
    generation = NeoXConfig.load([shape, CONFIGS / "text_generation.yml"]).generation
    assert (generation.text_gen_type, generation.maximum_tokens, generation.temperature) == ("interactive", 256, 0.5)
    assert generation.sample_input_file is None


def test_files_are_merged_and_every_value_has_its_origin(write, shape):
    one = write("one.yml", "".join(f"{key}: {value}\n" for key, value in shape.items()))
    two = write("two.yml", "# data\noptimizer:\n  params:\n    lr: 1e-4\n")
    config = NeoXConfig.load([one, two], {"num_layers": 3})
    assert config.model.num_layers == 3
    assert config.origins["num_layers"] == "--set"
    assert config.origins["hidden_size"] == f"{one}:2"
    assert config.origins["lr"] == f"{two}:4"
    assert config.origins["seed"] == "default"
    assert config.sources == (one, two)
    assert set(config.origins) == set(FIELDS)


def test_overrides_replace_values_in_any_spelling(write, shape):
    path = write("a.yml", "train-iters: 10\nfp16: {enabled: true}\noptimizer: {params: {lr: 1e-3, eps: 1e-6}}\n")
    overrides = {**shape, "train-iters": 20, "precision": "bfloat16", "optimizer.params.lr": 1e-4, "zero_optimization.stage": 0}
    config = NeoXConfig.load([path], overrides)
    assert config.training.train_iters == 20
    assert config.model.precision == "bfloat16"
    assert (config.optimizer.lr, config.optimizer.eps, config.optimizer.zero_stage) == (1e-4, 1e-6, 0)


def test_all_problems_of_all_files_are_reported_together(write):
    one = write("mine.yml", "hidden-size: 770\nhiden_size: 3\nnum_layers: many\ntrain_iters: 1.5\n")
    two = write("other.yml", "num_attention_heads: 12\nuse_mup: true\nhidden_size: 768\n")
    assert problems([one, two]) == [
        f"hidden_size occurs twice, at {one}:1 and at {two}:3. "
        "Remove one; to change a value for one run, use --set hidden_size=VALUE.",
        f"hiden_size (3, {one}:2) is an unknown key: did you mean hidden_size or size? Correct or remove it.",
        f"num_layers (many, {one}:3) must be a whole number.",
        f"train_iters (1.5, {one}:4) must be a whole number.",
        f"use_mup (true, {two}:2) cannot be used: muP is not built. Remove it.",
        "max_position_embeddings is missing. Set it in a configuration file, such as those in configs/.",
        f"hidden_size (770, {one}:1) must be a multiple of num_attention_heads (12, {two}:1). Nearest: 768 or 780.",
    ]


def test_null_leaves_a_value_at_its_default(shape):
    nulls = dict.fromkeys(("save", "seed", "precision", "split", "fp16", "attention_config"))
    assert NeoXConfig.load([], {**shape, **nulls}) == NeoXConfig.load([], shape)


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("train_iters", "10", "must be a whole number, without quotes."),
        ("train_iters", "many", "must be a whole number."),
        ("train_iters", True, "must be a whole number."),
        ("lr", "1e-4", "must be a number, without quotes."),
        ("min_lr", float("inf"), "must be a number."),
        ("no_weight_tying", 1, "must be true or false."),
        ("save", 7, "must be text: put it in quotes."),
        ("betas", [0.9], "must be a list of 2."),
        ("betas", [0.9, "x"], "must be a list in which each entry is a number."),
        ("extra_save_iters", [1, 2.5], "must be a list in which each entry is a whole number."),
        ("zero_optimization", 1, "must be a dictionary."),
        ("zero_stage", True, "must be 0, 1, 2 or 3."),
        ("num_layers", None, "must be a whole number."),
    ],
)
def test_a_value_of_another_type_is_reported_with_the_expected_type(shape, key, value, expected):
    sentences = problems([], {**shape, key: value})
    assert len(sentences) == 1
    assert sentences[0].startswith(f"{key} (")
    assert sentences[0].endswith(f", --set) {expected}")


def test_text_that_looks_like_another_value_is_shown_in_quotes(shape):
    [sentence] = problems([], {**shape, "train_iters": "320000"})
    assert sentence == "train_iters ('320000', --set) must be a whole number, without quotes."


@pytest.mark.parametrize(("key", "text"), [("seed", "1e10"), ("lr", "5.0E+40"), ("zero_stage", "4."), ("no_such_key", "1_0.5")])
def test_a_number_is_shown_as_it_is_written_in_a_file_or_an_option(shape, tmp_path, key, text):
    path = tmp_path / "mine.yml"
    path.write_text(f"{key}: {text}\n")
    [in_file] = problems([path], shape)
    [option] = problems([], {**shape, key: parse_value(text)})
    assert in_file.startswith(f"{key} ({text}, {path}:1) ") and option.startswith(f"{key} ({text}, --set) ")


def test_the_values_of_a_configuration_are_plain_numbers(shape):
    overrides = {"zero_stage": parse_value("1e0"), "zero_optimization": parse_value("{reduce_bucket_size: 5e8, a: [1e3]}")}
    values = NeoXConfig.load([], {**shape, "lr": parse_value("6e-4"), "zero_stage": overrides["zero_stage"]}).values()
    assert {type(values["lr"]), type(values["zero_stage"])} == {float, int}
    assert repr(convert(overrides["zero_optimization"], FIELDS["zero_optimization"].annotation)) == (
        "{'reduce_bucket_size': 500000000.0, 'a': [1000.0]}"
    )


def test_whole_floats_and_single_values_are_accepted(shape):
    config = NeoXConfig.load([], {**shape, "train_iters": 1e3, "extra_save_iters": 5})
    assert config.training.train_iters == 1000
    assert isinstance(config.training.train_iters, int)
    assert config.training.extra_save_iters == (5,)


def test_batch_sizes_that_do_not_fit_name_their_places(write, shape):
    path = write("sizes.yml", "train_batch_size: 100\ntrain-micro-batch-size-per-gpu: 8\n")
    config = NeoXConfig.load([path], shape)
    with pytest.raises(ConfigError) as caught:
        config.batch_sizes(3)
    assert str(caught.value).endswith(
        "= 8 * 4 * 3 = 96. Remove one of the three keys, and it is derived from the others; or correct their values. "
        f"Given: train_batch_size (100, {path}:1), train_micro_batch_size_per_gpu (8, {path}:2)."
    )


def test_a_written_configuration_loads_as_an_equal_one(write):
    shape = CONFIGS / "2-7B.yml"
    extra = write(
        "extra.yml",
        "betas: [0.9, 0.95]\nextra-save-iters: [1, 10]\nprofile: false\ndata_types: {grad_accum_dtype: fp32}\n"
        'valid_data_paths: [a, b]\nvalid_data_weights: [1, 2]\nprompt_end: "\\n\\n"\nlayernorm_epsilon: 1e-6\nwandb_group: ä\n',
    )
    text = shape.read_text().replace("    betas: [0.9, 0.999]\n", "")
    config = NeoXConfig.load([write("shape.yml", text), extra])
    again = NeoXConfig.load([write("again.yml", config.to_yaml())])
    assert again == config
    assert again != config.replace(seed=1)
    assert [entry.key for entry in again.ignored] == ["split"], "data_path, which it divides, is not set"


def test_a_written_configuration_uses_gpt_neoxs_dictionaries(shape):
    config = NeoXConfig.load([], {**shape, "lr": 0.5, "fp16": {"enabled": True, "loss_scale": 0}})
    written = yaml.safe_load(config.to_yaml())
    assert written["optimizer"] == {"type": "adam", "params": {"lr": 0.5, "eps": 1e-8}}
    assert written["zero_optimization"] == {"stage": 1}
    assert written["precision"] == "fp16"
    assert written["fp16"] == {"loss_scale": 0}
    assert NeoXConfig.load([], written) == config


def test_every_field_survives_being_written_and_read(shape):
    other = {bool: True, int: 2, float: 0.25, str: "text"}
    for name, known in FIELDS.items():
        kind = known.annotation
        value = other.get(kind) or next((other[plain] for plain in other if kind == plain | None), None)
        if value is None or known.required or name in ("num_gpus", "pipe_partition_method", "seq_length", "size"):
            continue
        others = {"nesterov": {"momentum": 0.9}, "save_huggingface": {"pos_emb": "rotary"}}.get(name, {})
        config = NeoXConfig.load([], {**shape, "lr": 1, **others, name: value})
        assert getattr(getattr(config, known.section), name) == value
        assert NeoXConfig.load([], yaml.safe_load(config.to_yaml())) == config


def test_replace_checks_again_and_keeps_the_rest(shape):
    config = NeoXConfig.load([], {**shape, "lr": 1.0, "zero_optimization": {"overlap_comm": True}})
    changed = config.replace(hidden_size=128, save=Path("out"))
    assert (changed.model.hidden_size, changed.training.save) == (128, "out")
    assert changed.optimizer == config.optimizer
    assert config.model.hidden_size == 64
    with pytest.raises(ConfigError, match=r"hidden_size \(66, --set\) must be a multiple of"):
        config.replace(hidden_size=66)
    with pytest.raises(ConfigError, match=r"hiden_size \(66, --set\) is an unknown key"):
        config.replace(hiden_size=66)


def test_all_missing_settings_of_training_are_reported_together(shape):
    with pytest.raises(ConfigError) as caught:
        NeoXConfig.load([], shape).require_training_keys()
    sentences = str(caught.value).splitlines()
    assert [sentence.split()[0] for sentence in sentences] == ["lr", "train_iters", "neither", "training", "vocab_file:"]


def test_a_configuration_is_frozen(shape):
    config = NeoXConfig.load([], shape)
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.model.num_layers = 3
    assert {field.name for field in dataclasses.fields(config)} >= SECTIONS.keys()
