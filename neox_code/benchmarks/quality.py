"""How much of a baseline's training a recipe needs: tokens, FLOPs and seconds until the baseline's final held-out bits per byte.

    runs = list_runs(plan, Path("quality"))      # OUTPUT/NAME-seedN: recipe.yml, log.txt, and what `train` and `evaluate` write
    train_runs(runs, jobs=2)                     # a finished run is skipped, an interrupted one resumes
    print(make_report(runs))                     # Markdown

A recipe is a whole configuration. A part is one of its keys, or several joined by +, such as `optimizer` or `qk_norm+norm`. Each
part is trained alone (the baseline with the part) and left out (the recipe without it). Every run is a normal training run, and its
curve is that of its validations. A schedule that decays only at the end shows its quality only there, so the recipe can be trained
with shares of the baseline's steps too. FLOPs are those of the model; the optimizer's own are not counted.
"""

import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from neox_code.config.assembly import DEFAULT
from neox_code.config.derive import compute_padded_vocab_size
from neox_code.config.model_size import compute_training_flops_per_token
from neox_code.config.neox import NeoXConfig
from neox_code.errors import EXIT_RESUME, ConfigError, DataError, NeoXError
from neox_code.evaluation.heldout_result import HeldoutResult, load_heldout
from neox_code.files import read_json, write_json, write_text
from neox_code.logs import format_plural, get_logger, progress
from neox_code.processes.parent import die_with_parent
from neox_code.tokenizer.vocabulary_file import count_vocabulary_entries
from neox_code.training.trackers import read_metrics

log = get_logger(__name__)

RECIPE_FILE, LOG_FILE, COSTS_FILE, METRICS_FILE = "recipe.yml", "log.txt", "costs.json", "metrics.jsonl"
BITS, SPEED = "validation/bits_per_byte", "runtime/tokens_per_sec"
COMPRESSORS = {"gzip -9, each file alone": "gzip_alone", "xz -9, each file alone": "xz_alone", "xz -9, files joined": "xz_joined"}
POLL_SECONDS = 0.5

Recipe = dict[str, Any]
"""The keys of a configuration file as `NeoXConfig.to_yaml` writes them, without those that are not set and the run's folders."""

BASELINE, RECIPE = "baseline ", "recipe"
"""Beginnings of the names of runs."""


@dataclass(frozen=True)
class QualityPlan:
    recipe: Recipe
    baselines: Mapping[str, Recipe]
    parts: Sequence[str] = ()
    shares: Sequence[float] = (1.0,)
    """Shares of `train_iters` with which the recipe is trained."""
    num_seeds: int = 2


@dataclass(frozen=True)
class QualityRun:
    name: str
    """Name of the row in the report; runs that differ in the seed have the same name."""
    folder: Path
    recipe: Recipe

    @cached_property
    def config(self) -> NeoXConfig:
        return NeoXConfig.load([self.folder / RECIPE_FILE])

    @property
    def costs(self) -> dict[str, float] | None:
        """Processor time of a step; None until training has ended."""
        path = self.folder / COSTS_FILE
        return read_json(path) if path.exists() else None

    @property
    def is_finished(self) -> bool:
        return self.costs is not None and (self.heldout is not None or not self.recipe.get("heldout_path"))

    @property
    def iteration(self) -> int:
        """Last logged step."""
        path = self.folder / METRICS_FILE
        return max((row["iteration"] for row in read_metrics(path)), default=0) if path.exists() else 0

    @property
    def heldout(self) -> HeldoutResult | None:
        """Result of `evaluate` on `heldout_path`; None without it."""
        path = self.folder / f"eval_results_{self.recipe['train_iters']}.json"
        return load_heldout(path) if path.exists() else None

    def measure_curve(self) -> list[tuple[float, float]]:
        """Return (tokens, held-out bits per byte) of each validation."""
        rows = read_metrics(self.folder / METRICS_FILE)
        return [(row["iteration"] * self.tokens_per_step, row[BITS]) for row in rows if BITS in row]

    @property
    def tokens_per_step(self) -> int:
        return self.recipe["train_batch_size"] * self.config.model.sample_length

    @property
    def final_bits(self) -> float:
        return self.measure_curve()[-1][1]

    def compute_costs(self, tokens: float) -> dict[str, float]:
        """Return the tokens with their FLOPs, CPU seconds and seconds of training (without validation)."""
        data, model = self.config.data, self.config.model
        entries = count_vocabulary_entries(data.tokenizer_type, data.vocab_file) or 0
        padded = compute_padded_vocab_size(entries, model.make_vocab_size_divisible_by, 1)
        speeds = [row[SPEED] for row in read_metrics(self.folder / METRICS_FILE) if SPEED in row]
        assert self.costs is not None
        return {
            "tokens": tokens,
            "FLOPs": tokens * compute_training_flops_per_token(model, padded, model.sample_length),
            "seconds": tokens / statistics.median(speeds),
            "CPU seconds": tokens / self.tokens_per_step * self.costs["cpu_seconds_per_step"],
        }


