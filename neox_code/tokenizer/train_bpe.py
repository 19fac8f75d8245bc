"""Train a byte-level BPE vocabulary.

    documents = sample_documents(iter_documents("corpus", "train"), fraction=0.05, seed=1234)
    tokenizer = train_bpe((document.text for document in documents), vocab_size=50_257, output="vocabulary")

The vocabulary contains, in this order, the three special tokens, the 256 bytes, and the merged tokens. Two formats are written:
`code-vocab.json` with `code-merges.txt` (GPT2BPETokenizer), and `tokenizer.json` (HFTokenizer). With `whitespace_tokens` the last
entries are GPT-Code-Clippy's four whitespace tokens (two tabs; two, four and eight spaces). These are ordinary tokens, and the
longest match is encoded first; only tokenizer.json can express this. The files do not depend on the order of the texts.
"""

import hashlib
import heapq
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

from tokenizers import AddedToken
from tokenizers import Tokenizer as Backend

from neox_code.errors import DataError
from neox_code.files import atomic_file, write_text
from neox_code.logs import format_plural, format_si, get_logger
from neox_code.tokenizer.byte_level import SPECIAL_TOKENS, ByteLevelTokenizer, make_byte_alphabet
from neox_code.tokenizer.gpt2 import GPT2Tokenizer, Merge, build_byte_level_backend
from neox_code.tokenizer.huggingface import HFTokenizer
from neox_code.tokenizer.merges import learn_merges
from neox_code.tokenizer.sample_file import SampleFile

log = get_logger(__name__)

VOCAB_FILE = "code-vocab.json"
MERGE_FILE = "code-merges.txt"
TOKENIZER_FILE = "tokenizer.json"

WHITESPACE_TOKENS = ("\t\t", " " * 2, " " * 4, " " * 8)
"""Optional whitespace tokens; their ids, in this order, are the last of the vocabulary."""

SMALLEST_VOCABULARY = len(SPECIAL_TOKENS) + 256


class SampledDocument(Protocol):
    """Fields of a document that sampling needs, for example of neox_code.corpus.shards.Document."""

    @property
    def sha256(self) -> str: ...

    @property
    def num_bytes(self) -> int: ...


DocumentT = TypeVar("DocumentT", bound=SampledDocument)


def train_bpe(
    texts: Iterable[str],
    vocab_size: int,
    output: str | os.PathLike[str],
    *,
    min_frequency: int = 2,
    whitespace_tokens: bool = False,
) -> ByteLevelTokenizer:
    """Learn a vocabulary of `vocab_size` entries, write its files to the folder `output`, and return the tokenizer read from it.

    A pair of tokens that occurs fewer than `min_frequency` times is not merged: a small sample gives a smaller vocabulary and a
    warning. The name of a special token inside a text is ordinary text. During training the texts are stored in OUTPUT.sample.
    Raise DataError if there is no text, or if `vocab_size` is too small for the special tokens and bytes.
    """
    output = Path(output)
    added = WHITESPACE_TOKENS if whitespace_tokens else ()
    smallest = SMALLEST_VOCABULARY + len(added)
    if vocab_size < smallest:
        raise DataError(
            f"vocab_size ({vocab_size:,}) must be at least {smallest}: {len(SPECIAL_TOKENS)} special tokens, 256 bytes"
            f"{', 4 whitespace tokens' if added else ''}. "
            "Choose a larger value; common values are 8,192 for a small corpus and 50,257 for a large one."
        )
    with SampleFile(get_sample_path(output), texts) as sample:
        log_sample(sample, vocab_size)
        merges = learn_merges(sample, vocab_size - smallest, min_frequency)
    backend = build_trained_backend(merges, added)
    if backend.get_vocab_size() < vocab_size:
        log.warning(
            "vocabulary | %s of %s entries: no other pair of tokens occurs %d times in the sample. Use a larger sample.",
            f"{backend.get_vocab_size():,}",
            f"{vocab_size:,}",
            min_frequency,
        )
    return write_whitespace_vocabulary(backend, output) if added else write_vocabulary(backend, output)


def get_sample_path(output: Path) -> Path:
    return output.with_name(output.name + ".sample")


