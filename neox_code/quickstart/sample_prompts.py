"""Sample prompts from a corpus: the first lines of functions of held-out files.

for prompt in sample_prompts("corpus", "test", ["Python", "C"], per_language=2, seed=1234):
    print(prompt.language, prompt.path, prompt.text)
"""

import heapq
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from neox_code.corpus.licenses.notices import LEADING_COMMENT
from neox_code.corpus.shards import iter_documents
from neox_code.tokenizer.train_bpe import draw_number

LONGEST = 480
"""Maximum length of a prompt in characters, unless `longest` is given."""

DEFINITION = re.compile(
    r"""^(?:
      (?:(?:export|default|public|private|protected|internal|static|abstract|final|async|sealed|open|local|unsafe|const
           |pub(?:\([^)\n]*\))?)\ +)*
      (?:def|class|fn|func|fun|function|sub|impl|module|object|interface|trait)\b[^\n;]*(?<![.,;])$
    | (?:export\ +)?(?:const|let|var)\ +\w+\ *=\ *(?:async\ *)?(?:function\b|\([^\n]*=>)
    | (?!(?:if|else|for|while|switch|catch|do|return|namespace|typedef|import|package)\b)
      [A-Za-z_](?:[\w \t*&:<>,~]{1,150}\n){0,2}[\w \t*&:<>,~]{0,150}\([^;{}\#"/]{0,500}\)[^;{}()=\#"/]{0,80}\{
    )""",
    re.MULTILINE | re.VERBOSE,
)
"""Pattern of the first line of a function or class that is not indented. The line has a keyword, or assigns a function to a
JavaScript variable, or begins a function as in C."""


@dataclass(frozen=True)
class Prompt:
    language: str
    repository: str
    path: str
    text: str


def sample_prompts(
    corpus: str | Path,
    split: str,
    languages: Sequence[str],
    is_prompt: Callable[[str], bool],
    *,
    per_language: int,
    seed: int,
    longest: int = LONGEST,
) -> list[Prompt]:
    """Return the first lines of a seeded sample of files of each language, in the order of the languages.

    A prompt has at most `longest` characters, and begins at the first function or class of its file. A file without function and
    class is sampled only if the other files are too few; its prompt begins below its license or copyright notice, because a model
    completes such a notice from memory. A file is sampled only if it is longer than its prompt and `is_prompt` accepts the prompt.
    """
    chosen: dict[str, list[tuple[bool, float, Prompt]]] = {}
    for document in iter_documents(corpus, split, languages):
        definition = DEFINITION.search(document.text)
        text = document.text[definition.start() :] if definition else strip_notice(document.text)
        start = take_first_lines(text, longest)
        if len(start) < len(text) and is_prompt(start):
            prompt = Prompt(document.language, document.repository, document.path, start)
            candidates = [*chosen.get(document.language, []), (definition is None, draw_number(document.sha256, seed), prompt)]
            chosen[document.language] = heapq.nsmallest(per_language, candidates, key=lambda candidate: candidate[:2])
    return [prompt for language in languages for _, _, prompt in chosen.get(language, [])]


def strip_notice(text: str) -> str:
    """Return the text without its leading comment if this comment contains a license or copyright notice.

    >>> strip_notice("# Copyright 2020 A. Author\\n\\nimport os\\n"), strip_notice("# Sort numbers.\\nimport os\\n")
    ('import os\\n', '# Sort numbers.\\nimport os\\n')
    """
    comment = LEADING_COMMENT.match(text)[0]  # type: ignore[index]  # it can be empty
    is_notice = any(word in comment.lower() for word in ("copyright", "licen", "spdx-"))
    return text[len(comment) :] if is_notice else text


def take_first_lines(text: str, longest: int) -> str:
    """Return the first whole lines of a text, at most `longest` characters. A longer first line is cut.

    >>> take_first_lines("import os\\nimport sys\\n", 12), take_first_lines("0123456789", 4)
    ('import os\\n', '0123')
    """
    start = text[:longest]
    return start[: start.rfind("\n") + 1] or start
