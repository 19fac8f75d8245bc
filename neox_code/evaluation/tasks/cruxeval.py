"""CRUXEval: predict the output of a function (cruxeval-o), or an input for an output (cruxeval-i).

    cruxeval/cruxeval.jsonl        id, code, input, output        https://github.com/facebookresearch/cruxeval (data)

The prompts are the benchmark's, with two examples and without reasoning. A sample is the completed assertion, or the answer alone:
the output, or the call `f(...)`.
"""

import ast
from collections.abc import Callable

from neox_code.evaluation.execution.judge import Program
from neox_code.evaluation.sample_files import read_rows
from neox_code.evaluation.task import Protocol, Task, TaskInputs, TaskProblem, TaskSample
from neox_code.evaluation.tasks.programs import check_programs

OUTPUT_PROMPT = """\
You are given a Python function and an assertion containing an input to the function. Complete the assertion with a literal \
(no unsimplified expressions, no function calls) containing the output when executing the provided code on the given input, \
even if the function is incorrect or incomplete. Do NOT output any extra information. Provide the full assertion with the correct \
output in [ANSWER] and [/ANSWER] tags, following the examples.

[PYTHON]
def f(n):
    return n
assert f(17) == ??
[/PYTHON]
[ANSWER]
assert f(17) == 17
[/ANSWER]

[PYTHON]
def f(s):
    return s + "a"
assert f("x9j") == ??
[/PYTHON]
[ANSWER]
assert f("x9j") == "x9ja"
[/ANSWER]

[PYTHON]
{code}
assert f({input}) == ??
[/PYTHON]
[ANSWER]
"""

INPUT_PROMPT = """\
You will be given a function f and an output in the form f(??) == output. Find any input such that executing f on the input leads \
to the given output. There may be multiple answers, but you should only output one. In [ANSWER] and [/ANSWER] tags, complete the \
assertion with one such input that will produce the output when executing the function.

[PYTHON]
def f(my_list):
    count = 0
    for i in my_list:
        if len(i) % 2 == 0:
            count += 1
    return count
assert f(??) == 3
[/PYTHON]
[ANSWER]
assert f(["mq", "px", "zy"]) == 3
[/ANSWER]

[PYTHON]
def f(s1, s2):
    return s1 + s2
assert f(??) == "banana"
[/PYTHON]
[ANSWER]
assert f("ba", "nana") == "banana"
[/ANSWER]

[PYTHON]
{code}
assert f(??) == {output}
[/PYTHON]
[ANSWER]
"""

FIELDS = {"id": str, "code": str, "input": str, "output": str}


def load_cruxeval(prompt: str) -> Callable[[TaskInputs], list[TaskProblem]]:
    """Return the function that loads the problems with one of the prompts."""

    def load(inputs: TaskInputs) -> list[TaskProblem]:
        source = "https://github.com/facebookresearch/cruxeval (data)"
        rows = read_rows(inputs.find_file("cruxeval/cruxeval.jsonl", source), FIELDS)
        return [TaskProblem(row["id"], fill_prompt(prompt, row), fields=row) for row in rows]

    return load


def fill_prompt(prompt: str, row: dict[str, str]) -> str:
    """Return the prompt with the fields of a row, whose code may have braces."""
    head, _, end = prompt.rpartition("{code}")
    return head + row["code"] + end.format(input=row["input"], output=row["output"])


def read_answer(text: str, side: int) -> str:
    """Return the answer in a completed assertion: the call (side 0) or the value (side 1).

    >>> read_answer('assert f("a == b") == [1]\\n[/ANSWER]', 0), read_answer("assert f(2) == 4", 1), read_answer(" 4", 1)
    ("f('a == b')", '4', '4')
    """
    text = text.partition("[/ANSWER]")[0].strip()
    try:
        statement = ast.parse(text).body[0]
        test = statement.test if isinstance(statement, ast.Assert) else None
        if isinstance(test, ast.Compare) and len(test.ops) == 1 and isinstance(test.ops[0], ast.Eq):
            return ast.unparse(test.comparators[0] if side else test.left)
    except (SyntaxError, ValueError, IndexError, MemoryError, RecursionError):
        pass
    return text


def make_program(side: int) -> Callable[[TaskProblem, TaskSample], Program]:
    def make(problem: TaskProblem, sample: TaskSample) -> Program:
        """Return the program that compares the answer; an answer of another kind than the task asks for raises an error."""
        answer = read_answer(sample.completion if sample.solution is None else sample.solution, side)
        has_kind = answer.startswith("f(") == (side == 0)
        lines = [problem.fields["code"], f"assert {has_kind}, 'the answer is of another kind'", f"answer = (\n{answer}\n)"]
        return Program("python", "\n".join([*lines, f"assert {problem.fields['output']} == answer"]))

    return make


CRUXEVAL = tuple(
    Task(name, load_cruxeval(prompt), check_programs(make_program(side)), Protocol(stop=("[/ANSWER]",), maximum_tokens=128))
    for name, prompt, side in (("cruxeval-i", INPUT_PROMPT, 0), ("cruxeval-o", OUTPUT_PROMPT, 1))
)
