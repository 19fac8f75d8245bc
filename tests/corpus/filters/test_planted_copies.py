"""Planted copies of the published benchmarks are found at least as well as by the substring rule, and reformatted ones better."""

from functools import cache

import pytest
from known_benchmarks import read_known_tasks
from planted_copies import COPIES, count_false_alarms, list_substrings, measure_benchmark_rates

VERBATIM = ("verbatim", "notebook", "Markdown", "JSON Lines")


@cache
def rates_of(folder):
    return measure_benchmark_rates(read_known_tasks(folder))


@pytest.fixture
def rates(test_data):
    return rates_of(test_data)


def test_prompts_functions_and_bodies_are_found_as_by_the_substring_rule_and_as_well_in_notebooks(rates):
    compared = 0
    for (benchmark, form, copy), (ours, by_substring) in rates.items():
        if form in ("prompt", "docstring", "code", "solution") and copy in VERBATIM:
            assert ours >= by_substring, (benchmark, form, copy)
            assert ours >= 0.998
            compared += 1
    assert compared >= 4 * 14


def test_tests_alone_and_reformatted_copies_are_found(rates):
    for (benchmark, form, copy), (ours, by_substring) in rates.items():
        if form in ("test", "tests") and copy in VERBATIM and benchmark != "CRUXEval":  # its tests are `assert f(1) == 2`
            assert ours >= 0.99, (benchmark, form, copy)
        if (
            form in ("prompt", "docstring", "code") and copy == "reformatted" and benchmark != "MultiPL-E"
        ):  # prompts are comments there
            assert ours >= 0.98 and ours >= by_substring, (benchmark, form)
    assert {copy for _, _, copy in rates} == set(COPIES)


def test_everyday_lines_are_found_only_where_they_are_the_whole_body_of_a_task_that_is_not_generic(test_data):
    everyday = [
        "def add(x, y, z):\n    return x + y + z\n",
        "def later(x, year):\n    return x + year\n",
        "def area(a, h):\n    return a * h / 2.0 + a\n",
        "def swap_case(string):\n    return string.swapcase().strip()\n",
        "def tail(strings):\n    return ''.join(strings)[1:]\n",
        "def add(x, y): return x + y\n",
        "const size = (strings) => { return string.length; }\n",
        "def square(n):\n    return n**2 - 1\n",
        "total = n*(n+1)/2\n",
        "for i in range(n):\n    for j in range(i + 1, n):\n        print(i, j)\n",
        "def swap(a, b):\n    return b, a\n",
        "import os\nimport re\nimport sys\nimport json\nimport math\nfrom typing import List, Dict, Tuple, Optional, Any\n",
        "#include <stdio.h>\n#include <math.h>\n#include <vector>\n#include <string>\nusing namespace std;\n#include <algorithm>\n",
        "abc = 'a b c d e f g h i j k l m n o p q r s t u v w x y z'\n",
        "def test():\n    assert f(1) == 2\n    assert f(2) == 3\n",
    ]
    alarms = count_false_alarms(everyday, list_substrings(read_known_tasks(test_data)))
    assert alarms["benchmarks"] == 0 and alarms["secrets"] == 0
    assert alarms["benchmarks by the substring rule"] == 3
    whole_bodies = ["def f(x, y):\n\treturn a * h / 2.0", "int f(int n) {\r\n  return n * (n + 1) / 2;\r\n}\r\n"]
    assert count_false_alarms(whole_bodies, set())["benchmarks"] == 2
    generic = ["def f(x, y):\n\treturn x + y", "int f(int x, int y) {\r\n  return x + y;\r\n}\r\n", "return string.length;"]
    assert count_false_alarms(generic, set())["benchmarks"] == 0
