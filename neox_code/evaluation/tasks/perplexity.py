"""Perplexity by language in the protocol of PolyCoder (Xu et al. 2022, section 4.2), with bits per byte and per token.

Each file that is not empty is read after an end-of-document token, in windows of at most 2,048 tokens that do not overlap, as
lm-evaluation-harness's `loglikelihood_rolling` reads it. The perplexity of a language is exp(-ln of the probability of all files /
number of tokens that the language's Pygments lexer finds in them): it can be compared between tokenizers, as bits per byte can.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from pygments.lexers import find_lexer_class

from neox_code.corpus.filters.tokens import load_token_counter
from neox_code.corpus.shards import Document
from neox_code.errors import ConfigError, DataError
from neox_code.evaluation.heldout import encode_files, select_heldout_documents
from neox_code.evaluation.perplexity import make_scoring_model, score_files
from neox_code.evaluation.scores import TaskScore, ratio_score
from neox_code.evaluation.task import Measurement, ModelTask, TaskInputs
from neox_code.generation.loading import LoadedModel
from neox_code.logs import progress

WINDOW_TOKENS = 2048
WORST_FILES = 20
NO_LIMIT = 1 << 40
"""A limit for the number of Pygments tokens that no file reaches, because a file has at most 1 MiB."""

EncodedFiles = Sequence[tuple[Document, NDArray[np.int32]]]


def measure_perplexity(loaded: LoadedModel, inputs: TaskInputs) -> Measurement:
    """Score the files of `heldout_path`: a corpus's split, a folder, a repository or an archive.

    Raise ConfigError if it is not set, DataError if no file of it can be encoded.
    """
    assert inputs.config is not None
    data = inputs.config.data
    if data.heldout_path is None:
        raise ConfigError(
            "heldout_path is not set: there are no files to score. Set it to a corpus, a folder or an archive of code."
        )
    chosen, _ = select_heldout_documents(data.heldout_path, data.heldout_split, data.heldout_bytes_per_language, inputs.seed)
    model = make_scoring_model(loaded)
    languages, errors = encode_files(chosen, model)
    if not languages:
        raise DataError(f"no file of {data.heldout_path} can be encoded; the first: {next(iter(errors.values()))[0]}")
    scores, rows = [], []
    total = sum(document.num_bytes for files in languages.values() for document, _ in files)
    with progress("perplexity", total, "B") as advance:
        for language, files in sorted(languages.items(), key=lambda item: -sum(document.num_bytes for document, _ in item[1])):
            measured = score_language(model, files)
            scores += summarize_language(language, measured)
            rows += measured
            advance(sum(document.num_bytes for document, _ in files))
    rows.sort(key=lambda row: -row["bits_per_byte"])
    details = {
        "window_tokens": min(WINDOW_TOKENS, model.context_length),
        "path": data.heldout_path,
        "worst_files": rows[:WORST_FILES],
        "skipped": {language: len(reasons) for language, reasons in errors.items()},
    }
    return Measurement(scores, details, rows)


def score_language(model: LoadedModel, files: EncodedFiles) -> list[dict]:
    """Return a row for each file; `pygments_tokens` is None if Pygments has no lexer of the language."""
    ids = [tokens.tolist() for _, tokens in files]
    bits = [0.0] * len(files)
    for score in score_files(model, ids, rolling_length=WINDOW_TOKENS):
        bits[score.file] += score.bits
    return [
        {
            "language": document.language,
            "file": f"{document.repository}/{document.path}",
            "bytes": document.num_bytes,
            "tokens": len(tokens),
            "pygments_tokens": count_pygments_tokens(document),
            "bits": each,
            "bits_per_byte": each / document.num_bytes,
        }
        for (document, _), tokens, each in zip(files, ids, bits, strict=True)
    ]


def count_pygments_tokens(document: Document) -> int | None:
    if find_lexer_class(document.language) is None:
        return None
    return load_token_counter(document.language).count(document.text, NO_LIMIT)


def summarize_language(language: str, rows: Sequence[dict]) -> list[TaskScore]:
    """Return word perplexity (lm-evaluation-harness's name of the perplexity per Pygments token), bits per byte and per token."""
    bits = [row["bits"] for row in rows]
    scores = [ratio_score(f"bits per {unit}, {language}", bits, [row[f"{unit}s"] for row in rows]) for unit in ("byte", "token")]
    if all(row["pygments_tokens"] for row in rows):
        mean = ratio_score("", [each * math.log(2) for each in bits], [row["pygments_tokens"] for row in rows])
        value, error = math.exp(mean.value), mean.standard_error
        name = f"word perplexity, {language}"
        scores.insert(0, replace(mean, name=name, value=value, standard_error=None if error is None else value * error))
    return scores


PERPLEXITY = ModelTask("perplexity", measure_perplexity)
