"""The configuration as DeepSpeed's dictionary. Imports no DeepSpeed.

    deepspeed.initialize(model=model, optimizer=optimizer, config=deepspeed_dict(config, grid.data_size), ...)

Optimizer and learning rate are objects of our own, so the dictionary names neither.
"""

from collections.abc import Mapping
from typing import Any

from neox_code.config.neox import NeoXConfig

PRECISION_KEYS = {"fp32": None, "fp16": "fp16", "bfloat16": "bf16"}


def deepspeed_dict(config: NeoXConfig, data_parallel_size: int) -> dict[str, Any]:
    """The dictionary for deepspeed.initialize on so many data-parallel ranks.

    Raises ConfigError where the batch sizes do not come out even. ZeRO stage 0 becomes 1: without it DeepSpeed clips the
    gradients of pipeline stages wrongly and trains bf16 through an inexact wrapper.
    """
    optimizer = config.optimizer
    sizes = config.batch_sizes(data_parallel_size)
    settings: dict[str, Any] = {
        "train_batch_size": sizes.train_batch_size,
        "train_micro_batch_size_per_gpu": sizes.micro_batch_size,
        "gradient_accumulation_steps": sizes.accumulation_steps,
        "gradient_clipping": optimizer.gradient_clipping,
        "zero_optimization": {**optimizer.zero_optimization, "stage": max(1, optimizer.zero_stage)},
        "zero_allow_untested_optimizer": True,
    }
    precision = PRECISION_KEYS[config.model.precision]
    if precision:
        settings[precision] = {**(optimizer.fp16 if precision == "fp16" else {}), "enabled": True}
    return without_nulls(merged(settings, optimizer.deepspeed_extra_args))


def without_nulls(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings without those that are null, which is DeepSpeed's default; of some of them it would not take it.

    >>> without_nulls({"zero_optimization": {"stage": 1, "reduce_bucket_size": None}, "data_types": None})
    {'zero_optimization': {'stage': 1}}
    """
    return {
        key: without_nulls(value) if isinstance(value, Mapping) else value for key, value in settings.items() if value is not None
    }


def merged(settings: Mapping[str, Any], extra: Mapping[str, Any]) -> dict[str, Any]:
    """`extra` added to the settings; what both say keeps the settings' value.

    >>> merged({"bf16": {"enabled": True}}, {"bf16": {"check_grad_overflow": False}, "dump_state": False})
    {'bf16': {'check_grad_overflow': False, 'enabled': True}, 'dump_state': False}
    """
    both = {
        key: merged(value, extra[key])
        for key, value in settings.items()
        if isinstance(value, Mapping) and isinstance(extra.get(key), Mapping)
    }
    return {**extra, **settings, **both}
