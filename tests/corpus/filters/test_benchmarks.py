import gzip
import html
import json
import random
import time

import pytest
import zstandard
from known_benchmarks import build_known_index, save_known_index

from neox_code.corpus.filters.benchmarks import (
    RUN,
    Benchmark,
    BenchmarkOverlap,
    build_index,
    load_known_index,
    read_texts,
    split_words,
)
from neox_code.corpus.filters.protocol import Candidate
from neox_code.corpus.sources.compressed import open_decompressed
from neox_code.errors import DataError

HUMAN_EVAL = ("human-eval/HumanEval.jsonl.gz", ("prompt", "canonical_solution"))
MBPP = ("mbpp/mbpp.jsonl", ("text", "code"))


def candidate(text):
    return Candidate("x.py", "Python", len(text), text)


def task_file(folder, *tasks):
    path = folder / "tasks.jsonl"
    path.write_text("".join(json.dumps({"prompt": task}) + "\n" for task in tasks))
    return Benchmark("Mine", str(path), ("prompt",))


def test_known_benchmarks_are_those_of_the_published_files(test_data, tmp_path):
    made, known = build_known_index(test_data), load_known_index()
    save_known_index(made, tmp_path / "known.npz")
    assert load_known_index(tmp_path / "known.npz") == made
    assert set(known.names.values()) == {"HumanEval", "HumanEval+", "MBPP", "MBPP+", "HumanEvalPack", "CRUXEval", "MultiPL-E"}
    if (test_data / "multipl-e").is_dir():
        assert known == made
    else:  # runs of its tasks count when those that three tasks share are left out
        missing = [hashed for hashed, name in made.names.items() if known.names.get(hashed) != name]
        assert len(missing) < 0.01 * len(made.names)


def test_every_task_of_a_benchmark_is_found_inside_a_file(test_data):
    for path, keys, name in ((HUMAN_EVAL[0], ("prompt",), "HumanEval"), (*MBPP, "MBPP")):
        for text in read_texts(Benchmark(name, str(test_data / path), keys)):
            changed = text.replace("\n", "\r\n").replace("(", " ( ")
            changed = changed if "\\" in changed else changed.upper()
            assert str(BenchmarkOverlap().keep(candidate(f"import os\n{changed}\nprint(1)\n"))).startswith("overlaps with ")


def test_the_number_of_found_tasks_is_unchanged(test_data):
    """The figures of recipes/README.md."""
    found = {}
    for path, keys, name in ((*HUMAN_EVAL, "HumanEval"), (*MBPP, "MBPP")):
        with open_decompressed(test_data / path) as (lines, _):
            tasks = [json.loads(line) for line in lines]
        for key in keys:
            found[name, key] = sum(BenchmarkOverlap().keep(candidate(task[key])) is not True for task in tasks)
    assert found == {
        ("HumanEval", "prompt"): 164,
        ("HumanEval", "canonical_solution"): 161,  # all but those of GENERIC_TASKS
        ("MBPP", "text"): 974,
        ("MBPP", "code"): 974,
    }


@pytest.mark.parametrize("line", ["return x + y", "return len(string)", "return n**2", "return n * n;", "return string.length();"])
def test_a_body_that_anybody_writes_is_in_no_benchmark(line):
    assert BenchmarkOverlap().keep(candidate(f"def f(string, n, x, y):\n    {line}\n")) is True


@pytest.mark.parametrize(
    "prompt",  # as published for JavaScript, Rust and Java
    [
        "//Write a function to sort each subarray of strings in a given array of arrays.\nfunction sort_sublists(input_list){\n",
        "//Write a jsthon function to count true booleans in the given array.\nfunction count(lst){\n",
        "/// Write a function to multiply two integers.\nfn multiply_int(x: isize, y: isize) -> isize {\n",
        "/// Write a function to append the given vector to the given tuples.\nfn add_lists(test_list: Vec<isize>",
        "    // Write a function to merge three array lists into a single sorted array list.\n    public static ArrayList<Long>",
    ],
)
def test_mbpp_in_the_terms_of_multipl_e_is_found(prompt):
    assert str(BenchmarkOverlap().keep(candidate(prompt))).startswith("overlaps with M")
    assert BenchmarkOverlap().keep(candidate("// Sort each array of strings in a given map.\nfunction sort(x) {\n")) is True


def test_escapes_of_json_and_entities_of_html_are_no_words():
    code = 'def f(x):\n\tprint("é", x)\n    return "naïve"\n'
    assert split_words(json.dumps(code)) == split_words(code) == split_words(html.escape(code))
    assert split_words(json.dumps(json.dumps({"a": "b\nc"}))) == [b"a", b"b", b"c"]
    assert split_words(json.dumps("😀 a")) == split_words("😀 a")


