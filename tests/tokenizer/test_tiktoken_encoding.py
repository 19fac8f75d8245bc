import base64
import json
import pickle
from pathlib import Path

import pytest
import tiktoken
import tiktoken_ext.openai_public as published

from neox_code.errors import DataError
from neox_code.tokenizer.byte_level import convert_token_to_bytes
from neox_code.tokenizer.gpt2 import GPT2Tokenizer
from neox_code.tokenizer.tiktoken_encoding import ENCODINGS, TiktokenTokenizer
from neox_code.tokenizer.train_bpe import VOCAB_FILE


@pytest.fixture(scope="module")
def ranks(vocabulary: Path) -> list[bytes]:
    """The tokens of the small vocabulary without its special ones, in the order of their ids."""
    return [convert_token_to_bytes(token) for token in json.loads((vocabulary / VOCAB_FILE).read_text(encoding="utf-8"))][3:]


@pytest.fixture(scope="module")
def folder(ranks: list[bytes], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of files with the published names and the small vocabulary."""
    folder = tmp_path_factory.mktemp("tiktoken")
    lines = b"".join(base64.b64encode(token) + f" {rank}\n".encode() for rank, token in enumerate(ranks))
    for name in (*ENCODINGS, "own"):
        (folder / f"{name}.tiktoken").write_bytes(lines)
    return folder


@pytest.mark.parametrize("name", ENCODINGS)
def test_a_local_encoding_equals_the_library_and_round_trips(
    folder: Path, ranks: list[bytes], texts: list[str], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(published, "load_tiktoken_bpe", lambda *_, **__: {token: rank for rank, token in enumerate(ranks)})
    facts = published.ENCODING_CONSTRUCTORS[name]()
    peer = tiktoken.Encoding(**{key: value for key, value in facts.items() if key != "explicit_n_vocab"})
    tokenizer = pickle.loads(pickle.dumps(TiktokenTokenizer.from_encoding(str(folder / f"{name}.tiktoken"))))
    assert (tokenizer.vocab_size, tokenizer.eod_id) == (peer.n_vocab, peer.eot_token)
    sample = texts[::6] + texts[-14:]
    for text, ids in zip(sample, tokenizer.encode_batch(sample), strict=True):
        assert ids == tokenizer.encode(text) == peer.encode(text, disallowed_special=())
        assert tokenizer.decode(ids) == text
        assert tokenizer.eod_id not in ids
    assert tokenizer.decode([tokenizer.eod_id]) == "<|endoftext|>"


def test_r50k_encoding_equals_the_gpt2_tokenizer(folder: Path, gpt2: GPT2Tokenizer, texts: list[str]) -> None:
    tokenizer = TiktokenTokenizer.from_encoding(str(folder / "r50k_base.tiktoken"))
    assert [[number + 3 for number in ids] for ids in tokenizer.encode_batch(texts[-60:])] == gpt2.encode_batch(texts[-60:])


def test_unknown_names_unused_ids_and_surrogates_are_refused(folder: Path) -> None:
    tokenizer = TiktokenTokenizer.from_encoding(str(folder / "cl100k_base.tiktoken"))
    with pytest.raises(DataError, match="id 100200 is unused in"):
        tokenizer.decode([5, 100200])
    with pytest.raises(DataError, match="id 100277 is not in"):
        tokenizer.decode([100277])
    with pytest.raises(DataError, match="lone surrogate"):
        tokenizer.encode("\ud800")
    with pytest.raises(DataError, match=r"own\.tiktoken must have the name of its encoding"):
        TiktokenTokenizer.from_encoding(str(folder / "own.tiktoken"))
    with pytest.raises(DataError, match=r"vocab_file \(nonsense\) is neither a file nor an encoding of tiktoken"):
        TiktokenTokenizer.from_encoding("nonsense")


def test_a_failed_download_is_an_error_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(_: str) -> None:
        raise ConnectionError("no route")

    monkeypatch.setattr(tiktoken, "get_encoding", offline)
    with pytest.raises(DataError, match=r"cl100k_base cannot be downloaded: ConnectionError.*TIKTOKEN_CACHE_DIR"):
        TiktokenTokenizer.from_encoding("cl100k_base")
