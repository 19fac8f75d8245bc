"""Fertility, in bytes of text per token by language: from recorded token counts, or from a sample and a tokenizer.

fertility = measure_fertility("corpus", figures.sample, tokenizer)
fertility["Python"].bytes_per_token, fertility["Python"].margin       # 3.42, 0.05: the 95% interval is 3.37 to 3.47
"""

import math
import os
from collections import defaultdict
from dataclasses import dataclass
from typing import NamedTuple

from neox_code.corpus.description.document_figures import DocumentFigures, Sample, read_sampled_texts
from neox_code.corpus.tokens.token_files import log_encoder
from neox_code.corpus.tokens.tokenize_slice import check_encodable, encode_utf8, make_batches
from neox_code.errors import DataError
from neox_code.logs import get_logger
from neox_code.tokenizer.fast import GatedEncoder, IdsDiffer, find_fastest_encoder
from neox_code.tokenizer.newlines import select_newline_treatment
from neox_code.tokenizer.protocol import Tokenizer

log = get_logger(__name__)

NORMAL_95 = 1.96


@dataclass
class Fertility:
    """Sums over the counted documents of a language. The bytes per token and their margin of error are computed from them."""

    documents: int = 0
    bytes: int = 0
    tokens: int = 0
    squares: tuple[int, int, int] = (0, 0, 0)
    """Sums of each document's bytes * bytes, bytes * tokens and tokens * tokens; zeros if every document is counted."""

    def add(self, num_bytes: int, tokens: int) -> None:
        self.documents += 1
        self.bytes += num_bytes
        self.tokens += tokens
        bb, bt, tt = self.squares
        self.squares = (bb + num_bytes * num_bytes, bt + num_bytes * tokens, tt + tokens * tokens)

    @property
    def bytes_per_token(self) -> float | None:
        return self.bytes / self.tokens if self.tokens else None

    @property
    def margin(self) -> float | None:
        """Half the width of the 95% confidence interval of `bytes_per_token`; None if every document is counted."""
        ratio = self.bytes_per_token
        if ratio is None or self.documents < 2 or not any(self.squares):
            return None
        bb, bt, tt = self.squares
        residuals = max(bb - 2 * ratio * bt + ratio * ratio * tt, 0.0)
        deviation = math.sqrt(residuals / (self.documents - 1) / self.documents)
        return NORMAL_95 * deviation * self.documents / self.tokens


class FertilityRow(NamedTuple):
    language: str
    text: str
    place: str


def compute_recorded_fertility(figures: DocumentFigures) -> dict[str, Fertility]:
    """Return the fertility of each language from the token counts that the build recorded."""
    return {
        language: Fertility(amount.documents, amount.bytes_with_tokens, amount.tokens)
        for language, amount in figures.languages.items()
        if amount.tokens
    }


def measure_fertility(folder: str | os.PathLike[str], sample: Sample, tokenizer: Tokenizer) -> dict[str, Fertility]:
    """Return the fertility of each language in a sample of documents. CR becomes LF if the vocabulary has no CR.

    Raise DataError, with the document's place, if the vocabulary cannot encode a document.
    """
    encoder = find_fastest_encoder(tokenizer)
    while True:
        try:
            return measure_with_encoder(folder, sample, tokenizer, encoder)
        except IdsDiffer as error:
            encoder = find_fastest_encoder(tokenizer, after=encoder)
            log.warning("%s: counting again with %s", error, encoder)


def measure_with_encoder(
    folder: str | os.PathLike[str], sample: Sample, tokenizer: Tokenizer, encoder_name: str
) -> dict[str, Fertility]:
    """Return the fertility of each language, counted with `encoder`. Raise IdsDiffer if its ids differ from the tokenizer's."""
    result: dict[str, Fertility] = defaultdict(Fertility)
    encoder = GatedEncoder(tokenizer, encoder_name)
    convert_line_ends = select_newline_treatment(tokenizer)
    for batch in make_batches(
        FertilityRow(language, convert_line_ends(text, place), place)
        for language, text, place in read_sampled_texts(folder, sample)
    ):
        try:
            _, lengths = encoder.encode([row.text for row in batch], [row.language for row in batch])
        except DataError:
            for row in batch:
                check_encodable(row.text, row.place, tokenizer)
            raise
        for row, tokens in zip(batch, lengths.tolist(), strict=True):
            result[row.language].add(len(encode_utf8(row.text)), tokens)
    log_encoder(encoder.name, encoder.compared.documents, sum(fertility.documents for fertility in result.values()))
    return dict(result)
