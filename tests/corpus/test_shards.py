import dataclasses
import hashlib
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from small_corpus import write_documents

from neox_code.corpus.shards import (
    KEPT,
    CorpusSummary,
    Count,
    Document,
    is_corpus,
    iter_documents,
    load_summary,
    read_manifest,
    write_summary,
)
from neox_code.errors import DataError

ODD_TEXTS = ["", "a\r\nb\rc\n", "\ufeffBOM\x00NUL", "\u2028 \U0001f600 é", "<|endoftext|>", " \t\n"]


def document(number: int, text: str, split: str = "train", language: str = "C") -> Document:
    sha256 = hashlib.sha256(text.encode()).hexdigest()
    return Document(text, language, f"project {number % 3}", f"src/{number}.c", sha256, len(text.encode()), split)


def write_corpus(folder: Path, documents: list[Document], documents_per_shard: int = 1_000) -> CorpusSummary:
    folder.mkdir()
    shards = write_documents(folder, documents, documents_per_shard)
    counts = (Count("C", "kept", "train", len(documents), 100, 3, 0), Count(None, "no known language", None, 1, 5, 1, 0))
    summary = CorpusSummary("polycoder", {"seed": 1, "shares": {"train": 1}}, counts, shards)
    write_summary(folder, summary)
    return summary


def test_documents_are_read_back_unchanged_and_in_order(tmp_path):
    documents = [document(number, text) for number, text in enumerate(ODD_TEXTS)]
    documents.append(dataclasses.replace(document(9, "x"), commit="c0ffee", license="MIT", stars=12))
    write_corpus(tmp_path / "corpus", documents)
    assert list(iter_documents(tmp_path / "corpus", "train")) == documents


def test_documents_are_read_by_split_and_language(tmp_path):
    kinds = [("train", "C"), ("test", "C"), ("valid", "Go"), ("test", "Go"), ("train", "Go")]
    documents = [document(number, "x", split, language) for number, (split, language) in enumerate(kinds)]
    write_corpus(tmp_path / "corpus", documents)
    assert list(iter_documents(tmp_path / "corpus", "test")) == [documents[1], documents[3]]
    assert list(iter_documents(tmp_path / "corpus", "test", languages=["Go", "C#"])) == [documents[3]]
    assert list(iter_documents(tmp_path / "corpus", "train", languages=[])) == []


def test_several_shards_are_read_in_their_order(tmp_path):
    documents = [document(number, f"text {number}") for number in range(7)]
    summary = write_corpus(tmp_path / "corpus", documents, documents_per_shard=3)
    assert [(shard.file, shard.documents) for shard in summary.shards] == [
        (f"train/shard-{number:05d}.parquet", count) for number, count in enumerate((3, 3, 1))
    ]
    assert list(iter_documents(tmp_path / "corpus", "train")) == documents


def test_other_parquet_readers_read_the_columns(tmp_path):
    write_corpus(tmp_path / "corpus", [document(1, "a\r\nb")])
    table = pq.read_table(tmp_path / "corpus" / "train" / "shard-00000.parquet")
    assert table.to_pylist() == [
        {
            "text": "a\r\nb",
            "language": "C",
            "repository": "project 1",
            "path": "src/1.c",
            "commit": None,
            "license": None,
            "stars": None,
            "sha256": hashlib.sha256(b"a\r\nb").hexdigest(),
            "bytes": 4,
            "tokens": None,
        }
    ]


def test_the_same_documents_give_the_same_bytes(tmp_path):
    documents = [document(number, text) for number, text in enumerate(ODD_TEXTS)]
    write_corpus(tmp_path / "one", documents)
    write_corpus(tmp_path / "two", documents)
    for path in (tmp_path / "one").rglob("*.*"):
        assert path.read_bytes() == (tmp_path / "two" / path.relative_to(tmp_path / "one")).read_bytes()


def test_the_summary_is_read_back_unchanged(tmp_path):
    summary = write_corpus(tmp_path / "corpus", [document(1, "x")])
    assert load_summary(tmp_path / "corpus") == summary
    assert (summary.kept_files, summary.kept_bytes) == (1, 100)


def test_languages_are_listed_by_their_kept_bytes():
    counts = (
        Count("C", "kept", "train", 1, 50, 1, 0),
        Count("C", "kept", "test", 1, 5, 1, 0),
        Count("Go", "kept", "train", 1, 60, 1, 0),
        Count("Java", "exact duplicate", None, 9, 900, 1, 0),
    )
    summary = CorpusSummary("polycoder", {}, counts, ())
    assert summary.languages() == ["Go", "C"]
    assert summary.languages("test") == ["C"]


def test_a_folder_without_a_corpus_is_refused_at_once(tmp_path):
    assert not is_corpus(tmp_path)
    for read in (load_summary, read_manifest, lambda folder: iter_documents(folder, "train")):
        with pytest.raises(DataError, match=r"is not a corpus: it has no corpus\.json\. Make one"):
            read(tmp_path)


def test_a_summary_of_another_format_is_refused(tmp_path):
    for text, found in (('{"format": "v9"}', "'v9'"), ("[]", "'list'"), ("{}", "None")):
        (tmp_path / "corpus.json").write_text(text)
        with pytest.raises(DataError, match=f"is of format {found}, expected 'neox-code corpus 2'"):
            load_summary(tmp_path)


def test_a_damaged_summary_is_refused(tmp_path):
    for text in ('{"format": "neox-code corpus 2"}', '{"format": "neox-code corpus 2", "counts": [{"files": 1}], "shards": []}'):
        (tmp_path / "corpus.json").write_text(text)
        with pytest.raises(DataError, match=r"corpus\.json is damaged: .*Build the corpus again"):
            load_summary(tmp_path)


def test_a_missing_or_damaged_shard_is_reported(tmp_path):
    write_corpus(tmp_path / "corpus", [document(1, "x" * 1000)])
    shard = tmp_path / "corpus" / "train" / "shard-00000.parquet"
    shard.write_bytes(shard.read_bytes()[:-20])
    with pytest.raises(DataError, match=r"shard-00000\.parquet is damaged"):
        list(iter_documents(tmp_path / "corpus", "train"))
    shard.unlink()
    with pytest.raises(DataError, match=r"shard-00000\.parquet is missing, but corpus\.json lists it"):
        iter_documents(tmp_path / "corpus", "train")


def test_an_unknown_split_is_refused(tmp_path):
    write_corpus(tmp_path / "corpus", [document(1, "x")])
    with pytest.raises(DataError, match=r"split 'dev' does not exist\. Choose one of train, valid, test"):
        iter_documents(tmp_path / "corpus", "dev")


def test_a_language_with_too_little_data_is_not_measured():
    counts = (
        Count("Python", KEPT, "train", 90, 900_000, 9, 0),
        Count("Python", KEPT, "test", 10, 100_000, 1, 0),
        Count("JavaScript", KEPT, "train", 4, 7_000, 3, 0),
        Count("JavaScript", KEPT, "test", 1, 900, 1, 0),
        Count("C", KEPT, "train", 10, 300_000, 1, 0),
        Count("Go", KEPT, "test", 2, 20_000, 2, 0),
    )
    assert CorpusSummary("none", {}, counts, ()).evaluated_languages() == ["Python", "Go"]
