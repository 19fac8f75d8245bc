"""Make the vocabulary part of a GGUF file: llama.cpp's metadata `tokenizer.ggml.*`.

    add_vocabulary(writer, tokenizer, vocab_rows=50_304)

llama.cpp has a fixed list of named methods to split a text (`tokenizer.ggml.pre`). A vocabulary with another method is refused,
because llama.cpp would prompt the model with other tokens than in its training. A SentencePiece model is refused if it changes text
or is of type unigram.
"""

from pathlib import Path
from typing import Any

from sentencepiece.sentencepiece_model_pb2 import ModelProto  # type: ignore[attr-defined]

from neox_code.errors import DataError
from neox_code.logs import get_logger
from neox_code.tokenizer.byte_level import ByteLevelTokenizer
from neox_code.tokenizer.infilling import find_infilling_tokens
from neox_code.tokenizer.protocol import Tokenizer
from neox_code.tokenizer.registry import is_lossless
from neox_code.tokenizer.sentencepiece import SPACE, SPMTokenizer

log = get_logger(__name__)

NORMAL, CONTROL, USER_DEFINED, UNUSED = 1, 3, 4, 5
"""Values of `tokenizer.ggml.token_type`."""

WORDS_OF_QWEN2 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
WORDS_OF_LLAMA3 = WORDS_OF_QWEN2.replace(r"|\p{N}| ", r"|\p{N}{1,3}| ")

SPLITTING = {
    (("ByteLevel",),): "trillion",
    (("Digits",), ("ByteLevel",)): "smollm",
    (("Split", WORDS_OF_QWEN2),): "qwen2",
    (("Split", WORDS_OF_LLAMA3),): "llama-bpe",
}
"""Steps of a tokenizer.json that split a text (see `list_pre_tokenizer_steps`) -> llama.cpp's name.

llama.cpp's names gpt-2 and starcoder split text as trillion and smollm do. They are not used, because with them llama.cpp deletes
spaces before . , ! ? and apostrophes when it decodes, which changes code.
"""

IGNORES_MERGES = ("llama-bpe",)
"""Names for which llama.cpp does not merge a word that is itself a token, as with `ignore_merges` in a tokenizer.json."""

INFILLING_KEYS = {
    "fim_pre": "fim_prefix",
    "fim_suf": "fim_suffix",
    "fim_mid": "fim_middle",
    "fim_pad": "fim_pad",
    "fim_rep": "repo_name",
    "fim_sep": "file_sep",
}
"""KEY of llama.cpp's tokenizer.ggml.KEY_token_id -> part of an infilling prompt in tokenizer.infilling."""


def add_vocabulary(writer: Any, tokenizer: Tokenizer | None, vocab_rows: int) -> None:
    """Add the keys of a vocabulary to a gguf.GGUFWriter. Raise DataError if llama.cpp would encode text differently.

    Embedding rows beyond the vocabulary get names that no text contains.
    """
    if isinstance(tokenizer, ByteLevelTokenizer):
        ids = add_byte_level(writer, tokenizer, vocab_rows)
    elif isinstance(tokenizer, SPMTokenizer) and tokenizer.is_byte_pair_model and is_lossless(tokenizer):
        ids = add_pieces(writer, tokenizer, vocab_rows)
    else:
        kind = tokenizer.identity["tokenizer_type"] if tokenizer else "no vocabulary"
        raise DataError(
            "GGUF is written for byte-level vocabularies (GPT2BPETokenizer, HFTokenizer, HFGPT2Tokenizer) and for SentencePiece "
            f"models of type BPE that change no text, and this model has {kind}. Convert it to another format."
        )
    writer.add_bos_token_id(tokenizer.eod_id)  # without one llama.cpp takes token 11
    writer.add_eos_token_id(tokenizer.eod_id)
    writer.add_eot_token_id(tokenizer.eod_id)
    writer.add_pad_token_id(tokenizer.pad_id)
    writer.add_add_bos_token(False)
    writer.add_add_eos_token(False)
    infilling = find_infilling_tokens(ids)
    for key, part in INFILLING_KEYS.items():
        if name := infilling.get(f"{part}_token"):
            writer.add_uint32(f"tokenizer.ggml.{key}_token_id", ids[name])


