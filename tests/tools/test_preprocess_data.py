import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sentencepiece
from real_code import real_texts
from small_corpus import write_corpus
from tokenizers import Tokenizer as Backend
from tokenizers import models, pre_tokenizers

from neox_code.config.neox import NeoXConfig
from neox_code.data.identity import read_record
from neox_code.data.indexed_dataset import IndexedDataset
from neox_code.data.origins import open_origins
from neox_code.tokenizer.train_bpe import train_bpe

CONFIGS = [Path(__file__).parents[2] / "configs" / name for name in ("small.yml",)]
TOOL = Path(__file__).parents[2] / "tools/preprocess_data.py"


@pytest.fixture(scope="module")
def texts() -> list[str]:
    return real_texts(40)


@pytest.fixture(scope="module")
def vocabulary(texts: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("vocabulary")
    train_bpe(texts[:20], 600, folder)
    return folder


@pytest.fixture(scope="module")
def gpt2(vocabulary: Path) -> list[object]:
    """GPT-NeoX's options for the vocabulary."""
    files = ["--vocab-file", vocabulary / "code-vocab.json", "--merge-file", vocabulary / "code-merges.txt"]
    return ["--tokenizer-type", "GPT2BPETokenizer", *files]


@pytest.fixture(scope="module")
def peer(vocabulary: Path) -> Backend:
    return Backend.from_file(str(vocabulary / "tokenizer.json"))


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, str(TOOL), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


def read(prefix: Path) -> list[list[int]]:
    return [ids.tolist() for ids in IndexedDataset(prefix)]


def test_json_lines_become_one_token_file_for_each_key(tmp_path: Path, texts: list[str], gpt2: list[object], peer: Backend) -> None:
    first, second = texts[:10], [*texts[10:15], ""]
    for name, part in (("first", first), ("second", second)):
        rows = [json.dumps({"text": text, "title": text[:20] or "none"}) for text in part]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(rows), encoding="utf-8")
    inputs = f"{tmp_path / 'first.jsonl'},{tmp_path / 'second.jsonl'},"
    options = ["--jsonl-keys", "text", "title", "--workers", 2, "--log-interval", 10, "--num-docs", 16, "--dataset-impl", "mmap"]
    result = run("--input", inputs, "--output-prefix", tmp_path / "out/code", *gpt2, *options, "--append-eod")
    assert result.returncode == 0, result.stderr
    assert "1 empty document left out" in result.stderr
    assert read(tmp_path / "out/code_text_document") == [[*peer.encode(text).ids, 0] for text in texts[:15]]
    titles = [*[text[:20] for text in texts[:15]], "none"]
    assert read(tmp_path / "out/code_title_document") == [[*peer.encode(title).ids, 0] for title in titles]


def test_no_end_token_is_written_without_append_eod(tmp_path: Path, vocabulary: Path, peer: Backend) -> None:
    (tmp_path / "rows.jsonl").write_text('{"text": "x = 1"}\n{"text": "<|endoftext|>"}\n', encoding="utf-8")
    options = ["--tokenizer-type", "HFTokenizer", "--vocab", vocabulary / "tokenizer.json"]
    result = run("--input", tmp_path / "rows.jsonl", "--output-prefix", tmp_path / "code", *options)
    assert result.returncode == 0, result.stderr
    first, second = read(tmp_path / "code_text_document")
    assert first == peer.encode("x = 1").ids
    assert peer.decode(second) == "<|endoftext|>"
    assert 0 not in second


def test_each_file_of_a_folder_becomes_a_document_in_path_order(tmp_path: Path, gpt2: list[object], peer: Backend) -> None:
    contents = {"a/z.py": "def f():\r\n\treturn 1\r\n", "b.py": "\ufeffx", "a/a.c": "int x;\n"}
    for path, text in contents.items():
        (tmp_path / "source" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "source" / path).write_bytes(text.encode())
    (tmp_path / "source/empty").touch()
    result = run("--input", tmp_path / "source", "--output-prefix", tmp_path / "code", "--append-eod", *gpt2)
    assert result.returncode == 0, result.stderr
    assert "empty files left out: 1" in result.stderr
    assert read(tmp_path / "code_text_document") == [[*peer.encode(contents[path]).ids, 0] for path in ("a/a.c", "a/z.py", "b.py")]


