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
from real_code import real_files
from tokenizers import Tokenizer as Backend

from neox_code.corpus.tokens import text_pieces, token_files
from neox_code.corpus.tokens.text_pieces import pieces_of
from neox_code.corpus.tokens.token_files import Bar, write_token_files
from neox_code.corpus.tokens.tokenize_piece import TokenCounts, Writing
from neox_code.data.indexed_dataset import IndexedDataset
from neox_code.errors import DataError
from neox_code.tokenizer import fast
from neox_code.tokenizer.gpt2 import GPT2Tokenizer
from neox_code.tokenizer.train_bpe import train_bpe

WRITING = Writing(append_eod=True, newlines="keep")


@pytest.fixture(scope="module")
def texts() -> list[str]:
    files = real_files(100)
    return [text for file in files if (text := file.read_text(encoding="utf-8"))] + ["", "<|endoftext|>", "a\r\nb\r"]


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
    """JSON Lines of two languages, in a dozen pieces."""
    monkeypatch.setattr(text_pieces, "PIECE_BYTES", 120_000)
    path = tmp_path / "rows.jsonl"
    languages = ["Python", "Go"]
    lines = [json.dumps({"text": text, "lang": languages[number % 3 == 0]}) for number, text in enumerate(texts)]
    path.write_text("\n".join(lines), encoding="utf-8")
    assert len(pieces_of(path)) > 8
    return path


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> pytest.LogCaptureFixture:
    monkeypatch.setattr(logging.getLogger("neox_code"), "propagate", True)
    caplog.set_level("INFO")
    return caplog


def named(folder: Path) -> Callable[[str | None], Path]:
    return lambda language: folder / (language or "all")


