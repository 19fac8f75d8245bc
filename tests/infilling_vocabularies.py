"""Small vocabularies with the infilling tokens of several families of models."""

import io

import sentencepiece
import tiktoken
from tokenizers import AddedToken

from neox_code.tokenizer.byte_level import END_OF_DOCUMENT, ByteLevelTokenizer, make_byte_alphabet
from neox_code.tokenizer.gpt2 import build_byte_level_backend
from neox_code.tokenizer.sentencepiece import SPMTokenizer
from neox_code.tokenizer.tiktoken_encoding import ENCODINGS, TiktokenTokenizer

QWEN = ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>", "<|repo_name|>", "<|file_sep|>")
STARCODER = ("<fim_prefix>", "<fim_suffix>", "<fim_middle>", "<reponame>", "<filename>")
CODE_LLAMA = ("▁<PRE>", "▁<SUF>", "▁<MID>")
DEEPSEEK = ("<\uff5cfim▁begin\uff5c>", "<\uff5cfim▁hole\uff5c>", "<\uff5cfim▁end\uff5c>")


def byte_level(names: tuple[str, ...] = (), is_special: bool = False) -> ByteLevelTokenizer:
    """Return a vocabulary of the 256 bytes; as in Qwen's files, its infilling tokens need not be marked as special."""
    backend = build_byte_level_backend({token: number for number, token in enumerate([END_OF_DOCUMENT, *make_byte_alphabet()])}, [])
    backend.add_special_tokens([END_OF_DOCUMENT])
    backend.add_tokens([AddedToken(name, special=is_special, normalized=False) for name in names])
    return ByteLevelTokenizer(backend, {"vocab_file": "tokenizer.json"})


def code_llama() -> SPMTokenizer:
    model = io.BytesIO()
    options = {"byte_fallback": True, "normalization_rule_name": "identity", "remove_extra_whitespaces": False}
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["def f(x):", "return print + 1"]), model_writer=model, vocab_size=300, minloglevel=2,
        hard_vocab_limit=False, control_symbols=[END_OF_DOCUMENT], user_defined_symbols=list(CODE_LLAMA), **options,
    )  # fmt: skip
    return SPMTokenizer(sentencepiece.SentencePieceProcessor(model_proto=model.getvalue()), "code.model", "")


def cl100k() -> TiktokenTokenizer:
    pattern, special = ENCODINGS["cl100k_base"]
    ranks = {bytes([byte]): byte for byte in range(256)}
    return TiktokenTokenizer(
        tiktoken.Encoding("cl100k_base", pat_str=pattern, mergeable_ranks=ranks, special_tokens=special), "cl", ""
    )


def write_out(tokenizer, ids) -> str:
    """Return the prompt as text with P, S, M, R and F in braces for the special tokens."""
    names = dict(zip(("fim_prefix", "fim_suffix", "fim_middle", "repo_name", "file_sep"), "PSMRF", strict=True))
    marks = {token: "{" + names[part] + "}" for part, token in tokenizer.infilling_ids.items() if part in names}
    bytes_of_id = tokenizer.read_token_bytes()
    parts = [marks.get(token, "").encode() or bytes_of_id[token] for token in ids]
    return b"".join(parts).decode("utf-8", errors="replace")


def merged() -> ByteLevelTokenizer:
    """Return a vocabulary with merges, whose tokens an infilling cut divides."""
    tokens = [END_OF_DOCUMENT, *make_byte_alphabet(), "pr", "in", "prin", "print", "Ġprint", "t(", "):", ")ĊĊ"]
    merges = [("p", "r"), ("i", "n"), ("pr", "in"), ("prin", "t"), ("Ġ", "print"), ("t", "("), (")", ":"), (")", "ĊĊ")]
    backend = build_byte_level_backend({token: number for number, token in enumerate([*tokens, "ĊĊ"])}, [("Ċ", "Ċ"), *merges])
    backend.add_special_tokens([END_OF_DOCUMENT])
    backend.add_tokens([AddedToken(name, normalized=False) for name in QWEN])
    return ByteLevelTokenizer(backend, {"vocab_file": "tokenizer.json"})


BUILDERS = {
    "qwen": lambda: byte_level(QWEN),
    "starcoder": lambda: byte_level(STARCODER, is_special=True),
    "deepseek": lambda: byte_level(DEEPSEEK),
    "code llama": code_llama,
    "cl100k": cl100k,
}
