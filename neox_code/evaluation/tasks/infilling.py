"""Infilling by syntactic kind: the text between the two sides of a hole in real source code.

    ./deepy.py evaluate CONFIG... --tasks infilling [--limit N]           holes in the files of `heldout_path`
    ./deepy.py evaluate CONFIG... --tasks infilling --problem-file FILE   problems of tools/make_benchmark.py

Each kind (call, argument, condition, block, string, comment, whitespace) has three scores: the bits per byte of the middle, in
which small models differ, edit similarity, and exact match, which is 0 for most of them. `chance` beside them is what can be had
without the model: the single answer that fits most problems of the kind, chosen afterwards, and the frequencies of tokens around
the middles. A model without infilling tokens reads only the prefix.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from neox_code.errors import ConfigError, DataError
from neox_code.evaluation.heldout import select_heldout_documents
from neox_code.evaluation.infilling_problems import INFILLING_KINDS, make_problems, read_problems
from neox_code.evaluation.perplexity import TOKENS_AT_ONCE, ScoredWindow, group_into_batches, make_scoring_model, score_batch
from neox_code.evaluation.scores import TaskScore, mean_score, ratio_score
from neox_code.evaluation.similarity import load_ratio
from neox_code.evaluation.task import CheckSettings, Outcome, Problems, Protocol, Task, TaskInputs, TaskProblem, TaskSample
from neox_code.generation.infilling import build_infilling_prompt
from neox_code.generation.loading import LoadedModel
from neox_code.generation.token_healing import TokenHealing
from neox_code.tokenizer.infilling import encode_next

PROBLEMS_OF_A_KIND = 20
CHARACTERS_AROUND = 4000
"""Characters on each side of a middle whose tokens count for the chance level of bits per byte."""


def load_infilling(inputs: TaskInputs) -> list[TaskProblem]:
    """Return the problems of the problem file, else of `heldout_path`; raise ConfigError if neither is set."""
    if inputs.problem_file is not None:
        return read_problems(inputs.problem_file)
    data = inputs.config.data if inputs.config else None
    if data is None or data.heldout_path is None:
        raise ConfigError(
            "heldout_path is not set: there is no source code to make problems from. Set it to a corpus, a folder or an archive of "
            "code, or name a file of tools/make_benchmark.py by --problem-file."
        )
    documents, _ = select_heldout_documents(data.heldout_path, data.heldout_split, data.heldout_bytes_per_language, inputs.seed)
    count = math.ceil(inputs.limit / len(INFILLING_KINDS)) if inputs.limit else PROBLEMS_OF_A_KIND
    problems = make_problems([each for files in documents.values() for each in files], INFILLING_KINDS, count, inputs.seed)
    if not problems:
        raise DataError(
            f"no problem can be made from {data.heldout_path}: no file has a grammar. Languages: {', '.join(documents)}."
        )
    return problems


def compare(middle: str, completion: str, kind: str, ratio: Callable[[str, str], float]) -> dict[str, float]:
    """Return exact match and edit similarity. Whitespace at the ends counts only in a middle that is whitespace."""
    if kind != "whitespace":
        middle, completion = middle.strip(), completion.strip()
    return {"exact match": float(completion == middle), "edit similarity": ratio(middle, completion)}


def check_infilling(problems: Problems, samples: Sequence[TaskSample], settings: CheckSettings) -> Iterator[Outcome]:
    _, ratio = load_ratio()
    for sample in samples:
        fields = problems[sample.problem_id].fields
        values = compare(fields["middle"], sample.completion, fields["source"]["kind"], ratio)
        if settings.advance:
            settings.advance(1)
        yield Outcome(None, "exact match" if values["exact match"] else "different", values)


def group_by_kind(problems: Sequence[TaskProblem]) -> dict[str, list[TaskProblem]]:
    groups: dict[str, list[TaskProblem]] = defaultdict(list)
    for problem in problems:
        groups[problem.fields["source"]["kind"]].append(problem)
    return groups


def summarize_infilling(problems: Problems, samples: Sequence[TaskSample], outcomes: Sequence[Outcome]) -> list[TaskScore]:
    """Return edit similarity and exact match by kind, each as the mean over problems of the mean over samples."""
    values: dict[str, list[Mapping[str, float]]] = defaultdict(list)
    for sample, outcome in zip(samples, outcomes, strict=True):
        values[sample.problem_id].append(outcome.values)
    backend, ratio = load_ratio()
    scores = []
    groups = group_by_kind([problems[name] for name in values])
    chances = {kind: find_best_constant(group, ratio) for kind, group in groups.items()}
    for name, title in (("edit similarity", f"edit similarity ({backend})"), ("exact match", "exact match")):
        for kind, group in groups.items():
            means = [sum(each[name] for each in values[problem.id]) / len(values[problem.id]) for problem in group]
            scores.append(replace(mean_score(f"{title}, {kind}", means), chance=chances[kind][name]))
    return scores


def find_best_constant(group: Sequence[TaskProblem], ratio: Callable[[str, str], float]) -> dict[str, float]:
    """Return the scores of the most frequent middle of a kind as the answer to all its problems."""
    middles = [problem.fields["middle"] for problem in group]
    (answer, _), kind = Counter(middles).most_common(1)[0], group[0].fields["source"]["kind"]
    values = [compare(middle, answer, kind, ratio) for middle in middles]
    return {name: sum(each[name] for each in values) / len(values) for name in values[0]}


def measure_middles(loaded: LoadedModel, problems: Problems, order: Any) -> list[TaskScore]:
    """Return the bits per byte of all middles, then by kind, each after the prompt that the model completes.

    `order` is that of prefix and suffix, `psm` or `spm`.
    """
    model, healing = make_scoring_model(loaded), TokenHealing(loaded.tokenizer)
    counts, total = count_tokens(loaded, problems)
    scores: list[TaskScore] = []
    all_bits: list[float] = []
    all_sizes: list[int] = []
    all_chance = 0.0
    for kind, group in group_by_kind(list(problems.values())).items():
        middles = [encode_next(loaded.tokenizer, problem.fields["middle"])[: model.context_length // 2] for problem in group]
        texts, windows = [], []
        for number, (problem, middle) in enumerate(zip(group, middles, strict=True)):
            if problem.suffix is None:
                prompt = [loaded.tokenizer.eod_id, *loaded.tokenizer.encode(problem.prompt)][len(middle) - model.context_length :]
            else:
                budget = model.context_length - len(middle)
                prompt = build_infilling_prompt(healing, problem.prompt, problem.suffix, budget, order=order, heals=False).ids
            texts.append(torch.tensor([*prompt, *middle], dtype=torch.int32))
            windows.append(ScoredWindow(number, 0, len(prompt) + len(middle) - 1, len(prompt) - 1))
        bits = [0.0] * len(group)
        for batch in group_into_batches(windows, TOKENS_AT_ONCE[model.device.type]):
            for score in score_batch(model, texts, batch):
                bits[score.file] += score.bits
        sizes = [len(problem.fields["middle"].encode()) for problem in group]
        chance = sum(-math.log2((counts[token] + 1) / total) for middle in middles for token in middle)
        scores.append(replace(ratio_score(f"bits per byte, {kind}", bits, sizes), chance=chance / sum(sizes)))
        all_bits, all_sizes, all_chance = all_bits + bits, all_sizes + sizes, all_chance + chance
    return [replace(ratio_score("bits per byte, all", all_bits, all_sizes), chance=all_chance / sum(all_sizes)), *scores]


def count_tokens(loaded: LoadedModel, problems: Problems) -> tuple[Counter[int], int]:
    """Return the frequencies of tokens around the middles, and their sum with one more for each id of the vocabulary."""
    counts: Counter[int] = Counter()
    for problem in problems.values():
        for text in (problem.prompt[-CHARACTERS_AROUND:], problem.fields["suffix"][:CHARACTERS_AROUND]):
            counts.update(loaded.tokenizer.encode(text))
    return counts, counts.total() + loaded.tokenizer.vocab_size


INFILLING = Task(
    "infilling", load_infilling, check_infilling, Protocol(maximum_tokens=32), summarize_infilling, measure=measure_middles
)
