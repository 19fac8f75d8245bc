"""A small vocabulary of real code, real files, and difficult strings."""

from pathlib import Path

import pytest
from real_code import real_files

from neox_code.tokenizer.gpt2 import GPT2Tokenizer
from neox_code.tokenizer.huggingface import HFTokenizer
from neox_code.tokenizer.train_bpe import MERGE_FILE, TOKENIZER_FILE, VOCAB_FILE, train_bpe

DIFFICULT_STRINGS = (
    "",
    "a\r\nb\rc\n\r",
    "\tif x:\n\t\treturn\t\n",
    "\ufeff# a byte-order mark",
    "emoji 😀👩‍👩‍👧‍👦🇩🇪 and é e\u0301 ﬁ \uff11 ½ \u3000 \u2028 \x85",
    "NUL \0 and \x01\x7f\x1b[0m",
    "<|endoftext|>",
    "x = '<|endoftext|>'<|padding|><|separator|> # <|endoftext|",
    "x" * 20_000 + " " * 20_000 + "=" * 20_000,
    "    " * 500 + "\n" * 500,
    "don't we've I'll 'S 'LL",
    "日本語のコード 中文 العربية हिन्दी \u200b\U0010ffff",
    " ",
    "\n",
)


@pytest.fixture(scope="session")
def real_texts() -> list[str]:
    """Return 300 real Python files, none larger than 16 kB."""
    return [file.read_bytes().decode("utf-8", errors="ignore") for file in real_files(300, max_bytes=16_384)]


@pytest.fixture(scope="session")
def texts(real_texts: list[str]) -> list[str]:
    return [*real_texts, *DIFFICULT_STRINGS]


@pytest.fixture(scope="session")
def vocabulary(real_texts: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the three files of a vocabulary of 2,000 entries."""
    folder = tmp_path_factory.mktemp("vocabulary")
    train_bpe(real_texts[:80], 2000, folder)
    return folder


@pytest.fixture(scope="session")
def gpt2(vocabulary: Path) -> GPT2Tokenizer:
    return GPT2Tokenizer.from_files(vocabulary / VOCAB_FILE, vocabulary / MERGE_FILE)


@pytest.fixture(scope="session")
def huggingface(vocabulary: Path) -> HFTokenizer:
    return HFTokenizer.from_file(vocabulary / TOKENIZER_FILE)
