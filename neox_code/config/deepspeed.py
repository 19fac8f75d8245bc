"""Make the dictionary of settings that DeepSpeed takes from a configuration. This module does not import DeepSpeed.

    deepspeed.initialize(model=model, optimizer=optimizer, config=make_deepspeed_dict(config, sizes), ...)

The optimizer and the learning rate are this project's own objects; the dictionary contains neither.
"""

from collections.abc import Mapping
from typing import Any

from neox_code.config.checks import is_tied_gradient_summed_in_16_bits
from neox_code.config.deepspeed_settings import DTYPE_NAMES, is_for_stage_3
from neox_code.config.derive import BatchSizes
from neox_code.config.neox import NeoXConfig

PRECISION_KEYS = {"fp32": None, "fp16": "fp16", "bfloat16": "bf16"}

NUMERICS: Mapping[str, Any] = {
    "prescale_gradients": False,  # gradients are divided by the number of data ranks after their sum, not rounded before it
    "gradient_predivide_factor": 1.0,
}
"""DeepSpeed's defaults that affect results. They are passed explicitly, so that a DeepSpeed version with other defaults gives the
same results. Keys of the configuration replace these values."""

ZERO_NUMERICS: Mapping[str, Any] = {
    "round_robin_gradients": False,  # the order of a reduction's parts does not depend on timing
    "zero_quantized_gradients": False,
    "zero_quantized_weights": False,
}

FP16_NUMERICS: Mapping[str, Any] = {  # GPT-NeoX's
    "loss_scale": 0,  # dynamic
    "initial_scale_power": 16,
    "loss_scale_window": 1000,
    "hysteresis": 2,
    "min_loss_scale": 1,
    "fp16_master_weights_and_grads": False,
}

BF16_NUMERICS: Mapping[str, Any] = {
    "check_grad_overflow": True,  # a gradient that is not finite changes no weight
    "immediate_grad_update": True,  # a micro batch's gradient is freed once it is added to the fp32 sum
    "bf16_master_weights_and_grads": False,
    "bf16_optimizer_states": False,
}


LOSS_SCALE_SETTINGS = {
    *("loss_scale", "initial_scale_power", "loss_scale_window", "hysteresis", "min_loss_scale", "consecutive_hysteresis")
}
"""Settings of `fp16` that the plain engine has too."""


def find_need_of_deepspeed(config: NeoXConfig) -> str | None:
    """Return the keys that need DeepSpeed's engine, as KEY (VALUE, ORIGIN); None for a run of the plain engine."""
    section, optimizer = config.parallelism, config.optimizer
    zero, has_stages = drop_nulls(optimizer.zero_optimization), section.pipe_parallel_size > 0
    needs = {
        "pipe_parallel_size": section.pipe_parallel_size > 1,
        "zero_stage": optimizer.zero_stage > 1,
        "zero_optimization": optimizer.offloads_optimizer or "offload_param" in zero or bool(zero.get("round_robin_gradients")),
        "optimizer_type": optimizer.optimizer_type == "cpu_adam",
        "use_bnb_optimizer": optimizer.use_bnb_optimizer,
        "deepspeed_extra_args": bool(drop_nulls(optimizer.deepspeed_extra_args)),
        "fp16": not drop_nulls(optimizer.fp16).keys() <= LOSS_SCALE_SETTINGS,
        "checkpoint_num_layers": section.checkpoint_activations and section.checkpoint_num_layers > 1 and has_stages,
    }
    found = [config.format_key(key) for key, is_needed in needs.items() if is_needed]
    return ", ".join(found) or None


def make_deepspeed_dict(config: NeoXConfig, sizes: BatchSizes) -> dict[str, Any]:
    """Return the dictionary for deepspeed.initialize.

    ZeRO stage 0 becomes 1: at stage 0 DeepSpeed clips the gradients of pipeline stages wrongly and trains bf16 with an inexact
    wrapper.
    """
    optimizer = config.optimizer
    stage = max(1, optimizer.zero_stage)
    given = {name: value for name, value in optimizer.zero_optimization.items() if stage == 3 or not is_for_stage_3(name)}
    settings: dict[str, Any] = {
        "train_batch_size": sizes.train_batch_size,
        "train_micro_batch_size_per_gpu": sizes.micro_batch_size,
        "gradient_accumulation_steps": sizes.accumulation_steps,
        "gradient_clipping": optimizer.gradient_clipping,
        "zero_optimization": {
            **ZERO_NUMERICS,
            **drop_nulls(given),
            "stage": stage,
        },
        "zero_allow_untested_optimizer": True,
        "timers": {"throughput": {"enabled": False}},  # these would make the device wait twice for each micro batch
    }
    if (
        config.parallelism.sequence_parallel or config.model.value_residual
    ):  # tensor ranks hold different activations, of which none can pass on a part for all
        settings["pipeline"] = {"pipe_partitioned": False, "grad_partitioned": False}
    precision = PRECISION_KEYS[config.model.precision]
    if precision:
        settings[precision] = {**(drop_nulls(optimizer.fp16) if precision == "fp16" else {}), "enabled": True}
    return drop_nulls(
        merge_settings(merge_settings(settings, drop_nulls(optimizer.deepspeed_extra_args)), make_precision_settings(config))
    )


def make_precision_settings(config: NeoXConfig) -> dict[str, Any]:
    """Return the precision settings that affect results and that the configuration does not set.

    In bf16 runs, the gradients of micro batches and data ranks are summed in fp32, because a bf16 sum loses the lower bits of each
    summand (at 64 micro batches the error is 0.9% of the gradient).
    """
    settings = dict(NUMERICS)
    if config.model.precision == "fp16":
        settings["fp16"] = FP16_NUMERICS
    if config.model.precision == "bfloat16":
        settings["bf16"] = BF16_NUMERICS
        if not is_tied_gradient_summed_in_16_bits(config.values()):
            settings |= {"data_types": {"grad_accum_dtype": "fp32"}, "communication_data_type": "fp32"}
    return settings


def sums_gradients_in_fp32(config: NeoXConfig) -> bool:
    """Return True if the gradients of a 16-bit model are summed in fp32 over micro batches."""
    given = drop_nulls(config.optimizer.deepspeed_extra_args).get("data_types", {})
    return {**make_precision_settings(config).get("data_types", {}), **given}.get("grad_accum_dtype") in DTYPE_NAMES["fp32"]


def drop_nulls(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings without null values. In a configuration null means DeepSpeed's default, but DeepSpeed refuses some nulls.

    >>> drop_nulls({"zero_optimization": {"stage": 1, "reduce_bucket_size": None}, "data_types": None})
    {'zero_optimization': {'stage': 1}}
    """
    return {key: drop_nulls(value) if isinstance(value, Mapping) else value for key, value in settings.items() if value is not None}


def merge_settings(settings: Mapping[str, Any], extra: Mapping[str, Any]) -> dict[str, Any]:
    """Return `settings` with the keys of `extra` added. A key in both keeps the value of `settings`.

    >>> merge_settings({"bf16": {"enabled": True}}, {"bf16": {"check_grad_overflow": False}, "dump_state": False})
    {'bf16': {'check_grad_overflow': False, 'enabled': True}, 'dump_state': False}
    """
    both = {
        key: merge_settings(value, extra[key])
        for key, value in settings.items()
        if isinstance(value, Mapping) and isinstance(extra.get(key), Mapping)
    }
    return {**extra, **settings, **both}