def log_sample(sample: SampleFile, vocab_size: int) -> None:
    """Log the size of the sample. Raise DataError if it is empty."""
    if not sample.num_texts:
        raise DataError("the sample contains no text to learn a vocabulary from. Give a larger fraction, or another folder.")
    size = f"{format_plural(sample.num_texts, 'document')}, {format_si(sample.num_bytes)}B"
    log.info("vocabulary | learning up to %s entries from %s", f"{vocab_size:,}", size)


def build_trained_backend(merges: Sequence[Merge], whitespace_tokens: Sequence[str]) -> Backend:
    """Return a backend with the vocabulary: special tokens, bytes, merged tokens, whitespace tokens."""
    tokens = dict.fromkeys([*SPECIAL_TOKENS, *make_byte_alphabet(), *(left + right for left, right in merges)])
    backend = build_byte_level_backend({token: number for number, token in enumerate(tokens)}, merges)
    backend.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in SPECIAL_TOKENS])
    backend.add_tokens([AddedToken(token, special=False, normalized=False) for token in whitespace_tokens])
    return backend


def write_whitespace_vocabulary(backend: Backend, output: Path) -> HFTokenizer:
    """Write only tokenizer.json, because vocab.json and merges.txt cannot express that whitespace tokens are matched first."""
    write_text(output / TOKENIZER_FILE, backend.to_str(pretty=True) + "\n")
    for name in (VOCAB_FILE, MERGE_FILE):
        (output / name).unlink(missing_ok=True)
    return HFTokenizer.from_file(output / TOKENIZER_FILE)


def write_vocabulary(backend: Backend, output: Path) -> GPT2Tokenizer:
    """Write the three files under temporary names. When all are complete, rename them, tokenizer.json last."""
    description: dict[str, Any] = json.loads(backend.to_str())
    vocabulary = dict(sorted(description["model"]["vocab"].items(), key=lambda item: item[1]))
    merges = "".join(f"{left} {right}\n" for left, right in description["model"]["merges"])
    with (
        atomic_file(output / TOKENIZER_FILE) as tokenizer_file,
        atomic_file(output / MERGE_FILE) as merge_file,
        atomic_file(output / VOCAB_FILE) as vocab_file,
    ):
        vocab_file.write(json.dumps(vocabulary, ensure_ascii=False) + "\n")
        merge_file.write("#version: 0.2\n" + merges)
        tokenizer_file.write(backend.to_str(pretty=True) + "\n")
    return GPT2Tokenizer.from_files(output / VOCAB_FILE, output / MERGE_FILE)


def sample_documents(
    documents: Iterable[DocumentT], *, fraction: float = 1.0, max_bytes: int | None = None, seed: int = 1234
) -> Iterator[DocumentT]:
    """Yield a random sample of documents. It depends on the documents' hashes and the seed, but not on their order.

    Each document has a sampling number between 0 and 1. Documents with a number below `fraction` are selected. With `max_bytes` the
    selected documents are held in memory and yielded in the order of their numbers, up to `max_bytes` in total.
    """
    selected = (document for document in documents if draw_number(document.sha256, seed) < fraction)
    return selected if max_bytes is None else iter(select_within_bytes(selected, max_bytes, seed))


def select_within_bytes(documents: Iterable[DocumentT], max_bytes: int, seed: int) -> list[DocumentT]:
    """Return the documents with the smallest sampling numbers, in their order, up to `max_bytes` in total."""
    heap: list[tuple[float, int, DocumentT]] = []
    num_bytes, bound = 0, 1.0
    for index, document in enumerate(documents):
        number = draw_number(document.sha256, seed)
        if number >= bound:
            continue
        heapq.heappush(heap, (-number, index, document))
        num_bytes += document.num_bytes
        while num_bytes > max_bytes:
            largest, _, left_out = heapq.heappop(heap)
            bound = -largest
            num_bytes -= left_out.num_bytes
    return [document for _, _, document in sorted(heap, key=lambda entry: (-entry[0], entry[1]))]


def draw_number(sha256: str, seed: int) -> float:
    """Return a document's sampling number: uniform in [0, 1), and determined by the document's hash and the seed."""
    digest = hashlib.blake2b(f"{seed}:{sha256}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64
