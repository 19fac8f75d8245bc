"""The names and types in DeepSpeed's own dictionaries, so that a dry run finds settings that DeepSpeed would refuse.

    for problem in find_problems({"overlap_com": True}, ZERO):
        problem.inner, problem.text        # "overlap_com", "is an unknown key: did you mean overlap_comm? ..."

The names come from DeepSpeed's settings classes (runtime/zero/config.py, runtime/zero/offload_config.py,
runtime/precision_config.py, monitor/config.py) and from the functions that read its other dictionaries (runtime/config.py). Tests
compare the names with the installed DeepSpeed. `null` and `auto` mean DeepSpeed's defaults.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple

from neox_code.config.fields import convert
from neox_code.config.spelling import find_nearest, format_suggestion


class SettingProblem(NamedTuple):
    """A problem in a key's dictionary, at the dotted name `inner`. In a message the key and the value stand before `text`."""

    inner: str
    value: Any
    text: str


def assign_type(kind: Any, names: str) -> dict[str, Any]:
    """Return a dictionary with one type for several names, which are separated by spaces."""
    return dict.fromkeys(names.split(), kind)


STAGE_3_SETTINGS = (
    *("enable_sanity_checks", "leaf_module", "log_trace_cache_warnings", "memory_efficient_linear", "offload_param"),
    *("override_module_apply", "pipeline_loading_checkpoint", "sub_group_size", "zero_hpz_partition_size"),
    *("zero_quantized_gradients", "zero_quantized_nontrainable_weights", "zero_quantized_weights"),
)
"""Further names in `zero_optimization` that only ZeRO stage 3 reads; STAGE_3 has the others."""

OFFLOAD: dict[str, Any] = {"device": Literal["none", "cpu", "nvme"], "nvme_path": str, "buffer_count": int, "pin_memory": bool}

STAGE_3 = {
    **assign_type(
        int,
        "max_live_parameters max_reuse_distance model_persistence_threshold module_granularity_threshold "
        "param_persistence_threshold prefetch_bucket_size",
    ),
    **assign_type(bool, "allgather_sequential gather_16bit_weights_on_model_save use_all_reduce_for_fetch_params"),
}
"""Settings of ZeRO stage 3 -> type. Each name is accepted with or without the prefix `stage3_`."""

ZERO: dict[str, Any] = {
    **assign_type(int, "allgather_bucket_size reduce_bucket_size sub_group_size zero_hpz_partition_size"),
    **assign_type(
        bool,
        "allgather_partitions compute_grad_norm contiguous_gradients cpu_offload cpu_offload_param cpu_offload_use_pin_memory "
        "elastic_checkpoint enable_sanity_checks ignore_unused_parameters legacy_stage1 load_from_fp32_weights "
        "log_trace_cache_warnings memory_efficient_linear overlap_comm override_module_apply parameter_alignment "
        "pipeline_loading_checkpoint reduce_scatter round_robin_gradients save_muon_momentum_buffer_in_memory "
        "stage3_gather_fp16_weights_on_model_save use_multi_rank_bucket_allreduce zero_quantized_gradients "
        "zero_quantized_nontrainable_weights zero_quantized_weights",
    ),
    **STAGE_3,
    **{f"stage3_{name}": kind for name, kind in STAGE_3.items()},
    "offload_param": {**OFFLOAD, **assign_type(int, "buffer_size max_in_cpu")},
    "offload_optimizer": {
        **OFFLOAD,
        **assign_type(bool, "fast_init pipeline_read pipeline_write super_offload"),
        **assign_type(float, "cpuadam_cores_perc ratio"),
    },
    **assign_type(Any, "leaf_module zenflow"),
}
"""Settings in `zero_optimization`, except `stage`: name -> type, dictionary of inner names, or Any for an unchecked value."""

FP16: dict[str, Any] = {
    "loss_scale": float,
    **assign_type(int, "hysteresis initial_scale_power loss_scale_window min_loss_scale"),
    **assign_type(bool, "auto_cast consecutive_hysteresis fp16_master_weights_and_grads"),
}
"""The keys of DeepSpeed's section `fp16`, except `enabled` -> type."""

BF16 = assign_type(bool, "bf16_master_weights_and_grads bf16_optimizer_states check_grad_overflow immediate_grad_update")
"""The keys of DeepSpeed's section `bf16`, except `enabled` -> type."""

CHECKPOINT: dict[str, Any] = {
    "tag_validation": Literal["Ignore", "Warn", "Fail", "ignore", "warn", "fail", "IGNORE", "WARN", "FAIL"],
    "parallel_write": {"pipeline_stage": bool},
}
"""The keys of DeepSpeed's section `checkpoint`, except refused ones -> type."""

DTYPE_NAMES = {
    "fp32": ("fp32", "float32", "float", "torch.float32"),
    "fp16": ("fp16", "float16", "half", "torch.float16"),
    "bfloat16": ("bf16", "bfloat16", "torch.bfloat16"),
}
"""Value of `precision` -> names of the same type that DeepSpeed accepts in `data_types`."""

OTHERS: dict[str, Any] = {
    "communication_data_type": Literal["fp32", "fp16", "bf16"],
    "data_types": {"grad_accum_dtype": Literal[*(name for names in DTYPE_NAMES.values() for name in names)]},
    "csv_monitor": {"enabled": bool, **assign_type(str, "output_path job_name")},
    "aio": {
        **assign_type(int, "block_size queue_depth intra_op_parallelism"),
        **assign_type(bool, "single_submit overlap_events use_gds"),
    },
    "gradient_predivide_factor": float,
    **assign_type(bool, "prescale_gradients zero_force_ds_cpu_optimizer"),
}
"""DeepSpeed's top-level settings that this package supports and that are not keys of GPT-NeoX."""


def find_problems(given: Mapping[str, Any], known: Mapping[str, Any], prefix: str = "") -> Iterator[SettingProblem]:
    """Yield a problem for each name or value that DeepSpeed does not accept.

    >>> [problem.inner for problem in find_problems({"overlap_comm": None, "offload_param": {"device": "gpu"}}, ZERO)]
    ['offload_param.device']
    """
    for name, value in given.items():
        kind, inner = known.get(name), f"{prefix}{name}"
        if kind is None:
            yield SettingProblem(inner, value, f"is an unknown key: {format_suggestion(find_nearest(str(name), known))}")
        elif kind is Any or is_default(value):
            continue
        elif not isinstance(kind, Mapping):
            try:
                convert(value, kind)
            except ValueError as error:
                yield SettingProblem(inner, value, f"must be {error}.")
        elif isinstance(value, Mapping):
            yield from find_problems(value, kind, f"{inner}.")
        else:
            yield SettingProblem(inner, value, "must be a dictionary.")


def is_for_stage_3(name: str) -> bool:
    """Return True if only ZeRO stage 3 reads the setting of `zero_optimization`."""
    return name in STAGE_3_SETTINGS or name.removeprefix("stage3_") in STAGE_3


def is_default(value: Any) -> bool:
    """Return True if the value means DeepSpeed's default."""
    return value is None or value == "auto"
