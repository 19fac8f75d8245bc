"""Check the values of a configuration, alone and in combination. Each message contains the arithmetic.

    for problem in find_value_problems(values, show):
        print(problem.text)

`values` has a value for every field of every section; `show(name)` returns a field with its value and origin for a message.
"""

import dataclasses
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from neox_code.config.deepspeed_settings import DTYPE_NAMES
from neox_code.config.hugging_face import find_nearest_architecture, format_conflicts
from neox_code.config.model import MOST_LAYERS, ModelConfig, compute_feed_forward_size
from neox_code.config.optimizer import is_offloaded


@dataclass(frozen=True)
class Problem:
    """A problem with the values of some fields."""

    fields: tuple[str, ...]
    text: str


@dataclass(frozen=True)
class ValueRange:
    """Numbers from `low` to `high`; an open end is excluded.

    >>> 1.0 in ValueRange(0, 1, open_high=True), str(ValueRange(0, 1, open_low=True))
    (False, 'above 0 and at most 1')
    """

    low: float
    high: float = math.inf
    open_low: bool = False
    open_high: bool = False

    def __contains__(self, value: Any) -> bool:
        above = value > self.low if self.open_low else value >= self.low
        return above and (value < self.high if self.open_high else value <= self.high)

    def __str__(self) -> str:
        low = f"{'above' if self.open_low else 'at least'} {self.low:.15g}"
        return low if self.high == math.inf else f"{low} and {'below' if self.open_high else 'at most'} {self.high:.15g}"


AT_LEAST_ONE = ValueRange(1)
WIDTH = ValueRange(1, 2**20)
"""Accepted widths of a model. An untrusted configuration may contain any number, and tables of these sizes are allocated."""
NOT_NEGATIVE = ValueRange(0)
POSITIVE = ValueRange(0, open_low=True)
SHARE = ValueRange(0, 1)
PROBABILITY_BELOW_ONE = ValueRange(0, 1, open_high=True)

YEAR = 365 * 24 * 3600
RANKS = ValueRange(1, 1_000_000)
SAMPLES = ValueRange(1, 1_000_000)

SAMPLING_RANGES: dict[str, ValueRange] = {
    "temperature": ValueRange(0, open_high=True),
    "top_k": NOT_NEGATIVE,
    **dict.fromkeys(("top_p", "min_p"), SHARE),
    "repetition_penalty": ValueRange(0, open_low=True, open_high=True),
    **dict.fromkeys(("frequency_penalty", "presence_penalty"), ValueRange(-2, 2)),
}
"""Field of neox_code.generation.request.SamplingSettings -> the range of its values."""

