"""The rules of keys: settings of GPT-NeoX's files reach the fields, or are ignored or refused by name."""

from pathlib import Path

import pytest
import yaml

from neox_code.config.deepspeed import BF16_NUMERICS, NUMERICS, ZERO_NUMERICS, make_deepspeed_dict
from neox_code.config.fields import FIELDS, list_choices
from neox_code.config.former_keys import HARMLESS, OTHER_WORDS, REFUSED, RENAMED, SWITCHED
from neox_code.config.legacy_keys import KEYS, PREFIXES, UNBUILT, UNBUILT_OPTIMIZERS, find_rule
from neox_code.config.neox import NeoXConfig
from neox_code.errors import ConfigError

OCTOBER_2021 = Path(__file__).with_name("polycoder_2021.yml")


def load(shape, **keys):
    return NeoXConfig.load([], {**shape, **keys})


def test_a_file_of_october_2021_loads_with_its_meaning():
    config = NeoXConfig.load([OCTOBER_2021])
    assert (config.model.num_layers, config.model.hidden_size, config.model.num_attention_heads) == (24, 1024, 16)
    assert (config.model.pos_emb, config.model.no_weight_tying, config.model.bias_gelu_fusion) == ("rotary", True, True)
    assert config.model.precision == "fp16"
    assert (config.optimizer.optimizer_type, config.optimizer.lr, config.optimizer.betas) == ("adam", 3e-4, (0.9, 0.999))
    assert config.optimizer.weight_decay == 0
    assert config.training.checkpoint_factor == 1000
    assert config.data.split == (949, 50, 1)
    assert config.parallelism.checkpoint_activations
    assert make_deepspeed_dict(config, config.batch_sizes(2)) == {
        "train_batch_size": 8,
        "train_micro_batch_size_per_gpu": 4,
        "gradient_accumulation_steps": 1,
        "gradient_clipping": 1.0,
        **NUMERICS,
        "zero_optimization": {
            **ZERO_NUMERICS,
            "stage": 1,
            "reduce_bucket_size": 500000000,
            "cpu_offload": False,
        },
        "zero_allow_untested_optimizer": True,
        "timers": {"throughput": {"enabled": False}},
        "fp16": {
            "enabled": True,
            "loss_scale": 0,
            "initial_scale_power": 16,
            "loss_scale_window": 1000,
            "hysteresis": 2,
            "min_loss_scale": 1,
            "fp16_master_weights_and_grads": False,
        },
    }


def test_ignored_settings_are_reported_with_place_and_reason():
    config = NeoXConfig.load([OCTOBER_2021])
    told = {entry.key: entry for entry in config.ignored}
    assert {
        "partition_activations",
        "synchronize_each_layer",
        "steps_per_print",
        "wall_clock_breakdown",
        "data_impl",
    } <= told.keys()
    lines = OCTOBER_2021.read_text().splitlines()
    for entry in told.values():
        path, _, line = entry.place.rpartition(":")
        assert path == str(OCTOBER_2021)
        assert entry.key in lines[int(line) - 1].replace("-", "_")
        assert entry.because


def test_the_optimizer_of_gpt_neoxs_example_is_read_with_max_grad_norm(write, shape):
    text = "optimizer:\n  type: Adam\n  params: {lr: 0.0006, max_grad_norm: 0.5, betas: [0.9, 0.95]}\n"
    path = write("a.yml", f"{text}gradient_clipping: 0.5\n")
    optimizer = NeoXConfig.load([path], shape).optimizer
    assert (optimizer.lr, optimizer.betas, optimizer.gradient_clipping) == (0.0006, (0.9, 0.95), 0.5)
    assert load(shape, optimizer={"type": "Adam", "params": {"max_grad_norm": 2}}).optimizer.gradient_clipping == 2
    with pytest.raises(ConfigError) as caught:
        NeoXConfig.load([path, write("b.yml", "clip_grad: 1.0\n")], shape)
    assert str(caught.value) == (
        f"gradient_clipping (0.5, {path}:4) contradicts clip_grad (1.0, {path.with_name('b.yml')}:1). Remove one of them."
    )


