"""Problems in MultiPL-E's format, in any language that the sandbox runs: `--tasks multiple-lua --problem-file FILE.jsonl`.
`--tasks multiple --language zork.yml --problem-file FILE.jsonl` runs programs as a language file describes.

    multipl-e/humaneval-LANGUAGE.jsonl        name, language, prompt, tests, stop_tokens

from https://huggingface.co/datasets/nuprl/MultiPL-E. The program is the prompt, the sample and the tests; it passes if it
reaches its end. The task `multiple` reads the language of each row.
"""

from collections.abc import Callable

from neox_code.errors import DataError
from neox_code.evaluation.execution.judge import Program
from neox_code.evaluation.execution.language_files import get_language, list_language_names
from neox_code.evaluation.sample_files import read_rows
from neox_code.evaluation.task import Task, TaskInputs, TaskProblem, TaskSample
from neox_code.evaluation.tasks.programs import check_programs

LANGUAGES = {
    **{name: name for name in ("c", "cpp", "java", "lua", "php", "python", "ruby", "rust", "go", "kotlin")},
    "py": "python",
    "js": "javascript",
    "ts": "typescript",
    "rb": "ruby",
    "rs": "rust",
    "kt": "kotlin",
    "go_test.go": "go",
}
"""Name of a language in MultiPL-E's files -> its name in the sandbox."""
TASKS = ("cpp", "go", "java", "js", "kt", "lua", "php", "py", "rb", "rs", "ts")
FIELDS = {"name": str, "language": str, "prompt": str, "tests": str, "stop_tokens": list}
SECONDS = 15.0


def load_multiple(name: str) -> Callable[[TaskInputs], list[TaskProblem]]:
    """Return the function that loads a file; `name` is the language that its rows must have, or empty."""

    def load(inputs: TaskInputs) -> list[TaskProblem]:
        source = "https://huggingface.co/datasets/nuprl/MultiPL-E, as JSON Lines"
        path = inputs.find_file(f"multipl-e/humaneval-{name or 'LANGUAGE'}.jsonl", source)
        problems = []
        for number, row in enumerate(read_rows(path, FIELDS), 1):
            language = LANGUAGES.get(row["language"], row["language"] if get_language(row["language"]) else None)
            if language is None or (name and language != LANGUAGES.get(name, name)):
                expected = name or ", ".join(sorted({*LANGUAGES, *list_language_names()}))
                raise DataError(f"{path}: row {number} has the language {row['language']!r}; expected {expected}.")
            fields = row | {"language": language}
            problems.append(TaskProblem(row["name"], row["prompt"], stop=tuple(filter(None, row["stop_tokens"])), fields=fields))
        return problems

    return load


def make_program(problem: TaskProblem, sample: TaskSample) -> Program:
    source = f"{sample.make_code(problem)}\n{problem.fields['tests']}"
    return Program(problem.fields["language"], source, timeout_seconds=SECONDS)


MULTIPLE = tuple(
    Task(f"multiple-{name}" if name else "multiple", load_multiple(name), check_programs(make_program)) for name in ("", *TASKS)
)
