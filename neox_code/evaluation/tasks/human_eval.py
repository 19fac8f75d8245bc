"""HumanEval, and HumanEvalPack: the same problems in six languages.

    human-eval/HumanEval.jsonl.gz                task_id, prompt, entry_point, test        https://github.com/openai/human-eval
    human-eval-x/LANGUAGE/humanevalpack.jsonl    the same fields, test_setup for Go        https://huggingface.co/datasets/bigcode/humanevalpack

A sample continues the prompt; the tests stand below it.
"""

import re
from collections.abc import Callable, Mapping

from neox_code.evaluation.execution.judge import Program
from neox_code.evaluation.sample_files import read_rows
from neox_code.evaluation.task import Protocol, Task, TaskInputs, TaskProblem, TaskSample
from neox_code.evaluation.tasks.programs import check_programs

FIELDS = {"task_id": str, "prompt": str, "test": str, "entry_point": str}
PYTHON_STOP = ("\nclass", "\ndef", "\n#", "\n@", "\nprint", "\nif")
SOURCE = "https://github.com/openai/human-eval (data)"


def load_human_eval(inputs: TaskInputs) -> list[TaskProblem]:
    rows = read_rows(inputs.find_file("human-eval/HumanEval.jsonl.gz", SOURCE), FIELDS)
    return [TaskProblem(row["task_id"], row["prompt"], fields=row) for row in rows]


def make_human_eval_program(problem: TaskProblem, sample: TaskSample) -> Program:
    row = problem.fields
    return Program("python", f"{sample.make_code(problem)}\n{row['test']}\ncheck({row['entry_point']})")


def load_pack(language: str) -> Callable[[TaskInputs], list[TaskProblem]]:
    """Return the function that loads the problems of a language. Those in Python are HumanEval's own if there is no other file."""

    def load(inputs: TaskInputs) -> list[TaskProblem]:
        name = f"human-eval-x/{language}/humanevalpack.jsonl"
        if language == "python" and inputs.data and not (inputs.problem_file or (inputs.data / name).is_file()):
            return load_human_eval(inputs)
        source = "https://huggingface.co/datasets/bigcode/humanevalpack (data)"
        fields = FIELDS | ({"test_setup": str} if language == "go" else {})
        return [TaskProblem(row["task_id"], row["prompt"], fields=row) for row in read_rows(inputs.find_file(name, source), fields)]

    return load


def make_python_source(code: str, row: Mapping[str, str]) -> str:
    call = f"check({row['entry_point']})"
    return f"{code}\n{row['test']}\n" + ("" if call in row["test"] else call)


def make_java_source(code: str, row: Mapping[str, str]) -> str:
    """Return the program; a sample that ends with its method is completed by the end of the class."""
    return code + ("\n}" if code.count("{") == code.count("}") + 1 else "") + "\n" + row["test"]


def make_javascript_source(code: str, row: Mapping[str, str]) -> str:
    """Return the program; an assertion of the console, which only prints, raises an error."""
    return f"console.assert = (holds) => {{ if (!holds) throw new Error('assertion failed') }}\n{code}\n{row['test']}"


GO_IMPORT = re.compile(r"^import\s*(?:\(([^)]*)\)|(\"[^\"]+\"))", re.MULTILINE)
GO_PACKAGES = (
    "bytes",
    "crypto/md5",
    "errors",
    "fmt",
    "math",
    "math/rand",
    "regexp",
    "sort",
    "strconv",
    "strings",
    "time",
    "unicode",
)


GO_TEXT = re.compile(r"""//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|`[^`]*`|'(?:\\.|[^'\\\n])+'""", re.DOTALL)
"""Comments and literals of Go, in which the name of a package uses nothing."""


def make_go_source(code: str, row: Mapping[str, str]) -> str:
    """Return the test file. It imports the packages whose names occur, since Go refuses an import that is missing or unused."""
    body = GO_IMPORT.sub("", code) + "\n" + row["test"]
    named = re.findall(r'"([^"]+)"', "".join(map("".join, GO_IMPORT.findall(row["test_setup"] + "\n" + code))))
    names = set(re.findall(r"\b(\w+)\.", GO_TEXT.sub(" ", body)))
    used = [path for path in sorted({*named, *GO_PACKAGES}) if path.rpartition("/")[2] in names]
    return "package main\n\nimport (\n" + "".join(f'\t"{path}"\n' for path in used) + f")\n{body}"


RUST_CRATES = {"use rand::Rng;": r"\brand::|\bRng\b|gen_range", "use regex::Regex;": r"\bRegex\b", "use md5;": r"\bmd5::"}
"""Import of a package that is not part of Rust -> what needs it."""


def make_rust_source(code: str, row: Mapping[str, str]) -> str:
    """Return the test file; imports of packages that nothing needs are left out, so that the compiler need not find them."""
    body = re.sub(r"^fn main\(\)\s*\{\s*\}", "", code)
    for line, use in RUST_CRATES.items():
        without = body.replace(line, "")
        body = body if re.search(use, without + row["test"]) else without
    return f"{body}\n{row['test']}"


PACK: dict[str, tuple[str, Callable[[str, Mapping[str, str]], str], float]] = {
    "python": ("python", make_python_source, 10.0),
    "cpp": ("cpp", lambda code, row: f"{code}\n{row['test']}", 20.0),
    "js": ("javascript", make_javascript_source, 10.0),
    "java": ("java", make_java_source, 20.0),
    "go": ("go", make_go_source, 20.0),
    "rust": ("rust", make_rust_source, 20.0),
}
"""Language of HumanEvalPack -> language of the program, its source from the sample's code and the row, time limit in seconds."""


def make_pack_task(name: str) -> Task:
    language, make_source, seconds = PACK[name]

    def make_program(problem: TaskProblem, sample: TaskSample) -> Program:
        return Program(language, make_source(sample.make_code(problem), problem.fields), timeout_seconds=seconds)

    protocol = Protocol(stop=(*PYTHON_STOP, "\nassert")) if name == "python" else Protocol(stop_rules=("block",))
    return Task(f"humanevalpack-{name}", load_pack(name), check_programs(make_program), protocol)


HUMAN_EVAL = Task("humaneval", load_human_eval, check_programs(make_human_eval_program), Protocol(stop=PYTHON_STOP))
HUMAN_EVAL_PACK = tuple(map(make_pack_task, PACK))
