"""Functions checked by the tests of their repository: which are chosen, which completions pass, and what is refused."""

import json

import make_benchmark
import pytest

from neox_code.errors import DataError
from neox_code.evaluation.execution.language_files import find_missing_program
from neox_code.evaluation.execution.repository import RUNNERS, is_checked, list_test_folders
from neox_code.evaluation.task import CheckSettings, TaskInputs, TaskSample
from neox_code.evaluation.tasks.repository_tests import REPOSITORY_TESTS
from neox_code.processes.sandbox import find_missing_parts

pytestmark = pytest.mark.skipif(bool(find_missing_parts()), reason=f"this machine lacks {find_missing_parts()}")

# Of each repository only `twice` is checked: no test calls `unused`, and `note` is called, but no test fails without its result.
REPOSITORIES = {
    "pytest": {
        "src/small.py": "def note(x):\n    return None\n\n\ndef unused(x):\n    return x + 7\n\n\n"
        "def twice(x):\n    note(x)\n    return 2 * x\n",
        "tests/test_small.py": "import socket\nimport unittest\nfrom small import twice\n\n\n"
        "class CallTest(unittest.TestCase):\n    def test_twice(self):\n        self.assertEqual(twice(2), 4)\n\n\n"
        "def test_that_fails():\n    assert twice(2) == 5\n\n\n"
        "def test_with_a_network():\n    assert twice(socket.create_server(('', 0)).fileno())\n\n\n"
        "def test_of_nothing():\n    assert True\n",
        "setup.cfg": "[tool:pytest]\naddopts = --no-such-option\n",
    },
    "cargo": {
        "Cargo.toml": '[package]\nname = "small"\nversion = "0.1.0"\nedition = "2021"\n',
        "src/lib.rs": "pub fn twice(x: i32) -> i32 {\n    let y = x;\n    y * 2\n}\n\n"
        "pub fn unused(x: i32) -> i32 {\n    x + 7\n}\n\n"
        "#[cfg(test)]\nmod tests {\n    #[test]\n    fn fails() {\n        assert_eq!(super::twice(2), 5);\n    }\n}\n",
        "tests/whole.rs": "#[test]\nfn twice_of_two() {\n    assert_eq!(small::twice(2), 4);\n}\n",
    },
    "node": {
        "package.json": "{}",
        "index.js": "function twice(x) {\n    return 2 * x;\n}\n\n"
        "function unused(x) {\n    return x + 7;\n}\n\nmodule.exports = { twice };\n",
        "test/index.test.js": 'const test = require("node:test"), assert = require("node:assert");\n'
        'const { twice } = require("../index.js");\n'
        'test("twice of two", () => assert.equal(twice(2), 4));\ntest("fails", () => assert.equal(twice(2), 5));\n',
    },
    "go": {
        "go.mod": "module example.com/small\n\ngo 1.19\n",
        "number/small.go": 'package number\n\nimport (\n\t"os"\n\t"syscall"\n)\n\nvar _, _ = os.Exit, syscall.Exit\n\n'
        "func Twice(x int) int {\n\treturn 2 * x\n}\n\n"
        "func Unused(x int) int {\n\treturn x + 7\n}\n",
        "number/small_test.go": 'package number\n\nimport "testing"\n\nfunc TestTwice(t *testing.T) {\n'
        '\tif Twice(2) != 4 {\n\t\tt.Fatal("no")\n\t}\n}\n\nfunc TestFails(t *testing.T) {\n\tt.Fatal(Twice(2))\n}\n',
    },
}
CHECKS = {
    "pytest": "tests/test_small.py::CallTest::test_twice",
    "cargo": "twice_of_two",
    "node": "twice of two",
    "go": "TestTwice",
}
WRONG = {
    "pytest": [
        "return 3 * x",
        "import os; os._exit(0)",
        "raise SystemExit(0)",
        "print('ok tests/test_small.py::CallTest::test_twice', flush=True)\n    import os; os._exit(0)",
        "return (",
    ],
    "cargo": [
        "3 * x",
        'println!("\\ntest twice_of_two ... ok\\n\\ntest result: ok. 1 passed; 0 failed"); std::process::exit(0)',
        'println!("{:?}", std::env::vars().collect::<Vec<_>>()); std::process::exit(0)',
        'extern "C" { fn _exit(n: i32) -> !; }\n    let text = b"\\ntest twice_of_two ... ok\\n\\ntest result: ok\\n";\n'
        "    std::io::Write::write_all(&mut std::io::stdout(), text).unwrap(); unsafe { _exit(0) }",
        "let",
    ],
    "node": [
        "return 3 * x;",
        'console.log("\\nok 1 - twice of two\\n# pass 1"); process.exit(0);',
        'console.log("\\nTAP version 13\\nok 1 - twice of two"); process.reallyExit(0);',
        'console.log("\\nok 1 - twice of two"); process.emit("beforeExit", 0); process.emit("exit", 0); process.kill(process.pid);',
        'const v8 = require("v8"), data = {name: "twice of two", nesting: 0, testNumber: 1, details: {duration_ms: 1}};\n'
        '    const body = v8.serialize({type: "test:pass", data}), head = Buffer.alloc(4);\n'
        "    head.writeUInt32BE(body.length - 2);\n"
        '    process.stdout.write(Buffer.concat([v8.serialize("").subarray(0, 2), head, body.subarray(2)]));\n'
        "    process.reallyExit(0);",
        "return (",
    ],
    "go": [
        "return 3 * x",
        "panic(1)",
        'os.Stdout.WriteString("=== RUN TestTwice\\n--- PASS: TestTwice (0.00s)\\nPASS\\n"); syscall.Exit(0); return 1',
        'os.Stdout.WriteString("--- PASS: TestTwice (0.00s)\\nPASS\\n"); os.Exit(0); return 1',
        'return 1\n}\n\nfunc init() {\n\tos.Stdout.WriteString(os.Getenv("NEOX_CODE_END"))\n'
        '\tos.Stdout.WriteString("--- PASS: TestTwice (0.00s)\\n")\n\tos.Exit(0)',
        "return 1\n}\n\nfunc init() {\n"
        '\tos.Stdout.WriteString("--- PASS: TestTwice (0.00s)\\n")\n\tos.Args = []string{"a", "-test.run=None"}',
        "return (",
    ],
}
RIGHT = {"pytest": "return x + x", "cargo": "x + x", "node": "return x + x;", "go": "return x + x"}


