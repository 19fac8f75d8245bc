"""Rows for fine-tuning from Kotlin: consecutive windows of a file, or one row per function.

    KotlinWindows().rows(document, None)       {"prompt": 100 tokens of lines, "completion": the lines that follow}
    KotlinWindows(overlap=50)                  prompts that begin 50 tokens earlier
    KotlinWindows(faithful=True)               as the Kotlin project (rinapch/jb_intern) makes them
    KotlinFunctions().rows(document, None)     {"instruction": its KDoc, "output": a function}

A window consists of whole lines and ends where the code is least nested, so that it contains whole functions where possible. No
text between windows is lost, no completion is blank, and training adds the end-of-text token. The Kotlin project instead strips
its windows, cuts them inside lines, and ends each completion with `<|endoftext|>`, as if a file ended every 100 tokens.
"""

import re
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate, pairwise
from pathlib import Path

from neox_code.corpus.rows.chunks import make_token_counter, split_at_lines, split_recursively
from neox_code.corpus.rows.kotlin_source import count_nesting_depths, find_kotlin_functions
from neox_code.corpus.shards import Document

SEPARATORS = ("\n", "\t", "}", " ")
END_OF_TEXT = "<|endoftext|>"
FAITHFUL_PATH = re.compile(r"(?:[^./][^/]*/)*[^./][^/]*\.kt")
"""Paths that the Kotlin project's glob matches: no scripts (`.kts`), and no hidden files or folders."""
NOTICE = re.compile(r"/\*\n \* Copyright.*?\*/", re.DOTALL)
LONG_VALUE = re.compile(r"\d{40,}|\S{200,}")


class WithoutVersions:
    """Base of row makers that need no version of the project."""

    def is_version_file(self, path: str) -> bool:
        return False

    def read_version(self, text: str) -> str | None:
        return None

    def find_version(self, path: str, versions: Mapping[str, str]) -> str | None:
        return None


@dataclass(frozen=True)
class KotlinWindows(WithoutVersions):
    tokens: int = 100
    """Maximum number of tokens in a window."""
    overlap: int = 0
    """Approximate number of tokens of the preceding lines that are repeated at the start of a prompt."""
    tokenizer: Path | None = None
    """Path of a tokenizer.json that counts tokens; None: estimate the number of tokens."""
    faithful: bool = False
    name = "windows of Kotlin"

    def rows(self, document: Document, project_version: str | None) -> Iterator[dict[str, str]]:
        return self._make_faithful_rows(document) if self.faithful else self._rows(document.text)

    def _make_faithful_rows(self, document: Document) -> Iterator[dict[str, str]]:
        text = NOTICE.sub("", document.text)
        if not FAITHFUL_PATH.fullmatch(document.path) or text.count("\n") <= 1 or LONG_VALUE.search(text):
            return
        chunks = split_recursively(text, SEPARATORS, self.tokens, make_token_counter(self.tokenizer))
        for prompt, completion in pairwise(chunks):
            yield {"prompt": prompt, "completion": completion + END_OF_TEXT}

    def _rows(self, text: str) -> Iterator[dict[str, str]]:
        windows = split_at_lines(text, count_nesting_depths(text), self.tokens, make_token_counter(self.tokenizer))
        for index, completion in enumerate(windows[1:]):
            yield {"prompt": self._last_lines(windows[:index]) + windows[index], "completion": completion}

    def _last_lines(self, windows: list[str]) -> str:
        """Return the last lines of `windows` that have at most `overlap` tokens together."""
        lines = "".join(windows[-self.overlap :]).splitlines(keepends=True)[-self.overlap :] if self.overlap else []
        counts = make_token_counter(self.tokenizer)(lines[::-1])
        return "".join(lines[len(lines) - bisect_right(list(accumulate(counts)), self.overlap) :])


@dataclass(frozen=True)
class KotlinFunctions(WithoutVersions):
    name = "functions of Kotlin"

    def rows(self, document: Document, project_version: str | None) -> Iterator[dict[str, str]]:
        for function in find_kotlin_functions(document.text):
            yield {"instruction": function.description, "output": function.code}
