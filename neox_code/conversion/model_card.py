"""The model card of a Hugging Face folder, README.md, filled from the record of the run.

    card = make_model_card(open_source(Path("checkpoints")))

The figures come from run.json, from metrics and evaluation results beside the checkpoint, and from the corpus in `heldout_path`.
Unknown figures are omitted. Names come from untrusted sources and are escaped.
"""

import math
import re
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import yaml

from neox_code.config.hugging_face import choose_architecture
from neox_code.conversion.card_facts import NO_FACTS, CardFacts
from neox_code.conversion.finetuning_card import describe_base, describe_method, find_adapter_run, is_finetuning, list_row_files
from neox_code.conversion.source import ModelSource
from neox_code.corpus.shards import KEPT, MANIFEST_FILE, SUMMARY_FILE, load_summary
from neox_code.errors import DataError
from neox_code.files import read_json, read_json_lines
from neox_code.logs import get_logger
from neox_code.pages.number_formats import escape_invisible, format_name, format_size
from neox_code.tokenizer.protocol import END_OF_DOCUMENT

log = get_logger(__name__)

MODEL_KEYS = (
    "num_layers", "hidden_size", "num_attention_heads", "num_kv_heads", "max_position_embeddings", "norm", "activation", "pos_emb",
    "rotary_pct", "gpt_j_residual", "no_weight_tying",
)  # fmt: skip
RUN_KEYS = (
    "precision", "optimizer_type", "lr", "lr_decay_style", "weight_decay", "gradient_clipping", "train_batch_size", "seq_length",
    "seed",
)  # fmt: skip
MOST_LICENSES = 8
"""Maximum number of licenses that are listed per language. Licenses with more bytes are first."""

LIMITS = (
    f"`{END_OF_DOCUMENT}` inside a prompt is read by transformers as the special token; neox-code encodes it as ordinary text.",
    "Generated code is not filtered. It may be wrong or insecure, and may repeat code of the training data, which has its license.",
)
"""Sentences in Markdown that hold for every model."""

USE = """\
## Use

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

place = "FOLDER"  # or OWNER/NAME on the Hub
tokenizer = AutoTokenizer.from_pretrained(place)
model = AutoModelForCausalLM.from_pretrained(place, dtype="auto")
prompt = tokenizer("def main(", return_tensors="pt")
print(tokenizer.decode(model.generate(**prompt, max_new_tokens=64)[0]))
```"""


Metrics = list[Mapping[str, Any]]
"""Rows of a run's metrics file."""

ADAPTER_USE = """\
## Use

```python
from peft import AutoPeftModelForCausalLM
from transformers import AutoTokenizer

base = "BASE"  # the folder or OWNER/NAME of the base model
tokenizer = AutoTokenizer.from_pretrained(base)
model = AutoPeftModelForCausalLM.from_pretrained("FOLDER")  # loads the base that adapter_config.json names
```"""


def make_model_card(source: ModelSource, facts: CardFacts = NO_FACTS, adapter: Path | None = None, is_merged: bool = True) -> str:
    """Return the card in Markdown, with its metadata in YAML.

    With an adapter, training and cost are those of its run. `is_merged` is False if the adapter is published without its base.
    """
    run = source
    if adapter:
        folder, record = find_adapter_run(adapter) or (source.folder, None)
        run = replace(source, folder=folder, record=record)
    metrics = read_run_metrics(run)
    is_adapter = adapter is not None and not is_merged
    relation = {"base_model": facts.base_model, "base_model_relation": "adapter" if is_adapter else "finetune"}
    metadata = {
        "language": ["code"],
        "license": facts.license,
        "library_name": "peft" if is_adapter else "transformers",
        "pipeline_tag": "text-generation",
        **(relation if facts.base_model else {}),
        "datasets": list(facts.datasets),
        "tags": ["code", choose_architecture(source.model), *(["lora"] if is_adapter else [])],
    }
    if not facts.base_model and (adapter or is_finetuning(run.record)):
        log.warning(
            "the metadata of the model card has no base_model. Name the base on the Hub (OWNER/NAME) in the file of --card."
        )
    name = adapter.resolve().parent.name if adapter else source.name
    parts = [
        f"---\n{yaml.safe_dump({key: value for key, value in metadata.items() if value}, sort_keys=False)}---",
        f"# {escape_markdown(format_name(name))}",
        ADAPTER_USE.replace("BASE", escape_code(facts.base_model or "BASE")) if is_adapter else USE,
        *describe_model(source),
        *describe_run(run, facts),
        *(describe_rows(run, facts) if is_finetuning(run.record) else describe_data(run)),
        *describe_comparison(metrics, facts),
        *describe_results(run, metrics),
        *describe_cost(run, metrics, facts),
        "## Limits\n\n" + "\n".join(f"- {limit}" for limit in LIMITS),
    ]
    return "\n\n".join(parts) + "\n"