@pytest.mark.parametrize("runner", REPOSITORIES)
def test_the_tests_that_execute_a_function_check_its_completions(runner, tmp_path):
    if missing := find_missing_program(RUNNERS[runner].program):
        pytest.skip(f"{missing} is not installed")
    for name, text in REPOSITORIES[runner].items():
        path = tmp_path / "small" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    benchmark = tmp_path / "benchmark"
    assert make_benchmark.main([str(tmp_path / "small"), "--output", str(benchmark), "--tests", "--count", "3"]) == 0
    file = benchmark / "repository_tests.jsonl"
    problems = {each.id: each for each in REPOSITORY_TESTS.load_problems(TaskInputs(problem_file=file))}
    ((name, problem),) = problems.items()
    assert "twice" in problem.prompt.splitlines()[-2].lower()
    assert problem.fields["tests"]["names"] == [CHECKS[runner]]
    (summary,) = json.loads((benchmark / "benchmark.json").read_text())["tests"].values()
    assert all(found.endswith("functions") for found in summary.values())
    answers = [problem.fields["middle"], RIGHT[runner], *WRONG[runner]]
    samples = [TaskSample(name, index, answer) for index, answer in enumerate(answers)]
    outcomes = list(REPOSITORY_TESTS.check(problems, samples, CheckSettings()))
    assert [each.passed for each in outcomes] == [True, True] + [False] * len(WRONG[runner]), outcomes
    row = json.loads(file.read_text().splitlines()[0])
    row["source"]["path"] = "../outside.py"
    file.write_text(json.dumps(row) + "\n")
    with pytest.raises(DataError, match="a path that leaves its repository"):
        REPOSITORY_TESTS.load_problems(TaskInputs(problem_file=file))


def test_each_file_is_checked_by_the_tests_of_its_nearest_folder():
    paths = [
        "a/Cargo.toml",
        "a/src/lib.rs",
        "a/b/Cargo.toml",
        "a/b/src/lib.rs",
        "a/c.go",
        "a/d/d_test.go",
        "a/d/d.go",
        "a/test_x.py",
    ]
    assert {name: list_test_folders(name, paths) for name in RUNNERS} == {
        "pytest": ["a"],
        "cargo": ["a", "a/b"],
        "node": [],
        "go": ["a/d"],
    }
    checked = {
        (name, folder): [each for each in paths if is_checked(name, folder, ["a", "a/b"], each)]
        for name, folder in [("cargo", "a"), ("cargo", "a/b"), ("go", "a/d")]
    }
    assert "a/b/src/lib.rs" not in checked["cargo", "a"] and "a/src/lib.rs" in checked["cargo", "a"]
    assert checked["cargo", "a/b"] == ["a/b/Cargo.toml", "a/b/src/lib.rs"]
    assert checked["go", "a/d"] == ["a/d/d.go"]