RANGES: dict[str, ValueRange] = {
    "num_layers": ValueRange(1, MOST_LAYERS),
    **dict.fromkeys(("hidden_size", "num_attention_heads", "num_kv_heads", "kv_channels"), WIDTH),
    **dict.fromkeys(("max_position_embeddings", "seq_length"), ValueRange(1, 2**24)),
    **dict.fromkeys(("intermediate_size", "mlp_multiple_of"), ValueRange(1, 2**30)),
    "make_vocab_size_divisible_by": ValueRange(1, 2**16),
    **dict.fromkeys(("layernorm_epsilon", "rms_norm_epsilon", "rotary_emb_base", "init_method_std", "expansion_factor"), POSITIVE),
    "z_loss_coefficient": NOT_NEGATIVE,
    "rotary_pct": ValueRange(0, 1, open_low=True),
    **dict.fromkeys(("hidden_dropout", "attention_dropout"), PROBABILITY_BELOW_ONE),
    "pipe_parallel_size": NOT_NEGATIVE,
    "checkpoint_num_layers": AT_LEAST_ONE,
    "distributed_timeout_seconds": ValueRange(1, YEAR),
    "hang_timeout_seconds": ValueRange(0, YEAR),
    "stop_timeout_seconds": ValueRange(0, YEAR, open_low=True),
    "global_num_gpus": RANKS,
    **dict.fromkeys(("model_parallel_size", "num_gpus"), ValueRange(1, 1024)),
    "num_nodes": ValueRange(1, 10_000),
    "master_port": ValueRange(1, 65535),
    **dict.fromkeys(("lr", "muon_lr", "embedding_lr", "head_lr", "eps"), POSITIVE),
    **dict.fromkeys(("weight_decay", "gradient_clipping", "min_lr"), NOT_NEGATIVE),
    "betas": PROBABILITY_BELOW_ONE,
    "lr_decay_iters": AT_LEAST_ONE,
    "average_decay": PROBABILITY_BELOW_ONE,
    "lr_decay_fraction": POSITIVE,
    "lr_decay_share": ValueRange(0, 1, open_low=True),
    **dict.fromkeys(("momentum", "dampening"), SHARE),
    **dict.fromkeys(("warmup", "valid_share"), SHARE),
    **dict.fromkeys(("fim_rate", "fim_spm_rate", "fim_syntax_rate"), SHARE),
    **dict.fromkeys(("num_workers", "heldout_bytes_per_language"), NOT_NEGATIVE),
    **dict.fromkeys(("train_data_weights", "valid_data_weights", "test_data_weights"), NOT_NEGATIVE),
    **dict.fromkeys(("train_batch_size", "train_micro_batch_size_per_gpu", "gradient_accumulation_steps"), SAMPLES),
    **dict.fromkeys(("train_iters", "log_interval", "eval_interval", "checkpoint_factor", "exit_interval"), AT_LEAST_ONE),
    **dict.fromkeys(("max_skipped_steps", "max_unsaved_steps", "profile_step_start", "profile_step_stop"), AT_LEAST_ONE),
    "early_stop_evaluations": AT_LEAST_ONE,
    "max_spike_steps": ValueRange(1, 32),  # after half of the 64 recent losses a higher loss is the usual one
    "max_rewinds": NOT_NEGATIVE,
    **dict.fromkeys(("eval_iters", "iteration", "extra_save_iters", "gc_interval"), NOT_NEGATIVE),
    **dict.fromkeys(("weighted_sampler_alpha", "language_alpha", "directory_alpha"), ValueRange(0, 10)),
    **dict.fromkeys(
        ("lora_rank", "neftune_noise_alpha", "frozen_layers", "trained_token_rows", "first_trained_token_row"), NOT_NEGATIVE
    ),
    **dict.fromkeys(("lora_alpha", "loraplus_lr_ratio"), POSITIVE),
    **dict.fromkeys(("lora_dropout", "unseen_share"), PROBABILITY_BELOW_ONE),
    "seed": ValueRange(0, 2**32, open_high=True),
    "keep_last_n_checkpoints": AT_LEAST_ONE,
    **dict.fromkeys(("checkpoint_interval_seconds", "exit_duration", "peak_theoretical_tflops"), POSITIVE),
    **dict.fromkeys(("train_seconds", "num_epochs", "budget_flops", "budget_hours", "device_tflops"), POSITIVE),
    **dict.fromkeys(("maximum_tokens", "num_samples", "samples_per_prompt", "maximum_rows"), AT_LEAST_ONE),
    "eval_task_limit": AT_LEAST_ONE,
    "eval_timeout_seconds": POSITIVE,
    **dict.fromkeys(("kept_head_tokens", "prefix_cache_gib", "prompt_lookup_num_tokens"), NOT_NEGATIVE),
    **SAMPLING_RANGES,
}

Values = Mapping[str, Any]
Show = Callable[[str], str]


def find_value_problems(values: Values, show: Show) -> Iterator[Problem]:
    """Yield all problems of the values."""
    outside = set()
    for name, value_range in RANGES.items():
        found = values[name] if isinstance(values[name], tuple) else (values[name],)
        if any(value is not None and value not in value_range for value in found):
            outside.add(name)
            yield Problem((name,), f"{show(name)} must be {value_range}.")
    for check in CHECKS:
        yield from (problem for problem in check(values, show) if outside.isdisjoint(problem.fields))


def check_multiple(values: Values, show: Show, name: str, unit: str) -> Iterator[Problem]:
    value, divisor = values[name], values[unit]
    if divisor > 0 and value % divisor:
        below = value // divisor * divisor
        nearest = " or ".join(str(number) for number in (below, below + divisor) if number)
        yield Problem((name, unit), f"{show(name)} must be a multiple of {show(unit)}. Nearest: {nearest}.")


def check_heads(values: Values, show: Show) -> Iterator[Problem]:
    """If the width of a head is not set (`kv_channels`), check that `hidden_size` is a multiple of the number of heads."""
    if values["kv_channels"] is None:
        yield from check_multiple(values, show, "hidden_size", "num_attention_heads")


def check_tensor_parallel_heads(values: Values, show: Show) -> Iterator[Problem]:
    yield from check_multiple(values, show, "num_attention_heads", "model_parallel_size")


