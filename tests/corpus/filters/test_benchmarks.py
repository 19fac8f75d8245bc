import gzip
import json
import random

import pytest
import zstandard

from neox_code.corpus.filters.benchmarks import (
    RUN,
    Benchmark,
    BenchmarkOverlap,
    load_known,
    ngrams_of,
    save_known,
    texts_of,
    words_of,
)
from neox_code.corpus.filters.protocol import Candidate
from neox_code.corpus.sources.compressed import open_expanded
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
    sources = [
        Benchmark("HumanEval", str(test_data / HUMAN_EVAL[0]), HUMAN_EVAL[1]),
        Benchmark("MBPP", str(test_data / MBPP[0]), MBPP[1]),
    ]
    save_known(sources, tmp_path / "known.npz")
    known = load_known()
    assert known.names == load_known(tmp_path / "known.npz").names and known.words == load_known(tmp_path / "known.npz").words
    assert set(known.names.values()) == {"HumanEval", "MBPP"}


def test_every_task_of_a_benchmark_is_found_in_a_file_around_it(test_data):
    for path, keys, name in ((*HUMAN_EVAL, "HumanEval"), (*MBPP, "MBPP")):
        for text in texts_of(Benchmark(name, str(test_data / path), keys)):
            if len(ngrams_of_text(text)) > 0:
                changed = text.replace("\n", "\r\n").replace("(", " ( ").upper()
                assert str(BenchmarkOverlap().keep(candidate(f"import os\n{changed}\nprint(1)\n"))).startswith("overlaps with ")


def test_so_many_tasks_have_thirteen_words_in_a_row(test_data):
    """The figures of recipes/README.md."""
    found = {}
    for path, keys, name in ((*HUMAN_EVAL, "HumanEval"), (*MBPP, "MBPP")):
        with open_expanded(test_data / path) as (lines, _):
            tasks = [json.loads(line) for line in lines]
        for key in keys:
            found[name, key] = [BenchmarkOverlap().keep(candidate(task[key])) is not True for task in tasks]
    assert sum(found["HumanEval", "prompt"]) == 164 and sum(found["HumanEval", "canonical_solution"]) == 128
    assert sum(map(max, zip(found["MBPP", "text"], found["MBPP", "code"], strict=True))) == 974 - 88


def ngrams_of_text(text):
    words = words_of(text)
    runs = (words[start : start + RUN] for start in range(len(words) - RUN + 1))
    return {
        tuple(run) for run in runs if sum(not word.replace(b"_", b"").isdigit() and word.strip(b"_") != b"" for word in run) >= 7
    }


def test_decisions_are_those_of_comparing_all_runs(tmp_path):
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
    rule = BenchmarkOverlap((task_file(tmp_path, "a b c d e f g h i j k l m", "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15"),), known=False)
    assert rule.keep(candidate("a b c d e f g h i j k l")) is True
    assert rule.keep(candidate("1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15")) is True
    assert rule.keep(candidate("(A, b.c) d = e[f]; g h i j k l->m")) == "overlaps with Mine"


@pytest.mark.parametrize("suffix", ["", ".gz", ".zst"])
def test_benchmarks_are_read_as_they_are_distributed(tmp_path, suffix):
    lines = [json.dumps({"q": "one", "a": ["two", "three"]}) + "\n", "\n" + json.dumps({"q": "four", "a": []}) + "\n"]
    pack = {"": bytes, ".gz": gzip.compress, ".zst": zstandard.compress}[suffix]
    path = tmp_path / f"tasks.jsonl{suffix}"
    path.write_bytes(b"".join(pack(line.encode()) for line in lines))
    assert list(texts_of(Benchmark("Mine", str(path), ("q", "a")))) == ["one", "two", "three", "four"]


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b'{"prompt": "a"}\n', r"tasks\.jsonl, line 1: it has no 'text', only prompt\. Mend the file, or the keys"),
        (b'{"text": "a"}\n{"text": 5}\n', r"tasks\.jsonl, line 2: 'text' is no text"),
        (b'{"text": "a"}\n[]\n', r"tasks\.jsonl, line 2: it is no object"),
        (b'{"text": "a"}\n{"te', r"tasks\.jsonl, line 2: unexpected end"),
        (gzip.compress(b'{"text": "a"}\n')[:-9], r"tasks\.jsonl, line \d: it breaks off"),
    ],
)
def test_what_is_wrong_with_a_benchmark_is_said_with_its_line(tmp_path, content, error):
    path = tmp_path / "tasks.jsonl"
    path.write_bytes(content)
    with pytest.raises(DataError, match=error):
        ngrams_of(Benchmark("Mine", str(path), ("text",)))
    with pytest.raises(DataError, match=r"absent\.jsonl does not exist"):
        ngrams_of(Benchmark("Mine", str(tmp_path / "absent.jsonl"), ("text",)))
