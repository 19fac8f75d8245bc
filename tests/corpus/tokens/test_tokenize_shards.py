import json
from pathlib import Path

import numpy as np
import pytest
from real_code import real_texts
from small_corpus import document, write_corpus
from tokenizers import Tokenizer as Backend
from tokenizers import normalizers

from neox_code.corpus.tokens import tokenize_shards
from neox_code.corpus.tokens.tokenize_shards import encode_documents, tokenize_corpus
from neox_code.corpus.tokens.tokenize_slice import BATCH_CHARACTERS, BATCH_TEXTS, make_batches
from neox_code.data.indexed_dataset import IndexedDataset, IndexedDatasetWriter
from neox_code.data.merge import DatasetMerger
from neox_code.data.origins import merge_origins, open_origins
from neox_code.errors import DataError
from neox_code.tokenizer.gpt2 import GPT2Tokenizer
from neox_code.tokenizer.huggingface import HFTokenizer
from neox_code.tokenizer.train_bpe import TOKENIZER_FILE, train_bpe

NASTY = ["a\r\nb\r", "\ufeff\tx", "😀 é e\u0301 \0", "s = '<|endoftext|>'\n", "\n", " " * 5000]


@pytest.fixture(scope="module")
def python_texts() -> list[str]:
    return real_texts(40)