def describe_model(source: ModelSource) -> Iterator[str]:
    """Yield the size and the shape of the model."""
    parameters = sum(math.prod(shape) for shape in source.shapes.values())
    facts = {"parameters": f"{parameters:,}", "rows of the vocabulary": f"{source.vocab_rows:,}"}
    values = source.config.values() | {"num_kv_heads": source.model.kv_heads}
    yield "## Model\n\n" + make_table(
        ("setting", "value"), [*facts.items(), *((key, values[key]) for key in MODEL_KEYS if values[key] is not None)]
    )


def describe_run(source: ModelSource, facts: CardFacts) -> Iterator[str]:
    """Yield the length and the settings of the training, from the run's record."""
    record = source.record
    if not record:
        return
    rows: list[tuple[str, Any]] = []
    if is_finetuning(record):
        rows += [*describe_base(record, facts), ("method", describe_method(record.config))]
    rows.append(("steps", f"{record.iteration:,}"))
    if tokens := record.state.get("consumed_tokens"):
        rows.append(("tokens seen", f"{int(tokens):,}"))
    rows += [(key, record.config[key]) for key in RUN_KEYS if record.config.get(key) is not None]
    if record.started_from and not is_finetuning(record):
        rows.append(("started from", "the weights of another checkpoint"))
    yield "## Training\n\n" + make_table(("setting", "value"), rows)


def describe_rows(source: ModelSource, facts: CardFacts) -> Iterator[str]:
    """Yield a table with the files of rows of a fine-tuning, and the licenses of the rows."""
    assert source.record
    rows = []
    for name, counts in list_row_files(source.record):
        most = counts.most_common(MOST_LICENSES) if counts else []
        listed = [f"{format_name(license)} ({count:,})" for license, count in most]
        further = [f"{len(counts) - MOST_LICENSES} more"] if counts and len(counts) > MOST_LICENSES else []
        total = "not at hand" if counts is None else f"{counts.total():,}"
        rows.append((format_name(name), total, ", ".join(listed + further)))
    named = f"Datasets: {escape_markdown(', '.join(facts.datasets))}.\n\n" if facts.datasets else ""
    yield f"## Data\n\n{named}Rows of the fine-tuning:\n\n" + make_table(("file", "rows", "licenses, by rows"), rows)


def describe_comparison(metrics: Metrics, facts: CardFacts) -> Iterator[str]:
    """Yield a table of the figures before and after a fine-tuning: those of the facts, and the loss on the validation rows."""
    rows = [(name, f"{before:.4g}", f"{after:.4g}") for name, before, after in facts.comparison]
    starts = [row["validation/start/lm_loss"] for row in metrics if is_number(row.get("validation/start/lm_loss"))]
    losses = [(row["iteration"], row["validation/lm_loss"]) for row in metrics if is_number(row.get("validation/lm_loss"))]
    if starts and losses:
        rows.append((f"loss per learned token, validation, step {losses[-1][0]:,}", f"{starts[0]:.4f}", f"{losses[-1][1]:.4f}"))
    if rows:
        yield "## Before and after\n\n" + make_table(("figure", "before", "after"), rows)


def describe_data(source: ModelSource) -> Iterator[str]:
    """Yield a table with the training split's files per language and the licenses with the most bytes.

    The corpus is `heldout_path` of the run's configuration, or a folder of the same name beside the checkpoint.
    """
    if not source.record:
        return
    named = Path(str(source.record.config.get("heldout_path")))
    corpus = next((place for place in (named, source.folder.parent / named.name) if (place / SUMMARY_FILE).is_file()), named)
    try:
        recipe, counts = load_summary(corpus).recipe, count_licenses(corpus)
    except (DataError, OSError, ValueError) as error:
        log.warning("the model card has no data by language, since the corpus of the run (heldout_path) is not here: %s", error)
        yield "## Data\n\nNot described: the corpus of the run was not at hand when this card was written."
        return
    rows = []
    for language, licenses in sorted(counts.items(), key=lambda item: -sum(size for _, size in item[1].values())):
        files, size = (sum(amounts) for amounts in zip(*licenses.values(), strict=True))
        largest = sorted(licenses, key=lambda license: -licenses[license][1])
        shares = {license: licenses[license][1] / max(size, 1) for license in largest[:MOST_LICENSES]}
        listed = [
            f"{format_name(license or 'none found')} ({'under 1%' if share < 0.01 else f'{share:.0%}'})"
            for license, share in shares.items()
        ]
        further = [f"{len(largest) - MOST_LICENSES} more"] if len(largest) > MOST_LICENSES else []
        rows.append((format_name(language or "not known"), f"{files:,}", format_size(size), ", ".join(listed + further)))
    table = make_table(("language", "files", "size", "licenses, by size"), rows)
    yield f"## Data\n\nThe training split of a corpus of the recipe {escape_markdown(format_name(recipe))}:\n\n{table}"