def check_grouped_heads(values: Values, show: Show) -> Iterator[Problem]:
    if values["num_kv_heads"] is not None:
        yield from check_multiple(values, show, "num_attention_heads", "num_kv_heads")
        yield from check_multiple(values, show, "num_kv_heads", "model_parallel_size")


WIDTH_KEYS = ("hidden_size", "intermediate_size", "expansion_factor", "activation", "mlp_multiple_of")


def check_average(values: Values, show: Show) -> Iterator[Problem]:
    """Check that no part of the model and of the optimizer's state is missing for an average of the weights."""
    others = {"zero_stage": values["zero_stage"] == 3}
    others |= {key: bool(values[key]) for key in ("lora_rank", "trained_token_rows")}
    for other in (key for key, is_used in others.items() if is_used and values["average_decay"] is not None):
        pair = ("average_decay", other)
        yield Problem(pair, f"{show(pair[0])} and {show(pair[1])} exclude each other: averages are of whole models. Remove one.")


def check_rampup(values: Values, show: Show) -> Iterator[Problem]:
    if values["rampup_batch_size"] is not None and values["zero_stage"] >= 2:
        pair = ("rampup_batch_size", "zero_stage")
        yield Problem(pair, f"{show(pair[0])} and {show(pair[1])} exclude each other. Set zero_optimization.stage to 1.")


def check_feed_forward_width(values: Values, show: Show) -> Iterator[Problem]:
    if values["intermediate_size"] is not None and values["expansion_factor"] is not None:
        pair = ("intermediate_size", "expansion_factor")
        yield Problem(pair, f"{show(pair[0])} and {show(pair[1])} exclude each other. Remove one of them.")


def check_tensor_parallel_feed_forward(values: Values, show: Show) -> Iterator[Problem]:
    """Check that the width after the activation is a multiple of the number of tensor ranks.

    The default width, 4 * hidden_size, needs no check of its own: another check makes the number of heads a multiple of the ranks.
    """
    if min(values["mlp_multiple_of"], values["model_parallel_size"]) < 1:
        return
    width, ranks = compute_feed_forward_size(*(values[name] for name in WIDTH_KEYS)), values["model_parallel_size"]
    if width == values["intermediate_size"]:
        yield from check_multiple(values, show, "intermediate_size", "model_parallel_size")
    elif width < 1 or (width % ranks and (values["kv_channels"] or width != 4 * values["hidden_size"])):
        yield Problem(
            (*WIDTH_KEYS, "model_parallel_size"),
            f"the feed-forward layer is {width} wide ({', '.join(show(name) for name in WIDTH_KEYS if values[name] is not None)}), "
            f"which must be a multiple of {show('model_parallel_size')}. Set mlp_multiple_of to {ranks}.",
        )


def check_rotary_dimensions(values: Values, show: Show) -> Iterator[Problem]:
    """Check that the number of rotated dimensions is even."""
    width, count, head_dim = values["hidden_size"], values["num_attention_heads"], values["kv_channels"]
    if values["pos_emb"] != "rotary" or (head_dim is None and (count < 1 or width % count)):
        return
    head_dim = head_dim or width // count
    rotated = int(head_dim * values["rotary_pct"])
    if rotated < 2 or rotated % 2:
        yield Problem(
            ("rotary_pct", "hidden_size", "num_attention_heads", "kv_channels"),
            f"{show('rotary_pct')} rotates {rotated} of a head's {head_dim} dimensions, which must be an even number above 0. "
            "Set rotary_pct to 1.0, or change the heads.",
        )


def check_context_length(values: Values, show: Show) -> Iterator[Problem]:
    if (values["seq_length"] or 0) > values["max_position_embeddings"]:
        yield Problem(
            ("seq_length", "max_position_embeddings"),
            f"{show('seq_length')} must be at most {show('max_position_embeddings')}. Lower seq_length or "
            "raise max_position_embeddings.",
        )


def check_parts_of_sequences(values: Values, show: Show) -> Iterator[Problem]:
    if values["sequence_parallel"]:
        name = "max_position_embeddings" if values["seq_length"] is None else "seq_length"
        yield from check_multiple(values, show, name, "model_parallel_size")


def check_stages(values: Values, show: Show) -> Iterator[Problem]:
    if values["pipe_parallel_size"] > values["num_layers"]:
        yield Problem(
            ("pipe_parallel_size", "num_layers"),
            f"{show('pipe_parallel_size')} must be at most {show('num_layers')}: each stage needs a layer.",
        )


