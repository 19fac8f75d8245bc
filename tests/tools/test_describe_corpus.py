import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from real_code import real_file
from seen_files import make_dropped_row, make_kept_row, random_rows, write_seen_files
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from neox_code.corpus.shards import read_manifest

PROJECT = real_file("deepspeed/monitor")
TOOL = Path(__file__).parents[2] / "tools" / "describe_corpus.py"


def describe_corpus(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return run(TOOL, *arguments)


def run(tool: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, tool, *map(str, arguments)], capture_output=True, text=True, check=False, timeout=60)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tool") / "mine"
    write_seen_files(folder, [*random_rows(60), make_kept_row("a.py", "x = 1\n" * 99), make_dropped_row("b.py", 123, "over 1 MiB")])
    return folder


def test_tables_are_printed_and_the_page_is_written(corpus: Path, tmp_path: Path) -> None:
    done = describe_corpus(corpus, "--output", tmp_path / "report.html")
    assert (done.returncode, "Traceback" in done.stderr) == (0, False)
    for title in (
        "Languages",
        "From found to kept",
        "Duplicates",
        "Sizes",
        "Licenses",
        "Edits",
        "Encodings",
        "Line ends",
        "Splits",
    ):
        assert title in done.stdout
    assert "a/b/b.py (123 B)" in done.stdout
    as_json = describe_corpus(corpus, "--output", tmp_path / "report.html", "--json")
    figures = json.loads(as_json.stdout)
    assert (figures["corpus"], figures["page"]) == (str(corpus), str(tmp_path / "report.html"))
    kept_files = sum(row["verdict"] == "kept" for row in read_manifest(corpus).to_pylist())
    assert [row["files"] for row in figures["decisions"] if "kept" in row.values()] == [kept_files]
    assert done.stdout == as_json.stderr[as_json.stderr.index("corpus mine") :]
    page = (tmp_path / "report.html").read_text()
    assert page.startswith("<!DOCTYPE html>") and page.rstrip().endswith("</html>")
    assert "a/b/b.py" in page


def test_a_built_corpus_is_described(tmp_path: Path) -> None:
    built = run(TOOL.with_name("build_corpus.py"), PROJECT, "--output", tmp_path / "corpus", "--workers", "1", "--seed", "7")
    assert built.returncode == 0, built.stderr
    done = describe_corpus(tmp_path / "corpus", "--output", tmp_path / "report.html")
    assert done.returncode == 0, done.stderr
    manifest = read_manifest(tmp_path / "corpus").to_pylist()
    for verdict, files in Counter(row["verdict"] for row in manifest).items():
        assert re.search(rf"^ {re.escape(verdict)} +{files:,} ", done.stdout, re.MULTILINE)


def test_without_output_the_page_lies_beside_the_corpus_and_nothing_in_it(corpus: Path) -> None:
    before = sorted(corpus.rglob("*"))
    done = describe_corpus(f"{corpus}/")
    assert done.returncode == 0
    assert sorted(corpus.rglob("*")) == before
    page = corpus.with_name("mine.html")
    assert done.stdout.rstrip().endswith(f"The page is {page}")
    assert page.read_text().startswith("<!DOCTYPE html>")


def test_a_tokenizer_gives_the_bytes_of_a_token(corpus: Path, tmp_path: Path) -> None:
    vocabulary = tmp_path / "tokenizer.json"
    write_byte_tokenizer(vocabulary)
    done = describe_corpus(corpus, "--tokenizer-type", "HFTokenizer", "--vocab-file", vocabulary, "--seed", "9")
    assert done.returncode == 0, done.stderr
    assert "Fertility" in done.stdout and "seed 9" in done.stdout
    (line,) = [line for line in done.stdout.partition("Fertility")[2].splitlines() if line.strip().startswith("Python")]
    assert line.split()[1] == "1.00"


def write_byte_tokenizer(path: Path) -> None:
    """Every byte is a token."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = {token: number for number, token in enumerate(["<|endoftext|>", *alphabet])}
    backend = Tokenizer(models.BPE(tokens, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(["<|endoftext|>"])
    backend.save(str(path))


def test_mistakes_are_reported_in_one_sentence_with_status_2(corpus: Path, tmp_path: Path) -> None:
    for arguments, message in (
        ((tmp_path,), "is not a corpus"),
        ((corpus, "--output", tmp_path), "is a folder"),
        ((corpus, "--vocab-file", "vocab.json"), "need --tokenizer-type"),
        ((corpus, "--tokenizer-type", "HFTokenizer"), "vocab_file is not set"),
        ((corpus, "--tokenizer-type", "HFTokenizer", "--vocab-file", tmp_path / "none.json"), "is not a file"),
    ):
        done = describe_corpus(*arguments)
        assert (done.returncode, "Traceback" in done.stderr) == (2, False)
        assert done.stderr.splitlines()[-1].startswith("error: ") and message in done.stderr


def test_an_impossible_sample_is_refused(corpus: Path) -> None:
    done = describe_corpus(corpus, "--sample-megabytes", "0")
    assert done.returncode == 2
    assert "--sample-megabytes" in done.stderr
