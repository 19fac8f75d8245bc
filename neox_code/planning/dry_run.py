"""Make the report of `--dry-run`. Imports no torch.

The report contains the model's size, the work of a step, the layout and its memory, and the missing files, packages and GPUs. Then
it lists each key that differs from its default with its origin, the ignored keys with the reasons, and the command.

    text, figures = make_dry_run(config, "train", command, plan_world(config), gpu_memory_gib=24)
"""

import shlex
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

from neox_code.config.assembly import DEFAULT, format_value
from neox_code.config.derive import compute_padded_vocab_size, count_samples
from neox_code.config.fields import SECTIONS, list_fields
from neox_code.config.model_size import compute_training_flops_per_token, count_parameters
from neox_code.config.neox import NeoXConfig
from neox_code.config.remarks import list_remarks
from neox_code.config.sizes import ASSUMED_VOCABULARY
from neox_code.planning.memory import Layout, Memory
from neox_code.planning.missing import list_all_missing
from neox_code.planning.planned_world import PlannedWorld
from neox_code.planning.smaller_layout import Proposal, compute_memory, find_smaller_layout, fits_in_memory
from neox_code.tokenizer.vocabulary_file import count_vocabulary_entries

WIDEST = 60
"""Greatest width of a column in characters; longer cells shift the following columns."""


def make_dry_run(
    config: NeoXConfig,
    script: str,
    command: Sequence[str],
    world: PlannedWorld | None,
    gpu_memory_gib: float | None = None,
    all_keys: bool = False,
) -> tuple[str, dict[str, Any]]:
    """Return the text of the report, with one line for each key, and its figures for JSON (memory in bytes).

    `world` is None for a command that does not train. With `all_keys`, keys with their default values are listed too.
    """
    known_entries = count_vocabulary_entries(config.data.tokenizer_type, config.data.vocab_file)
    entries = known_entries or ASSUMED_VOCABULARY
    padded = compute_padded_vocab_size(entries, config.model.make_vocab_size_divisible_by, config.parallelism.model_parallel_size)
    missing, remarks = list(list_all_missing(config, script)), list(list_remarks(config)) if world is not None else []
    rows = make_size_rows(config, known_entries, padded)
    figures: dict[str, Any] = {"vocabulary": padded, "parameters": count_parameters(config.model, padded)}
    if world is not None:
        layout = Layout.from_config(config, world.ranks)
        memory = compute_memory(config, layout, entries)
        flops = compute_training_flops_per_token(config.model, padded, config.model.sample_length)
        samples = layout.micro_batch_size * layout.accumulation_steps * layout.data_size
        rows += make_training_rows(config, world, layout, memory, flops, samples)
        figures |= {
            "flops_per_token": flops,
            "tokens_per_step": samples * config.model.sample_length,
            "train_iters": config.training.train_iters,
            "ranks": world.ranks,
            "layout": asdict(layout),
            "memory_bytes_per_gpu": asdict(memory) | {"all": memory.total},
        }
        if gpu_memory_gib is not None:
            does_fit = fits_in_memory(memory, gpu_memory_gib)
            proposal = None if does_fit else find_smaller_layout(config, world, gpu_memory_gib, entries)
            rows += make_memory_rows(world, memory, proposal, gpu_memory_gib)
            figures |= {"fits": does_fit, "proposal": proposal and dict(proposal.changes)}
    values = config.values()
    figures |= {
        "missing": missing,
        "remarks": remarks,
        "keys": {
            known.name: {"value": values[known.name], "origin": config.origins[known.name]}
            for section in SECTIONS
            for known in list_fields(section)
            if all_keys or known.required or values[known.name] != known.default
        },
        "ignored": {entry.key: entry.because for entry in config.ignored},
        "command": list(command),
    }
    text = "\n".join([
        *align_columns(rows),
        *(f"missing: {sentence}" for sentence in missing),
        *(f"remark: {sentence}" for sentence in remarks),
        *align_columns(make_value_rows(config, all_keys)),
        *([] if all_keys else [KEYS_LEFT_OUT]),
        *align_columns(make_ignored_rows(config)),
        "# command",
        shlex.join(command),
    ])  # fmt: skip
    return text, figures


Row = tuple[str, ...]


KEYS_LEFT_OUT = "# keys that are not listed have their defaults; --all lists them"


def make_value_rows(config: NeoXConfig, all_keys: bool) -> Iterator[Row]:
    """Yield a row for each section, and below it a row for each key (with `all_keys`) or each changed key."""
    values = config.values()
    for section in SECTIONS:
        rows = []
        for known in list_fields(section):
            value = values[known.name]
            state = DEFAULT if not known.required and value == known.default else "changed"
            origin = config.origins[known.name]
            if all_keys or state != DEFAULT:
                rows.append((known.name, format_value(value), state, "" if origin == DEFAULT else origin))
        yield from [(f"# {section}", "", "", ""), *rows] if rows else []


