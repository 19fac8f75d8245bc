"""Learns byte-level merges: those of the tokenizers library, many times faster where a sample shows that they are the same.

    with SampleFile(path, texts) as sample:
        merges = learn_merges(sample, num_merges=49_998, min_frequency=2)     # [("Ġ", "Ġ"), ...]

gigatoken counts the words of the texts, neox_code.tokenizer.byte_pairs merges them: together some ten times faster than the
library, which does both where they make other merges of an excerpt of the very sample. The library learns in a thread, so that
Ctrl-C ends it at once.

Memory grows with the distinct words of the sample: 0.4 GB for 100 MB of code, and more in the library; neither holds the texts.
A sample beyond some 10 GB gains nothing.
"""

import json
from collections.abc import Callable, Iterable
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from threading import Thread

from tokenizers import Tokenizer as Backend
from tokenizers import models as backend_models
from tokenizers import pre_tokenizers, trainers

from neox_code.logs import get_logger
from neox_code.tokenizer.byte_level import byte_alphabet
from neox_code.tokenizer.byte_pairs import NUM_BYTES, Merges, merges_of_words
from neox_code.tokenizer.sample_file import SampleFile
from neox_code.tokenizer.words import WordCounter

log = get_logger(__name__)

SMALL_SAMPLE_BYTES = 2**20
"""Below it the library is as fast."""
RARE = 2
"""Where pairs that occur less often are merged, there are so many that the library is faster."""
EXCERPT_MERGES = 1000
"""Made in both ways to compare them."""


def learn_merges(sample: SampleFile, num_merges: int, min_frequency: int) -> Merges:
    """At most so many merges, first to last. Pairs that occur fewer than `min_frequency` times are not merged."""
    if sample.num_bytes < SMALL_SAMPLE_BYTES or min_frequency < RARE:
        return merges_of_tokenizers(sample.texts(), num_merges, min_frequency)
    with (
        SampleFile(sample.path.with_suffix(".excerpt"), sample.excerpt) as excerpt,
        WordCounter([sample.path, excerpt.path]) as counter,
    ):
        expected = merges_of_tokenizers(sample.excerpt, EXCERPT_MERGES, min_frequency)
        words, few = counter.words()
    if expected and merges_of_words(few, EXCERPT_MERGES, min_frequency) == expected:
        log.info("vocabulary | learnt from gigatoken's words, whose merges are tokenizers' in %d of the texts", len(sample.excerpt))
        return merges_of_words(words, num_merges, min_frequency)
    log.info("vocabulary | learnt by tokenizers: the words of gigatoken make other merges of %d of the texts", len(sample.excerpt))
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
