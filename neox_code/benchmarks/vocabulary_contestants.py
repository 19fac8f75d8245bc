"""Contestants in training a vocabulary: ours, and the library tokenizers. The merges are compared by number and digest."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers, trainers

from neox_code.benchmarks.contestant import TimedStep, compute_digest, run_contestant
from neox_code.benchmarks.corpus_contest import CODE, VOCAB_SIZE
from neox_code.benchmarks.sample import read_sample, read_sample_texts
from neox_code.files import read_json
from neox_code.tokenizer.byte_level import SPECIAL_TOKENS
from neox_code.tokenizer.train_bpe import MERGE_FILE, train_bpe


def train_with_ours(folder: Path, cores: int) -> TimedStep:
    texts = read_sample_texts(folder / CODE)
    output = folder / "ours"

    def run() -> None:
        train_bpe(texts, VOCAB_SIZE, output)

    return TimedStep(
        run, lambda: describe_merges((output / MERGE_FILE).read_text().splitlines()[1:]), read_sample(folder / CODE).num_bytes
    )


def train_with_tokenizers(folder: Path, cores: int) -> TimedStep:
    """Return the timed step that trains the vocabulary with tokenizers."""
    texts = read_sample_texts(folder / CODE)
    output = folder / "tokenizers.json"

    def run() -> None:
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        trainer = trainers.BpeTrainer(
            vocab_size=VOCAB_SIZE,
            min_frequency=2,
            special_tokens=[AddedToken(name, special=True, normalized=False) for name in SPECIAL_TOKENS],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        tokenizer.train_from_iterator(texts, trainer)
        tokenizer.save(str(output))

    return TimedStep(
        run,
        lambda: describe_merges([" ".join(pair) for pair in read_json(output)["model"]["merges"]]),
        read_sample(folder / CODE).num_bytes,
    )


def describe_merges(lines: Sequence[str]) -> list[Any]:
    return [len(lines), compute_digest("\n".join(lines).encode())]


if __name__ == "__main__":
    sys.exit(run_contestant({"neox-code": train_with_ours, "tokenizers": train_with_tokenizers}))
