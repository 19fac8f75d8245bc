"""Make the report page: one HTML file that contains its styles and drawings, and needs no network and no script.

    write_report(findings, "report.html")

Everything that comes from source files is escaped, as their names and texts may contain markup.
"""

import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from neox_code.config.derive import compute_padded_vocab_size
from neox_code.config.model_size import count_parameters
from neox_code.config.neox import NeoXConfig
from neox_code.corpus.description.summary_table import format_corpus_notes, summarize_languages, summarize_total
from neox_code.corpus.shards import CorpusSummary
from neox_code.evaluation.heldout_result import HeldoutResult, LanguageResult
from neox_code.files import write_text
from neox_code.machine import read_processor_name
from neox_code.pages.line_chart import Point, make_line_chart
from neox_code.pages.number_formats import format_name, format_size
from neox_code.pages.templates import make_page_environment
from neox_code.processes.workers import count_available_cores

TEMPLATE = "report.html"

METHODS = {
    "model": "model",
    "gzip_alone": "gzip -9, each file alone",
    "gzip_joined": "gzip -9, files joined",
    "xz_alone": "xz -9, each file alone",
    "xz_joined": "xz -9, files joined",
    "unigram": "unigram entropy of the tokens",
}
"""Methods whose bits per byte are compared, in the order of the page."""

DRAWN_METHODS = tuple(method for method in METHODS if method != "unigram")

PACKAGES = ("neox-code", "torch", "deepspeed", "megatron-core", "tokenizers", "numpy")


@dataclass(frozen=True)
class Findings:
    config: NeoXConfig
    corpus: CorpusSummary
    vocab_size: int
    train_tokens: int
    """Number of tokens of the training split."""

    metrics: Sequence[Mapping[str, float]]
    """Rows of metrics.jsonl."""

    heldout: HeldoutResult | None
    """Result of the evaluation on held-out files; None if no language has held-out files."""

    completions: Sequence[Mapping[str, Any]]
    """Rows of completions.jsonl, each with its `language` and `file`."""

    seconds: Mapping[str, float]
    """Name of a step -> its duration in seconds."""

    next_commands: Mapping[str, str]
    """Purpose -> command line with which the user continues."""


def write_report(findings: Findings, path: str | os.PathLike[str]) -> None:
    write_text(path, render_report(findings))


def render_report(findings: Findings) -> str:
    """Return the page's HTML."""
    environment = make_page_environment(__package__)
    environment.filters |= {"name": format_name, "size": format_size, "duration": format_duration}
    corpus = summarize_languages(findings.corpus)
    evaluated = findings.heldout.languages if findings.heldout else ()
    return environment.get_template(TEMPLATE).render(
        summary=findings.corpus,
        languages=corpus,
        total=summarize_total(findings.corpus),
        notes=format_corpus_notes(findings.corpus),
        losses=make_line_chart({name: collect_losses(findings.metrics, key) for name, key in LOSSES.items()}),
        last_losses=find_last_losses(findings.metrics),
        distance=describe_distance(find_last_losses(findings.metrics)),
        heldout=findings.heldout,
        methods=METHODS,
        drawn=DRAWN_METHODS,
        widest=max((row.bits_per_byte(method) for row in evaluated for method in DRAWN_METHODS), default=1.0),
        compare_with_gzip=compare_with_gzip,
        warnings=format_warnings(findings),
        completions=findings.completions,
        next_commands=findings.next_commands,
        facts=collect_facts(findings),
        seconds=findings.seconds,
    )


LOSSES = {"training": "train/lm_loss", "unseen files": "validation/unseen/lm_loss", "validation": "validation/lm_loss"}
"""Name of a curve -> key of metrics.jsonl."""


def collect_losses(metrics: Sequence[Mapping[str, float]], key: str) -> list[Point]:
    """Return (iteration, loss) of the rows that have a loss.

    The last row of training is the mean of the steps since the previous row. This row is omitted if it covers less than half of an
    interval, because it cannot be compared with the means of full intervals.
    """
    points = [(row["iteration"], row[key]) for row in metrics if key in row]
    is_mean = key == LOSSES["training"] and len(points) > 2
    if is_mean and 2 * (points[-1][0] - points[-2][0]) < points[-2][0] - points[-3][0]:
        points.pop()
    return points


