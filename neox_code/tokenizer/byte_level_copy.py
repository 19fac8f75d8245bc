"""Write an encoding of tiktoken, or CharLevelTokenizer, as a byte-level vocabulary of the tokenizers library, with the same ids.

    tokenizer = copy_to_byte_level(TiktokenTokenizer.from_encoding("cl100k_base"))      # its `description` is a tokenizer.json

Such a vocabulary can get new tokens, and transformers reads it. Ids that stand for nothing get names that no text has.
"""

import itertools
from collections.abc import Mapping

from tokenizers import AddedToken, Regex, decoders, models, pre_tokenizers
from tokenizers import Tokenizer as Backend

from neox_code.tokenizer.byte_level import CHARACTER_OF_BYTE, ByteLevelTokenizer
from neox_code.tokenizer.char_level import CharLevelTokenizer
from neox_code.tokenizer.comparison import read_id_bytes
from neox_code.tokenizer.tiktoken_encoding import ENCODINGS, WORDS_OF_CL100K, TiktokenTokenizer

WORDS_WITHOUT_POSSESSIVES = {
    WORDS_OF_CL100K: (
        r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    )
}
"""Pattern of tiktoken -> the same pattern for the tokenizers library, which reads `{1,3}+` as a repetition."""


def copy_to_byte_level(tokenizer: TiktokenTokenizer | CharLevelTokenizer) -> ByteLevelTokenizer:
    """Return the vocabulary with the same ids for every text."""
    data = tokenizer.read_token_bytes()
    names = {
        token_id: convert_to_name(own) if own else read_id_bytes(tokenizer, token_id).decode() for token_id, own in enumerate(data)
    }
    if isinstance(tokenizer, CharLevelTokenizer):  # of which the ids from 256 stand for characters that are names of bytes here
        names |= {token_id: f"<|unused_{token_id}|>" for token_id in range(256, tokenizer.vocab_size)}
    special = [name for token_id, name in names.items() if not data[token_id]]
    vocabulary = {name: token_id for token_id, name in names.items()}
    ranks = {own: token_id for token_id, own in enumerate(data) if own}
    pairs = (split_at_last_merge(own, ranks) for own in sorted(ranks, key=ranks.__getitem__) if len(own) > 1)
    merges = [(convert_to_name(pair[0]), convert_to_name(pair[1])) for pair in pairs if pair is not None]
    has_merges = isinstance(tokenizer, TiktokenTokenizer)
    backend = Backend(models.BPE(vocab=vocabulary, merges=merges, ignore_merges=has_merges))
    splitting: list[pre_tokenizers.PreTokenizer] = [pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    if isinstance(tokenizer, TiktokenTokenizer):
        pattern = next(words for known, (words, _) in ENCODINGS.items() if known[:4] == tokenizer.encoding_name[:4])
        splitting.insert(0, pre_tokenizers.Split(Regex(WORDS_WITHOUT_POSSESSIVES.get(pattern, pattern)), "isolated"))
    backend.pre_tokenizer = pre_tokenizers.Sequence(splitting)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in special])
    return ByteLevelTokenizer(backend, {"tokenizer_type": "HFTokenizer", "vocab_file": tokenizer.identity.get("vocab_file", "")})


def convert_to_name(data: bytes) -> str:
    return "".join(CHARACTER_OF_BYTE[byte] for byte in data)


def split_at_last_merge(data: bytes, ranks: Mapping[bytes, int]) -> tuple[bytes, bytes] | None:
    """Return the two tokens that merging joins last to a token; None if the token is no result of merging.

    >>> split_at_last_merge(b"abc", {b"a": 0, b"b": 1, b"c": 2, b"bc": 3, b"abc": 4})
    (b'a', b'bc')
    """
    parts, own = [bytes([byte]) for byte in data], ranks[data]
    while len(parts) > 2:
        found = [(ranks.get(left + right, own), place) for place, (left, right) in enumerate(itertools.pairwise(parts))]
        rank, place = min(found)
        if rank >= own:
            return None
        parts[place : place + 2] = [parts[place] + parts[place + 1]]
    first, second = parts
    return (first, second) if first in ranks and second in ranks else None