def test_a_former_name_sets_the_field(shape):
    for key, field in RENAMED.items():
        value = "text" if "str" in str(FIELDS[field].annotation) else True if FIELDS[field].annotation is bool else 3
        assert load(shape, **{key: value}) == load(shape, **{field: value}) != load(shape), key
    for key, (field, value) in SWITCHED.items():
        assert load(shape, **{key: True}) == load(shape, **{field: value}) != load(shape), key
        assert load(shape, **{key: False}) == load(shape), key


def test_llamas_feed_forward_layer_has_its_width_by_the_keys_that_replace_its_former_one():
    """The widths of LLaMA 7B, 13B, 30B and 65B."""
    for hidden_size, width in ((4096, 11008), (5120, 13824), (6656, 17920), (8192, 22016)):
        shape = {"num_layers": 2, "hidden_size": hidden_size, "num_attention_heads": 8, "max_position_embeddings": 128}
        keys = {"activation": "swiglu", "expansion_factor": 8, "mlp_multiple_of": 256, "use_bias_in_mlp": False}
        assert load(shape, **keys).model.feed_forward_size == width


def test_former_keys_and_other_programs_words_name_existing_keys():
    assert REFUSED.keys() >= HARMLESS.keys()
    for ours in OTHER_WORDS.values():
        assert find_rule(ours.partition(".")[0]).read, ours
    assert [word for word in OTHER_WORDS if find_rule(word) is not None] == []
    for because in {rule.refused for rule in KEYS.values() if rule.refused}:
        remedy = because.partition("Set ")[2] or because.partition("Use ")[2]
        for named in (word for word in remedy.split() if "_" in word and not word.startswith("neox_code.")):
            assert find_rule(named.strip(",.:").partition(".")[0]) is not None, because


def test_nothing_that_is_built_is_refused(shape):
    for field in UNBUILT:
        for value in list_choices(field):
            assert load(shape, **{field: value}).values()[field] == value
        assert set(UNBUILT[field]).isdisjoint(list_choices(field)), "a value that is built needs no reason"
    assert set(UNBUILT_OPTIMIZERS).isdisjoint(list_choices("optimizer_type"))


@pytest.mark.parametrize("tokenizer_type", list_choices("tokenizer_type"))
def test_every_type_of_tokenizer_is_accepted(shape, tokenizer_type):
    assert load(shape, tokenizer_type=tokenizer_type).data.tokenizer_type == tokenizer_type


IN_ALL_MODEL_FILES = (
    "attention_dropout bias_gelu_fusion checkpoint_activations checkpoint_factor checkpoint_num_layers data_impl "
    "distributed_backend eval_interval eval_iters fp16 gpt_j_residual gradient_clipping hidden_dropout hidden_size log_interval "
    "lr_decay_iters lr_decay_style max_position_embeddings min_lr model_parallel_size no_weight_tying num_attention_heads "
    "num_layers optimizer output_layer_parallelism partition_activations pipe_parallel_size pos_emb "
    "scaled_upper_triang_masked_softmax_fusion seq_length steps_per_print synchronize_each_layer train_iters "
    "train_micro_batch_size_per_gpu wall_clock_breakdown warmup weight_decay zero_optimization"
)
IN_SOME_MODEL_FILES = (
    "init_method output_layer_init_method layernorm_fusion rope_fusion norm keep_last_n_checkpoints gradient_accumulation_steps "
    "num_workers rotary_pct tokenizer_type extra_save_iters attention_config deepspeed_extra_args hostfile data_path load save "
    "split log_dir tensorboard_dir vocab_file log_grad_norm fp32_allreduce launcher deepspeed_slurm comment precision merge_file"
)


def test_every_key_of_every_model_file_is_known():
    assert len(IN_ALL_MODEL_FILES.split()) == 38
    assert [key for key in f"{IN_ALL_MODEL_FILES} {IN_SOME_MODEL_FILES}".split() if find_rule(key) is None] == []


