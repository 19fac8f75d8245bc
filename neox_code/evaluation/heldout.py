"""Evaluate a model on the held-out files of a corpus, by language: bits per byte beside those of compressors, and perplexity.

    result = evaluate_heldout(config)                        # the model in `load` on files of `heldout_path`
    save_heldout(result, make_result_path(result))

Bits per byte do not depend on the tokenizer: they are the bits of all tokens divided by the UTF-8 bytes of all files.
"""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from neox_code.config.neox import NeoXConfig
from neox_code.corpus.pipeline.projects import shuffle_projects
from neox_code.corpus.shards import Document, is_corpus, iter_documents, load_summary
from neox_code.corpus.tokens.input_slices import MAX_LISTED
from neox_code.corpus.tokens.tokenize_shards import encode_documents
from neox_code.errors import ConfigError, DataError
from neox_code.evaluation.compressors import COMPRESSORS, compute_compressed_bits, compute_unigram_bits
from neox_code.evaluation.heldout_result import HeldoutResult, LanguageResult
from neox_code.evaluation.perplexity import make_scoring_model, score_files
from neox_code.evaluation.scores import TaskScore, ratio_score
from neox_code.evaluation.source_files import read_source_files
from neox_code.evaluation.task import Measurement, TaskInputs
from neox_code.generation.loading import LoadedModel, load_model
from neox_code.logs import Advance, get_logger, progress

log = get_logger(__name__)


def measure_heldout(loaded: LoadedModel, inputs: TaskInputs) -> Measurement:
    """Return bits per byte of the task `heldout` by language; `chance` is a guess by the frequencies of tokens."""
    assert inputs.config is not None
    result = evaluate_heldout(inputs.config, loaded)
    scores = [
        TaskScore(
            name=f"bits per byte, {row.language}",
            value=row.bits_per_byte("model"),
            standard_error=row.standard_error,
            count=row.files,
            higher_is_better=False,
            chance=row.bits_per_byte("unigram"),
        )
        for row in result.languages
    ]
    return Measurement(scores, result.to_json())


def evaluate_heldout(config: NeoXConfig, loaded: LoadedModel | None = None) -> HeldoutResult:
    """Evaluate the model, by default the one in `load`, on the files that the configuration names.

    Files that cannot be encoded are skipped and counted.

    Raise ConfigError if `heldout_path` or `load` is not set, DataError if there is no corpus or no held-out file in it that can be
    encoded, and the errors of `load_model`.
    """
    folder, split = config.data.heldout_path, config.data.heldout_split
    if folder is None:
        raise ConfigError(
            "heldout_path is not set: there are no files to evaluate the model on. "
            "Set it to a corpus of tools/build_corpus.py, or to any folder or archive of source code: --set heldout_path=PATH."
        )
    chosen, left_aside = select_heldout_documents(folder, split, config.data.heldout_bytes_per_language, config.training.seed)
    model = make_scoring_model(loaded or load_model(config))
    languages, errors = encode_files(chosen, model)
    if not any(languages.values()):
        raise DataError(f"none of the held-out files of {folder} can be encoded; the first: {next(iter(errors.values()))[0]}")
    num_bytes = sum(document.num_bytes for documents in languages.values() for document, _ in documents)
    with progress("gzip and xz", total=2 * len(COMPRESSORS) * num_bytes, unit="B") as advance:
        bits = {
            language: compute_compressed_bits([document.text.encode() for document, _ in documents], advance)
            for language, documents in languages.items()
        }
    with progress("bits per byte", total=num_bytes, unit="B") as advance:
        rows = [
            evaluate_language(model, documents, bits[language], left_aside[language], advance)
            for language, documents in languages.items()
        ]
    trained_on = load_summary(folder).languages("train") if is_corpus(folder) else []
    return HeldoutResult(
        checkpoint=str(model.checkpoint),
        corpus=folder,
        split=split,
        context_length=model.context_length,
        languages=tuple(sorted(rows, key=lambda row: (-row.bytes, row.language))),
        without_files=tuple(language for language in trained_on if language not in languages),
        skipped={language: len(reasons) for language, reasons in errors.items()},
        skipped_files=tuple(list_first_reasons(errors)),
    )