@pytest.mark.parametrize(
    "unit", [r"\\", r"\u0041", "&#", "&lt", "for i in range ", "set set true ", "return x + y ", "return x + y;" + " " * 200]
)
def test_hostile_texts_take_linear_time(unit):
    """A text eight times as long takes at most 24 times as long; the machine may be busy, so processor time counts."""

    def seconds(length):
        text = r"\u " + unit * (length // len(unit))
        start = time.process_time()
        BenchmarkOverlap().keep(candidate(text))
        return time.process_time() - start

    assert min(seconds(1 << 18) for _ in range(2)) < 24 * max(0.02, min(seconds(1 << 15) for _ in range(3)))


def test_short_texts_are_found_as_a_whole(tmp_path):
    tasks = task_file(tmp_path, "def is_perfect(n): return n == 6", "  return x + y;\n}", "one two three", "print('a')", "72")
    rule = BenchmarkOverlap((tasks,), known=False)
    assert rule.keep(candidate("import os\ndef is_perfect( n ):\n    return n==6\n")) == "overlaps with Mine"
    assert rule.keep(candidate("def is_perfect(n): return n == 28")) is True
    assert rule.keep(candidate("return x + y, one, two, three\nprint('a')\n72\n")) is True


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_a_text_of_few_words_is_found_by_its_longest_line_as_a_whole_line(tmp_path, line_end):
    rule = BenchmarkOverlap((task_file(tmp_path, "  return x + y;\n}", 'return "".join(s)'),), known=False)
    for line in ("return x + y", "    return x + y;  ", "\treturn x + y", 'return "".join(s)'):
        text = f"f(x):\n{line}\nend".replace("\n", line_end)
        for copy in (text, line, json.dumps(text), json.dumps({"source": text.splitlines(True)}, indent=1)):
            assert rule.keep(candidate(copy)) == "overlaps with Mine", copy
    for line in ("return x + y + 1", "return x + yes", "if z: return x + y", "return x - y", "return x +  y", "noreturn x + y"):
        assert rule.keep(candidate(f"f(x):\n{line}\nend")) is True, line


def ngrams_of_text(text):
    words = split_words(text)
    runs = (words[start : start + RUN] for start in range(len(words) - RUN + 1))
    with_letter = [(run, [word for word in run if word.strip(b"_0123456789")]) for run in map(tuple, runs)]
    return {run for run, words in with_letter if len(words) >= 7 and sum(len(word) >= 2 for word in words) >= 3}


def test_decisions_equal_a_comparison_of_all_runs(tmp_path):
    generator = random.Random(8)
    vocabulary = ["for", "x", "in", "range", "return", "12", "é", "_", "list_1"]
    tasks = [" ".join(generator.choices(vocabulary[:4], k=40)) for _ in range(20)]
    rule = BenchmarkOverlap((task_file(tmp_path, *tasks),), known=False)
    shared = set().union(*map(ngrams_of_text, tasks))
    decisions = set()
    for _ in range(400):
        start = generator.randrange(30)
        piece = " ".join(generator.choice(tasks).split()[start : start + generator.randrange(10, 16)])
        text = " ".join(generator.choices(vocabulary, k=20)) + " " + piece + " " + " ".join(generator.choices(vocabulary, k=20))
        overlaps = bool(ngrams_of_text(text) & shared)
        assert (rule.keep(candidate(text)) == "overlaps with Mine") == overlaps
        decisions.add(overlaps)
    assert decisions == {True, False}


def test_twelve_words_and_lists_of_numbers_are_shared_by_chance(tmp_path):
    rule = BenchmarkOverlap(
        (task_file(tmp_path, "ab bc cd d e f g h i j k l m", "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15"),), known=False
    )
    assert rule.keep(candidate("ab bc cd d e f g h i j k l")) is True
    assert rule.keep(candidate("1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15")) is True
    assert rule.keep(candidate("(AB, bc.cd) d = e[f]; g h i j k l->m")) == "overlaps with Mine"


@pytest.mark.parametrize("suffix", ["", ".gz", ".zst"])
def test_benchmarks_are_read_as_they_are_distributed(tmp_path, suffix):
    lines = [json.dumps({"q": "one", "a": ["two", "three"]}) + "\n", "\n" + json.dumps({"q": "four", "a": []}) + "\n"]
    pack = {"": bytes, ".gz": gzip.compress, ".zst": zstandard.compress}[suffix]
    path = tmp_path / f"tasks.jsonl{suffix}"
    path.write_bytes(b"".join(pack(line.encode()) for line in lines))
    assert list(read_texts(Benchmark("Mine", str(path), ("q", "a")))) == ["one", "two", "three", "four"]


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (
            b'{"prompt": "a"}\n',
            r"tasks\.jsonl, line 1: the row has no key 'text', only prompt\. Correct the file or the recipe's keys",
        ),
        (b'{"text": "a"}\n{"text": 5}\n', r"tasks\.jsonl, line 2: 'text' is neither a text nor a list of texts"),
        (b'{"text": "a"}\n[]\n', r"tasks\.jsonl, line 2: the row is not a JSON object"),
        (b'{"text": "a"}\n{"te', r"tasks\.jsonl, line 2: unexpected end"),
        (gzip.compress(b'{"text": "a"}\n', mtime=0)[:-9], r"tasks\.jsonl, line \d: it breaks off"),
    ],
)
def test_errors_in_a_benchmark_file_name_the_line(tmp_path, content, error):
    path = tmp_path / "tasks.jsonl"
    path.write_bytes(content)
    with pytest.raises(DataError, match=error):
        build_index(Benchmark("Mine", str(path), ("text",)))
    with pytest.raises(DataError, match=r"absent\.jsonl does not exist"):
        build_index(Benchmark("Mine", str(tmp_path / "absent.jsonl"), ("text",)))
