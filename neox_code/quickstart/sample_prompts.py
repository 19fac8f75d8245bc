"""Sample prompts from a corpus: the first lines of held-out files.

for prompt in sample_prompts("corpus", "test", ["Python", "C"], per_language=2, seed=1234):
    print(prompt.language, prompt.path, prompt.text)
"""

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from neox_code.corpus.licenses.notices import LEADING_COMMENT
from neox_code.corpus.shards import Document, iter_documents
from neox_code.tokenizer.train_bpe import draw_number

LONGEST = 480
"""Greatest length of a prompt in characters."""


@dataclass(frozen=True)
class Prompt:
    language: str
    repository: str
    path: str
    text: str


def sample_prompts(
    corpus: str | Path, split: str, languages: Sequence[str], is_prompt: Callable[[str], bool], *, per_language: int, seed: int
) -> list[Prompt]:
    """Return the first lines of a seeded sample of files of each language, in the order of the languages.

    A leading comment with a license or copyright notice is removed: a model completes such a notice from memory. A file is sampled
    only if it is longer than its prompt and `is_prompt` accepts the prompt.
    """
    chosen: dict[str, list[Document]] = {}
    for document in iter_documents(corpus, split, languages):
        text = strip_notice(document.text)
        start = take_first_lines(text)
        if len(start) < len(text) and is_prompt(start):
            candidates = [*chosen.get(document.language, []), document]
            chosen[document.language] = heapq.nsmallest(
                per_language, candidates, key=lambda candidate: draw_number(candidate.sha256, seed)
            )
    return [
        Prompt(document.language, document.repository, document.path, take_first_lines(strip_notice(document.text)))
        for language in languages
        for document in chosen.get(language, [])
    ]


def strip_notice(text: str) -> str:
    """Return the text from its first line of code on if its leading comment holds a license or copyright notice.

    >>> strip_notice("# Copyright 2020 A. Author\\n\\nimport os\\n"), strip_notice("# Sort numbers.\\nimport os\\n")
    ('import os\\n', '# Sort numbers.\\nimport os\\n')
    """
    comment = LEADING_COMMENT.match(text)[0]  # type: ignore[index]  # it can be empty
    is_notice = any(word in comment.lower() for word in ("copyright", "licen", "spdx-"))
    return text[len(comment) :] if is_notice else text


def take_first_lines(text: str, longest: int = LONGEST) -> str:
    """Return the first lines of a text, at most `longest` characters; a part of the first line if it is longer.

    >>> take_first_lines("import os\\nimport sys\\n", 12), take_first_lines("0123456789", 4)
    ('import os\\n', '0123')
    """
    start = text[:longest]
    return start[: start.rfind("\n") + 1] or start