def count_licenses(corpus: Path) -> dict[str | None, dict[str | None, tuple[int, int]]]:
    """Return files and bytes of the training split by language and license."""
    columns = ["language", "license", "bytes"]
    table = pq.read_table(corpus / MANIFEST_FILE, columns=columns, filters=[("verdict", "=", KEPT), ("split", "=", "train")])
    counts: dict[str | None, dict[str | None, tuple[int, int]]] = {}
    for row in table.group_by(columns[:2]).aggregate([("bytes", "count"), ("bytes", "sum")]).to_pylist():
        counts.setdefault(row["language"], {})[row["license"]] = (row["bytes_count"], row["bytes_sum"])
    return counts


def describe_results(source: ModelSource, metrics: Metrics) -> Iterator[str]:
    """Yield the bits per byte that `evaluate` measured for the model and for compressors, and the last validation loss."""
    if not source.record:
        return
    path = source.folder.parent / f"eval_results_{source.record.iteration}.json"
    try:
        languages = read_json(path)["languages"] if path.is_file() else []
        rows = [
            (format_name(row["language"]), f"{row['files']:,}", *(f"{row['bits_per_byte'][method]:.3f}" for method in METHODS))
            for row in languages
        ]
    except (DataError, KeyError, TypeError, ValueError) as error:
        log.warning("the model card has no evaluation: %s has no results (%s)", path, error)
        rows = []
    losses = [row["validation/lm_loss"] for row in metrics if is_number(row.get("validation/lm_loss"))]
    parts = [f"Loss per token on the validation split, in nats: {losses[-1]:.4f}."] if losses else []
    if rows:
        heading = ("language", "files", *METHODS.values())
        parts += ["Bits per byte on held-out files; less is better:", make_table(heading, rows)]
    if parts:
        yield "## Evaluation\n\n" + "\n\n".join(parts)


METHODS = {"model": "model", "gzip_alone": "gzip", "xz_alone": "xz"}


def describe_cost(source: ModelSource, metrics: Metrics, facts: CardFacts) -> Iterator[str]:
    """Yield the time of the training steps, from the metrics, the device, and the cost of labelling if the facts have it."""
    labelling = [("cost of labelling", facts.labelling_cost)] if facts.labelling_cost else []
    rows = [row for row in metrics if is_number(row.get("runtime/iteration_time"))]
    if not (rows and source.record):
        if labelling:
            yield "## Cost\n\n" + make_table(("figure", "value"), labelling)
        return
    steps = [row["iteration"] - before for row, before in zip(rows, [0, *(row["iteration"] for row in rows)], strict=False)]
    hours = sum(row["runtime/iteration_time"] * count for row, count in zip(rows, steps, strict=True)) / 3600
    layout = source.record.layout
    ranks = math.prod(max(1, layout.get(f"{axis}_parallel_size", 1)) for axis in ("data", "model", "pipe"))
    figures = [("device", source.record.device)] if source.record.device else []
    figures += [("ranks (a GPU or a process on a CPU each)", f"{ranks:,}"), ("hours of all ranks together", f"{hours * ranks:.3g}")]
    speeds = [row["runtime/tokens_per_sec"] for row in rows if is_number(row.get("runtime/tokens_per_sec"))]
    if speeds:
        figures.append(("tokens per second, median", f"{statistics.median(speeds):,.0f}"))
    yield "## Cost\n\nThe training steps, without validation and saves:\n\n" + make_table(("figure", "value"), figures + labelling)


def read_run_metrics(source: ModelSource) -> Metrics:
    """Return the rows of the run's metrics file up to the checkpoint; an empty list without the file."""
    record = source.record
    named = record.config.get("metrics_file") if record else None
    paths = [source.folder.parent / "metrics.jsonl", *([Path(named)] if isinstance(named, str) else [])]
    path = next((path for path in paths if path.is_file()), None)
    if not (record and path):
        return []
    try:
        rows = [row for row in read_json_lines(path) if isinstance(row, dict) and row.get("run") == record.run]
    except DataError as error:
        log.warning("the model card has no losses: the metrics cannot be read (%s)", error)
        return []
    return [row for row in rows if isinstance(row.get("iteration"), int) and row["iteration"] <= record.iteration]


def is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)


def make_table(headings: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Return a table in Markdown.

    >>> print(make_table(("key", "value"), [("a|b", 1)]))
    | key | value |
    | --- | --- |
    | a\\|b | 1 |
    """
    lines = [headings, ["---"] * len(headings), *([escape_markdown(str(cell)) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def escape_markdown(text: str) -> str:
    """Return text on one line that Markdown and HTML show as it is.

    >>> escape_markdown("<b>*x*</b>\\n[a](https://b.c)")
    '\\\\<b\\\\>\\\\*x\\\\*\\\\</b\\\\>\\\\\\\\n\\\\[a\\\\](https\\\\://b.c)'
    """
    return re.sub(r"([\\`*\[\]#!|<>~$&:@])", r"\\\1", escape_invisible(text))


def escape_code(text: str) -> str:
    """Return text for a Python string in double quotes inside a block of code."""
    return re.sub(r"[^\w./-]", "_", text)