def check_partition_method(values: Values, show: Show) -> Iterator[Problem]:
    """Check pipe_partition_method. DeepSpeed converts it to lower case and splits it at every colon."""
    method = values["pipe_partition_method"].lower()
    kind, _, expression = method.partition(":")
    if method not in ("parameters", "uniform") and not (
        kind == "type" and ":" not in expression and is_regular_expression(expression)
    ):
        yield Problem(
            ("pipe_partition_method",),
            f"{show('pipe_partition_method')} must be parameters, uniform, or type: and a regular expression without a colon, "
            "such as type:transformer.",
        )


def is_regular_expression(text: str) -> bool:
    """Return True if the text is a regular expression that is not empty."""
    try:
        return bool(text and re.compile(text))
    except re.error:
        return False


def check_zero_with_pipeline(values: Values, show: Show) -> Iterator[Problem]:
    if values["zero_stage"] >= 2 and values["pipe_parallel_size"] >= 1:
        yield Problem(
            ("zero_stage", "pipe_parallel_size"),
            f"{show('zero_stage')} divides gradients, which DeepSpeed's pipeline engine ({show('pipe_parallel_size')}) cannot. "
            "Set pipe_parallel_size to 0, or zero_stage to 1.",
        )


def check_learning_rates(values: Values, show: Show) -> Iterator[Problem]:
    if values["lr"] is not None and values["min_lr"] > values["lr"]:
        yield Problem(("min_lr", "lr"), f"{show('min_lr')} must be at most {show('lr')}. Lower min_lr or raise lr.")


def check_decay_ends(values: Values, show: Show) -> Iterator[Problem]:
    if values["lr_decay_iters"] and values["lr_decay_fraction"]:
        yield Problem(
            ("lr_decay_iters", "lr_decay_fraction"),
            f"{show('lr_decay_iters')} and {show('lr_decay_fraction')} exclude each other. Remove one of them.",
        )


def check_muon(values: Values, show: Show) -> Iterator[Problem]:
    """Check that Muon or Adafactor finds whole matrices: ZeRO stage 1 divides the state in their order, and 8-bit states have
    neither."""
    if values["optimizer_type"] not in ("muon", "adafactor"):
        return
    kind, zero = show("optimizer_type"), values["zero_optimization"]
    if values["zero_stage"] > 1:
        yield Problem(
            ("optimizer_type", "zero_stage"),
            f"{kind} needs the whole gradient of a matrix, which {show('zero_stage')} divides. "
            "Set zero_optimization.stage to 1, or optimizer.type to adam.",
        )
    if zero.get("round_robin_gradients"):
        yield Problem(
            ("optimizer_type", "zero_optimization"),
            f"{kind} needs the parameters in their order, which {show('zero_optimization')} changes. Remove round_robin_gradients.",
        )
    if values["use_bnb_optimizer"]:
        yield Problem(
            ("optimizer_type", "use_bnb_optimizer"),
            f"{show('use_bnb_optimizer')} has Adam, SGD and Lion, and not {kind}. Remove one of them.",
        )


def check_eight_bit_states(values: Values, show: Show) -> Iterator[Problem]:
    if values["use_bnb_optimizer"] and values["optimizer_type"] == "cpu_adam":
        yield Problem(
            ("use_bnb_optimizer", "optimizer_type"),
            f"{show('use_bnb_optimizer')} keeps states on the GPU, and {show('optimizer_type')} on the host. Remove one of them.",
        )


def check_offloaded_states(values: Values, show: Show) -> Iterator[Problem]:
    if is_offloaded(values["zero_optimization"]) and values["optimizer_type"] != "cpu_adam":
        yield Problem(
            ("zero_optimization", "optimizer_type"),
            f"{show('zero_optimization')} keeps optimizer states in the host's memory, which {show('optimizer_type')} cannot. "
            "Set optimizer.type to cpu_adam, or remove offload_optimizer.",
        )