def sums(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def gpt_neox_way(texts: list[str], vocabulary: Path) -> list[list[int]]:
    """Each document by itself through the tokenizers library, an end-of-document token after it."""
    backend = Backend.from_file(str(vocabulary / "tokenizer.json"))
    backend.encode_special_tokens = True
    return [[*ids, 0] for text in texts if (ids := backend.encode(text).ids)]


def test_the_bytes_are_the_same_for_any_number_of_workers_and_those_of_single_encoding(
    tmp_path: Path, rows: Path, texts: list[str], tokenizer: GPT2Tokenizer, vocabulary: Path, log: pytest.LogCaptureFixture
) -> None:
    counts = write_token_files(named(tmp_path / "one"), pieces_of(rows), tokenizer, WRITING, workers=1)
    assert "encoder | gigatoken, identical to the tokenizer's own ids" in log.text
    assert write_token_files(named(tmp_path / "two"), pieces_of(rows), tokenizer, WRITING, workers=2) == counts
    assert sums(tmp_path / "one") == sums(tmp_path / "two")
    assert sorted(sums(tmp_path / "one")) == ["all.bin", "all.idx", "all.tokens.json"]
    assert [ids.tolist() for ids in IndexedDataset(tmp_path / "one/all")] == gpt_neox_way(texts, vocabulary)
    assert sum(count.documents for count in counts.values()) == len(texts) - 1
    assert sum(count.bytes for count in counts.values()) == len("".join(texts).encode())
    assert (sum(count.empty for count in counts.values()), sum(count.changed for count in counts.values())) == (1, 0)


@pytest.mark.parametrize("encoder", ["tiktoken", "plain"])
def test_the_bytes_are_the_same_by_any_encoder(
    tmp_path: Path, rows: Path, tokenizer: GPT2Tokenizer, encoder: str, monkeypatch: pytest.MonkeyPatch, log
) -> None:
    write_token_files(named(tmp_path / "first"), pieces_of(rows), tokenizer, WRITING, workers=1)
    for name in list(fast.ENCODERS)[: list(fast.ENCODERS).index(encoder)]:
        monkeypatch.setitem(fast.ENCODERS, name, lambda _: None)
    write_token_files(named(tmp_path / "second"), pieces_of(rows), tokenizer, WRITING, workers=1)
    assert sums(tmp_path / "first") == sums(tmp_path / "second")
    assert f"encoder | {'the tokenizer' if encoder == 'plain' else encoder}" in log.text


def test_an_encoder_that_gives_other_ids_later_on_is_given_up_and_all_is_written_again(
    tmp_path: Path, rows: Path, tokenizer: GPT2Tokenizer, monkeypatch: pytest.MonkeyPatch, log: pytest.LogCaptureFixture
) -> None:
    write_token_files(named(tmp_path / "right"), pieces_of(rows), tokenizer, WRITING, workers=1)
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
    write_token_files(named(tmp_path / "checked"), pieces_of(rows), tokenizer, WRITING, workers=1)
    assert "gigatoken gives other ids for a text in" in log.text
    assert "beginning again with tiktoken" in log.text
    assert sums(tmp_path / "checked") == sums(tmp_path / "right")


def test_a_piece_missing_from_the_work_folder_is_an_error(
    tmp_path: Path, rows: Path, tokenizer: GPT2Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    join = token_files.join_pieces

    def join_too_late(*arguments: object) -> object:
        (tmp_path / "out/all.work/parts/000003..idx").unlink()
        return join(*arguments)

    monkeypatch.setattr(token_files, "join_pieces", join_too_late)
    with pytest.raises(DataError, match=r"000003\.\.idx does not exist"):
        write_token_files(named(tmp_path / "out"), pieces_of(rows), tokenizer, WRITING, workers=1)
    assert not (tmp_path / "out/all.idx").exists()


def test_languages_apart_are_the_same_documents(tmp_path: Path, rows: Path, texts: list[str], tokenizer: GPT2Tokenizer) -> None:
    whole = write_token_files(named(tmp_path / "whole"), pieces_of(rows), tokenizer, WRITING)
    apart = write_token_files(named(tmp_path / "apart"), pieces_of(rows), tokenizer, Writing(True, "keep", by_language=True))
    assert whole == apart
    endings = ("bin", "idx", "tokens.json")
    assert sorted(sums(tmp_path / "apart")) == [f"{language}.{ending}" for language in ("Go", "Python") for ending in endings]
    for number, language in enumerate(["Python", "Go"]):
        ids = [ids[:-1].tolist() for ids in IndexedDataset(tmp_path / "apart" / language)]
        own = [text for index, text in enumerate(texts) if (index % 3 == 0) == bool(number) and text]
        assert [tokenizer.decode(document) for document in ids] == own


@pytest.mark.parametrize(("newlines", "expected"), [("lf", "a\nb\n"), ("keep", "a\r\nb\r")])
def test_line_ends_are_what_the_setting_says_and_counted(
    tmp_path: Path, tokenizer: GPT2Tokenizer, newlines: str, expected: str
) -> None:
    (tmp_path / "rows.jsonl").write_text(json.dumps({"text": "a\r\nb\r"}) + '\n{"text": "c\\n"}', encoding="utf-8")
    pieces = pieces_of(tmp_path / "rows.jsonl")
    counts = write_token_files(named(tmp_path / "out"), pieces, tokenizer, Writing(False, newlines))
    assert tokenizer.decode(IndexedDataset(tmp_path / "out/all")[0].tolist()) == expected
    assert counts["unknown"] == TokenCounts(2, len(expected) + 2, len(tokenizer.encode(expected)) + 2, 0, 0, newlines == "lf")
    with pytest.raises(DataError, match=r"rows\.jsonl, the row at byte 0 has line ends with CR, and newlines is refuse"):
        write_token_files(named(tmp_path / "refused"), pieces, tokenizer, Writing(False, "refuse"))
    assert list((tmp_path / "refused").iterdir()) == []


def test_texts_are_mended_with_ftfy_if_asked_for(tmp_path: Path, tokenizer: GPT2Tokenizer) -> None:
    pytest.importorskip("ftfy")
    (tmp_path / "rows.jsonl").write_text(json.dumps({"text": "caf\u00c3\u00a9"}), encoding="utf-8")
    write_token_files(named(tmp_path), pieces_of(tmp_path / "rows.jsonl"), tokenizer, Writing(False, "keep", ftfy=True))
    assert tokenizer.decode(IndexedDataset(tmp_path / "all")[0].tolist()) == "caf\u00e9"


def test_documents_are_counted_and_logged_as_asked(tmp_path: Path, rows: Path, texts: list[str], tokenizer, log) -> None:
    write_token_files(named(tmp_path), pieces_of(rows), tokenizer, WRITING, 1, Bar(num_documents=len(texts), log_interval=20))
    assert f"all: {len(texts)} /{len(texts)} documents" in log.text
    assert 1 <= sum(message.endswith(" documents") and message.startswith("all: ") for message in log.messages) <= 5


PROGRAM = """
import sys
from dataclasses import replace
from pathlib import Path
from neox_code.corpus.tokens import text_pieces, token_files
from neox_code.corpus.tokens.tokenize_piece import TOKENIZE, Writing, tokenize_piece
from neox_code.tokenizer.gpt2 import GPT2Tokenizer
import time

rows, vocabulary, output = map(Path, sys.argv[1:])
text_pieces.PIECE_BYTES = 120_000

def slowly(*task):
    yield from tokenize_piece(*task)
    time.sleep(0.3)

token_files.TOKENIZE = replace(TOKENIZE, run=slowly)
tokenizer = GPT2Tokenizer.from_files(vocabulary / "code-vocab.json", vocabulary / "code-merges.txt")
writing = Writing(append_eod=True, newlines="keep")
token_files.write_token_files(lambda language: output / "all", text_pieces.pieces_of(rows), tokenizer, writing, workers=1)
"""


def test_a_killed_run_is_resumed_and_its_progress_is_logged(
    tmp_path: Path, rows: Path, tokenizer: GPT2Tokenizer, vocabulary: Path, log: pytest.LogCaptureFixture
) -> None:
    write_token_files(named(tmp_path / "whole"), pieces_of(rows), tokenizer, WRITING, workers=1)
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
    assert 3 <= len(done) < len(pieces_of(rows))
    log.clear()
    write_token_files(named(tmp_path / "killed"), pieces_of(rows), tokenizer, WRITING, workers=2)
    assert f"all: resuming an interrupted run: {len(done)} of {len(pieces_of(rows))} pieces tokenized" in log.text
    assert sums(tmp_path / "killed") == sums(tmp_path / "whole")


def test_finished_pieces_of_other_settings_are_not_used(
    tmp_path: Path, rows: Path, tokenizer: GPT2Tokenizer, monkeypatch: pytest.MonkeyPatch, log: pytest.LogCaptureFixture
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(token_files, "join_pieces", interrupted)
        with pytest.raises(KeyboardInterrupt):
            write_token_files(named(tmp_path / "out"), pieces_of(rows), tokenizer, WRITING, workers=1)
    assert (tmp_path / "out/all.work").is_dir()
    write_token_files(named(tmp_path / "out"), pieces_of(rows), tokenizer, Writing(False, "keep"), workers=1)
    assert "resuming" not in log.text
    assert IndexedDataset(tmp_path / "out/all")[0][-1] != 0
