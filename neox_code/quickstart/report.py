"""The report page: one file of HTML with its styles and drawings inside, that needs no network and no script.

    write_report(findings, "report.html")

Everything that comes from source files is escaped: their names and texts are anybody's.
"""

import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from neox_code.config.derive import padded_vocab_size
from neox_code.config.model_size import parameters
from neox_code.config.neox import NeoXConfig
from neox_code.corpus.description.summary_table import (
    Amount,
    format_corpus_notes,
    list_drop_reasons,
    summarize_languages,
    summarize_total,
)
from neox_code.corpus.shards import CorpusSummary
from neox_code.evaluation.heldout_result import HeldoutResult, LanguageResult
from neox_code.files import write_text
from neox_code.pages.line_chart import Point, make_line_chart
from neox_code.pages.number_formats import format_name, format_size
from neox_code.pages.templates import make_page_environment
from neox_code.processes.workers import available_cores

TEMPLATE = "report.html"

JUDGES = {
    "model": "model",
    "gzip_alone": "gzip -9, each file alone",
    "gzip_joined": "gzip -9, files joined",
    "xz_alone": "xz -9, each file alone",
    "xz_joined": "xz -9, files joined",
    "unigram": "unigram entropy of the tokens",
}
"""What bits per byte are of, in the order of the page."""

DRAWN = tuple(judge for judge in JUDGES if judge != "unigram")

PACKAGES = ("neox-code", "torch", "deepspeed", "megatron-core", "tokenizers", "numpy")


@dataclass(frozen=True)
class Findings:
    """What the stages found."""

    config: NeoXConfig
    corpus: CorpusSummary
    vocab_size: int
    train_tokens: int
    """In the corpus."""

    metrics: Sequence[Mapping[str, float]]
    """Rows of metrics.jsonl."""

    heldout: HeldoutResult | None
    """None where no language has held-out files."""

    completions: Sequence[Mapping[str, Any]]
    """Rows of completions.jsonl, each with its `language` and `file`."""

    seconds: Mapping[str, float]
    """By stage."""

    next_commands: Mapping[str, str]
    """Purpose -> command line."""


def write_report(findings: Findings, path: str | os.PathLike[str]) -> None:
    write_text(path, render(findings))


def render(findings: Findings) -> str:
    """The page's HTML."""
    environment = make_page_environment(__package__)
    environment.filters |= {"name": format_name, "size": format_size, "duration": duration}
    corpus = summarize_languages(findings.corpus)
    judged = findings.heldout.languages if findings.heldout else ()
    return environment.get_template(TEMPLATE).render(
        summary=findings.corpus,
        languages=corpus,
        total=summarize_total(findings.corpus),
        reasons=list_drop_reasons(corpus),
        nothing=Amount(),
        notes=format_corpus_notes(findings.corpus),
        losses=make_line_chart({name: losses(findings.metrics, key) for name, key in LOSSES.items()}),
        last_losses={name: points[-1][1] for name, key in LOSSES.items() if (points := losses(findings.metrics, key))},
        heldout=findings.heldout,
        judges=JUDGES,
        drawn=DRAWN,
        widest=max((row.bits_per_byte(judge) for row in judged for judge in DRAWN), default=1.0),
        verdict=verdict,
        warnings=warnings(findings),
        completions=findings.completions,
        next_commands=findings.next_commands,
        facts=facts(findings),
        seconds=findings.seconds,
    )


LOSSES = {"training": "train/lm_loss", "validation": "validation/lm_loss"}


def losses(metrics: Sequence[Mapping[str, float]], key: str) -> list[Point]:
    """Return (iteration, loss) of the rows that have a loss.

    The last row of training is the mean of the steps since the row before. It is left out where they are fewer than half of a whole
    interval: a mean of so few steps is no point of a curve of means.
    """
    points = [(row["iteration"], row[key]) for row in metrics if key in row]
    is_mean = key == LOSSES["training"] and len(points) > 2
    if is_mean and 2 * (points[-1][0] - points[-2][0]) < points[-2][0] - points[-3][0]:
        points.pop()
    return points


def verdict(language: LanguageResult) -> str:
    """How the model compares with gzip on each file."""
    ratio = language.bits["model"] / language.bits["gzip_alone"]
    return f"{abs(1 - ratio):.0%} {'less' if ratio < 1 else 'more'} than gzip\u00a0-9"


def warnings(findings: Findings) -> list[str]:
    """Return a sentence for each language in which the model is no better than the unigram entropy of its own tokens.

    A code that knows only how frequent each token is reaches that entropy; a model that does not beat it has seen too few steps.
    """
    steps = next((int(row["iteration"]) for row in reversed(findings.metrics) if "train/lm_loss" in row), 0)
    training = f"{steps:,} steps in {duration(findings.seconds.get('training', 0))} were too few"
    return [
        f"{row.language}: the model needs {row.bits_per_byte('model'):.3f} bits per byte and the frequencies of its tokens alone "
        f"{row.bits_per_byte('unigram'):.3f}. {training}: train longer (train_seconds in the configuration), or again on a less "
        "busy machine (--fresh)."
        for row in (findings.heldout.languages if findings.heldout else ())
        if row.bits["model"] >= row.bits["unigram"]
    ]


def facts(findings: Findings) -> dict[str, str]:
    """What the run was: model, amounts, versions, machine."""
    config = findings.config
    model, training = config.model, config.training
    padded = padded_vocab_size(findings.vocab_size, model.make_vocab_size_divisible_by, config.parallelism.model_parallel_size)
    last = next((row for row in reversed(findings.metrics) if "train/consumed_tokens" in row), {})
    speeds = sorted(row["runtime/tokens_per_sec"] for row in findings.metrics if "runtime/tokens_per_sec" in row)
    return {
        "model": f"{model.num_layers} layers x {model.hidden_size}, {model.num_attention_heads} heads, {model.precision}",
        "parameters": f"{parameters(model, padded):,}",
        "context": f"{model.max_position_embeddings:,} tokens",
        "vocabulary": f"{findings.vocab_size:,} entries, byte-level BPE",
        "training tokens": f"{last.get('train/consumed_tokens', 0):,} read, of {findings.train_tokens:,} in the corpus",
        "optimizer steps": f"{last.get('iteration', 0):,} in {duration(findings.seconds.get('training', 0))}",
        "speed": f"{speeds[len(speeds) // 2]:,.0f} tokens/s (median)" if speeds else "-",
        "seed": str(training.seed),
        "machine": f"{processor()}, {available_cores()} cores, {memory_gib():.0f} GiB",
        "system": f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
        "versions": ", ".join(f"{package} {found}" for package in PACKAGES if (found := installed(package))),
    }


def installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def processor() -> str:
    """The processor's name, as Linux has it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def memory_gib() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30


def duration(seconds: float) -> str:
    """
    >>> duration(4.2), duration(154.0), duration(59.97), duration(119.7)
    ('4.2 s', '2 min 34 s', '1 min 0 s', '2 min 0 s')
    """
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if round(seconds, 1) >= 60 else f"{seconds:.1f} s"