def find_last_losses(metrics: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {name: points[-1][1] for name, key in LOSSES.items() if (points := collect_losses(metrics, key))}


def describe_distance(losses: Mapping[str, float]) -> str:
    """Return a sentence on the part of the distance between training and validation that other projects cause.

    Without unseen files the sentence is empty.

    >>> describe_distance({"training": 2.5, "unseen files": 2.75, "validation": 4.5})
    'Of the 2.00 nats between training and validation, 1.75 (88%) lie between unseen files of the same projects and other projects.'
    """
    training, unseen, validation = (losses.get(name, 0.0) for name in LOSSES)
    if not (unseen and validation > training):
        return ""
    total, projects = validation - training, validation - max(unseen, training)
    return (
        f"Of the {total:.2f} nats between training and validation, {projects:.2f} ({projects / total:.0%}) lie between unseen "
        "files of the same projects and other projects."
    )


def compare_with_gzip(language: LanguageResult) -> str:
    """Return a text that compares the bits per byte of the model with those of gzip on each file."""
    ratio = language.bits["model"] / language.bits["gzip_alone"]
    return f"{abs(1 - ratio):.0%} {'less' if ratio < 1 else 'more'} than gzip\u00a0-9"


def format_warnings(findings: Findings) -> list[str]:
    """Return a warning for each language in which the model's bits per byte are not below the unigram entropy of its tokens.

    A compressor that uses only token frequencies reaches this entropy. A model that does not go below it needs more steps.
    """
    steps = next((int(row["iteration"]) for row in reversed(findings.metrics) if "train/lm_loss" in row), 0)
    training = f"{steps:,} steps in {format_duration(findings.seconds.get('training', 0))} were too few"
    return [
        f"{row.language}: the model needs {row.bits_per_byte('model'):.3f} bits per byte and the frequencies of its tokens alone "
        f"{row.bits_per_byte('unigram'):.3f}. {training}: train longer (train_seconds in the configuration), or again on a less "
        "busy machine (--fresh)."
        for row in (findings.heldout.languages if findings.heldout else ())
        if row.bits["model"] >= row.bits["unigram"]
    ]


def collect_facts(findings: Findings) -> dict[str, str]:
    """Return the facts of the run: model, amounts, versions, machine."""
    config = findings.config
    model, training = config.model, config.training
    padded = compute_padded_vocab_size(
        findings.vocab_size, model.make_vocab_size_divisible_by, config.parallelism.model_parallel_size
    )
    last = next((row for row in reversed(findings.metrics) if "train/consumed_tokens" in row), {})
    speeds = sorted(row["runtime/tokens_per_sec"] for row in findings.metrics if "runtime/tokens_per_sec" in row)
    memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "model": f"{model.num_layers} layers x {model.hidden_size}, {model.num_attention_heads} heads, {model.precision}",
        "parameters": f"{count_parameters(model, padded):,}",
        "context": f"{model.max_position_embeddings:,} tokens",
        "vocabulary": f"{findings.vocab_size:,} entries, byte-level BPE",
        "training tokens": f"{last.get('train/consumed_tokens', 0):,} read, of {findings.train_tokens:,} in the corpus",
        "optimizer steps": f"{last.get('iteration', 0):,} in {format_duration(findings.seconds.get('training', 0))}",
        "speed": f"{speeds[len(speeds) // 2]:,.0f} tokens/s (median)" if speeds else "-",
        "seed": str(training.seed),
        "machine": f"{read_processor_name()}, {count_available_cores()} cores, {memory_bytes / 2**30:.0f} GiB",
        "system": f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
        "versions": ", ".join(f"{package} {found}" for package in PACKAGES if (found := find_version(package))),
    }


def find_version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def format_duration(seconds: float) -> str:
    """Return a duration in seconds, or in minutes and seconds.

    >>> format_duration(4.2), format_duration(154.0), format_duration(59.97), format_duration(119.7)
    ('4.2 s', '2 min 34 s', '1 min 0 s', '2 min 0 s')
    """
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if round(seconds, 1) >= 60 else f"{seconds:.1f} s"
