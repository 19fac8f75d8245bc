"""Reading and filtering files: the part of building a corpus that runs in many processes.

    for files, done in scan_batch(batch, recipe, Path("spill/00000")):      # read, hash, decode, filter
        ...
    filter_texts([(file.text, candidate), ...], recipe)                     # for files whose language the whole project decides

Texts go to a spill file, so that only hashes and verdicts stay in memory while the whole corpus is decided upon.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from neox_code.corpus.extract import Batch, FoundFile
from neox_code.corpus.filters.protocol import Candidate, Filter
from neox_code.corpus.language import candidates
from neox_code.corpus.recipes import Recipe

FILES_AT_ONCE = 512
NO_LANGUAGE = "no known language"
NOT_CHOSEN = "language not chosen"


@dataclass(frozen=True)
class Judge:
    """Says by name and size why a file is not read; None if it is. A file is judged in the first language it can be in."""

    filters: tuple[Filter, ...]
    languages: frozenset[str]
    """Languages to take."""

    def __call__(self, path: str, num_bytes: int) -> str | None:
        possible = candidates(path)
        if not possible:
            return NO_LANGUAGE
        if self.languages.isdisjoint(possible):
            return NOT_CHOSEN
        return first_reason(self.filters, Candidate(path, possible[0], num_bytes))


@dataclass(frozen=True, slots=True)
class Spilled:
    """Where a text waits: UTF-8 in a spill file."""

    file: Path
    offset: int
    num_bytes: int

    def text(self) -> str:
        with self.file.open("rb") as spill:
            spill.seek(self.offset)
            return spill.read(self.num_bytes).decode("utf-8")


@dataclass(slots=True)
class ScannedFile:
    """What is known of a file once it was read and filtered."""

    project: str
    path: str
    num_bytes: int
    languages: tuple[str, ...]
    """Languages it can be in by its name."""
    reason: str | None
    """Why it is dropped; None if it is not, or not yet: the filters by content judge a file of several languages later."""
    sha256: bytes | None = None
    decoding_errors: bool = False
    text: Spilled | None = None
    commit: str | None = None


def scan_batch(batch: Batch, recipe: Recipe, spill_file: Path) -> Iterator[tuple[list[ScannedFile], int]]:
    """Reads, hashes, decodes and filters a batch; yields its files in groups, with the work done since the group before."""
    group: list[ScannedFile] = []
    reported = done = 0
    with spill_file.open("wb") as spill:
        for file, done in batch.read():
            group.append(scan_file(file, batch.commit, recipe.after_reading, spill))
            if len(group) == FILES_AT_ONCE:
                spill.flush()
                yield group, done - reported
                group, reported = [], done
    yield group, batch.num_bytes - reported


def scan_file(file: FoundFile, commit: str | None, filters: Sequence[Filter], spill: IO[bytes]) -> ScannedFile:
    scanned = ScannedFile(file.project, file.path, file.num_bytes, candidates(file.path), file.reason, commit=commit)
    content, file.content = file.content, None
    if content is None:
        return scanned
    text, scanned.decoding_errors = decode(content)
    scanned.sha256 = hashlib.sha256(content).digest()
    if len(scanned.languages) == 1:
        scanned.reason = first_reason(filters, Candidate(file.path, scanned.languages[0], file.num_bytes, text))
    if scanned.reason is None:
        encoded = text.encode("utf-8") if scanned.decoding_errors else content
        scanned.text = Spilled(Path(spill.name), spill.tell(), len(encoded))
        spill.write(encoded)
    return scanned


def filter_texts(files: Sequence[tuple[Spilled, Candidate]], recipe: Recipe) -> Iterator[list[str | None]]:
    """Yields once: for each file the reason why the recipe drops it, or None. The candidates come without their texts."""
    reasons = []
    for spilled, candidate in files:
        candidate.text = spilled.text()
        reasons.append(first_reason(recipe.after_reading, candidate))
        candidate.text = ""
    yield reasons


def first_reason(filters: Sequence[Filter], file: Candidate) -> str | None:
    """The reason of the first filter that drops the file; None if all keep it."""
    return next((verdict for rule in filters if isinstance(verdict := rule.keep(file), str)), None)


def decode(content: bytes) -> tuple[str, bool]:
    """The text of a file, and whether bytes that are not UTF-8 had to be left out of it. Line ends stay as they are.

    >>> decode(b"a\\r\\n"), decode(b"caf\\xe9")
    (('a\\r\\n', False), ('caf', True))
    """
    try:
        return content.decode("utf-8"), False
    except UnicodeDecodeError:
        return content.decode("utf-8", "ignore"), True