def test_each_split_of_a_corpus_becomes_a_token_file(tmp_path: Path, texts: list[str], gpt2: list[object], peer: Backend) -> None:
    write_corpus(tmp_path / "corpus", {"train": {"Python": texts[:5]}, "test": {"Python": texts[5:8]}})
    result = run("--input", tmp_path / "corpus", "--output-prefix", tmp_path / "out/code", "--append-eod", *gpt2)
    assert result.returncode == 0, result.stderr
    assert read(tmp_path / "out/code_train_text_document") == [[*peer.encode(text).ids, 0] for text in texts[:5]]
    assert read(tmp_path / "out/code_test_text_document") == [[*peer.encode(text).ids, 0] for text in texts[5:8]]
    assert not (tmp_path / "out/code_valid_text_document.idx").exists()
    assert json.loads((tmp_path / "out/code_tokens.json").read_text(encoding="utf-8"))["splits"]["test"]["Python"]["documents"] == 3
    dataset = IndexedDataset(tmp_path / "out/code_test_text_document")
    record = read_record(dataset)
    assert (record["tokenizer"]["vocab_size"], record["max_id"]) == (peer.get_vocab_size(), dataset.ids.max())
    Path(f"{dataset.prefix}.tokens.json").unlink()
    assert read_record(dataset)["tokenizer"]["sha256"] == record["tokenizer"]["sha256"]  # of code_tokens.json


def test_parquet_and_compressed_rows_are_written_by_language_with_lf_line_ends(
    tmp_path: Path, gpt2: list[object], peer: Backend
) -> None:
    table = pa.table({"content": ["x = 1\r\n", "package a\n"], "lang": ["Python", "Go"], "licenses": [["MIT", "ISC"], []]})
    pq.write_table(table, tmp_path / "rows.parquet")
    rows = [{"text": "y = 2\n", "language": "python"}, {"text": "cafÃ©", "path": "a.rs", "meta": {"repo": "o/r", "license": "MIT"}}]
    (tmp_path / "rows.jsonl.gz").write_bytes(gzip.compress("\n".join(map(json.dumps, rows)).encode()))
    inputs = f"{tmp_path / 'rows.parquet'},{tmp_path / 'rows.jsonl.gz'}"
    options = ["--by-language", "--newlines", "lf", "--ftfy", "--append-eod"]
    result = run("--input", inputs, "--output-prefix", tmp_path / "out/code", *gpt2, *options)
    assert result.returncode == 0, result.stderr
    assert "line ends in 1 document converted to LF" in result.stderr
    assert sorted(path.name for path in (tmp_path / "out").glob("*.idx")) == [
        f"code_{language}_text_document.idx" for language in ("Go", "Python", "Rust")
    ]
    assert read(tmp_path / "out/code_Python_text_document") == [[*peer.encode(text).ids, 0] for text in ("x = 1\n", "y = 2\n")]
    assert read(tmp_path / "out/code_Rust_text_document") == [[*peer.encode("café").ids, 0]]
    python, rust = (open_origins(tmp_path / f"out/code_{name}_text_document") for name in ("Python", "Rust"))
    assert python.read([0, 1]) == [
        ("rows.parquet", "row 1", "MIT AND ISC", "Python", 6),
        ("rows.jsonl.gz", "byte 0", None, "Python", 6),
    ]
    assert rust.read([0]) == [("o/r", "a.rs", "MIT", "Rust", 5)]


@pytest.mark.parametrize("reader", ["whole", "gpt-neox"])
def test_polycoder_vocabulary_is_read_whole_or_as_gpt_neox_reads_it(tmp_path: Path, test_data: Path, reader: str) -> None:
    vocab_file, merge_file = (test_data / "polycoder-vocab" / name for name in ("code-vocab.json", "code-merges.txt"))
    lines = merge_file.read_text(encoding="utf-8").split("\n")
    merges = [(left, right) for left, right in map(str.split, lines[1:-1] if reader == "gpt-neox" else filter(None, lines))]
    peer = Backend(models.BPE(vocab=json.loads(vocab_file.read_text(encoding="utf-8")), merges=merges))
    peer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    (tmp_path / "source").mkdir()
    (tmp_path / "source/a.py").write_bytes(b"def f():\r\n        return 1\r\n")
    (tmp_path / "source/b.py").write_bytes(b"    x\n")
    options = ["--tokenizer-type", "GPT2BPETokenizer", "--vocab-file", vocab_file, "--merge-file", merge_file, "--append-eod"]
    result = run("--input", tmp_path / "source", "--output-prefix", tmp_path / "code", *options, "--merge-file-reader", reader)
    assert result.returncode == 0, result.stderr
    assert "line ends in 1 document converted to LF" in result.stderr
    expected = [[*peer.encode(text).ids, 0] for text in ("def f():\n        return 1\n", "    x\n")]
    assert read(tmp_path / "code_text_document") == expected
    assert len(expected[1]) == (6 if reader == "gpt-neox" else 4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--input", "bad.jsonl"], "bad.jsonl:2 is not valid JSON"),
        (["--input", ","], "--input is empty"),
        (["--input", "absent.jsonl"], "absent.jsonl does not exist"),
        (["--input", "good.jsonl", "--jsonl-keys", "code"], "good.jsonl:1 has no text under 'code'"),
        (["--input", "good.jsonl", "--num-docs", "0"], "argument --num-docs: 0 is not a whole number above 0"),
        (["--input", "good.jsonl", "--dataset-impl", "lazy"], "--dataset-impl lazy is no longer written"),
        (["--input", "good.jsonl", "--workers", "0"], "argument --workers: 0 is not a whole number above 0"),
        (["--input", "folder", "--jsonl-keys", "code"], "--jsonl-keys code is for JSON Lines"),
        (["--input", "folder,good.jsonl"], "latin.py is not UTF-8"),
        (["--input", "hollow.jsonl"], "has no document with tokens"),
        (["--input", "corpus,good.jsonl"], "must be the only --input"),
        (["--input", "good.jsonl", "--tokenizer-type", "HFLlamaTokenizer"], "invalid choice: 'HFLlamaTokenizer'"),
        (["--input", "good.jsonl", "--merge-file", "absent.txt"], "merge_file (absent.txt) is not a file"),
    ],
)
def test_a_mistake_is_reported_without_traceback_and_exits_with_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gpt2: list[object], options: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("good.jsonl").write_text('{"text": "x"}\n', encoding="utf-8")
    Path("bad.jsonl").write_text('{"text": "x"}\n{"text": \n', encoding="utf-8")
    Path("hollow.jsonl").write_text('{"text": ""}\n', encoding="utf-8")
    Path("folder").mkdir()
    Path("folder/latin.py").write_bytes(b"\xe9")
    write_corpus(Path("corpus"), {"train": {"C": ["x"]}})
    result = run(*gpt2, "--output-prefix", "out/code", "--workers", 1, *options)
    assert result.returncode == 2
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert not Path("out").exists() or list(Path("out").iterdir()) == []