def test_every_rule_does_one_thing():
    for key, rule in {**KEYS, **PREFIXES}.items():
        assert [bool(rule.read), bool(rule.ignored), bool(rule.refused)].count(True) == 1, key
        assert not (rule.refused or rule.ignored).endswith("."), key


def test_every_field_can_be_set_by_a_key(shape):
    assert FIELDS.keys() <= KEYS.keys()


@pytest.mark.parametrize(
    ("keys", "precision"),
    [
        ({}, "fp32"),
        ({"fp16": {"enabled": True}}, "fp16"),
        ({"fp16": {"enabled": True, "type": "bfloat16"}}, "bfloat16"),
        ({"fp16": {"enabled": False}, "bf16": {"enabled": True}}, "bfloat16"),
        ({"bf16": {"enabled": True}, "precision": "bfloat16"}, "bfloat16"),
        ({"fp16": {"enabled": True}, "precision": "bfloat16"}, "bfloat16"),
    ],
)
def test_precision_comes_from_its_key_or_from_deepspeeds_dictionaries(shape, keys, precision):
    assert load(shape, **keys).model.precision == precision


def test_contradicting_precisions_of_two_files_are_reported_with_their_places(write, shape):
    one, two = write("one.yml", "fp16:\n  enabled: true\n"), write("two.yml", "precision: bfloat16\n")
    with pytest.raises(ConfigError) as caught:
        NeoXConfig.load([one, two], shape)
    assert str(caught.value) == f"fp16.enabled (true, {one}:2) contradicts precision (bfloat16, {two}:1). Remove one of them."


@pytest.mark.parametrize(
    ("split", "shares"),
    [
        ("969, 30, 1", (969, 30, 1)),
        ("98.9,0.1,1", (98.9, 0.1, 1)),
        ("8/1/1", (8, 1, 1)),
        ("1", (1, 0, 0)),
        (1, (1, 0, 0)),
        ([0.9, 0.1], (0.9, 0.1, 0)),
    ],
)
def test_a_split_is_three_shares(shape, split, shares):
    assert load(shape, split=split).data.split == shares


@pytest.mark.parametrize("split", ["1,2,3,4", "a,b", "0,0,0", "-1,2,3", [], "1,,2", {"train": 1}])
def test_an_invalid_split_is_refused(shape, split):
    with pytest.raises(ConfigError, match=r"^split \(.*--set\) must be up to three shares"):
        load(shape, split=split)


def test_data_paths_are_a_text_or_a_list(shape):
    config = load(shape, train_data_paths="a", valid_data_paths=["b", "c"], valid_data_weights=[1, 2.5])
    assert config.data.train_data_paths == ("a",)
    assert config.data.valid_data_paths == ("b", "c")
    assert config.data.valid_data_weights == (1.0, 2.5)


def test_the_optimizers_dictionary_becomes_flat_fields(shape):
    dictionary = {"type": "AdamW", "params": {"lr": 1, "betas": [0.9, 0.95], "eps": 1e-6, "weight_decay": 0.5}}
    optimizer = load(shape, optimizer=dictionary).optimizer
    assert (optimizer.optimizer_type, optimizer.lr, optimizer.betas, optimizer.eps) == ("adamw", 1.0, (0.9, 0.95), 1e-6)
    assert optimizer.weight_decay == 0.5


def test_deepspeeds_own_dictionaries_are_passed_on(shape):
    config = load(
        shape,
        csv_monitor={"enabled": True},
        data_types={"grad_accum_dtype": "fp32"},
        deepspeed_extra_args={"prescale_gradients": True, "gradient_predivide_factor": "auto"},
        fp32_allreduce=True,
        bf16={"bf16": True, "enabled": True, "check_grad_overflow": False, "loss_scale": 0, "hysteresis": 2},
        train_batch_size=4,
    )
    settings = make_deepspeed_dict(config, config.batch_sizes(1))
    assert settings["csv_monitor"] == {"enabled": True}
    assert settings["data_types"] == {"grad_accum_dtype": "fp32"}
    assert settings["prescale_gradients"] is True
    assert settings["gradient_predivide_factor"] == 1.0
    assert settings["communication_data_type"] == "fp32"
    assert settings["bf16"] == {**BF16_NUMERICS, "enabled": True}


