"""Contestants in writing token files from JSON Lines: ours, and GPT-NeoX's tool. The sizes of .bin and .idx are compared."""

import sys
from functools import partial
from pathlib import Path
from typing import Any

from neox_code.benchmarks import gpt_neox
from neox_code.benchmarks.contestant import TimedStep, compute_digest, run_contestant
from neox_code.benchmarks.corpus_contest import CODE, SMALL, VOCABULARY, get_texts_path
from neox_code.config.data import DataConfig
from neox_code.corpus.tokens.input_slices import slice_input
from neox_code.corpus.tokens.token_files import write_token_files
from neox_code.corpus.tokens.tokenize_slice import WriteOptions
from neox_code.tokenizer.registry import build_tokenizer
from neox_code.tokenizer.train_bpe import MERGE_FILE, TOKENIZER_FILE, VOCAB_FILE


def tokenize_with_ours(size: str, folder: Path, cores: int) -> TimedStep:
    """Return the timed step that tokenizes the sample with tools/preprocess_data.py."""
    section = DataConfig(
        tokenizer_type="GPT2BPETokenizer",
        vocab_file=str(folder / VOCABULARY / VOCAB_FILE),
        merge_file=str(folder / VOCABULARY / MERGE_FILE),
    )
    prefix = folder / f"{size}_text_document"
    texts = get_texts_path(folder / size)

    def run() -> None:
        options = WriteOptions(append_eod=True, newlines="keep")
        write_token_files(lambda language: prefix, slice_input(texts), build_tokenizer(section), options, workers=cores)

    return TimedStep(run, partial(describe_token_files, prefix), texts.stat().st_size)


def tokenize_with_gpt_neox(folder: Path, cores: int) -> TimedStep:
    texts = get_texts_path(folder / SMALL)
    run = partial(gpt_neox.write_token_files, texts, folder / VOCABULARY / TOKENIZER_FILE, folder / "gpt_neox")
    return TimedStep(run, partial(describe_token_files, folder / "gpt_neox_text_document"), texts.stat().st_size)


def describe_token_files(prefix: Path) -> list[Any]:
    contents = [Path(f"{prefix}{suffix}").read_bytes() for suffix in (".bin", ".idx")]
    return [*map(len, contents), compute_digest(*contents)]


if __name__ == "__main__":
    sys.exit(
        run_contestant(
            {
                "neox-code": partial(tokenize_with_ours, CODE),
                "neox-code-small": partial(tokenize_with_ours, SMALL),
                "gpt-neox": tokenize_with_gpt_neox,
            }
        )
    )