# ---- recipes


def read_recipe(paths: Sequence[Path], overrides: Mapping[str, Any]) -> Recipe:
    """Return the recipe of configuration files. Raise ConfigError if its runs could not be compared."""
    config = NeoXConfig.load(paths, overrides)
    config.require_training_keys()
    if config.training.train_seconds:
        raise ConfigError(
            f"{config.format_key('train_seconds')} limits a run by the clock. Limit it by steps: --set train_seconds="
        )
    if not config.training.eval_iters:
        raise ConfigError(f"{config.format_key('eval_iters')} must be above 0: the quality is measured by validation.")
    if config.training.train_batch_size is None:
        raise ConfigError("train_batch_size is missing. Set the number of samples of a step.")
    left_out = {key for key, origin in config.origins.items() if origin == DEFAULT} | {
        "save",
        "load",
        "tensorboard_dir",
        "metrics_file",
    }
    return {key: value for key, value in yaml.safe_load(config.to_yaml()).items() if key not in left_out}


def take_part(recipe: Recipe, part: str, other: Recipe) -> Recipe:
    """Return the recipe with the keys of a part as in another recipe. Raise ConfigError if this changes nothing.

    >>> take_part({"qk_norm": True, "lr": 1}, "qk_norm", {"lr": 2})
    {'lr': 1}
    """
    keys = part.split("+")
    same = [key for key in keys if recipe.get(key) == other.get(key)]
    if same:
        raise ConfigError(f"--parts: {', '.join(same)} has the same value in the recipe and in the baseline. Leave it out.")
    return {key: value for key, value in recipe.items() if key not in keys} | {key: other[key] for key in keys if key in other}


def shorten_run(recipe: Recipe, share: float) -> Recipe:
    """Return the recipe with a share of its steps and of its decay.

    >>> shorten_run({"train_iters": 300, "lr_decay_iters": 200}, 0.5)
    {'train_iters': 150, 'lr_decay_iters': 100}
    """
    steps = {key: max(1, round(share * recipe[key])) for key in ("train_iters", "lr_decay_iters") if key in recipe}
    return recipe | steps


def list_runs(plan: QualityPlan, output: Path) -> list[QualityRun]:
    """Return the runs of a plan, baselines first."""
    baseline = next(iter(plan.baselines.values()))
    recipes = {BASELINE + name: recipe for name, recipe in plan.baselines.items()}
    for share in sorted(plan.shares, reverse=True):
        recipes[RECIPE if share == 1 else f"{RECIPE}, {share:g} of the steps"] = shorten_run(plan.recipe, share)
    recipes |= {f"only {part}": take_part(baseline, part, plan.recipe) for part in plan.parts}
    recipes |= {f"without {part}": take_part(plan.recipe, part, baseline) for part in plan.parts if len(plan.parts) > 1}
    runs = []
    for number in range(plan.num_seeds):
        for name, recipe in recipes.items():
            seed = recipe.get("seed", 1234) + number
            folder = output / f"{''.join(letter if letter.isalnum() else '_' for letter in name)}-seed{seed}"
            runs.append(QualityRun(name, folder, recipe | {"seed": seed}))
    return runs


# ---- training


