"""A whole configuration from one number: `size`, `budget_flops` or `budget_hours` set depth, width, heads, batch, rate and horizon.

    plan = plan_sizes({"size": "160M"})
    plan["num_layers"]             # Planned(14, "size 160M: 157,986,048 parameters, vocabulary of 50,304; width near 64 * ...")

The rules, with their sources. A key that the user sets replaces its rule, and the others follow it.

    shape      the model nearest to `size` whose width is near 64 * depth (nanochat; GPT-3's table has 48 to 107)
    heads      of 64 dimensions below width 2,048 (GPT-2, PolyCoder), of 128 from there (Qwen3, nanochat)
    gated      8/3 of the width after the gate, in multiples of 64 (Shazeer 2020, "GLU variants"; LLaMA)
    tokens     20 for each parameter (Hoffmann et al. 2022, Chinchilla), or those that the budget pays for
    batch      2 ** 19 tokens for 1.32e9 tokens of training (nanochat's depth 12), and with the power 0.383 of the tokens
               ("Power Lines", Bergsma et al. 2025); rounded to a power of two
    rate       6e-4 at width 768 (GPT-3's table), and with 1 / width (muP, Yang et al. 2022), for every batch of the rule above
"""

import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

from neox_code.config.derive import compute_padded_vocab_size
from neox_code.config.fields import FIELDS
from neox_code.config.model import GATED, ModelConfig
from neox_code.config.model_size import compute_training_flops_per_token, count_parameters
from neox_code.errors import ConfigError
from neox_code.machine import cpu_computes_bf16, find_known_peak, read_gpu_names
from neox_code.processes.workers import count_available_cores
from neox_code.tokenizer.vocabulary_file import count_vocabulary_entries

SIZING = ("size", "budget_flops", "budget_hours")
SIZED_BY = (
    *("num_layers", "hidden_size", "num_attention_heads", "num_kv_heads", "kv_channels", "max_position_embeddings", "seq_length"),
    *("intermediate_size", "expansion_factor", "mlp_multiple_of", "make_vocab_size_divisible_by", "model_parallel_size"),
    *("train_iters", "train_batch_size", "gradient_accumulation_steps", "global_num_gpus"),
    *("budget_flops", "budget_hours", "device_tflops", "peak_theoretical_tflops"),
)
"""Keys with which the rules calculate. If one of them is not above 0, the checks of values report it, and no rule is used."""

ASSUMED_VOCABULARY = 50257
"""Number of vocabulary entries that is assumed if the vocabulary is missing: that of GPT-2 and PolyCoder."""

ASPECT = 64
MOST_LAYERS = 160
MOST_WIDTH = 1 << 16
TOKENS_PER_PARAMETER = 20
REFERENCE_BATCH, REFERENCE_TOKENS, BATCH_EXPONENT = 2**19, 1.32e9, 0.383
REFERENCE_RATE, REFERENCE_WIDTH = 6e-4, 768
MICRO_BATCH_TOKENS = 16_384
"""Tokens of a micro batch at width 768; fewer in proportion to the width."""

UTILIZATION = 0.4
"""Share of a GPU's peak that training reaches: 33 to 50% in reports of torchtitan, Megatron-LM and nanochat on H100."""

CORE_TFLOPS = {True: 0.1, False: 0.03}
"""TFLOP/s of one CPU core with and without bf16 instructions: estimates from the step times of the quickstart's model."""

SUFFIXES = {"K": 1e3, "M": 1e6, "B": 1e9, "T": 1e12}
TOLERANCE = 0.05
"""Greatest difference between `size` and the nearest model; five times as much if the user set depth or width."""


@dataclass(frozen=True)
class Planned:
    """A value that a rule sets, with the rule and its source."""

    value: Any
    rule: str


def read_size(text: str) -> float:
    """Return a number of parameters. Raise ConfigError for another text.

    >>> read_size("160M"), read_size("2.7B"), read_size("85000")
    (160000000.0, 2700000000.0, 85000.0)
    """
    digits, factor = (text[:-1], SUFFIXES[text[-1:].upper()]) if text[-1:].upper() in SUFFIXES else (text, 1.0)
    try:
        size = float(digits) * factor
    except ValueError:
        size = 0.0
    if not 0 < size < 1e14:
        raise ConfigError(f"{text!r} is no number of parameters. Write size as 160M, 2.7B or 160000000.")
    return size


def count_devices(given: Mapping[str, Any]) -> int:
    """Return the number of ranks that keys set, else that of this machine's GPUs, and at least 1."""
    ranks = given.get("global_num_gpus") or (given.get("num_gpus") or 0) * (given.get("num_nodes") or 1)
    return ranks or len(read_gpu_names()) or 1


