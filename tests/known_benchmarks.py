"""Build the index of the known benchmarks, which every BenchmarkOverlap searches, from their published files.

    save_known_index(build_known_index(Path("data")))          # writes neox_code/corpus/filters/known_benchmarks.npz

`data` holds, as published:

    human-eval/HumanEval.jsonl.gz               openai/human-eval, MIT
    human-eval-plus/HumanEvalPlus.jsonl.gz      evalplus/humanevalplus_release, Apache-2.0
    mbpp/mbpp.jsonl                             google-research/mbpp, CC-BY-4.0: text, code, test_list, challenge_test_list
    mbpp-plus/MbppPlus.jsonl.gz                 evalplus/mbppplus_release, Apache-2.0
    human-eval-x/{cpp,go,java,js,rust}/humanevalpack.jsonl      bigcode/humanevalpack, MIT; its Python is HumanEval's
    cruxeval/cruxeval.jsonl                     facebookresearch/cruxeval, MIT
    multipl-e/humaneval-LANGUAGE.jsonl          nuprl/MultiPL-E, "reworded" and "transform", 18 languages, BSD-3-Clause with a
                                                clause against training on the prompts: a corpus without them complies

MultiPL-E's prompts of MBPP are made as MultiPL-E makes them: from the descriptions of MBPP+, in the terms of each language.

Runs that occur in three or more tasks (imports, the head of a test, loops over pairs) identify no task and are left out. The
index has all runs of HumanEval and MBPP. Of the other benchmarks it has the smallest hash of every 8 consecutive runs (winnowing,
Schleimer et al. 2003), so that a shared stretch of 20 words is always found.
"""

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from neox_code.corpus.filters.benchmarks import (
    KNOWN,
    Index,
    count_texts,
    find_distinctive_runs,
    find_longest_line,
    hash_words,
    make_index,
    merge_indexes,
    split_words,
)
from neox_code.corpus.sources.compressed import open_decompressed

LANGUAGES_OF_PACK = ("cpp", "go", "java", "js", "rust")
COMPLETE = ("HumanEval", "MBPP")
WINDOW = 8
TASKS_OF_BOILERPLATE = 3
GENERIC_TASKS = ("HumanEval/23", "HumanEval/41", "HumanEval/53")
"""Tasks with the solutions `return len(string)`, `return n**2` and `return x + y`, which anybody writes: they are not searched as
lines. BigCode's rule does not search them either (HUMAN_EVAL_STRINGS_OK in its decontamination/benchmark_data.py)."""
TERMS = {
    "sh": "array, list, list, CSV",
    "cs": "list, list, tuple, dictionary",
    "cpp": "vector, vector, tuple, map",
    "d": "array, array, tuple, associative array",
    "go": "list, list, list, map",
    "java": "array list, array list, pair, hash map",
    "js": "array, array, array, object",
    "jl": "vector, vector, tuple, dictionary",
    "lua": "table, table, table, table",
    "pl": "array, array, array, hash",
    "php": "array, array, array, array",
    "r": "vector, list, list, named list",
    "rkt": "list, list, list, hash",
    "rb": "array, array, array, hash",
    "rs": "vector, vector, tuple, HashMap",
    "scala": "list, list, tuple, map",
    "swift": "array, array, tuple, dictionary",
    "ts": "array, array, array, object",
}
"""MultiPL-E's words for array, list, tuple and dictionary (its dataset_builder/terms.csv), by its name of the language."""
TERM = re.compile(r"(\ban? )?(\w*?)(array|list|tuple|dictionary)")
DOCSTRING = re.compile(r"\"\"\"(?:(?!\"\"\").)*\"\"\"|'''(?:(?!''').)*'''", re.DOTALL)