@pytest.fixture(scope="module")
def vocabulary(python_texts: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("vocabulary")
    train_bpe(python_texts[:20], 1000, folder)
    return folder


@pytest.fixture(scope="module")
def tokenizer(vocabulary: Path) -> GPT2Tokenizer:
    return GPT2Tokenizer.from_files(vocabulary / "code-vocab.json", vocabulary / "code-merges.txt")


def test_token_files_have_the_ids_of_tokenizer_json_and_decode_to_the_documents(
    tmp_path: Path, python_texts: list[str], tokenizer: GPT2Tokenizer, vocabulary: Path
) -> None:
    documents = write_corpus(
        tmp_path / "corpus", {"train": {"Python": python_texts, "Nasty": NASTY}, "test": {"Python": ["x = 1\n"]}}
    )
    tokenize_corpus(tmp_path / "corpus", tmp_path / "tokens", tokenizer)
    peer = HFTokenizer.from_file(vocabulary / TOKENIZER_FILE)
    dataset = IndexedDataset(tmp_path / "tokens/train_text_document")
    train = [entry for entry in documents if entry.split == "train"]
    assert len(dataset) == len(train) == len(dataset.document_indices) - 1
    for entry, ids, expected in zip(train, dataset, peer.encode_batch([entry.text for entry in train]), strict=True):
        assert ids.tolist() == [*expected, 0]
        assert tokenizer.decode_bytes(ids[:-1]) == entry.text.encode()
        assert 0 not in ids[:-1]


def test_the_summary_has_counts_by_split_and_language_and_the_tokenizer(tmp_path: Path, tokenizer: GPT2Tokenizer) -> None:
    write_corpus(tmp_path / "corpus", {"train": {"C": ["int x;\n", "é"], "Go": ["", "package main\n"]}, "test": {"C": ["y"]}})
    summary = tokenize_corpus(tmp_path / "corpus", tmp_path / "tokens", tokenizer)
    c, go = summary.splits["train"]["C"], summary.splits["train"]["Go"]
    assert (c.documents, c.bytes, c.tokens) == (2, 9, len(tokenizer.encode("int x;\n")) + len(tokenizer.encode("é")))
    assert (go.documents, go.empty, go.changed) == (1, 1, 0)
    assert c.bytes_per_token == c.bytes / c.tokens
    written = json.loads((tmp_path / "tokens/tokens.json").read_text(encoding="utf-8"))
    assert written == summary.to_json()
    assert written["tokenizer"] == tokenizer.identity
    assert written["splits"]["test"]["C"]["tokens"] == 1
    assert int(IndexedDataset(tmp_path / "tokens/train_text_document").sizes.sum()) == c.tokens + go.tokens + 3


def test_a_split_by_language_has_one_file_per_language_with_the_same_tokens(tmp_path: Path, tokenizer: GPT2Tokenizer) -> None:
    corpus = tmp_path / "corpus"
    write_corpus(corpus, {"train": {"C++": ["int x;\n", "y"], "Go": ["package main\n"]}, "test": {"Go": ["z"]}})
    whole = tokenize_corpus(corpus, tmp_path / "whole", tokenizer)
    divided = tokenize_corpus(corpus, tmp_path / "divided", tokenizer, by_language=["train"])
    assert divided == whole
    names = [path.name for path in sorted((tmp_path / "divided").glob("*.bin"))]
    assert names == ["test_text_document.bin", "train_C++_text_document.bin", "train_Go_text_document.bin"]
    parts = [(tmp_path / "divided" / name).read_bytes() for name in names[1:]]
    assert b"".join(parts) == (tmp_path / "whole/train_text_document.bin").read_bytes()


def test_each_document_of_a_token_file_has_its_origin(tmp_path: Path, tokenizer: GPT2Tokenizer) -> None:
    texts = {"C++": ["int x;\n", "", "é"], "Go": ["package main\n"]}
    documents = write_corpus(tmp_path / "corpus", {"train": texts, "test": {"Go": ["z"]}})
    expected = [
        (entry.repository, entry.path, entry.license, entry.language, entry.num_bytes)
        for entry in documents
        if entry.split == "train" and entry.text  # a document without tokens is not in the token file
    ]
    tokenize_corpus(tmp_path / "corpus", tmp_path / "whole", tokenizer)
    tokenize_corpus(tmp_path / "corpus", tmp_path / "divided", tokenizer, by_language=["train"])
    whole = open_origins(tmp_path / "whole/train_text_document")
    assert whole.read([2, 0, 1]) == [expected[2], expected[0], expected[1]]
    assert whole.read_languages()[0] == ["C++", "Go"] and whole.read_languages()[1].tolist() == [0, 0, 1]
    parts = [tmp_path / f"divided/train_{language}_text_document" for language in texts]
    assert [origin for part in parts for origin in open_origins(part).read(range(len(IndexedDataset(part))))] == expected
    with DatasetMerger(tmp_path / "merged", IndexedDataset(parts[0]).dtype) as merger:
        for part in reversed(parts):
            merger.add_dataset(part)
    assert open_origins(tmp_path / "merged") is None
    assert merge_origins(parts[::-1], tmp_path / "merged")
    assert open_origins(tmp_path / "merged").read([0, 1, 2]) == [expected[2], *expected[:2]]
    with IndexedDatasetWriter(parts[0], "uint16") as writer:  # another token file under the same name
        writer.add_documents(np.array([5, 6]), np.array([1, 1]))
    assert open_origins(parts[0]) is None and not merge_origins(parts, tmp_path / "merged")


def test_old_files_of_a_split_without_documents_are_removed(tmp_path: Path, tokenizer: GPT2Tokenizer) -> None:
    write_corpus(tmp_path / "first", {"train": {"C": ["x"]}, "valid": {"C": ["y"]}})
    write_corpus(tmp_path / "second", {"train": {"C": ["x"]}})
    tokenize_corpus(tmp_path / "first", tmp_path / "tokens", tokenizer)
    assert (tmp_path / "tokens/valid_text_document.idx").exists()
    summary = tokenize_corpus(tmp_path / "second", tmp_path / "tokens", tokenizer)
    assert summary.splits["valid"] == {}
    assert sorted(path.name for path in (tmp_path / "tokens").iterdir()) == [
        "tokens.json",
        "train_text_document.bin",
        "train_text_document.idx",
        "train_text_document.origins.parquet",
        "train_text_document.tokens.json",
    ]


def test_text_that_cannot_be_encoded_is_an_error_and_no_summary_is_written(
    tmp_path: Path, vocabulary: Path, tokenizer: GPT2Tokenizer
) -> None:
    description = json.loads((vocabulary / "code-vocab.json").read_text(encoding="utf-8"))
    carriage_return = "č"
    other = {("NOT-CR" if token == carriage_return else token): token_id for token, token_id in description.items()}
    (tmp_path / "vocab.json").write_text(json.dumps(other), encoding="utf-8")
    (tmp_path / "merges.txt").write_text("", encoding="utf-8")
    without = GPT2Tokenizer.from_files(tmp_path / "vocab.json", tmp_path / "merges.txt")
    documents = write_corpus(tmp_path / "corpus", {"train": {"C": ["fine\n", "dos\r\n"]}})
    tokenize_corpus(tmp_path / "corpus", tmp_path / "tokens", tokenizer)
    before = (tmp_path / "tokens/train_text_document.bin").read_bytes()
    with pytest.raises(DataError, match=r"project-of-train/C-1\.txt: the text contains byte 0x0D 1 times"):
        tokenize_corpus(tmp_path / "corpus", tmp_path / "tokens", without, newlines="keep")
    assert not (tmp_path / "tokens/train_text_document.work").exists()
    with pytest.raises(DataError, match=r"project-of-train/C-1\.txt has CR line endings"):
        tokenize_corpus(tmp_path / "corpus", tmp_path / "tokens", without, newlines="refuse")
    assert (tmp_path / "tokens/train_text_document.bin").read_bytes() == before
    assert not (tmp_path / "tokens/tokens.json").exists()
    summary = tokenize_corpus(tmp_path / "corpus", tmp_path / "tokens", without)
    assert (summary.splits["train"]["C"].newlines, summary.splits["train"]["C"].changed) == (1, 0)
    dataset = IndexedDataset(tmp_path / "tokens/train_text_document")
    assert [without.decode(ids[:-1].tolist()) for ids in dataset] == ["fine\n", "dos\n"]
    assert [ids for _, ids in encode_documents(documents, without)] == [ids[:-1].tolist() for ids in dataset]
    (_, fine), (_, dos) = encode_documents(documents, without, newlines="keep")
    assert fine == dataset[0][:-1].tolist()
    assert str(dos).startswith("project-of-train/C-1.txt: the text contains byte 0x0D 1 times")


def test_finished_splits_are_not_written_again_after_an_interruption(
    tmp_path: Path, tokenizer: GPT2Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    write_corpus(tmp_path / "corpus", {"train": {"C": ["x"], "Go": ["package a"]}, "test": {"C": ["y"]}})
    with monkeypatch.context() as patch:
        patch.setattr(tokenize_shards, "write_json", interrupt)
        with pytest.raises(KeyboardInterrupt):
            tokenize_corpus(tmp_path / "corpus", tmp_path / "tokens", tokenizer)
    (tmp_path / "tokens/test_text_document.bin").unlink()
    times = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "tokens").glob("*.bin")}
    summary = tokenize_corpus(tmp_path / "corpus", tmp_path / "tokens", tokenizer)
    assert (tmp_path / "tokens/train_text_document.bin").stat().st_mtime_ns == times["train_text_document.bin"]
    assert not list((tmp_path / "tokens").glob("*.work"))
    assert summary == tokenize_corpus(tmp_path / "corpus", tmp_path / "again", tokenizer)