@pytest.mark.parametrize(
    ("value", "layers", "kinds"),
    [
        (None, 2, ()),
        ([[["global"], 12]], 12, ("global",)),
        ([[["flash"], 8]], 8, ("flash",)),
        ([[["global", "flash"], "all"]], 6, ("global", "flash")),
        ([[["flash"], 2], [["global", "flash"], 1]], 4, ("flash", "flash", "global", "flash")),
        (["global", "flash", "flash"], 3, ("global", "flash", "flash")),
    ],
)
def test_kinds_of_layers_are_counted_as_in_gpt_neox(shape, value, layers, kinds):
    config = load(shape, num_layers=layers, attention_config=value)
    assert config.model.attention_config == kinds
    assert NeoXConfig.load([], yaml.safe_load(config.to_yaml())) == config


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        ({"attention_config": [[["global"], 0]]}, "must be a list such as [[[global], 12]]."),
        ({"attention_config": [[["global"], True]]}, "must be a list such as [[[global], 12]]."),
        ({"attention_config": [[["global"], 10**9]]}, "must be a list such as [[[global], 12]]."),
        ({"attention_config": [[["global"], 12, 3]]}, "must be a list such as [[[global], 12]]."),
        ({"fp16": {"enabled": "yes please"}}, "must be a dictionary in which enabled is true or false, not yes please."),
        ({"split": True}, "must be up to three shares"),
        ({"deepspeed_extra_args": {"train_batch_size": 4}}, "train_batch_size is a key of its own: set it at the top level."),
        ({"deepspeed_extra_args": {"optimizer": {"type": "Adam"}}}, "optimizer is a key of its own: set it at the top level."),
        ({"moe_num_experts": 8}, "mixtures of experts are not built"),
        ({"mamba_selective_scan_fusion": True}, "Mamba layers are not built"),
        ({"attention_config": [[["rwkv"], 12]]}, "RWKV layers are not built"),
        ({"attention_config": [[["global", "bslongformer"], 12]]}, "sparse attention is not built"),
        ({"attention_config": 7}, "must be a list"),
        ({"sparsity_config": {"block": 16}}, "sparse attention is not built"),
        ({"train_impl": "dpo"}, "learning from preferences is not built"),
        ({"use_mup": True}, "muP is not built"),
        ({"train_epochs": 3}, "use train_iters"),
        ({"norm": "scalenorm"}, "norm (scalenorm, --set) cannot be used: scalenorm is not built. Use rmsnorm"),
        ({"norm": "te_rmsnorm"}, "Transformer Engine's layers are not built. Use rmsnorm"),
        ({"norm": "non_parametric_layernorm"}, "layernorm without weights is not built. Use layernorm."),
        ({"norm": "batchnorm"}, "norm (batchnorm, --set) must be layernorm or rmsnorm."),
        ({"pos_emb": "rpe"}, "pos_emb (rpe, --set) cannot be used: T5's relative positions are not built. Use alibi"),
        ({"use_qk_layernorm": True}, "the model depends on model_parallel_size. Use qk_norm"),
        ({"launcher": "mvapich"}, "MVAPICH's mpirun is not built. Use mpich"),
        ({"deepspeed_mpi": True, "deepspeed_slurm": True}, "deepspeed_mpi (true, --set) and deepspeed_slurm (true, --set) exclude"),
        (
            {"attention_config": [[["global"], 3]]},
            "attention_config ([[[global], 3]], --set) has 3 layers, which must be as many as num_layers (2, --set).",
        ),
        ({"attention_config": [[["flash"], 1]]}, "has 1 layer, which must be as many as num_layers (2, --set)."),
        (
            {"attention_config": ["global", "flash", "global"]},
            "has 3 layers, which must be as many as num_layers (2, --set).",
        ),
        (
            {"zero_optimization": {"overlap_com": True}},
            "zero_optimization.overlap_com (true, --set) is an unknown key: did you mean",
        ),
        (
            {"zero_optimization": {"offload_param": {"device": "gpu"}}},
            "offload_param.device (gpu, --set) must be none, cpu or nvme.",
        ),
        ({"zero_optimization": {"reduce_bucket_size": "many"}}, "reduce_bucket_size (many, --set) must be a whole number."),
        ({"fp16": {"enabled": True, "loss_scal": 0}}, "fp16.loss_scal (0, --set) is an unknown key: did you mean loss_scale"),
        ({"sparse_gradients": True}, "sparse_gradients (true, --set) cannot be used: DeepSpeed has removed it"),
        ({"deepspeed_extra_args": {"nebula": {"enabled": True}}}, "nebula ({enabled: true}, --set) cannot be used: DeepSpeed has"),
        ({"zero_optimization": {"elastic_checkpoint": True}}, "zero_optimization.elastic_checkpoint (true, --set) cannot be used"),
        ({"zero_optimization": {"load_from_fp32_weights": False}}, "load_from_fp32_weights (false, --set) cannot be used: weights"),
        ({"deepspeed_extra_args": {"no_key_of_deepspeed": 1}}, "no_key_of_deepspeed (1, --set) is an unknown key"),
        (
            {"deepspeed_extra_args": {"data_type": {}}},
            "deepspeed_extra_args.data_type ({}, --set) is an unknown key: did you mean data_types",
        ),
        ({"zero_optimization": {"mics_shard_size": 4}}, "mics_shard_size (4, --set) cannot be used: DeepSpeed has removed MiCS."),
        ({"zero_optimization": {"compute_grad_norm": False}}, "compute_grad_norm (false, --set) cannot be used"),
        ({"bf16": {"bf16_optimizer_states": True}}, "bf16.bf16_optimizer_states (true, --set) cannot be used"),
        (
            {"data_types": {"grad_acum_dtype": "fp32"}},
            "data_types.grad_acum_dtype (fp32, --set) is an unknown key: did you mean grad_acc",
        ),
        ({"data_types": {"grad_accum_dtype": "fp23"}}, "data_types.grad_accum_dtype (fp23, --set) must be fp32, float32,"),
        (
            {"deepspeed_extra_args": {"data_types": {"grad_accum_dtype": 32}}},
            "args.data_types.grad_accum_dtype (32, --set) must be fp32",
        ),
        ({"communication_data_type": "float32"}, "communication_data_type (float32, --set) must be fp32, fp16 or bf16."),
        ({"prescale_gradients": "yes"}, "prescale_gradients ('yes', --set) must be true or false."),
        ({"csv_monitor": {"enable": True}}, "csv_monitor.enable (true, --set) is an unknown key: did you mean enabled"),
        (
            {"tensorboard": {"enabled": True}},
            "tensorboard ({enabled: true}, --set) cannot be used: metrics have their own keys. Use tensorb",
        ),
        (
            {"optimizer": {"type": "madgrad_wd"}},
            "madgrad_wd is not built. Use adam, adamw, sgd, lion, cpu_adam, muon or adafactor.",
        ),
        (
            {"optimizer": {"type": "Adam", "params": {"momentum": 0.9}}},
            "params.momentum (0.9, --set) is no parameter of Adam here. Remove it; there are lr, embedding_lr, head_lr, betas,",
        ),
        (
            {"optimizer": {"type": "Adam", "params": {"learning_rate": 0.1}}},
            "optimizer.params.learning_rate (0.1, --set) is no parameter of Adam here. Write optimizer.params.lr.",
        ),
        (
            {"optimizer": {"type": "Adam", "lr": 0.1}},
            "optimizer.lr (0.1, --set) is neither type nor params. Write optimizer.params.lr.",
        ),
        (
            {"optimizer": {"type": "SGDD"}},
            "optimizer.type (SGDD, --set) must be adam, adamw, sgd, lion, cpu_adam, muon or adafactor.",
        ),
        ({"launcher": "srun"}, "launcher (srun, --set) cannot be used: the launcher of Slurm has another name. Use slurm."),
        ({"lr_decay_style": "infinite_cosine"}, "schedules without an end are not built. Use cosine"),
        ({"mlp_type": "llama"}, "Set activation: swiglu, expansion_factor: 8, mlp_multiple_of: 256 and use_bias_in_mlp: false"),
        ({"warmup_iters": 500}, "warm-up is a share of lr_decay_iters. Set warmup, such as 0.01."),
        ({"optimizer": "Adam"}, "optimizer (Adam, --set) must be a dictionary."),
        ({"zero_optimization": {"stage": 4}}, "zero_optimization.stage (4, --set) must be 0, 1, 2 or 3."),
    ],
)
def test_unbuilt_features_are_refused_by_name(shape, keys, sentence):
    with pytest.raises(ConfigError) as caught:
        load(shape, **keys)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "keys",
    [
        {"moe_num_experts": 1},
        {"use_mup": False},
        {"train_impl": "normal"},
        {"soft_prompt_tuning": {"enabled": False}},
        {"sparse_gradients": False},
        {"eigenvalue": {"enabled": False, "verbose": False}},
        {"wandb": {"enabled": False, "project": "code"}},
        {"comms_logger": {"enabled": True, "verbose": True}},
        {"activation_checkpointing": {"partition_activations": True}},
    ],
)
def test_a_key_that_requests_no_unbuilt_feature_is_accepted(shape, keys):
    config = load(shape, **keys)
    assert config == load(shape)
    assert [entry.key for entry in config.ignored] == list(keys)


