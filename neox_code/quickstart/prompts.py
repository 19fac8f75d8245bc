"""Prompts out of a corpus: how held-out files begin.

for prompt in beginnings("corpus", "test", ["Python", "C"], per_language=2, seed=1234):
    print(prompt.language, prompt.path, prompt.text)
"""

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from neox_code.corpus.licenses.headers import LEADING_COMMENT
from neox_code.corpus.shards import Document, iter_documents
from neox_code.tokenizer.train_bpe import draw_number

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
    """Return the beginnings of a seeded choice of files of each language, in the order of the languages.

    A leading comment with a license or copyright notice is left out: a model completes such a notice from memory. Only files
    that continue after their beginning are chosen, and only beginnings that `is_prompt` accepts.
    """
    chosen: dict[str, list[Document]] = {}
    for document in iter_documents(corpus, split, languages):
        text = without_notice(document.text)
        start = beginning(text)
        if len(start) < len(text) and is_prompt(start):
            rivals = [*chosen.get(document.language, []), document]
            chosen[document.language] = heapq.nsmallest(per_language, rivals, key=lambda rival: draw_number(rival.sha256, seed))
    return [
        Prompt(document.language, document.repository, document.path, beginning(without_notice(document.text)))
        for language in languages
        for document in chosen.get(language, [])
    ]


def without_notice(text: str) -> str:
    """Return the text from its first line of code on if its leading comment holds a license or copyright notice.

    >>> without_notice("# Copyright 2020 A. Author\\n\\nimport os\\n"), without_notice("# Sort numbers.\\nimport os\\n")
    ('import os\\n', '# Sort numbers.\\nimport os\\n')
    """
    comment = LEADING_COMMENT.match(text)[0]  # type: ignore[index]  # it can be empty
    is_notice = any(word in comment.lower() for word in ("copyright", "licen", "spdx-"))
    return text[len(comment) :] if is_notice else text


def beginning(text: str, longest: int = LONGEST) -> str:
    """The first lines of a text, as many as `longest` characters hold; a part of the first line where it alone is longer.

    >>> beginning("import os\\nimport sys\\n", 12), beginning("0123456789", 4)
    ('import os\\n', '0123')
    """
    start = text[:longest]
    return start[: start.rfind("\n") + 1] or start
