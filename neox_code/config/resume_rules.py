"""The effect of each configuration field on a run that resumes: one table, FIELDS_BY_EFFECT.

    compare(before, now, MODEL)       # [Difference("num_attention_heads", 4, 8), ...], by flat values

Fields are compared by their effect, not by their spelling: `num_kv_heads: null` equals the number of heads, and `rotary_pct` is
ignored without rotary positions.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from neox_code.config.evaluation import EvaluationConfig
from neox_code.config.fields import FIELDS
from neox_code.config.generation import GenerationConfig
from neox_code.config.model import compute_feed_forward_size

Values = Mapping[str, Any]

MODEL = "model"
"""Effect of fields that change the model: after a change of such a field the weights cannot be used."""

OPTIMIZER_STATE = "optimizer state"
"""Effect of fields that change the optimizer's state: after a change the weights can be used, but not the optimizer's state."""

SCHEDULE = "schedule"
"""Effect of fields that change the update of the weights or the length of the run."""

ORDER = "order"
"""Effect of fields that change the samples or their order. Token files are compared by content, vocabularies by their ids."""

NO_EFFECT = "no effect"
"""Effect of fields that a resumed run may change freely: layout, logging, initialization, generation. File paths belong here too,
because the contents of the files are compared instead."""

FIELDS_BY_EFFECT: dict[str, tuple[str, ...]] = {
    MODEL: (
        *("num_layers", "hidden_size", "num_attention_heads", "num_kv_heads", "kv_channels", "max_position_embeddings"),
        *("intermediate_size", "expansion_factor", "mlp_multiple_of", "activation", "bias_gelu_fusion"),
        *("norm", "layernorm_epsilon", "rms_norm_epsilon", "qk_norm", "gpt_j_residual", "no_weight_tying"),
        *("pos_emb", "rotary_pct", "rotary_emb_base", "attention_config", "apply_query_key_layer_scaling"),
        *("use_bias_in_attn_linear", "use_bias_in_mlp"),
        *("token_smear", "embedding_skip", "value_residual"),
    ),
    OPTIMIZER_STATE: (
        *("optimizer_type", "use_bnb_optimizer", "precision"),
        *("lora_rank", "lora_alpha", "use_rslora", "use_dora", "lora_target_modules", "base_bits"),
        *("frozen_layers", "frozen_modules", "trained_token_rows", "first_trained_token_row", "loraplus_lr_ratio"),
    ),
    SCHEDULE: (
        *("lr", "muon_lr", "embedding_lr", "head_lr", "betas", "eps", "momentum", "dampening", "nesterov"),
        *("weight_decay", "gradient_clipping"),
        *("lr_decay_style", "lr_decay_iters", "lr_decay_fraction", "lr_decay_share"),
        *("min_lr", "warmup", "train_iters", "train_seconds", "average_decay"),
        *("reset_position_ids", "reset_attention_mask", "completion_only_loss", "z_loss_coefficient"),
        *("hidden_dropout", "attention_dropout", "mask_padded_vocab", "eod_mask_loss", "fp16", "deepspeed_extra_args"),
        *("lora_dropout", "neftune_noise_alpha"),
    ),
    ORDER: (
        *("seed", "seq_length", "train_batch_size", "rampup_batch_size", "sample_order", "pack_impl"),
        *("pack_rows", "long_rows", "bad_rows", "valid_share", "project_column"),
        *("row_format", "row_template", "prompt_column", "completion_column", "text_column", "messages_column"),
        *("row_language", "prefix_column", "middle_column", "suffix_column"),
        *("weight_by_num_documents", "weighted_sampler_alpha", "language_weights", "language_alpha", "directory_alpha"),
        *("unseen_share", "fim_rate", "fim_spm_rate", "fim_cut", "fim_syntax_rate"),
    ),
    NO_EFFECT: (
        *("init_method", "output_layer_init_method", "init_method_std"),
        *("make_vocab_size_divisible_by", "rotary_save_freqs_buffer"),
        *("pipe_parallel_size", "model_parallel_size", "pipe_partition_method", "checkpoint_activations", "checkpoint_num_layers"),
        *("sequence_parallel", "checkpoint_granularity", "torch_compile"),
        *("distributed_backend", "distributed_timeout_seconds", "hang_timeout_seconds", "stop_timeout_seconds"),
        *("global_num_gpus", "hostfile", "include", "exclude", "num_nodes", "num_gpus", "master_addr", "master_port", "launcher"),
        *("zero_stage", "zero_optimization", "train_micro_batch_size_per_gpu", "gradient_accumulation_steps"),
        *("data_path", "split", "data_cache_path", "num_workers", "valid_by_language"),
        *("train_data_paths", "valid_data_paths", "test_data_paths"),
        *("train_data_weights", "valid_data_weights", "test_data_weights"),
        *("train_rows", "valid_rows", "test_rows", "num_epochs"),
        *("tokenizer_type", "vocab_file", "merge_file", "merge_file_reader", "newlines"),
        *("heldout_path", "heldout_split", "heldout_bytes_per_language"),
        *("size", "budget_flops", "budget_hours", "device_tflops"),  # the keys that they set are compared
        *("log_interval", "gc_interval", "eval_interval", "eval_iters", "exit_interval", "exit_duration"),
        *("max_skipped_steps", "max_spike_steps", "max_rewinds", "profile", "profile_step_start", "profile_step_stop"),
        *("save", "load", "iteration", "finetune", "no_load_optim"),
        *("checkpoint_factor", "checkpoint_scale", "checkpoint_interval_seconds", "extra_save_iters", "keep_last_n_checkpoints"),
        *("max_unsaved_steps", "save_huggingface", "keep_best_checkpoint", "early_stop_evaluations", "adapters"),
        *("tensorboard_dir", "metrics_file", "log_dir", "peak_theoretical_tflops"),
        *("use_wandb", "wandb_project", "wandb_group", "wandb_run_name", "wandb_team", "use_trackio", "trackio_project"),
        *(field.name for section in (GenerationConfig, EvaluationConfig) for field in dataclasses.fields(section)),
    ),
}

ONLY_WITH: dict[str, dict[str, Any]] = {
    "layernorm_epsilon": {"norm": "layernorm"},
    "rms_norm_epsilon": {"norm": "rmsnorm", "qk_norm": True},
    "rotary_pct": {"pos_emb": "rotary"},
    "rotary_emb_base": {"pos_emb": "rotary"},
    "max_position_embeddings": {"pos_emb": "learned"},
    "apply_query_key_layer_scaling": {"pos_emb": "alibi"},
    "attention_config": {"apply_query_key_layer_scaling": True},
    "bias_gelu_fusion": {"activation": "gelu"},
    "fp16": {"precision": "fp16"},
}
"""Field -> conditions (another field and its value). The field has an effect if at least one condition is met."""

SAME_VALUES = {"adamw": "adam", "cpu_adam": "adam", "swish": "silu"}
"""Name of an optimizer or activation -> the name by which it is compared, because both names mean the same function."""


@dataclass(frozen=True)
class Difference:
    field: str
    before: Any
    now: Any


def compare(before: Values, now: Values, effect: str) -> list[Difference]:
    """Return the fields of one effect that differ between two configurations. `before` may lack fields.

    A field that only one configuration uses is omitted, because the field on which it depends is reported.
    """
    old, new = derive_values(before), derive_values(now)
    changed = {name for name in FIELDS if old[name] != new[name]}
    consequences = {name for name, others in ONLY_WITH.items() if not changed.isdisjoint(others)}
    return [Difference(name, old[name], new[name]) for name in FIELDS_BY_EFFECT[effect] if name in changed - consequences]


def derive_values(values: Values) -> dict[str, Any]:
    """Return all fields with derived defaults filled in, and None where a field has no effect.

    >>> found = derive_values({"hidden_size": 8, "num_attention_heads": 2, "max_position_embeddings": 64, "activation": "swish"})
    >>> found["num_kv_heads"], found["intermediate_size"], found["seq_length"], found["rotary_pct"], found["activation"]
    (2, 32, 64, None, 'silu')
    """
    found = {name: field.default for name, field in FIELDS.items()} | dict(values)
    found["num_kv_heads"] = found["num_kv_heads"] or found["num_attention_heads"]
    if found["kv_channels"] and found["kv_channels"] * found["num_attention_heads"] == found["hidden_size"]:
        found["kv_channels"] = None
    found["seq_length"] = found["seq_length"] or found["max_position_embeddings"]
    width = [found[name] for name in ("hidden_size", "intermediate_size", "expansion_factor", "activation", "mlp_multiple_of")]
    found |= {"intermediate_size": compute_feed_forward_size(*width), "expansion_factor": None, "mlp_multiple_of": None}
    found["betas"] = found["betas"] or ((0.9, 0.99) if found["optimizer_type"] == "lion" else (0.9, 0.999))
    if found["momentum"] is None:
        found["momentum"] = 0.95 if found["optimizer_type"] == "muon" else 0.0
    if found["optimizer_type"] == "sgd" and found["momentum"]:
        found["optimizer_type"] = "sgd with momentum"  # without it there is no state
    for name, others in ONLY_WITH.items():
        if all(found[other] != value for other, value in others.items()):
            found[name] = None
    return {name: normalize(value) for name, value in found.items()}


def normalize(value: Any) -> Any:
    """Return the value with lists instead of tuples and one name for synonyms."""
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [normalize(inner) for inner in value]
    return SAME_VALUES.get(value, value) if isinstance(value, str) else value