def test_documents_changed_by_a_normalizer_are_counted(tmp_path: Path, vocabulary: Path) -> None:
    backend = Backend.from_file(str(vocabulary / TOKENIZER_FILE))
    backend.normalizer = normalizers.NFC()
    backend.save(str(tmp_path / "tokenizer.json"))
    write_corpus(tmp_path / "corpus", {"train": {"C": ["plain", "cafe\u0301"]}})
    summary = tokenize_corpus(tmp_path / "corpus", tmp_path / "tokens", HFTokenizer.from_file(tmp_path / "tokenizer.json"))
    assert (summary.splits["train"]["C"].documents, summary.splits["train"]["C"].changed) == (2, 1)


def test_batches_keep_the_order_and_have_a_limited_size() -> None:
    sizes = [1, BATCH_CHARACTERS, 3, *[BATCH_CHARACTERS // 2] * 5, *[1] * 10_000]
    documents = [document("x" * size, "C", str(number), "train") for number, size in enumerate(sizes)]
    batched = list(make_batches(documents))
    assert [entry for batch in batched for entry in batch] == documents
    assert all(sum(entry.num_bytes for entry in batch[:-1]) < BATCH_CHARACTERS and len(batch) <= BATCH_TEXTS for batch in batched)
    assert len(batched) == 6


def test_a_folder_that_is_not_a_corpus_is_an_error(tmp_path: Path, tokenizer: GPT2Tokenizer) -> None:
    with pytest.raises(DataError, match="is not a corpus"):
        tokenize_corpus(tmp_path, tmp_path / "tokens", tokenizer)
