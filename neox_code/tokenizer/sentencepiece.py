"""A SentencePiece model (`.model` file) as a tokenizer.

    tokenizer = SPMTokenizer.from_file("code.model")

A model trained with `--normalization_rule_name=identity --byte_fallback --remove_extra_whitespaces=false --add_dummy_prefix=false`
decodes to the exact text. The default normalization (NFKC, joined spaces) changes source code irreversibly. If a model adds a space
before each text, decoding removes it.

SentencePiece writes a space as U+2581 and reads a U+2581 in the text as a space. SPMTokenizer encodes such a U+2581 by its bytes,
or refuses the text.
"""

import hashlib
import os
import re
from collections.abc import Sequence
from typing import Self

from sentencepiece import SentencePieceProcessor

from neox_code.errors import DataError
from neox_code.files import read_bounded
from neox_code.tokenizer.byte_level import check_ids, encode_utf8
from neox_code.tokenizer.infilling import find_infilling_ids
from neox_code.tokenizer.protocol import END_OF_DOCUMENT, PADDING

SPACE = "\u2581"
LAST_PIECE = re.compile(r"(?:\s*\w+|\s*[^\w\s]+|\s+)\Z")
"""Pattern of the last piece of a text: a word, other characters or spaces, with the spaces before them."""


class SPMTokenizer:
    def __init__(self, processor: SentencePieceProcessor, file: str, sha256: str):
        self._processor = processor
        self._file = file
        self._identity = {"tokenizer_type": "SPMTokenizer", "vocab_file": file, "sha256": sha256}
        self._eod_id = select_first_id(find_piece_id(processor, END_OF_DOCUMENT), processor.eos_id())
        if self._eod_id < 0:
            raise DataError(
                f"{file} has neither a piece {END_OF_DOCUMENT} nor an end-of-sentence piece. Train it with one of them."
            )
        self._pad_id = select_first_id(find_piece_id(processor, PADDING), processor.pad_id(), self._eod_id)
        self.infilling_ids = find_infilling_ids({processor.id_to_piece(piece): piece for piece in range(processor.vocab_size())})
        self._never_in_text = {self._eod_id, self._pad_id, processor.unk_id(), *self.infilling_ids.values()}
        self.bytes_of_id = [read_piece_bytes(processor, piece) for piece in range(processor.vocab_size())]
        self._adds_space = processor.encode("a", out_type=str)[0].startswith(SPACE)
        self._space_sign = [find_piece_id(processor, f"<0x{byte:02X}>") for byte in SPACE.encode()]
        self._encodes_space_sign = min(self._space_sign) >= 0 and not self._adds_space

    @classmethod
    def from_file(cls, path: str | os.PathLike[str]) -> Self:
        """Read the model. Raise DataError for a file that is missing, is not a model, or has no end-of-document piece."""
        data = read_bounded(path)
        try:
            processor = SentencePieceProcessor(model_proto=data)
        except RuntimeError as error:
            raise DataError(f"{path} is not a SentencePiece model: {error}. Check the path.") from None
        return cls(processor, str(path), hashlib.sha256(data).hexdigest())

    @property
    def vocab_size(self) -> int:
        return len(self.bytes_of_id)

    @property
    def eod_id(self) -> int:
        return self._eod_id

    @property
    def pad_id(self) -> int:
        return self._pad_id

    @property
    def identity(self) -> dict[str, str]:
        return dict(self._identity)

    @property
    def is_byte_pair_model(self) -> bool:
        """True for models of type BPE, whose scores are ranks; the scores of a unigram model are logarithms of probabilities."""
        return all(float(self._processor.get_score(token_id)).is_integer() for token_id in range(self.vocab_size))

    def encode(self, text: str) -> list[int]:
        """Return the ids. Raise DataError for characters without a piece, and for the name of a special token that gets its id."""
        return self.encode_batch([text])[0]

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        for text in texts:
            encode_utf8(text)
        batch = self._processor.encode(list(texts), num_threads=-1)
        for index, text in enumerate(texts):
            if SPACE in text:
                batch[index] = self._encode_with_space_sign(text)
            if not self._never_in_text.isdisjoint(batch[index]):
                self._refuse(text)
        return batch

    def _encode_with_space_sign(self, text: str) -> list[int]:
        """Return the ids of a text with U+2581. Each U+2581 becomes the ids of its three bytes; the model encodes the rest."""
        if not self._encodes_space_sign:
            raise DataError(
                f"the text contains U+2581 ({SPACE}), which {self._file} would read as a space. "
                "Remove it from the text, or train the model with byte_fallback and without add_dummy_prefix."
            )
        first, *others = self._processor.encode(text.split(SPACE))
        return first + [number for ids in others for number in (*self._space_sign, *ids)]

    def decode(self, ids: Sequence[int]) -> str:
        return self.decode_bytes(ids).decode("utf-8", errors="replace")

    def decode_bytes(self, ids: Sequence[int]) -> bytes:
        check_ids(ids, self.vocab_size, self._file)
        data = b"".join(map(self.bytes_of_id.__getitem__, ids))
        return data.removeprefix(b" ") if self._adds_space else data

    def read_token_bytes(self) -> list[bytes]:
        processor = self._processor
        is_text = [
            not (processor.is_control(i) or processor.is_unknown(i) or processor.is_unused(i)) for i in range(self.vocab_size)
        ]
        never = self._never_in_text
        return [data if is_text[i] and i not in never else b"" for i, data in enumerate(self.bytes_of_id)]

    def find_last_stable_boundary(self, text: str) -> int:
        match = LAST_PIECE.search(text)
        return match.start() if match else len(text)

    def _refuse(self, text: str) -> None:
        pieces = self._processor.encode(text, out_type=str)
        wrong = next(piece for piece in pieces if self._processor.piece_to_id(piece) in self._never_in_text)
        raise DataError(
            f"the text contains {wrong!r}, which {self._file} cannot encode as text. "
            "Train the model with byte_fallback, and with its special pieces as control symbols."
        )


def find_piece_id(processor: SentencePieceProcessor, piece: str) -> int:
    """Return the id of a piece, or -1 if the model does not have it."""
    found: int = processor.piece_to_id(piece)
    return found if processor.id_to_piece(found) == piece else -1


def select_first_id(*ids: int) -> int:
    """Return the first id that is not negative; -1 if all are negative."""
    return next((token_id for token_id in ids if token_id >= 0), -1)


def read_piece_bytes(processor: SentencePieceProcessor, token_id: int) -> bytes:
    """Return the bytes of a piece: the byte of a byte piece, the name of a control symbol, or the piece's text."""
    piece: str = processor.id_to_piece(token_id)
    if processor.is_byte(token_id):
        return bytes([int(piece[len("<0x") : -1], base=16)])
    return piece.encode() if processor.is_control(token_id) else piece.replace(SPACE, " ").encode()