def check_gradient_dtype(values: Values, show: Show) -> Iterator[Problem]:
    """Check that gradients are summed in the model's precision or in fp32, and that DeepSpeed supports it for this layout."""
    extra = "deepspeed_extra_args"
    name, precision = (values[extra].get("data_types") or {}).get("grad_accum_dtype"), values["precision"]
    if name is None:
        return
    if name not in (*DTYPE_NAMES["fp32"], *DTYPE_NAMES[precision]):
        yield Problem(
            (extra, "precision"),
            f"{show(extra)}: gradients of {show('precision')} are summed in that precision or in fp32 only. "
            "Remove grad_accum_dtype, or set it to fp32.",
        )
    elif name not in DTYPE_NAMES[precision] and is_tied_gradient_summed_in_16_bits(values):
        reason = show("zero_optimization") if is_offloaded(values["zero_optimization"]) else show("precision")
        yield Problem(
            (extra, "precision", "pipe_parallel_size", "no_weight_tying", "zero_optimization"),
            f"{show(extra)}: with {reason}, DeepSpeed loses the fp32 gradient of the tied embedding ({show('no_weight_tying')}) "
            f"between the stages of {show('pipe_parallel_size')}. Remove grad_accum_dtype, or set no_weight_tying to true or "
            "pipe_parallel_size to 1.",
        )


def is_tied_gradient_summed_in_16_bits(values: Values) -> bool:
    """Return True if DeepSpeed would add a tied embedding's gradients from two pipeline stages in 16 bits and lose precision.

    Only DeepSpeed's bf16 optimizer (ZeRO stage 1, optimizer states on the GPU) adds these gradients in fp32.
    """
    is_tied = values["pipe_parallel_size"] > 1 and not values["no_weight_tying"]
    return is_tied and (values["precision"] == "fp16" or is_offloaded(values["zero_optimization"]))


def check_gradient_scaling(values: Values, show: Show) -> Iterator[Problem]:
    """Check the settings that scale gradients before their sum over ranks."""
    extra, zero = values["deepspeed_extra_args"], values["zero_optimization"]
    divisor, is_prescaled = extra.get("gradient_predivide_factor"), extra.get("prescale_gradients")
    if divisor is not None and divisor <= 0:
        yield Problem(("deepspeed_extra_args",), f"{show('deepspeed_extra_args')}: gradient_predivide_factor must be above 0.")
    elif values["zero_stage"] >= 2 and zero.get("reduce_scatter") is not False and (is_prescaled or divisor not in (None, 1)):
        yield Problem(
            ("deepspeed_extra_args", "zero_stage", "zero_optimization"),
            f"{show('deepspeed_extra_args')}: DeepSpeed cannot scale gradients before their sum with {show('zero_stage')}. "
            "Remove it, or set zero_optimization.reduce_scatter to false.",
        )


def check_master_weights(values: Values, show: Show) -> Iterator[Problem]:
    if is_offloaded(values["zero_optimization"]):
        return
    for field, settings in (("fp16", values["fp16"]), ("deepspeed_extra_args", values["deepspeed_extra_args"].get("bf16") or {})):
        if any(value is True and name.endswith("master_weights_and_grads") for name, value in settings.items()):
            yield Problem(
                (field, "zero_optimization"),
                f"{show(field)}: master weights in 16 bits need optimizer states in the host's memory. "
                "Remove it, or set zero_optimization.offload_optimizer.device to cpu.",
            )


def check_offloaded_parameters(values: Values, show: Show) -> Iterator[Problem]:
    offload = values["zero_optimization"].get("offload_param")
    device = offload.get("device") if isinstance(offload, Mapping) else None
    if device not in (None, "none", "auto") and values["zero_stage"] < 3:
        yield Problem(
            ("zero_optimization", "zero_stage"),
            f"{show('zero_optimization')}: offload_param has an effect at ZeRO stage 3 only, and {show('zero_stage')}. "
            "Remove offload_param, or use stage 3.",
        )


def check_nesterov_momentum(values: Values, show: Show) -> Iterator[Problem]:
    if values["nesterov"] and (not values["momentum"] or values["dampening"]):
        yield Problem(
            ("nesterov", "momentum", "dampening"),
            f"{show('nesterov')} needs a {show('momentum')} above 0 and a {show('dampening')} of 0.",
        )


def check_data_sources(values: Values, show: Show) -> Iterator[Problem]:
    """Check that data_path or the lists of paths are set, and that weights match their paths."""
    for part in ("train", "valid", "test"):
        paths, weights = f"{part}_data_paths", f"{part}_data_weights"
        if values["data_path"] and values[paths]:
            yield Problem(("data_path", paths), f"{show('data_path')} and {show(paths)} exclude each other. Remove one of them.")
        if values[weights] and len(values[weights]) != len(values[paths]):
            yield Problem(
                (paths, weights),
                f"{show(weights)} has {len(values[weights])} entries for the {len(values[paths])} of {show(paths)}. "
                "Give one to each file.",
            )
        elif values[weights] and not sum(values[weights]):
            yield Problem((weights,), f"{show(weights)} must have an entry above 0.")


