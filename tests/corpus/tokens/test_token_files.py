import hashlib
import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from real_code import real_texts
from tokenizers import Tokenizer as Backend

from neox_code.corpus.tokens import input_slices, token_files
from neox_code.corpus.tokens.input_slices import slice_input
from neox_code.corpus.tokens.token_files import ProgressBar, write_token_files
from neox_code.corpus.tokens.tokenize_slice import TokenCounts, WriteOptions
from neox_code.data.indexed_dataset import IndexedDataset
from neox_code.errors import DataError
from neox_code.tokenizer import fast
from neox_code.tokenizer.gpt2 import GPT2Tokenizer
from neox_code.tokenizer.train_bpe import train_bpe

OPTIONS = WriteOptions(append_eod=True, newlines="keep")


@pytest.fixture(scope="module")
def texts() -> list[str]:
    return [*real_texts(100), "", "<|endoftext|>", "a\r\nb\r"]


@pytest.fixture(scope="module")
def vocabulary(texts: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("vocabulary")
    train_bpe(texts[:20], 1000, folder)
    return folder


@pytest.fixture
def tokenizer(vocabulary: Path) -> GPT2Tokenizer:
    return GPT2Tokenizer.from_files(vocabulary / "code-vocab.json", vocabulary / "code-merges.txt")


@pytest.fixture
def rows(texts: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """JSON Lines of two languages, in a dozen slices."""
    monkeypatch.setattr(input_slices, "SLICE_BYTES", 120_000)
    path = tmp_path / "rows.jsonl"
    languages = ["Python", "Go"]
    lines = [json.dumps({"text": text, "lang": languages[number % 3 == 0]}) for number, text in enumerate(texts)]
    path.write_text("\n".join(lines), encoding="utf-8")
    assert len(slice_input(path)) > 8
    return path


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> pytest.LogCaptureFixture:
    monkeypatch.setattr(logging.getLogger("neox_code"), "propagate", True)
    caplog.set_level("INFO")
    return caplog


def make_prefixes(folder: Path) -> Callable[[str | None], Path]:
    return lambda language: folder / (language or "all")


def hash_files(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def encode_with_tokenizers_library(texts: list[str], vocabulary: Path) -> list[list[int]]:
    """Return the ids of each document from the tokenizers library, with an end-of-document token."""
    backend = Backend.from_file(str(vocabulary / "tokenizer.json"))
    backend.encode_special_tokens = True
    return [[*ids, 0] for text in texts if (ids := backend.encode(text).ids)]


def test_token_files_equal_single_encoding_for_any_number_of_workers(
    tmp_path: Path, rows: Path, texts: list[str], tokenizer: GPT2Tokenizer, vocabulary: Path, log: pytest.LogCaptureFixture
) -> None:
    counts = write_token_files(make_prefixes(tmp_path / "one"), slice_input(rows), tokenizer, OPTIONS, workers=1)
    assert "encoder | gigatoken, ids identical to those of the plain tokenizer" in log.text
    assert write_token_files(make_prefixes(tmp_path / "two"), slice_input(rows), tokenizer, OPTIONS, workers=2) == counts
    assert hash_files(tmp_path / "one") == hash_files(tmp_path / "two")
    assert sorted(hash_files(tmp_path / "one")) == ["all.bin", "all.idx", "all.origins.parquet", "all.tokens.json"]
    assert [ids.tolist() for ids in IndexedDataset(tmp_path / "one/all")] == encode_with_tokenizers_library(texts, vocabulary)
    assert sum(count.documents for count in counts.values()) == len(texts) - 1
    assert sum(count.bytes for count in counts.values()) == len("".join(texts).encode())
    assert (sum(count.empty for count in counts.values()), sum(count.changed for count in counts.values())) == (1, 0)


@pytest.mark.parametrize("encoder", ["tiktoken", "plain"])
def test_every_encoder_writes_the_same_token_files(
    tmp_path: Path, rows: Path, tokenizer: GPT2Tokenizer, encoder: str, monkeypatch: pytest.MonkeyPatch, log
) -> None:
    write_token_files(make_prefixes(tmp_path / "first"), slice_input(rows), tokenizer, OPTIONS, workers=1)
    for name in list(fast.ENCODERS)[: list(fast.ENCODERS).index(encoder)]:
        monkeypatch.setitem(fast.ENCODERS, name, lambda _: None)
    write_token_files(make_prefixes(tmp_path / "second"), slice_input(rows), tokenizer, OPTIONS, workers=1)
    assert hash_files(tmp_path / "first") == hash_files(tmp_path / "second")
    assert f"encoder | {'plain tokenizer' if encoder == 'plain' else encoder}" in log.text


def test_an_encoder_with_wrong_ids_is_replaced_and_all_slices_are_encoded_again(
    tmp_path: Path, rows: Path, tokenizer: GPT2Tokenizer, monkeypatch: pytest.MonkeyPatch, log: pytest.LogCaptureFixture
) -> None:
    write_token_files(make_prefixes(tmp_path / "right"), slice_input(rows), tokenizer, OPTIONS, workers=1)
    sound = fast.ENCODERS["gigatoken"]

    def wrong_after_a_while(tokenizer: GPT2Tokenizer) -> fast.Encoder:
        encode, calls = sound(tokenizer), 0

        def encode_wrongly(texts: list[str]) -> fast.Encoded:
            nonlocal calls
            calls += 1
            ids, lengths = encode(texts)
            return (ids if calls < 6 else np.where(ids == ids[-1], 7, ids)), lengths

        return encode_wrongly

    monkeypatch.setitem(fast.ENCODERS, "gigatoken", wrong_after_a_while)
    monkeypatch.setattr(fast, "COMPARED_INTERVAL", 3)
    write_token_files(make_prefixes(tmp_path / "checked"), slice_input(rows), tokenizer, OPTIONS, workers=1)
    assert "gigatoken gives other ids for a text in" in log.text
    assert "starting again with tiktoken" in log.text
    assert hash_files(tmp_path / "checked") == hash_files(tmp_path / "right")


def test_a_slice_missing_from_the_work_folder_is_an_error(
    tmp_path: Path, rows: Path, tokenizer: GPT2Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    join = token_files.merge_slices

    def merge_too_late(*arguments: object) -> object:
        (tmp_path / "out/all.work/parts/000003..idx").unlink()
        return join(*arguments)

    monkeypatch.setattr(token_files, "merge_slices", merge_too_late)
    with pytest.raises(DataError, match=r"000003\.\.idx does not exist"):
        write_token_files(make_prefixes(tmp_path / "out"), slice_input(rows), tokenizer, OPTIONS, workers=1)
    assert not (tmp_path / "out/all.idx").exists()


def test_files_by_language_hold_the_same_documents_as_one_file(
    tmp_path: Path, rows: Path, texts: list[str], tokenizer: GPT2Tokenizer
) -> None:
    whole = write_token_files(make_prefixes(tmp_path / "whole"), slice_input(rows), tokenizer, OPTIONS)
    divided = write_token_files(
        make_prefixes(tmp_path / "divided"), slice_input(rows), tokenizer, WriteOptions(True, "keep", by_language=True)
    )
    assert whole == divided
    endings = ("bin", "idx", "origins.parquet", "tokens.json")
    assert sorted(hash_files(tmp_path / "divided")) == [
        f"{language}.{ending}" for language in ("Go", "Python") for ending in endings
    ]
    for number, language in enumerate(["Python", "Go"]):
        ids = [ids[:-1].tolist() for ids in IndexedDataset(tmp_path / "divided" / language)]
        own = [text for index, text in enumerate(texts) if (index % 3 == 0) == bool(number) and text]
        assert [tokenizer.decode(document) for document in ids] == own


@pytest.mark.parametrize(("newlines", "expected"), [("lf", "a\nb\n"), ("keep", "a\r\nb\r")])
def test_line_ends_follow_the_setting_and_changes_are_counted(
    tmp_path: Path, tokenizer: GPT2Tokenizer, newlines: str, expected: str
) -> None:
    (tmp_path / "rows.jsonl").write_text(json.dumps({"text": "a\r\nb\r"}) + '\n{"text": "c\\n"}', encoding="utf-8")
    slices = slice_input(tmp_path / "rows.jsonl")
    counts = write_token_files(make_prefixes(tmp_path / "out"), slices, tokenizer, WriteOptions(False, newlines))
    assert tokenizer.decode(IndexedDataset(tmp_path / "out/all")[0].tolist()) == expected
    assert counts["unknown"] == TokenCounts(2, len(expected) + 2, len(tokenizer.encode(expected)) + 2, 0, 0, newlines == "lf")
    with pytest.raises(
        DataError, match=r"rows\.jsonl, the row at byte 0 has CR line endings, which newlines: refuse does not allow"
    ):
        write_token_files(make_prefixes(tmp_path / "refused"), slices, tokenizer, WriteOptions(False, "refuse"))
    assert list((tmp_path / "refused").iterdir()) == []


def test_ftfy_repairs_texts_if_enabled(tmp_path: Path, tokenizer: GPT2Tokenizer) -> None:
    pytest.importorskip("ftfy")
    (tmp_path / "rows.jsonl").write_text(json.dumps({"text": "caf\u00c3\u00a9"}), encoding="utf-8")
    write_token_files(
        make_prefixes(tmp_path), slice_input(tmp_path / "rows.jsonl"), tokenizer, WriteOptions(False, "keep", ftfy=True)
    )
    assert tokenizer.decode(IndexedDataset(tmp_path / "all")[0].tolist()) == "caf\u00e9"


def test_progress_counts_documents_and_logs_at_the_interval(tmp_path: Path, rows: Path, texts: list[str], tokenizer, log) -> None:
    write_token_files(
        make_prefixes(tmp_path), slice_input(rows), tokenizer, OPTIONS, 1, ProgressBar(num_documents=len(texts), log_interval=20)
    )
    assert f"all: {len(texts)} /{len(texts)} documents" in log.text
    assert 1 <= sum(message.endswith(" documents") and message.startswith("all: ") for message in log.messages) <= 5


PROGRAM = """
import sys
from dataclasses import replace
from pathlib import Path
from neox_code.corpus.tokens import input_slices, token_files
from neox_code.corpus.tokens.tokenize_slice import TOKENIZE, WriteOptions, tokenize_slice
from neox_code.tokenizer.gpt2 import GPT2Tokenizer
import time

rows, vocabulary, output = map(Path, sys.argv[1:])
input_slices.SLICE_BYTES = 120_000

def tokenize_slowly(*task):
    yield from tokenize_slice(*task)
    time.sleep(0.3)

token_files.TOKENIZE = replace(TOKENIZE, run=tokenize_slowly)
tokenizer = GPT2Tokenizer.from_files(vocabulary / "code-vocab.json", vocabulary / "code-merges.txt")
options = WriteOptions(append_eod=True, newlines="keep")
token_files.write_token_files(lambda language: output / "all", input_slices.slice_input(rows), tokenizer, options, workers=1)
"""


def test_a_killed_run_is_resumed_and_the_finished_slices_are_logged(
    tmp_path: Path, rows: Path, tokenizer: GPT2Tokenizer, vocabulary: Path, log: pytest.LogCaptureFixture
) -> None:
    write_token_files(make_prefixes(tmp_path / "whole"), slice_input(rows), tokenizer, OPTIONS, workers=1)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen([sys.executable, "-c", PROGRAM, rows, vocabulary, tmp_path / "killed"], env=environment)
    work = tmp_path / "killed/all.work"
    deadline = time.monotonic() + 60
    while len(list(work.glob("parts/*.json"))) < 3 and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "killed/all.idx").exists()
    done = {path.name: path.stat().st_mtime_ns for path in work.glob("parts/*.json")}
    assert 3 <= len(done) < len(slice_input(rows))
    log.clear()
    write_token_files(make_prefixes(tmp_path / "killed"), slice_input(rows), tokenizer, OPTIONS, workers=2)
    assert f"all: resuming an interrupted run: {len(done)} of {len(slice_input(rows))} slices tokenized" in log.text
    assert hash_files(tmp_path / "killed") == hash_files(tmp_path / "whole")


def test_finished_slices_of_other_settings_are_not_used(
    tmp_path: Path, rows: Path, tokenizer: GPT2Tokenizer, monkeypatch: pytest.MonkeyPatch, log: pytest.LogCaptureFixture
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(token_files, "merge_slices", interrupt)
        with pytest.raises(KeyboardInterrupt):
            write_token_files(make_prefixes(tmp_path / "out"), slice_input(rows), tokenizer, OPTIONS, workers=1)
    assert (tmp_path / "out/all.work").is_dir()
    write_token_files(make_prefixes(tmp_path / "out"), slice_input(rows), tokenizer, WriteOptions(False, "keep"), workers=1)
    assert "resuming" not in log.text
    assert IndexedDataset(tmp_path / "out/all")[0][-1] != 0