def make_ignored_rows(config: NeoXConfig) -> list[Row]:
    rows = [(entry.key, format_value(entry.value), entry.place, entry.because) for entry in config.ignored]
    return [("# ignored", "", "", ""), *rows] if rows else []


def make_size_rows(config: NeoXConfig, entries: int | None, padded: int) -> list[Row]:
    """Return the rows on vocabulary and parameters."""
    origin = (
        f"{entries:,} entries of {config.data.vocab_file or config.data.tokenizer_type}"
        if entries
        else f"{ASSUMED_VOCABULARY:,} entries assumed, as in GPT-2"
    )
    return [
        ("# size", "", ""),
        ("vocabulary", f"{padded:,}", f"{origin}, and padding"),
        ("parameters", f"{count_parameters(config.model, padded):,}", "padding included"),
    ]


def make_training_rows(
    config: NeoXConfig, world: PlannedWorld, layout: Layout, memory: Memory, flops: float, samples: int
) -> list[Row]:
    """Return the rows on the work of a step (`flops` per token, `samples`), the layout, and the memory of the fullest GPU."""
    model = config.model
    steps, tokens, epochs = config.training.train_iters or 0, samples * model.sample_length, config.finetuning.num_epochs
    total = count_samples(steps, samples, config.training.rampup_batch_size) * model.sample_length
    product = f"micro batch {layout.micro_batch_size} * accumulation {layout.accumulation_steps} * data {layout.data_size}"
    return [
        ("FLOPs per token", f"{flops:.4g}", "forward and backward"),
        ("tokens per step", f"{tokens:,}", f"{samples:,} samples ({product}) of {model.sample_length:,} tokens"),
        ("tokens in all", f"{total:,}", f"{steps:,} steps, {flops * total:.4g} FLOPs")
        if epochs is None
        else ("epochs", f"{epochs:g}", "of the rows, which are read when the run starts"),
        ("# layout", "", ""),
        ("ranks", str(world.ranks), f"{format_shape(layout)} (pipeline * tensor * data): {world.reason}"),
        ("# memory per GPU", "", ""),
        *((part, format_gib(amount), note) for part, amount, note in list_memory_parts(memory, layout)),
    ]


def format_shape(layout: Layout) -> str:
    return f"{layout.pipeline_size} * {layout.tensor_size} * {layout.data_size}"


def format_gib(amount: int) -> str:
    return f"{amount / 2**30:.2f} GiB"


def list_memory_parts(memory: Memory, layout: Layout) -> Iterator[tuple[str, int, str]]:
    yield "weights", memory.weights, "on the fullest pipeline stage" if layout.pipeline_size > 1 else ""
    yield "gradients", memory.gradients, ""
    yield "optimizer", memory.optimizer, "fp32 weights and moments, divided over the data-parallel ranks"
    yield "activations", memory.activations, "recomputed" if layout.recompute else ""
    yield "buffers", memory.buffers, "reduce_bucket_size, for the gradients' reduction"
    yield "libraries", memory.libraries, "an allowance for CUDA, NCCL and cuBLAS"
    yield "all", memory.total, ""


def make_memory_rows(world: PlannedWorld, memory: Memory, proposal: Proposal | None, gpu_memory_gib: float) -> list[Row]:
    """Return a row that compares the needed memory with `gpu_memory_gib`. If the layout does not fit, add a row with a proposal."""
    spare = gpu_memory_gib - memory.total / 2**30
    if fits_in_memory(memory, gpu_memory_gib):
        return [("fits", f"{gpu_memory_gib:g} GiB", f"with {spare:.2f} GiB to spare")]
    too_large = ("does not fit", f"{gpu_memory_gib:g} GiB", f"{-spare:.2f} GiB too much")
    if proposal is None:
        ranks = f"over {format_ranks(world.ranks)} " if world.is_given else ""
        return [too_large, ("proposal", "none", f"no layout {ranks}fits. Use more GPUs, or GPUs with more memory.")]
    options = " ".join(f"--set {key}={format_value(value)}" for key, value in proposal.changes.items())
    return [too_large, ("proposal", format_gib(proposal.memory.total), f"{options} ({format_ranks(proposal.world.ranks)})")]


def format_ranks(ranks: int) -> str:
    return f"{ranks} rank{'s' * (ranks != 1)}"


def align_columns(rows: Iterable[Row]) -> list[str]:
    rows = list(rows)
    widths = [min(WIDEST, max(map(len, column))) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