def add_byte_level(writer: Any, tokenizer: ByteLevelTokenizer, vocab_rows: int) -> dict[str, int]:
    """Add the names, types and merges of a byte-level vocabulary; return its ids by name."""
    description, file = tokenizer.description, tokenizer.identity["vocab_file"]
    model = description["model"]
    added = {token["content"]: token["id"] for token in description["added_tokens"]}
    ids: dict[str, int] = model["vocab"] | added
    control = tokenizer.special_ids | {ids[name] for name in find_infilling_tokens(ids).values()}
    types = dict.fromkeys(ids.values(), NORMAL) | dict.fromkeys(added.values(), USER_DEFINED) | dict.fromkeys(control, CONTROL)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(find_pre_tokenizer(description, file))
    writer.add_token_list([*sorted(ids, key=ids.__getitem__), *make_padding_names(len(ids), vocab_rows)])
    writer.add_token_types([types.get(row, UNUSED) for row in range(vocab_rows)])
    writer.add_token_merges([pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"]])
    return ids


def add_pieces(writer: Any, tokenizer: SPMTokenizer, vocab_rows: int) -> dict[str, int]:
    """Add the pieces of a SentencePiece model and return their ids by name. SentencePiece's piece types have llama.cpp's values.

    llama.cpp searches the text for user-defined pieces before it replaces spaces by U+2581, and for all other pieces afterwards.
    It reads U+2581 in a text as a space.
    """
    pieces = ModelProto.FromString(Path(tokenizer.identity["vocab_file"]).read_bytes()).pieces
    names = [piece.piece.replace(SPACE, " ") if piece.type == USER_DEFINED else piece.piece for piece in pieces]
    padding = make_padding_names(len(pieces), vocab_rows)
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(names + padding)
    writer.add_token_scores([piece.score for piece in pieces] + [0.0] * len(padding))
    writer.add_token_types([piece.type for piece in pieces] + [UNUSED] * len(padding))
    writer.add_add_space_prefix(False)
    writer.add_remove_extra_whitespaces(False)
    return {name: row for row, name in enumerate(names)}


def make_padding_names(vocab_size: int, vocab_rows: int) -> list[str]:
    return [f"[PAD{row}]" for row in range(vocab_size, vocab_rows)]


def find_pre_tokenizer(description: dict[str, Any], file: str) -> str:
    """Return llama.cpp's name for the splitting of a tokenizer.json. Raise DataError if llama.cpp has none."""
    model = description["model"]
    steps = list_pre_tokenizer_steps(description["pre_tokenizer"])
    name = SPLITTING.get(steps)
    if name is None or model["type"] != "BPE" or bool(model.get("ignore_merges")) != (name in IGNORES_MERGES):
        kinds = " and ".join(dict.fromkeys(kind for kind, *_ in steps)) or "nothing"
        raise DataError(
            f"{file} splits text by {kinds} in a way that llama.cpp does not support, so it would encode prompts differently. "
            f"Convert the model to another format. Supported pre-tokenizers: {', '.join(SPLITTING.values())}."
        )
    if (normalizer := description["normalizer"]) is not None:
        log.warning(
            "%s normalizes text (%s) and llama.cpp does not: text in another form is encoded differently by the two",
            file,
            normalizer["type"],
        )
    return name


def list_pre_tokenizer_steps(pre_tokenizer: dict[str, Any] | None) -> tuple[tuple[str, ...], ...]:
    """Return the kind of each splitting step, and for a Split its pattern. A step that llama.cpp cannot do is ("other",)."""
    if pre_tokenizer is None:
        return ()
    if pre_tokenizer["type"] == "Sequence":
        return tuple(step for part in pre_tokenizer["pretokenizers"] for step in list_pre_tokenizer_steps(part))
    match pre_tokenizer:
        case {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}:
            return ()
        case {"type": "ByteLevel", "add_prefix_space": False}:
            return (("ByteLevel",),)
        case {"type": "Digits", "individual_digits": True}:
            return (("Digits",),)
        case {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}:
            return (("Split", pattern),)
    return ((f"{pre_tokenizer['type']} with other options",),)