def test_settings_among_the_extra_ones_are_read_as_at_the_top_level(write, shape):
    text = "deepspeed_extra_args:\n  sparse_gradients: false\n  dump_state: true\n  data_types:\n    grad_accum_dtype: fp32\n"
    config = NeoXConfig.load([write("a.yml", text)], shape)
    assert dict(config.optimizer.deepspeed_extra_args) == {"data_types": {"grad_accum_dtype": "fp32"}}
    assert [(entry.key, entry.place[-7:]) for entry in config.ignored] == [
        ("deepspeed_extra_args.sparse_gradients", "a.yml:2"),
        ("deepspeed_extra_args.dump_state", "a.yml:3"),
    ]
    assert NeoXConfig.load([], yaml.safe_load(config.to_yaml())) == config


def test_former_switches_select_the_launcher(shape):
    assert load(shape, deepspeed_slurm=True).parallelism.launcher == "slurm"
    assert load(shape, deepspeed_mpi=True, launcher="openmpi").parallelism.launcher == "openmpi"
    assert load(shape, deepspeed_slurm=False).parallelism.launcher == "pdsh"


def test_two_launchers_are_reported_with_their_lines(write, shape):
    path = write("a.yml", "deepspeed_mpi: true\ndeepspeed_slurm: true\n")
    with pytest.raises(ConfigError) as caught:
        NeoXConfig.load([path], shape)
    assert str(caught.value) == (
        f"deepspeed_mpi (true, {path}:1) contradicts deepspeed_slurm (true, {path}:2). Remove one of them."
    )
    assert (
        NeoXConfig.load([write("b.yml", "deepspeed_mpi: true\n")], {**shape, "deepspeed_slurm": True}).parallelism.launcher
        == "slurm"
    )


