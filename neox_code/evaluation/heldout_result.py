"""The figures of a model on held-out files, and the file in which they are saved.

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
"""Name of the sum over languages."""


@dataclass(frozen=True)
class LanguageResult:
    """Figures of the files of one language, or of all."""

    language: str
    files: int
    left_aside: int
    """Number of held-out files that are left out because of the limit `heldout_bytes_per_language`."""
    changed: int
    """Number of files whose text the tokenizer changes by normalization. Their figures are not comparable."""
    bytes: int
    """Size of the texts in UTF-8."""
    tokens: int
    """Number of tokens without end-of-document tokens."""
    bits: Mapping[str, float]
    """Method -> bits of all files: `model`, `unigram` (entropy of the tokens under their own distribution), `gzip_alone`,
    `xz_alone` (each file compressed alone), `gzip_joined`, `xz_joined` (all files of a language as one)."""
    standard_error: float | None = None
    """Standard error of the model's bits per byte over the files; None for the sum over languages and for a single file."""

    def bits_per_byte(self, method: str) -> float:
        return self.bits[method] / self.bytes

    @property
    def bits_per_token(self) -> float:
        """Bits per token of the model."""
        return self.bits["model"] / self.tokens

    @property
    def perplexity(self) -> float:
        """The model's perplexity per token, which is 2 to the power of the bits per token."""
        return math.exp2(self.bits_per_token)

    def to_json(self) -> dict[str, Any]:
        derived = {
            "bits_per_byte": {method: self.bits_per_byte(method) for method in self.bits},
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
    """Languages with figures, the one with most bytes first."""
    without_files: tuple[str, ...]
    """Languages of the training split without an evaluated file."""
    skipped: Mapping[str, int] = field(default_factory=dict)
    """Number of held-out files, by language, that the tokenizer cannot encode or `newlines` refuses; no figure includes them."""
    skipped_files: tuple[str, ...] = ()
    """The first skipped files, each with its place and the reason."""

    @property
    def total(self) -> LanguageResult:
        """The sums over all languages. Unigram and joined-file figures are computed for each language and then added."""
        rows = self.languages
        counts = {name: sum(getattr(row, name) for row in rows) for name in ("files", "left_aside", "changed", "bytes", "tokens")}
        return LanguageResult(ALL, **counts, bits={method: sum(row.bits[method] for row in rows) for method in rows[0].bits})

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"languages": [row.to_json() for row in self.languages], "total": self.total.to_json()}


def make_result_path(result: HeldoutResult) -> Path:
    """Return the path of the figures of global_stepN: `eval_results_N.json`, beside it."""
    checkpoint = Path(result.checkpoint)
    return checkpoint.parent / f"eval_results_{checkpoint.name.removeprefix(STEP_PREFIX)}.json"


def save_heldout(result: HeldoutResult, path: str | os.PathLike[str]) -> None:
    write_json(path, result.to_json())


def load_heldout(path: str | os.PathLike[str]) -> HeldoutResult:
    """Read the figures of a file, the inverse of `save_heldout`. Raise DataError if the file is missing or has another content."""
    value = read_json(path)
    try:
        names = [known.name for known in fields(LanguageResult)]
        rows = tuple(
            LanguageResult(**{name: row.get(name) if name == "standard_error" else row[name] for name in names})
            for row in value["languages"]
        )
        given = {known.name: value[known.name] for known in fields(HeldoutResult) if known.name in value}
        lists = {name: tuple(value.get(name, ())) for name in ("without_files", "skipped_files")}
        return HeldoutResult(**given | lists | {"languages": rows})
    except (KeyError, TypeError):
        raise DataError(f"{path} has no results of held-out files. Delete it and run evaluate again.") from None