def train_runs(runs: Sequence[QualityRun], jobs: int) -> None:
    """Train and evaluate the runs that are not finished, `jobs` at a time. Raise NeoXError if one fails."""
    for run in runs:
        prepare_folder(run)
    waiting, active = [run for run in runs if not run.is_finished], list[RunProcess]()
    finished = len(runs) - len(waiting)
    done = sum(run.iteration for run in runs)
    log.info("%s, %d of them finished before", format_plural(len(runs), "run"), finished)
    try:
        with progress("quality", sum(run.recipe["train_iters"] for run in runs), " steps", done=done) as advance:
            while waiting or active:
                active += [RunProcess(waiting.pop(0)) for _ in range(min(len(waiting), jobs - len(active)))]
                time.sleep(POLL_SECONDS)
                active = [process for process in active if not process.is_ended()]
                before, done = done, sum(run.iteration for run in runs)
                advance(done - before)
    finally:
        for process in active:
            process.process.terminate()
            process.process.wait()


def prepare_folder(run: QualityRun) -> None:
    """Write the recipe of a run. Raise DataError if the folder has a run of another recipe."""
    path = run.folder / RECIPE_FILE
    if path.exists() and yaml.safe_load(path.read_text()) != run.recipe:
        raise DataError(f"{path} is another recipe than that of this command. Choose another --output, or delete {run.folder}.")
    if not path.exists():
        write_text(path, yaml.safe_dump(run.recipe, sort_keys=False))


class RunProcess:
    """The processes of a run, one after another: training, then evaluation if there is `heldout_path`. Output goes to log.txt."""

    def __init__(self, run: QualityRun):
        self.run, self.first_step = run, run.iteration
        log.info("%s: from step %d", run.folder, self.first_step)
        self.start("train" if run.costs is None else "evaluate")

    def start(self, command: str) -> None:
        """Start `train` or `evaluate` of this run in a process of its own."""
        folder = self.run.folder
        words = [command, str(folder / RECIPE_FILE), "--set", f"load={folder}"]
        self.command, words = command, words + (["--set", f"save={folder}"] if command == "train" else [])
        with (folder / LOG_FILE).open("a") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "neox_code.commands", *words],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                preexec_fn=die_with_parent,
            )

    def is_ended(self) -> bool:
        """Return True after the last process; start the next one after an earlier one. Raise NeoXError if one failed."""
        pid, status, usage = os.wait4(self.process.pid, os.WNOHANG)
        if not pid:
            return False
        self.process.returncode = code = os.waitstatus_to_exitcode(status)
        folder, recipe = self.run.folder, self.run.recipe
        if code == EXIT_RESUME:
            raise SystemExit(EXIT_RESUME)
        if code:
            lines = (folder / LOG_FILE).read_text(errors="replace").strip().splitlines()
            raise NeoXError(f"{folder} ended with status {code}: {lines[-1] if lines else ''} {folder / LOG_FILE} has more.")
        if self.command == "train":
            cpu_seconds = (usage.ru_utime + usage.ru_stime) / max(1, recipe["train_iters"] - self.first_step)
            write_json(folder / COSTS_FILE, {"cpu_seconds_per_step": cpu_seconds})
        if self.run.is_finished:
            return True
        self.start("evaluate")
        return False


# ---- figures


def find_tokens_until(curve: Sequence[tuple[float, float]], goal: float) -> float | None:
    """Return the tokens at which a curve first reaches the goal, interpolated over their logarithm; None if it does not.

    >>> find_tokens_until([(100, 3.0), (10_000, 2.0)], 2.5), find_tokens_until([(100, 3.0)], 2.5)
    (1000.0, None)
    """
    for (before, bits_before), (tokens, bits) in pairwise([(0.0, math.inf), *curve]):
        if bits <= goal:
            part = (bits_before - goal) / (bits_before - bits) if before else 1.0
            return round(math.exp(math.log(before or tokens) + part * math.log(tokens / (before or tokens))), 6)
    return None


class MeanValue(NamedTuple):
    """Mean and standard error over seeds; the error is None for one seed."""

    mean: float
    error: float | None = None

    def format(self, decimals: int, unit: float = 1.0) -> str:
        """Return the mean, and after ± the standard error, in multiples of `unit`.

        >>> compute_mean([1.0, 2.0]).format(2), compute_mean([1000.0]).format(1, 1e3)
        ('1.50 ± 0.50', '1.0')
        """
        return f"{self.mean / unit:,.{decimals}f}" + ("" if self.error is None else f" ± {self.error / unit:.{decimals}f}")


def compute_mean(values: Iterable[float]) -> MeanValue:
    found = list(values)
    return MeanValue(statistics.mean(found), statistics.stdev(found) / math.sqrt(len(found)) if len(found) > 1 else None)


