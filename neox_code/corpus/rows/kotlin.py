"""Rows of Kotlin for fine-tuning: pieces of a file that follow each other, or a function each.

    KotlinWindows().rows(document, None)       {"prompt": 100 tokens of lines, "completion": the lines that follow}
    KotlinWindows(overlap=50)                  prompts that begin 50 tokens earlier
    KotlinWindows(faithful=True)               as the Kotlin project (rinapch/jb_intern) makes them
    KotlinFunctions().rows(document, None)     {"instruction": its KDoc, "output": a function}

Windows are whole lines that end where the code is least nested, so that a function is whole where it fits; nothing between them is
lost, no completion is blank, and the end of a text is left to training. The Kotlin project's are stripped, cut inside of lines, and
each completion ends with `<|endoftext|>`, as if a file ended every 100 tokens.
"""

import re
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate, pairwise
from pathlib import Path

from neox_code.corpus.rows.chunks import split_at_lines, split_recursively, token_counter
from neox_code.corpus.rows.kotlin_source import kotlin_functions, nesting
from neox_code.corpus.shards import Document

SEPARATORS = ("\n", "\t", "}", " ")
END_OF_TEXT = "<|endoftext|>"
FOUND = re.compile(r"(?:[^./][^/]*/)*[^./][^/]*\.kt")
"""What the Kotlin project's glob finds: no scripts (`.kts`), and nothing hidden."""
NOTICE = re.compile(r"/\*\n \* Copyright.*?\*/", re.DOTALL)
LONG_VALUE = re.compile(r"\d{40,}|\S{200,}")


class WithoutVersions:
    """Makers of rows that ask nothing of the project."""

    def says_version(self, path: str) -> bool:
        return False

    def version(self, text: str) -> str | None:
        return None

    def version_at(self, path: str, versions: Mapping[str, str]) -> str | None:
        return None


@dataclass(frozen=True)
class KotlinWindows(WithoutVersions):
    tokens: int = 100
    """The most in a window."""
    overlap: int = 0
    """About so many tokens of lines before a window are in front of it in its prompt."""
    tokenizer: Path | None = None
    """A tokenizer.json; without one tokens are counted by an approximation."""
    faithful: bool = False
    name = "windows of Kotlin"

    def rows(self, document: Document, project_version: str | None) -> Iterator[dict[str, str]]:
        return self._faithful_rows(document) if self.faithful else self._rows(document.text)

    def _faithful_rows(self, document: Document) -> Iterator[dict[str, str]]:
        text = NOTICE.sub("", document.text)
        if not FOUND.fullmatch(document.path) or text.count("\n") <= 1 or LONG_VALUE.search(text):
            return
        chunks = split_recursively(text, SEPARATORS, self.tokens, token_counter(self.tokenizer))
        for prompt, completion in pairwise(chunks):
            yield {"prompt": prompt, "completion": completion + END_OF_TEXT}

    def _rows(self, text: str) -> Iterator[dict[str, str]]:
        pieces = split_at_lines(text, nesting(text), self.tokens, token_counter(self.tokenizer))
        for index, completion in enumerate(pieces[1:]):
            yield {"prompt": self._before(pieces[:index]) + pieces[index], "completion": completion}

    def _before(self, pieces: list[str]) -> str:
        """The last lines of these, as many as there are tokens in the overlap."""
        lines = "".join(pieces[-self.overlap :]).splitlines(keepends=True)[-self.overlap :] if self.overlap else []
        counts = token_counter(self.tokenizer)(lines[::-1])
        return "".join(lines[len(lines) - bisect_right(list(accumulate(counts)), self.overlap) :])


@dataclass(frozen=True)
class KotlinFunctions(WithoutVersions):
    name = "functions of Kotlin"

    def rows(self, document: Document, project_version: str | None) -> Iterator[dict[str, str]]:
        for function in kotlin_functions(document.text):
            yield {"instruction": function.description, "output": function.code}