def check_sampling(values: Values, show: Show) -> Iterator[Problem]:
    """Check that at most one key weighs the training data, that weights by language are numbers, and that orders fit."""
    weights = [name for name in ("train_data_weights", "weight_by_num_documents", "language_weights") if values[name]]
    weights += ["language_alpha"] if values["language_alpha"] is not None else []
    if len(weights) > 1:
        yield Problem(tuple(weights), f"{' and '.join(map(show, weights))} exclude each other. Keep one of them.")
    by_language = values["language_weights"]
    numbers = [number for number in by_language.values() if isinstance(number, (int, float)) and not isinstance(number, bool)]
    if by_language and (len(numbers) < len(by_language) or min(numbers) < 0 or not sum(numbers)):
        yield Problem(
            ("language_weights",),
            f"{show('language_weights')} must have a number of at least 0 for each language, not all 0: {{Python: 2, C: 1}}.",
        )
    for name, is_used in (
        ("pack_impl", values["pack_impl"] != "packed"),
        ("directory_alpha", values["directory_alpha"] is not None),
    ):
        if is_used and values["sample_order"] == "all_epochs":
            yield Problem((name, "sample_order"), f"{show(name)} needs sample_order: per_epoch. Remove {show('sample_order')}.")


def check_host_filters(values: Values, show: Show) -> Iterator[Problem]:
    if values["include"] and values["exclude"]:
        yield Problem(("include", "exclude"), f"{show('include')} and {show('exclude')} exclude each other. Remove one of them.")


def check_rows(values: Values, show: Show) -> Iterator[Problem]:
    """Check that keys of the rows do not exclude each other."""
    for pair in (("valid_share", "valid_rows"), ("num_epochs", "train_iters")):
        if all(values[name] for name in pair):
            yield Problem(pair, f"{show(pair[0])} and {show(pair[1])} exclude each other. Remove one of them.")


def check_save_scale(values: Values, show: Show) -> Iterator[Problem]:
    if values["checkpoint_scale"] == "log" and (values["checkpoint_factor"] or 0) < 2:
        yield Problem(
            ("checkpoint_scale", "checkpoint_factor"),
            f"{show('checkpoint_scale')} writes a checkpoint at each power of checkpoint_factor, which must then be at least 2: "
            f"{show('checkpoint_factor')}.",
        )


def check_profile_steps(values: Values, show: Show) -> Iterator[Problem]:
    pair = ("profile_step_start", "profile_step_stop")
    if values["profile"] and values[pair[0]] > values[pair[1]]:
        yield Problem(pair, f"{show(pair[0])} must be at most {show(pair[1])}.")


def check_hugging_face_folders(values: Values, show: Show) -> Iterator[Problem]:
    """If `save_huggingface` is set, check that the model can be written as a model of Hugging Face."""
    if not values["save_huggingface"] or min(values["num_attention_heads"], values["num_kv_heads"] or 1) < 1:
        return
    if values["zero_stage"] == 3:
        yield Problem(
            ("save_huggingface", "zero_stage"),
            f"{show('save_huggingface')} needs whole weights, and {show('zero_stage')} divides them over the data ranks' files. "
            "Set zero_optimization.stage to 2 or less, or remove save_huggingface.",
        )
    model = ModelConfig(**{field.name: values[field.name] for field in dataclasses.fields(ModelConfig)})
    if conflicts := format_conflicts(model, show):
        keys = tuple(find_nearest_architecture(model)[1])
        yield Problem(("save_huggingface", *keys), f"{conflicts} Change them, or remove {show('save_huggingface')}.")


CHECKS = (
    check_heads,
    check_tensor_parallel_heads,
    check_grouped_heads,
    check_average,
    check_rampup,
    check_feed_forward_width,
    check_tensor_parallel_feed_forward,
    check_rotary_dimensions,
    check_context_length,
    check_parts_of_sequences,
    check_stages,
    check_partition_method,
    check_zero_with_pipeline,
    check_learning_rates,
    check_decay_ends,
    check_muon,
    check_eight_bit_states,
    check_offloaded_states,
    check_offloaded_parameters,
    check_gradient_dtype,
    check_gradient_scaling,
    check_master_weights,
    check_nesterov_momentum,
    check_data_sources,
    check_sampling,
    check_host_filters,
    check_rows,
    check_hugging_face_folders,
    check_save_scale,
    check_profile_steps,
)
