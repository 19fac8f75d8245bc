"""Learns byte-level merges: by gigatoken where they are those of the tokenizers library, else by that.

    with SampleFile(path, texts) as sample:
        merges = learn_merges(sample, num_merges=49_998, min_frequency=2)     # [("Ġ", "Ġ"), ...]

gigatoken is some eight times faster. It is used where, on an excerpt of the very sample, it makes the same merges as the tokenizers
library, and where its last merge still has `min_frequency` occurrences (it goes on to pairs that occur once, where the library
stops). It runs in a process of its own, which Ctrl-C ends at once; the library in a thread.

Memory: gigatoken's grows with the distinct words of the sample (0.3 GB for 100 MB of code, 50,257 entries), the library's with them
and faster (0.6 GB); neither holds the texts. Both count pairs in 32 bits or more: a sample beyond some 10 GB gains nothing.
"""

import json
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from pathlib import Path
from threading import Thread
from typing import Any, Self

import gigatoken
from tokenizers import Tokenizer as Backend
from tokenizers import models as backend_models
from tokenizers import pre_tokenizers, trainers

from neox_code.errors import DataError
from neox_code.logs import get_logger
from neox_code.tokenizer.byte_level import BYTE_OF_CHARACTER, CHARACTER_OF_BYTE, byte_alphabet
from neox_code.tokenizer.sample_file import SEPARATOR, SampleFile

log = get_logger(__name__)

Merges = list[tuple[str, str]]

NUM_BYTES = 256
SMALL_SAMPLE_BYTES = 4 * 2**20
"""Below it gigatoken is not faster: it merges pairs that occur once, of which there are many."""
EXCERPT_MERGES = 2000
"""Made by both to compare them."""


def learn_merges(sample: SampleFile, num_merges: int, min_frequency: int) -> Merges:
    """At most so many merges, most frequent first. Pairs that occur fewer than `min_frequency` times are not merged."""
    if sample.num_bytes < SMALL_SAMPLE_BYTES:
        return merges_of_tokenizers(sample.texts(), num_merges, min_frequency)
    with (
        SampleFile(sample.path.with_suffix(".excerpt"), sample.excerpt) as excerpt,
        Gigatoken([(excerpt.path, EXCERPT_MERGES), (sample.path, num_merges)]) as gigatoken_process,
    ):
        expected = merges_of_tokenizers(sample.excerpt, EXCERPT_MERGES, min_frequency)
        found, merges = gigatoken_process.merges()
    if not expected or found[: len(expected)] != expected:
        reason = f"gigatoken makes other merges of an excerpt of {len(sample.excerpt)} texts"
    elif len(merges) < num_merges or not occurs(merges, sample, min_frequency):
        reason = f"gigatoken's last merges are of pairs that occur fewer than {min_frequency} times"
    else:
        log.info("vocabulary | learnt by gigatoken, whose merges of an excerpt of %d texts are tokenizers'", len(sample.excerpt))
        return merges
    log.info("vocabulary | learnt by tokenizers: %s", reason)
    return merges_of_tokenizers(sample.texts(), num_merges, min_frequency)


def merges_of_tokenizers(texts: Iterable[str], num_merges: int, min_frequency: int) -> Merges:
    backend = Backend(backend_models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=NUM_BYTES + num_merges,
        min_frequency=min_frequency,
        initial_alphabet=list(byte_alphabet()),
        show_progress=False,
    )
    in_a_thread(lambda: backend.train_from_iterator(texts, trainer))
    return [(left, right) for left, right in json.loads(backend.to_str())["model"]["merges"]]


def in_a_thread(function: Callable[[], None]) -> None:
    """Calls the function in a thread of its own, so that Ctrl-C ends the wait at once; a library looks at it only at its end."""
    outcome: Future[None] = Future()

    def call() -> None:
        try:
            function()
        except BaseException as error:
            with suppress(InvalidStateError):
                outcome.set_exception(error)
        else:
            with suppress(InvalidStateError):
                outcome.set_result(None)

    Thread(target=call, daemon=True).start()
    outcome.result()


class Gigatoken:
    """This module as a program that makes merges of SampleFiles; it ends with the `with` block."""

    def __init__(self, tasks: Sequence[tuple[Path, int]]):
        self.tasks = tasks
        self.output = tasks[0][0].with_suffix(".merges")

    def __enter__(self) -> Self:
        arguments = [str(part) for task in self.tasks for part in task]
        command = [sys.executable, "-m", __name__, str(self.output), *arguments]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
        )
        return self

    def __exit__(self, *exception: Any) -> None:
        with self._process:
            self._process.kill()
        self.output.unlink(missing_ok=True)

    def merges(self) -> list[Merges]:
        """Waits for those of every task. Raises DataError if the program failed."""
        said = self._process.communicate()[1].strip().splitlines()
        if status := self._process.returncode:
            raise DataError(
                f"learning merges ended with status {status} and said: {said[-1] if said else 'nothing'}. "
                "The machine may be out of memory: give a smaller --fraction."
            )
        results = json.loads(self.output.read_text(encoding="utf-8"))
        return [[(left, right) for left, right in merges] for merges in results]


def main(output: str, *arguments: str) -> None:
    results = []
    for path, num_merges in zip(arguments[::2], arguments[1::2], strict=True):
        source = gigatoken.TextFileSource([path], separator=SEPARATOR)
        _, merges = gigatoken.train_bpe(source, NUM_BYTES + int(num_merges), [], tie_breaking="huggingface")
        results.append([[spell(left), spell(right)] for left, right in merges])
    Path(output).write_text(json.dumps(results), encoding="utf-8")


def spell(data: bytes) -> str:
    return "".join(map(CHARACTER_OF_BYTE.__getitem__, data))


def occurs(merges: Merges, sample: SampleFile, times: int) -> bool:
    """Whether the token of the last merge occurs so often; those before it then do, too."""
    vocabulary = {character: index for index, character in enumerate(sorted(BYTE_OF_CHARACTER))}
    for left, right in merges:
        vocabulary.setdefault(left + right, len(vocabulary))
    if len(vocabulary) != NUM_BYTES + len(merges):
        return False
    splitting = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    model = {"type": "BPE", "vocab": vocabulary, "merges": merges}
    description = {"version": "1.0", "added_tokens": [], "pre_tokenizer": splitting, "model": model}
    encoder = gigatoken.Tokenizer.from_json(json.dumps(description))
    count = 0
    for text in sample.texts():
        count += int((encoder.encode(text) == len(vocabulary) - 1).sum())
        if count >= times:
            return True
    return False


if __name__ == "__main__":
    main(*sys.argv[1:])