def test_skip_unencodable_counts_and_lists_the_documents_left_out(tmp_path: Path, peer: Backend) -> None:
    model = tmp_path / "code.model"
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["int x = 0;", "return a + b;"] * 40),
        model_prefix=str(model.with_suffix("")),
        vocab_size=280,
        hard_vocab_limit=False,
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        minloglevel=2,
    )
    rows = ['{"text": "int x;"}', '{"text": "bars = \u2581"}', '{"text": null}', "{", '{"text": "\\ud800"}', '{"text": "int y;"}']
    (tmp_path / "rows.jsonl").write_text("\n".join(rows), encoding="utf-8")
    options = ["--input", tmp_path / "rows.jsonl", "--tokenizer-type", "SPMTokenizer", "--vocab-file", model, "--workers", 1]
    stopped = run(*options, "--output-prefix", tmp_path / "stopped")
    assert stopped.returncode == 2
    assert "--skip-unencodable" in stopped.stderr and "rows.jsonl" in stopped.stderr
    assert not list(tmp_path.glob("stopped*"))
    result = run(*options, "--output-prefix", tmp_path / "code", "--skip-unencodable")
    assert result.returncode == 0, result.stderr
    assert "4 documents left out" in result.stderr
    for place in ("rows.jsonl:3 has no text under 'text'; found: null", "rows.jsonl:4 is not valid JSON", "U+2581", "U+D800"):
        assert place in result.stderr
    processor = sentencepiece.SentencePieceProcessor(model_file=str(model))
    assert read(tmp_path / "code_text_document") == processor.encode(["int x;", "int y;"])


def test_by_language_writes_a_datasets_file_that_a_config_can_use(tmp_path: Path, texts: list[str], gpt2: list[object]) -> None:
    c = "int main(void) { return 0; }\n"
    write_corpus(tmp_path / "corpus", {"train": {"Python": texts[:5], "C": [c]}, "valid": {"C": [c]}})
    result = run("--input", tmp_path / "corpus", "--output-prefix", tmp_path / "code", "--append-eod", *gpt2, "--by-language")
    assert result.returncode == 0, result.stderr
    config = NeoXConfig.load([*CONFIGS, tmp_path / "code_datasets.yml"])
    assert config.data.train_data_paths == tuple(f"{tmp_path}/code_train_{name}_text_document" for name in ("Python", "C"))
    sizes = [sum(len(ids) - 1 for ids in read(Path(path))) for path in config.data.train_data_paths]
    assert list(config.data.train_data_weights) == sizes
    assert config.data.valid_data_paths == (f"{tmp_path}/code_valid_C_text_document",)
    assert config.data.test_data_paths == ()
    (tmp_path / "rows.jsonl").write_text(json.dumps({"text": c, "language": "C"}), encoding="utf-8")
    result = run("--input", tmp_path / "rows.jsonl", "--output-prefix", tmp_path / "rows", *gpt2, "--by-language")
    assert NeoXConfig.load([*CONFIGS, tmp_path / "rows_datasets.yml"]).data.train_data_paths == (
        f"{tmp_path}/rows_C_text_document",
    )