def compute_budget(given: Mapping[str, Any]) -> tuple[float, str] | None:
    """Return the run's FLOPs and a text on their origin; None without a budget."""
    if given.get("budget_flops"):
        return given["budget_flops"], f"budget_flops {given['budget_flops']:g}"
    if not given.get("budget_hours"):
        return None
    hours, devices, names = given["budget_hours"], count_devices(given), read_gpu_names()
    peak = given.get("peak_theoretical_tflops") or (find_known_peak(names[0]) if names else None)
    if given.get("device_tflops"):
        speed, source = devices * given["device_tflops"], f"{devices} * {given['device_tflops']:g} TFLOP/s of device_tflops"
    elif peak:
        speed, source = devices * UTILIZATION * peak, f"{devices} * {UTILIZATION:.0%} of a peak of {peak:g} TFLOP/s"
    elif names:
        raise ConfigError(f"budget_hours: the speed of {names[0]} is not known. Set device_tflops, or budget_flops instead.")
    else:
        cores, each = count_available_cores(), CORE_TFLOPS[cpu_computes_bf16()]
        speed, source = cores * each, f"{cores} CPU cores * {each:g} TFLOP/s"
    return hours * 3600 * speed * 1e12, f"budget_hours {hours:g} at {source}"


class Shapes:
    """The shapes that fit the keys which the user set, and their sizes."""

    def __init__(self, given: Mapping[str, Any]):
        self.given = given
        names = [field.name for field in fields(ModelConfig)]
        self.model_values = {name: given.get(name, FIELDS[name].default) for name in names}
        self.model_values["max_position_embeddings"] = given.get("max_position_embeddings") or 2048
        entries = count_vocabulary_entries(self.get("tokenizer_type"), given.get("vocab_file")) or ASSUMED_VOCABULARY
        self.vocabulary = compute_padded_vocab_size(
            entries, self.get("make_vocab_size_divisible_by"), self.get("model_parallel_size")
        )
        heads, width = given.get("num_attention_heads"), given.get("kv_channels")
        groups = math.lcm(self.get("model_parallel_size"), given.get("num_kv_heads") or 1)
        self.step = (64 if width else 8 * heads) if heads else (width or 64) * groups
        """Number of which the width is a multiple."""

    def get(self, name: str) -> Any:
        return self.given.get(name, FIELDS[name].default)

    def make(self, num_layers: int, hidden_size: int) -> ModelConfig:
        """Return the model of a depth and width."""
        values = {**self.model_values, "num_layers": num_layers, "hidden_size": hidden_size}
        if not values["num_attention_heads"]:
            wide = hidden_size >= 2048 and hidden_size % (2 * self.step) == 0
            values["num_attention_heads"] = hidden_size // (values["kv_channels"] or (128 if wide else 64))
        if values["activation"] in GATED and not (values["intermediate_size"] or values["expansion_factor"]):
            values["intermediate_size"] = 3 * 64 * math.ceil(8 * hidden_size / 3 / 64)
        return ModelConfig(**values)

    def count(self, model: ModelConfig) -> int:
        return count_parameters(model, self.vocabulary)

    def compute_flops_per_token(self, model: ModelConfig) -> float:
        return compute_training_flops_per_token(model, self.vocabulary, model.sample_length)

    def measure(self, model: ModelConfig, is_compute: bool) -> float:
        """Return the number of parameters, or with `is_compute` the FLOPs of training with 20 tokens for each of them."""
        parameters = float(self.count(model))
        return parameters * TOKENS_PER_PARAMETER * self.compute_flops_per_token(model) if is_compute else parameters

    def list_candidates(self, target: float, is_compute: bool) -> Iterator[ModelConfig]:
        """Yield for each depth the two models whose sizes enclose the target."""
        depth, width = self.given.get("num_layers"), self.given.get("hidden_size")
        for num_layers in [depth] if depth else range(1, MOST_LAYERS + 1):
            low, high = (1, MOST_WIDTH // self.step + 1) if not width else (1, 1)
            while high - low > 1:
                middle = (low + high) // 2
                is_small = self.measure(self.make(num_layers, middle * self.step), is_compute) <= target
                low, high = (middle, high) if is_small else (low, middle)
            for times in {low, high}:
                yield self.make(num_layers, width or times * self.step)

    def find(self, target: float, is_compute: bool) -> ModelConfig:
        """Return the model nearest to the target; one percent of size weighs as much as a fifth of the ratio of width and depth."""

        def compute_cost(model: ModelConfig) -> float:
            aspect = abs(math.log(model.hidden_size / model.num_layers / ASPECT))
            return 20 * abs(math.log(self.measure(model, is_compute) / target)) + aspect

        return min(self.list_candidates(target, is_compute), key=compute_cost)


def plan_sizes(given: Mapping[str, Any]) -> dict[str, Planned]:
    """Return key -> planned value for the keys that the user did not set; {} without a key of SIZING. `given` has the user's keys.

    Raise ConfigError for a text that is no size, two budgets, and a size that no model has.
    """
    if not any(given.get(key) for key in SIZING):
        return {}
    if given.get("budget_flops") and given.get("budget_hours"):
        raise ConfigError("budget_flops and budget_hours exclude each other. Remove one of them.")
    shapes, budget, size = Shapes(given), compute_budget(given), given.get("size")
    target = read_size(size) if size else 0.0
    model = shapes.find(target or budget[0] if budget else target, is_compute=not size)
    parameters, num_given = shapes.count(model), sum(bool(given.get(key)) for key in ("num_layers", "hidden_size"))
    if size and num_given < 2 and abs(parameters / target - 1) > TOLERANCE * (5 if num_given else 1):
        raise ConfigError(
            f"size {size} has no model of these keys: the nearest has {parameters:,} parameters, in {model.num_layers} layers of "
            f"width {model.hidden_size} and a vocabulary of {shapes.vocabulary:,}. Change size, or the keys of the model."
        )
    reason = f"size {size}" if size else budget[1] if budget else ""
    shape = f"{reason}: {parameters:,} parameters, vocabulary {shapes.vocabulary:,}; width near 64 * depth (nanochat)"
    head = "heads of 64, from width 2,048 on of 128 (GPT-2, Qwen3)"
    gate = "3 * 8/3 of the width, after the gate a third (Shazeer 2020)"
    planned = {
        "num_layers": Planned(model.num_layers, shape),
        "hidden_size": Planned(model.hidden_size, shape),
        "num_attention_heads": Planned(model.num_attention_heads, head),
        "max_position_embeddings": Planned(model.max_position_embeddings, "2,048 tokens (PolyCoder)"),
        **({"intermediate_size": Planned(model.intermediate_size, gate)} if model.intermediate_size else {}),
        **plan_training(given, shapes, model, budget),
    }
    return {key: value for key, value in planned.items() if given.get(key) is None}


def plan_training(
    given: Mapping[str, Any], shapes: Shapes, model: ModelConfig, budget: tuple[float, str] | None
) -> dict[str, Planned]:
    """Return the keys of batch, rate and horizon."""
    length, parameters = model.sample_length, shapes.count(model)
    tokens, horizon = TOKENS_PER_PARAMETER * parameters, f"{TOKENS_PER_PARAMETER} tokens a parameter (Chinchilla)"
    if budget:
        tokens, horizon = max(1, int(budget[0] / shapes.compute_flops_per_token(model))), budget[1]
    if given.get("train_iters") and given.get("train_batch_size"):
        tokens = given["train_iters"] * given["train_batch_size"] * length
    best = REFERENCE_BATCH * (tokens / REFERENCE_TOKENS) ** BATCH_EXPONENT
    batch = given.get("train_batch_size") or 2 ** max(0, round(math.log2(best / length)))
    rate = float(f"{REFERENCE_RATE * REFERENCE_WIDTH / model.hidden_size:.3g}")
    planned = {
        "train_batch_size": Planned(batch, f"{best:,.0f} tokens: 2**19 * (tokens / 1.32e9)**0.383 (Power Lines, nanochat)"),
        "lr": Planned(rate, "6e-4 * 768 / width (GPT-3, muP)"),
        "train_iters": Planned(max(1, round(tokens / (batch * length))), f"{tokens:,} tokens: {horizon}"),
    }
    if not given.get("gradient_accumulation_steps"):
        fitting = MICRO_BATCH_TOKENS * min(1.0, REFERENCE_WIDTH / model.hidden_size) / length
        stages = max(1, shapes.get("pipe_parallel_size")) * shapes.get("model_parallel_size")
        share = max(1, batch // max(1, count_devices(given) // stages))
        micro = 2 ** int(math.log2(min(share, 2 ** max(0, round(math.log2(fitting))))))
        planned["train_micro_batch_size_per_gpu"] = Planned(micro, "about 16,384 tokens at width 768, fewer if wider; for memory")
    return planned


def list_keys_without_use(given: Mapping[str, Any], planned: Collection[str]) -> Iterator[tuple[str, str]]:
    """Yield each key of SIZING whose results the user set too, with the reason why it has no effect."""
    if given.get("size") and not {"num_layers", "hidden_size"} & set(planned):
        yield "size", "num_layers and hidden_size are set; it counts only without one of them"
    for key in SIZING[1:]:
        if given.get(key) and not {"num_layers", "hidden_size", "train_iters"} & set(planned):
            yield key, "train_iters is set; it counts only without it"