def test_the_last_attention_config_counts_and_is_named_with_its_place(write, shape):
    path = write("a.yml", "seed: 1\nattention_config: [[[flash], 24]]\n")
    with pytest.raises(ConfigError, match=rf"^attention_config \(\[\[\[flash\], 24\]\], {path}:2\) has 24 layers"):
        NeoXConfig.load([path], shape)
    NeoXConfig.load([path], {**shape, "num_layers": 24})
    NeoXConfig.load([path], {**shape, "attention_config": [[["flash"], "all"]]})


def test_all_problems_of_a_dictionary_are_reported_with_their_lines(write, shape):
    path = write("a.yml", "zero_optimization:\n  stage: 1\n  overlap_com: true\n  offload_param:\n    devise: cpu\n")
    with pytest.raises(ConfigError) as caught:
        NeoXConfig.load([path], shape)
    assert str(caught.value).splitlines() == [
        f"zero_optimization.overlap_com (true, {path}:3) is an unknown key: did you mean overlap_comm? Correct or remove it.",
        f"zero_optimization.offload_param.devise (cpu, {path}:5) is an unknown key: did you mean device? Correct or remove it.",
    ]


@pytest.mark.parametrize(
    ("given", "kind"), [("Adam", "adam"), ("LION", "lion"), ("cpu_torch_adam", "cpu_adam"), ("SGD", "sgd"), ("AdamW", "adamw")]
)
def test_optimizers_are_named_in_any_case(shape, given, kind):
    assert load(shape, optimizer={"type": given, "params": {"lr": 1e-4}}).optimizer.optimizer_type == kind