def encode_files(
    languages: Mapping[str, Sequence[Document]], model: LoadedModel
) -> tuple[dict[str, list[tuple[Document, NDArray[np.int32]]]], dict[str, list[str]]]:
    """Return the token ids of each document, by language, and log and return the errors of documents that cannot be encoded."""
    files: dict[str, list[tuple[Document, NDArray[np.int32]]]] = defaultdict(list)
    errors: dict[str, list[str]] = defaultdict(list)
    for language, documents in languages.items():
        for document, ids in encode_documents(documents, model.tokenizer, model.newlines):
            if isinstance(ids, DataError):
                errors[language].append(str(ids))
            else:
                files[language].append((document, np.array(ids, np.int32)))
    if errors:
        log.warning("%s held-out files cannot be encoded and are skipped; the first:", f"{sum(map(len, errors.values())):,}")
        for reason in list_first_reasons(errors):
            log.warning("    %s", reason)
    return dict(files), dict(errors)


def list_first_reasons(errors: Mapping[str, Sequence[str]]) -> list[str]:
    return [reason for reasons in errors.values() for reason in reasons][:MAX_LISTED]


def evaluate_language(
    model: LoadedModel,
    documents: Sequence[tuple[Document, NDArray[np.int32]]],
    compressed: Mapping[str, float],
    left_aside: int,
    advance: Advance,
) -> LanguageResult:
    """Return the figures of some documents of one language, given with their ids; `advance` receives the bytes scored."""
    language = documents[0][0].language
    files = [ids.tolist() for _, ids in documents]
    texts = [document.text.encode() for document, _ in documents]
    changed = sum(model.tokenizer.decode_bytes(ids) != text for ids, text in zip(files, texts, strict=True))
    if changed:
        log.warning("%s: the tokenizer changes the text of %d files; their bits per byte are not comparable", language, changed)
    bits = [0.0] * len(files)
    for score in score_files(model, files):
        bits[score.file] += score.bits
        advance(len(texts[score.file]) * score.tokens / len(files[score.file]))
    return LanguageResult(
        language=language,
        files=len(files),
        left_aside=left_aside,
        changed=changed,
        bytes=sum(map(len, texts)),
        tokens=sum(map(len, files)),
        standard_error=ratio_score("bits per byte", bits, list(map(len, texts))).standard_error,
        bits={"model": math.fsum(bits), "unigram": compute_unigram_bits(files), **compressed},
    )


def select_heldout_documents(
    folder: str, split: str, limit: int | None, seed: int
) -> tuple[dict[str, list[Document]], dict[str, int]]:
    """Return, by language, the selected documents with at most `limit` bytes, and the number of documents beyond the limit.

    Languages with too few files and empty documents are left out. Raise DataError if there is no corpus or no document.
    """
    sizes: dict[str, dict[str, int]] = defaultdict(dict)
    every = None if is_corpus(folder) else read_source_files(folder)
    evaluated = iter_documents(folder, split, load_summary(folder).evaluated_languages(split)) if every is None else every
    for document in evaluated:
        if document.num_bytes:
            sizes[document.language][document.sha256] = document.num_bytes
    chosen = {language: select_within_limit(files, limit, seed) for language, files in sizes.items()}
    if not any(chosen.values()):
        advice = find_remedy(sizes, limit)
        place = f"split {split} of the corpus {folder}" if every is None else folder
        raise DataError(f"{place} holds no documents to evaluate the model on. {advice}")
    documents: dict[str, list[Document]] = defaultdict(list)
    for document in iter_documents(folder, split) if every is None else every:
        if document.sha256 in chosen.get(document.language, ()):
            documents[document.language].append(document)
    left_aside = {language: len(sizes[language]) - len(files) for language, files in chosen.items()}
    if any(left_aside.values()):
        counts = ", ".join(f"{count:,} {language}" for language, count in left_aside.items() if count)
        log.info("files skipped after heldout_bytes_per_language (%d): %s", limit, counts)
    return documents, left_aside


def find_remedy(sizes: Mapping[str, Mapping[str, int]], limit: int | None) -> str:
    """Return what to do if no document was selected."""
    if not sizes:
        return "Set heldout_split to the other of valid and test, or build the corpus with more projects."
    return f"None of its {sum(map(len, sizes.values())):,} files fits into heldout_bytes_per_language ({limit:,}): raise it."


def select_within_limit(sizes: Mapping[str, int], limit: int | None, seed: int) -> set[str]:
    """Return a random selection of files: in a seeded order, each file is added if the total stays within `limit` bytes.

    >>> sorted(select_within_limit({"a": 6, "b": 6, "c": 4}, limit=10, seed=0))
    ['a', 'c']
    """
    selected: set[str] = set()
    free_bytes = sum(sizes.values()) if limit is None else limit
    for file in shuffle_projects(sizes, seed, "judge"):
        if sizes[file] <= free_bytes:
            selected.add(file)
            free_bytes -= sizes[file]
    return selected