@dataclass(frozen=True)
class Task:
    benchmark: str
    task: str
    """Name of the task, equal for its translations: "HumanEval/0"."""
    language: str
    texts: Mapping[str, str]
    """Form of the text -> the text. Forms are "prompt", "docstring", "code" (the whole solution without the docstring), "solution"
    (what a model writes), "buggy", "test 0", ..."""


def read_known_tasks(data: Path) -> Iterator[Task]:
    """Yield the tasks of all benchmarks; those of MultiPL-E only if `data` has them."""
    for benchmark, path in (
        ("HumanEval", "human-eval/HumanEval.jsonl.gz"),
        ("HumanEval+", "human-eval-plus/HumanEvalPlus.jsonl.gz"),
    ):
        for row in read_rows(data / path):
            yield Task(benchmark, row["task_id"], "python", make_human_eval_texts(row, with_test=benchmark == "HumanEval"))
    for row in read_rows(data / "mbpp/mbpp.jsonl"):
        tests = number_tests(row["test_list"] + row["challenge_test_list"])
        yield Task("MBPP", f"MBPP/{row['task_id']}", "python", {"prompt": row["text"], "code": row["code"], **tests})
    for row in read_rows(data / "mbpp-plus/MbppPlus.jsonl.gz"):
        prompt, task = row["prompt"].strip("\n\"'"), row["task_id"].upper()
        description = prompt.split("\nassert ")[0]
        texts = {"prompt": prompt, "docstring": description, "code": row["canonical_solution"]}
        yield Task("MBPP+", task, "python", texts | number_tests(row["assertion"].split("\n")))
        for reworded, language in {reword(description, language): language for language in TERMS}.items():
            yield Task("MultiPL-E", task, language, {"prompt": reworded})
    for language in LANGUAGES_OF_PACK:
        for row in read_rows(data / "human-eval-x" / language / "humanevalpack.jsonl"):
            texts = {
                "prompt": row["prompt"],
                "docstring": row["docstring"],
                "code": row["declaration"] + row["canonical_solution"],
                "solution": row["canonical_solution"],
                "buggy": row["declaration"] + row["buggy_solution"],
                "test": row["test"],
            }
            yield Task("HumanEvalPack", f"HumanEval/{row['task_id'].split('/')[1]}", language, texts)
    for row in read_rows(data / "cruxeval/cruxeval.jsonl"):
        test = f"assert f({row['input']}) == {row['output']}"
        yield Task("CRUXEval", row["id"], "python", {"code": row["code"], "test": test})
    for translation in sorted((data / "multipl-e").glob("humaneval-*.jsonl")):
        for row in read_rows(translation):
            texts = {"prompt": row["prompt"], "test": row["tests"]}
            yield Task("MultiPL-E", "/".join(row["name"].split("_")[:2]), row["language"], texts)


def reword(description: str, language: str) -> str:
    """Return a description of MBPP in the terms of a language. As in MultiPL-E, `py` is replaced even within words.

    >>> reword("Write a python function to sort a list of sublists.", "js")
    'Write a jsthon function to sort an array of subarrays.'
    """
    terms = dict(zip(("array", "list", "tuple", "dictionary"), TERMS[language].split(", "), strict=True))

    def replace_term(found: re.Match[str]) -> str:
        word = found[2] + terms[found[3]]
        return (("an " if word[0] in "aeiou" else "a ") if found[1] else "") + word

    return TERM.sub(replace_term, description.replace("dictionaries", "dictionarys")).replace("python", f"{language}thon")


def make_human_eval_texts(row: Mapping[str, Any], with_test: bool) -> dict[str, str]:
    """Return the texts of a row by form. HumanEval+ has HumanEval's tests and millions of inputs: its tests are left out."""
    docstring = [*DOCSTRING.finditer(row["prompt"])][-1]
    code = (
        row["prompt"][: docstring.start()].rstrip(" ")
        + row["prompt"][docstring.end() :].lstrip()
        + row["canonical_solution"].lstrip("\n")
    )
    return {
        "prompt": row["prompt"],
        "docstring": docstring[0][3:-3],
        "code": code,
        "solution": row["canonical_solution"],
    } | ({"test": row["test"]} if with_test else {})


