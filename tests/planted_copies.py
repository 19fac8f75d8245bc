"""Measure how many inserted benchmark texts and secrets the filters find, and their false alarms.

Copies of every benchmark's texts are inserted into other code: unchanged, in a notebook, in a Markdown fence, in JSON Lines, and
reformatted. BigCode's substring rule (bigcode-dataset, decontamination) is measured too: it drops a file that contains a prompt or
a solution, in capital or small letters. False alarms are counted on any texts.
"""

import json
import random
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping

from known_benchmarks import GENERIC_TASKS, Task
from planted_secrets import FORMS, LOOK_ALIKES

from neox_code.corpus.filters.benchmarks import BenchmarkOverlap
from neox_code.corpus.filters.protocol import Candidate
from neox_code.corpus.filters.secrets import PLACEHOLDER, Secrets, find_secrets

AROUND = ("import os\n\n\ndef main():\n    print(os.getcwd())\n\n\n", "\n\nif __name__ == '__main__':\n    main()\n")
NUM_PLANTED = 200
"""Number of inserted texts for each form of secret and for each look-alike."""


def reformat(text: str) -> str:
    """Return the code with other blanks, line ends and quotes, and without lines that are comments."""
    text = re.sub(r"[ \t]*#(?![^\n]*[\"'])[^\n]*", "", text).replace("'", '"')
    return re.sub(r"([(\[,=+])", r" \1 ", text).replace("    ", "\t").replace("\n", "\r\n")


COPIES: Mapping[str, Callable[[str], str]] = {
    "verbatim": lambda text: text.join(AROUND),
    "notebook": lambda text: json.dumps({"cells": [{"cell_type": "code", "source": text.join(AROUND).splitlines(True)}]}, indent=1),
    "Markdown": lambda text: f"# Notes\n\nAn answer:\n\n```python\n{text}\n```\n",
    "JSON Lines": lambda text: json.dumps({"id": 7, "content": text.join(AROUND)}) + "\n",
    "reformatted": lambda text: reformat(text).join(AROUND),
}

Rates = dict[tuple[str, str, str], tuple[float, float]]
"""(benchmark, kind of text, kind of copy) -> share of its tasks that our filter finds, share that the substring rule finds."""


def list_substrings(tasks: Iterable[Task]) -> set[str]:
    """Return the strings of the substring rule: prompts, docstrings and solutions in lower case."""
    return {
        text.strip().lower()
        for task in tasks
        for form, text in task.texts.items()
        if form in ("prompt", "docstring", "solution", "code") and text.strip() and not is_generic(task, form)
    }


def is_generic(task: Task, form: str) -> bool:
    """Return True for a solution that neither our filter nor the substring rule looks for."""
    return form == "solution" and task.task in GENERIC_TASKS


def is_found_by_filter(text: str) -> bool:
    return BenchmarkOverlap().keep(Candidate("x", "Python", len(text), text)) is not True


def measure_benchmark_rates(tasks: Iterable[Task]) -> Rates:
    """Insert each text of each task, and return the rates. The substring rule searches only the strings of the same task."""
    found: defaultdict[tuple[str, str, str], list[tuple[bool, bool]]] = defaultdict(list)
    for task in tasks:
        searched = list_substrings([task])
        tests = "\n".join(text for form, text in task.texts.items() if form.startswith("test "))
        texts = {form: text for form, text in task.texts.items() if not form.startswith("test ") and not is_generic(task, form)}
        for form, text in (texts | ({"tests": tests} if tests else {})).items():
            for copy, plant in COPIES.items():
                planted = plant(text)
                by_substring = any(one in planted.lower() for one in searched)
                found[task.benchmark, form, copy].append((is_found_by_filter(planted), by_substring))
    return {
        key: (compute_mean(ours for ours, _ in some), compute_mean(by_rule for _, by_rule in some)) for key, some in found.items()
    }


def compute_mean(values: Iterable[bool]) -> float:
    counted = Counter(values)
    return counted[True] / counted.total()


def measure_secret_rates(seed: int = 1) -> dict[str, float]:
    """Return the masked share of each form of secret, and the unchanged share of each look-alike."""
    generator = random.Random(seed)
    rates = {}
    for form, plant in FORMS.items():
        rates[form] = compute_mean(is_masked(*plant(generator)) for _ in range(NUM_PLANTED))
    for kind, make in LOOK_ALIKES.items():
        rates[f"no secret: {kind}"] = compute_mean(not find_secrets(make(generator).join(AROUND)) for _ in range(NUM_PLANTED))
    return rates


def is_masked(secret: str, text: str) -> bool:
    masked = Secrets().edit(Candidate("x", "Python", len(text), text.join(AROUND)))
    return secret not in masked and PLACEHOLDER in masked


def count_false_alarms(texts: Iterable[str], searched: Iterable[str]) -> dict[str, int]:
    counted: Counter[str] = Counter()
    for text in texts:
        counted["files"] += 1
        counted["benchmarks"] += is_found_by_filter(text)
        counted["benchmarks by the substring rule"] += any(map(text.lower().__contains__, searched))
        counted["secrets"] += bool(find_secrets(text))
    return dict(counted)
