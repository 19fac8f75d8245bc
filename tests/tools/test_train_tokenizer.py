import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from real_code import real_texts
from sentencepiece import SentencePieceProcessor
from small_corpus import write_corpus
from tokenizers import Tokenizer as Backend

TOOL = Path(__file__).parents[2] / "tools/train_tokenizer.py"
FILES = ("code-merges.txt", "code-vocab.json", "tokenizer.json")


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, str(TOOL), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


@pytest.fixture(scope="module")
def texts() -> list[str]:
    return real_texts(40)


def test_a_corpus_and_a_folder_of_the_same_texts_give_the_same_vocabulary(tmp_path: Path, texts: list[str]) -> None:
    write_corpus(tmp_path / "corpus", {"train": {"Python": texts}, "test": {"Python": ["never_read_by_the_training = 1\n" * 1000]}})
    (tmp_path / "folder").mkdir()
    for number, text in enumerate(texts):
        (tmp_path / "folder" / f"{len(texts) - number}.py").write_bytes(text.encode())
    for source in ("corpus", "folder"):
        result = run(
            tmp_path / source, "--vocab-size", 700, "--fraction", 0.6, "--seed", 5, "--output", tmp_path / f"vocabulary-of-{source}"
        )
        assert result.returncode == 0, result.stderr
        assert "700 entries" in result.stderr
    for name in FILES:
        content = (tmp_path / "vocabulary-of-corpus" / name).read_bytes()
        assert content == (tmp_path / "vocabulary-of-folder" / name).read_bytes()
    ids = json.loads((tmp_path / "vocabulary-of-corpus/code-vocab.json").read_text(encoding="utf-8"))
    assert len(ids) == Backend.from_file(str(tmp_path / "vocabulary-of-corpus/tokenizer.json")).get_vocab_size() == 700
    assert "never" not in ids


def test_whitespace_tokens_and_sentencepiece_are_options(tmp_path: Path, texts: list[str]) -> None:
    (tmp_path / "source").mkdir()
    for number, text in enumerate(texts):
        (tmp_path / "source" / f"{number}.py").write_bytes(text.encode())
    shared = [tmp_path / "source", "--vocab-size", 900, "--fraction", 1, "--whitespace-tokens"]
    assert run(*shared, "--output", tmp_path / "bpe").returncode == 0
    assert [path.name for path in (tmp_path / "bpe").iterdir()] == ["tokenizer.json"]
    assert Backend.from_file(str(tmp_path / "bpe/tokenizer.json")).encode(" " * 8 + "x").ids[0] == 899
    assert run(*shared, "--output", tmp_path / "spm", "--type", "sentencepiece").returncode == 0
    peer = SentencePieceProcessor(model_file=str(tmp_path / "spm/code.model"))
    assert (peer.vocab_size(), len(peer.encode(" " * 8 + "x"))) == (900, 2)


def test_the_progress_counts_omitted_documents_and_other_columns_to_the_end(tmp_path: Path) -> None:
    rows = [{"text": "x = 1\n" * 50, "stars": 1}, {"text": "\ud800"}, {"text": 5}, {"text": "y = 2\n" * 50}] * 20
    source = tmp_path / "code.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    result = run(source, "--vocab-size", 300, "--fraction", 1, "--skip-unencodable", "--output", tmp_path / "vocabulary")
    assert result.returncode == 0, result.stderr
    assert "omitted 40 documents" in result.stderr
    count, total = re.findall(r"reading: (.+)/(.+)B \|", result.stderr)[-1]
    assert count == total


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["absent", "--output", "out"], "absent does not exist"),
        ([".", "--output", "out"], "has no file with content"),
        ([".", "--output", "out", "--fraction", "1.5"], "--fraction (1.5) must be at most 1"),
    ],
)
def test_a_mistake_is_reported_in_one_sentence_with_status_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run(*options)
    assert result.returncode == 2
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert list(tmp_path.iterdir()) == []
