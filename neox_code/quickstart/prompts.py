"""Prompts out of a corpus: how held-out files begin.

for prompt in beginnings("corpus", "test", ["Python", "C"], per_language=2, seed=1234):
    print(prompt.language, prompt.path, prompt.text)
"""

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from neox_code.corpus.shards import Document, iter_documents
from neox_code.tokenizer.train import sampling_number

LONGEST = 480
"""Characters of a prompt."""


@dataclass(frozen=True)
class Prompt:
    language: str
    repository: str
    path: str
    text: str


def beginnings(
    corpus: str | Path, split: str, languages: Sequence[str], is_prompt: Callable[[str], bool], *, per_language: int, seed: int
) -> list[Prompt]:
    """The beginnings of a seeded choice of files of each language, in the order of the languages.

    Files are taken that go on after their beginning, and whose beginning `is_prompt` accepts.
    """
    chosen: dict[str, list[Document]] = {}
    for document in iter_documents(corpus, split, languages):
        start = beginning(document.text)
        if len(start) < len(document.text) and is_prompt(start):
            rivals = [*chosen.get(document.language, []), document]
            chosen[document.language] = heapq.nsmallest(per_language, rivals, key=lambda rival: sampling_number(rival.sha256, seed))
    return [
        Prompt(document.language, document.repository, document.path, beginning(document.text))
        for language in languages
        for document in chosen.get(language, [])
    ]


def beginning(text: str, longest: int = LONGEST) -> str:
    """The first lines of a text, as many as `longest` characters hold; a part of the first line where it alone is longer.

    >>> beginning("import os\\nimport sys\\n", 12), beginning("0123456789", 4)
    ('import os\\n', '0123')
    """
    start = text[:longest]
    return start[: start.rfind("\n") + 1] or start