COSTS = {"tokens": ("M tokens", 1e6, 2), "FLOPs": ("TFLOPs", 1e12, 1), "seconds": ("s", 1.0, 0), "CPU seconds": ("CPU s", 1.0, 0)}
"""Cost -> its unit in the report, the unit's size and the number of decimals."""


def group_by_name(runs: Iterable[QualityRun]) -> dict[str, list[QualityRun]]:
    groups: dict[str, list[QualityRun]] = {}
    for run in runs:
        groups.setdefault(run.name, []).append(run)
    return groups


def make_figures(runs: Sequence[QualityRun]) -> dict[str, Any]:
    """Return baseline -> run -> final bits per byte, gain over the baseline, costs until its final bits per byte and their ratios.

    The costs are None if a seed does not reach the baseline.
    """
    groups = group_by_name(runs)
    figures: dict[str, Any] = {}
    for baseline, own in groups.items():
        if not baseline.startswith(BASELINE):
            continue
        rows: dict[str, dict[str, Any]] = {}
        final = compute_mean(run.final_bits for run in own)
        for name, group in groups.items():
            curves = [run.measure_curve() for run in group]
            needed = [curve[-1][0] if name == baseline else find_tokens_until(curve, final.mean) for curve in curves]
            spent = [run.compute_costs(tokens) for run, tokens in zip(group, needed, strict=True) if tokens is not None]
            costs = {cost: compute_mean(each[cost] for each in spent) for cost in COSTS} if len(spent) == len(group) else None
            bits = compute_mean(run.final_bits for run in group)
            rows[name] = {"seeds": len(group), "bits_per_byte": bits, "gain": final.mean - bits.mean, "costs": costs}
        for row in rows.values():
            whole = rows[baseline]["costs"]
            row["ratios"] = row["costs"] and {cost: value.mean / whole[cost].mean for cost, value in row["costs"].items()}
        figures[baseline.removeprefix(BASELINE)] = rows
    return figures


def find_ratio(figures: Mapping[str, Any]) -> float | None:
    """Return the smallest share of the first baseline's tokens with which a run of the recipe reaches it; None if none does."""
    rows = next(iter(figures.values()))
    return min((row["ratios"]["tokens"] for name, row in rows.items() if name.startswith(RECIPE) and row["ratios"]), default=None)


def make_report(runs: Sequence[QualityRun]) -> str:
    """Return the tables in Markdown: costs until each baseline's final bits per byte, and bits per byte by language."""
    lines = []
    for baseline, rows in make_figures(runs).items():
        goal = rows[BASELINE + baseline]["bits_per_byte"].format(4)
        lines += [f"Costs (and their ratio) until the {goal} bits per byte of held-out samples with which `{baseline}` ends:", ""]
        lines += make_header(["run", "seeds", "bits per byte at the end", "gain", *(unit for unit, _, _ in COSTS.values())])
        for name, row in rows.items():
            cells = [name, str(row["seeds"]), row["bits_per_byte"].format(4), f"{row['gain']:+.4f}"]
            for cost, (_, size, decimals) in COSTS.items():
                found = row["costs"] and f"{row['costs'][cost].format(decimals, size)} ({row['ratios'][cost]:.2f})"
                cells.append(found or "not reached")
            lines.append(f"| {' | '.join(cells)} |")
        lines.append("")
    results = [run.heldout for run in runs]
    first = results[0]
    if first is not None and all(results):
        languages = [row.language for row in (*first.languages, first.total)]
        lines += ["Bits per byte of `evaluate` on held-out files, each alone:", "", *make_header(["run", *languages])]
        for name, group in group_by_name(runs).items():
            found = [list_bits(run.heldout, "model") for run in group if run.heldout]
            lines.append(f"| {name} | {' | '.join(compute_mean(values).format(3) for values in zip(*found, strict=True))} |")
        for name, method in COMPRESSORS.items():
            lines.append(f"| {name} | {' | '.join(f'{bits:.3f}' for bits in list_bits(first, method))} |")
    return "\n".join([*lines, ""])


def list_bits(result: HeldoutResult, method: str) -> list[float]:
    return [row.bits_per_byte(method) for row in (*result.languages, result.total)]


def make_header(columns: Sequence[str]) -> list[str]:
    return [f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