def number_tests(tests: Sequence[str]) -> dict[str, str]:
    return {f"test {number}": test for number, test in enumerate(tests) if test.strip()}


def read_rows(path: Path) -> Iterator[dict[str, Any]]:
    with open_decompressed(path) as (lines, _):
        yield from (json.loads(line) for line in lines if line.strip())  # MBPP+ has infinities, which orjson refuses


def build_known_index(data: Path) -> Index:
    """Return the index of all benchmarks whose published files are in `data`."""
    tasks = list(read_known_tasks(data))
    texts = [
        (task, split_words(text), "" if form.startswith("test") or task.task in GENERIC_TASKS else find_longest_line(text))
        for task in tasks
        for form, text in task.texts.items()
    ]
    runs = [find_distinctive_runs(words) for _, words, _ in texts]
    tasks_of: defaultdict[int, set[str]] = defaultdict(set)
    hashes = [[hash_words(run) for run in of_text] for of_text in runs]
    for (task, _, _), hashes_of_text in zip(texts, hashes, strict=True):
        for hashed in hashes_of_text:
            tasks_of[hashed].add(task.task)
    runs_of: defaultdict[str, list[list[Sequence[bytes]]]] = defaultdict(list)
    wholes_of: defaultdict[str, list[tuple[Sequence[bytes], str]]] = defaultdict(list)
    for (task, words, line), of_text, hashes_of_text in zip(texts, runs, hashes, strict=True):
        own = [
            (hashed, run)
            for hashed, run in zip(hashes_of_text, of_text, strict=True)
            if len(tasks_of[hashed]) < TASKS_OF_BOILERPLATE
        ]
        kept = own if task.benchmark in COMPLETE else winnow(own)
        runs_of[task.benchmark].append([run for _, run in kept])
        if not own:
            wholes_of[task.benchmark].append((words, line))
    num_texts = count_texts(words for _, words, _ in texts)
    return merge_indexes(make_index(name, runs_of[name], wholes_of[name], num_texts) for name in runs_of)


def winnow(runs: Sequence[tuple[int, Sequence[bytes]]]) -> list[tuple[int, Sequence[bytes]]]:
    """Return the smallest hash of every WINDOW consecutive runs, each once; for fewer runs the smallest of all.

    >>> winnow([(number, [b"x"]) for number in (5, 3, 9, 8, 7, 6, 9, 8, 7, 6, 4)])
    [(3, [b'x']), (6, [b'x']), (4, [b'x'])]
    """
    windows = (range(start, min(start + WINDOW, len(runs))) for start in range(max(1, len(runs) - WINDOW + 1) if runs else 0))
    return [runs[place] for place in sorted({min(window, key=lambda place: runs[place][0]) for window in windows})]


def save_known_index(index: Index, path: Path = KNOWN) -> None:
    """Write the arrays that `load_known_index` reads."""
    hashes: defaultdict[str, list[int]] = defaultdict(list)
    for hashed, name in index.names.items():
        hashes[name].append(hashed)
    places = [(number, *place) for number, word in enumerate(sorted(index.whole_words)) for place in index.places.get(word, ())]
    arrays: dict[str, Any] = {name: np.array(sorted(some), dtype=np.uint64) for name, some in hashes.items()}
    arrays |= {"words": as_bytes(index.words), "whole words": as_bytes(index.whole_words)}
    arrays["lines"] = np.frombuffer(orjson.dumps(index.lines, option=orjson.OPT_SORT_KEYS), dtype=np.uint8)
    np.savez_compressed(path, places=np.array(places, dtype=np.uint16), **arrays)


def as_bytes(words: Iterable[bytes]) -> np.ndarray:
    return np.frombuffer(b"\n".join(sorted(words)), dtype=np.uint8)
