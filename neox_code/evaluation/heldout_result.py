"""The figures of a model on held-out files, and the file that keeps them.

    result = load_heldout("checkpoints/eval_results_1000.json")
    result.languages[0].bits_per_byte("model"), result.languages[0].bits_per_byte("gzip_alone")

No torch is needed to read them.
"""

import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from neox_code.checkpoint.layout import STEP_PREFIX
from neox_code.errors import DataError
from neox_code.files import read_json, write_json

ALL = "all"
"""What the sum over languages is called."""


@dataclass(frozen=True)
class LanguageResult:
    """The files of one language, or of all."""

    language: str
    files: int
    left_aside: int
    """Further held-out files, past `heldout_bytes_per_language`."""
    changed: int
    """Files whose tokens stand for other bytes, because the tokenizer normalizes text: their figures do not compare."""
    bytes: int
    """Of the texts, in UTF-8."""
    tokens: int
    """Without end-of-document tokens."""
    bits: Mapping[str, float]
    """Of all files: `model`, `unigram` (the entropy of the same tokens' own distribution), `gzip_alone`, `xz_alone` (each file
    by itself), `gzip_joined`, `xz_joined` (the files of a language in one)."""

    def bits_per_byte(self, judge: str) -> float:
        return self.bits[judge] / self.bytes

    @property
    def bits_per_token(self) -> float:
        """The model's, as are the perplexity's."""
        return self.bits["model"] / self.tokens

    @property
    def perplexity(self) -> float:
        """Per token: 2 to the power of the bits per token."""
        return math.exp2(self.bits_per_token)

    def to_json(self) -> dict[str, Any]:
        derived = {
            "bits_per_byte": {judge: self.bits_per_byte(judge) for judge in self.bits},
            "bits_per_token": self.bits_per_token,
            "perplexity_per_token": self.perplexity,
        }
        return asdict(self) | derived


@dataclass(frozen=True)
class HeldoutResult:
    checkpoint: str
    corpus: str
    split: str
    context_length: int
    languages: tuple[LanguageResult, ...]
    """Those with most bytes first."""
    without_files: tuple[str, ...]
    """Languages that the corpus trains on, and of which no held-out file was read."""
    skipped: Mapping[str, int] = field(default_factory=dict)
    """Number of held-out files, by language, that the tokenizer cannot encode or `newlines` refuses; no figure includes them."""
    skipped_files: tuple[str, ...] = ()
    """The first of them, each with its place and the reason."""

    @property
    def total(self) -> LanguageResult:
        """The sum over the languages; each has a unigram distribution and joined files of its own."""
        rows = self.languages
        counts = {name: sum(getattr(row, name) for row in rows) for name in ("files", "left_aside", "changed", "bytes", "tokens")}
        return LanguageResult(ALL, **counts, bits={judge: sum(row.bits[judge] for row in rows) for judge in rows[0].bits})

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"languages": [row.to_json() for row in self.languages], "total": self.total.to_json()}


def heldout_file(result: HeldoutResult) -> Path:
    """Where the figures of global_stepN are kept: `eval_results_N.json`, beside it."""
    checkpoint = Path(result.checkpoint)
    return checkpoint.parent / f"eval_results_{checkpoint.name.removeprefix(STEP_PREFIX)}.json"


def save_heldout(result: HeldoutResult, path: str | os.PathLike[str]) -> None:
    write_json(path, result.to_json())


def load_heldout(path: str | os.PathLike[str]) -> HeldoutResult:
    """The inverse of `save_heldout`. Raises DataError where the file is missing or is not its like."""
    value = read_json(path)
    try:
        names = [known.name for known in fields(LanguageResult)]
        rows = tuple(LanguageResult(**{name: row[name] for name in names}) for row in value["languages"])
        given = {known.name: value[known.name] for known in fields(HeldoutResult) if known.name in value}
        lists = {name: tuple(value.get(name, ())) for name in ("without_files", "skipped_files")}
        return HeldoutResult(**given | lists | {"languages": rows})
    except (KeyError, TypeError):
        raise DataError(f"{path} holds no figures of held-out files. Delete it, and run evaluate again.") from None
