"""Learn byte-level merges. They are the same merges as those of the tokenizers library, learned about ten times faster.

    with SampleFile(path, texts) as sample:
        merges = learn_merges(sample, num_merges=49_998, min_frequency=2)     # [("Ġ", "Ġ"), ...]

gigatoken counts the pretokens of the texts, and neox_code.tokenizer.byte_pairs learns merges from the counts. The result is
compared with that of the tokenizers library on an excerpt of the sample. If the merges differ, the library learns from the whole
sample. The library runs in a thread, so that Ctrl-C ends the wait immediately.

Memory grows with the distinct pretokens of the sample: 0.4 GB for 100 MB of code, and more in the library. The texts stay on disk.
A sample larger than 10 GB improves nothing.
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
from neox_code.tokenizer.byte_level import make_byte_alphabet
from neox_code.tokenizer.byte_pairs import NUM_BYTES, Merges, merge_pretokens
from neox_code.tokenizer.pretokenize import Pretokenizer
from neox_code.tokenizer.sample_file import SampleFile

log = get_logger(__name__)

SMALL_SAMPLE_BYTES = 2**20
"""Sample size in bytes below which the tokenizers library is used, because it is fast enough."""
FAST_MIN_FREQUENCY = 2
"""Minimum `min_frequency` for the fast method. With a smaller value there are so many pairs that the library is faster."""
EXCERPT_MERGES = 1000
"""Number of merges, learned from the excerpt, that are compared."""


def learn_merges(sample: SampleFile, num_merges: int, min_frequency: int) -> Merges:
    """Return at most `num_merges` merges, first to last. Pairs that occur fewer than `min_frequency` times are not merged."""
    if sample.num_bytes < SMALL_SAMPLE_BYTES or min_frequency < FAST_MIN_FREQUENCY:
        return learn_merges_with_tokenizers(sample.texts(), num_merges, min_frequency)
    with (
        SampleFile(sample.path.with_suffix(".excerpt"), sample.excerpt) as excerpt,
        Pretokenizer([sample.path, excerpt.path]) as pretokenizer,
    ):
        expected = learn_merges_with_tokenizers(sample.excerpt, EXCERPT_MERGES, min_frequency)
        sample_counts, excerpt_counts = pretokenizer.read_counts()
    if expected and merge_pretokens(excerpt_counts, EXCERPT_MERGES, min_frequency) == expected:
        log.info("vocabulary | learning with gigatoken: same merges as the tokenizers library for %d texts", len(sample.excerpt))
        return merge_pretokens(sample_counts, num_merges, min_frequency)
    log.info("vocabulary | learning with the tokenizers library: gigatoken gives other merges for %d texts", len(sample.excerpt))
    return learn_merges_with_tokenizers(sample.texts(), num_merges, min_frequency)


def learn_merges_with_tokenizers(texts: Iterable[str], num_merges: int, min_frequency: int) -> Merges:
    """Return the merges that tokenizers learns from the texts."""
    backend = Backend(backend_models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=NUM_BYTES + num_merges,
        min_frequency=min_frequency,
        initial_alphabet=list(make_byte_alphabet()),
        show_progress=False,
    )
    run_in_thread(lambda: backend.train_from_iterator(texts, trainer))
    return [(left, right) for left, right in json.loads(backend.to_str())["model"]["merges"]]


def run_in_thread(function: Callable[[], None]) -> None:
    """Call the function in a new thread and wait. Ctrl-C ends this wait; without a thread it would not end the function."""
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