def test_lion_has_its_own_moment_rates(shape):
    assert load(shape, optimizer={"type": "Lion"}).optimizer.effective_betas == (0.9, 0.99)
    assert load(shape, optimizer={"type": "Adam"}).optimizer.effective_betas == (0.9, 0.999)
    assert load(shape, optimizer={"type": "Lion", "params": {"betas": [0.5, 0.6]}}).optimizer.effective_betas == (0.5, 0.6)


def test_default_parameters_of_adam_are_accepted(shape):
    load(shape, optimizer={"type": "Adam", "params": {"lr": 1e-4, "adam_w_mode": True, "bias_correction": True}})
    with pytest.raises(ConfigError, match=r"^optimizer\.params\.adam_w_mode \(false, --set\) .* set it to true: nothing else is"):
        load(shape, optimizer={"type": "Adam", "params": {"adam_w_mode": False}})


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("warm_up", "warmup"),
        ("hiden-size", "hidden_size"),
        ("tokenizer", "tokenizer_type"),
        ("n_layers", "num_layers"),
        ("num_key_value_heads", "num_kv_heads"),
        ("tensor-model-parallel-size", "model_parallel_size"),
        ("learning_rate", "optimizer.params.lr"),
        ("wand_host", "wandb_host"),
    ],
)
def test_an_unknown_key_is_reported_with_its_value_and_similar_keys(write, shape, key, meant):
    path = write("mine.yml", f"seed: 1\n{key}: 7\n")
    with pytest.raises(ConfigError) as caught:
        NeoXConfig.load([path], shape)
    assert str(caught.value).startswith(f"{key.replace('-', '_')} (7, {path}:2) is an unknown key: did you mean {meant}")


@pytest.mark.parametrize("key", ["num_nodes", "num_gpus"])
def test_minus_one_means_all_nodes_and_all_gpus(key: str) -> None:
    assert list(find_rule(key).read(-1)) == []
    assert [assignment.value for assignment in find_rule(key).read(2)] == [2]


@pytest.mark.parametrize(
    "keys", [{"checkpoint": {"load_universal": True}}, {"deepspeed_extra_args": {"checkpoint": {"load_universal": True}}}]
)
def test_a_universal_checkpoint_is_refused_by_name(tmp_path, shape, keys):
    file = tmp_path / "universal.yml"
    file.write_text(yaml.safe_dump(keys))
    with pytest.raises(
        ConfigError, match=r"checkpoint\.load_universal \(true, .*universal\.yml:\d+\) cannot be used: a checkpoint of any layout"
    ):
        NeoXConfig.load([file])
    file.write_text(yaml.safe_dump({"checkpoint": {"load_universal": False, "tag_validation": "Ignore"}}))
    assert NeoXConfig.load([file], shape).optimizer.deepspeed_extra_args["checkpoint"]["tag_validation"] == "Ignore"
