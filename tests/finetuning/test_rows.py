"""Rows, templates and bad rows, against the texts themselves and the published bugs of earlier programs."""

import gzip
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from finetuning_job import write_rows

from neox_code.config.finetuning import FinetuningConfig
from neox_code.corpus.sources.row_files import find_row_files, read_rows
from neox_code.data.index_cache import IndexCache
from neox_code.errors import ConfigError, DataError
from neox_code.finetuning.samples import RowSamples
from neox_code.finetuning.selection import divide_by_projects, drop_evaluated, limit_lengths
from neox_code.finetuning.templates import find_special_ids, read_template
from neox_code.finetuning.token_rows import TokenRows, load_token_rows
from neox_code.tokenizer.gpt2 import GPT2Tokenizer

PAIRS = [{"prompt": f"def f{number}(a):\n", "completion": f"\treturn a + {number}\n"} for number in range(6)]


@pytest.fixture(scope="module")
def tokenizer(job_folder: Path) -> GPT2Tokenizer:
    return GPT2Tokenizer.from_files(job_folder / "code-vocab.json", job_folder / "code-merges.txt")


def load(path: Path, rows: list, tokenizer: GPT2Tokenizer, **keys) -> TokenRows:
    file = Path(write_rows(path, rows))
    return load_token_rows([file], FinetuningConfig(**keys), tokenizer, IndexCache(None))[0]


def make_samples(rows: TokenRows, tokenizer: GPT2Tokenizer, is_packed: bool = False, length: int = 128) -> RowSamples:
    pieces = limit_lengths(rows, np.arange(len(rows)), length, "refuse", "train_rows")
    return RowSamples(rows, pieces, length, tokenizer.eod_id, is_packed, [1])


def read_learned(sample, tokenizer: GPT2Tokenizer) -> str:
    return tokenizer.decode(sample["labels"][sample["loss_mask"] > 0].tolist())


@pytest.mark.parametrize("is_packed", [False, True])
def test_only_completions_and_the_tokens_after_them_are_learned(tmp_path, tokenizer, is_packed):
    """GPT-Code-Clippy's mask was inverted, and it added no end-of-document token; the Kotlin project lost mask and token."""
    samples = make_samples(load(tmp_path / "a.jsonl", PAIRS, tokenizer), tokenizer, is_packed)
    learned = "".join(read_learned(samples[index], tokenizer) for index in range(len(samples)))
    assert sorted(learned.split("<|endoftext|>")) == ["", *sorted(row["completion"] for row in PAIRS)]
    assert len(samples) == (1 if is_packed else 6)
    texts = [tokenizer.decode(samples[index]["tokens"].tolist()) for index in range(len(samples))]
    assert all(text.startswith("<|endoftext|>") for text in texts)
    assert all(f"<|endoftext|>{row['prompt']}{row['completion']}"[:-1] in "".join(texts) for row in PAIRS)


def test_with_the_loss_on_all_tokens_prompts_are_learned_too(tmp_path, tokenizer):
    sample = make_samples(load(tmp_path / "a.jsonl", PAIRS[:1], tokenizer, completion_only_loss=False), tokenizer)[0]
    assert read_learned(sample, tokenizer) == f"{PAIRS[0]['prompt']}{PAIRS[0]['completion']}<|endoftext|>"
    text = make_samples(load(tmp_path / "b.jsonl", [{"text": "x = 1\n"}], tokenizer, row_format="text"), tokenizer)[0]
    assert read_learned(text, tokenizer) == "x = 1\n<|endoftext|>"


def test_the_name_of_a_special_token_in_a_row_is_text_and_in_a_template_the_token(tmp_path, tokenizer):
    """The Kotlin project's rows end in the name of the token, which is text here and cannot end a row."""
    (tmp_path / "template.txt").write_text("{question}<|separator|>\n")
    row = {"question": "a <|separator|> b", "completion": "c<|endoftext|>"}
    rows = load(tmp_path / "a.jsonl", [row], tokenizer, row_template=(str(tmp_path / "template.txt"),))
    special = find_special_ids(tokenizer)
    assert (rows.tokens == special["<|separator|>"]).sum() == 1
    assert (rows.tokens == tokenizer.eod_id).sum() == 0


def test_only_the_messages_of_the_assistant_are_learned(tmp_path, tokenizer):
    (tmp_path / "chat.txt").write_text("<{role}>{content}<|separator|>\n\n")
    messages = [{"role": "user", "content": "add"}, {"role": "assistant", "content": "a + b"}, {"role": "user", "content": "twice"}]
    messages.append({"role": "assistant", "content": "2 * a"})
    keys = {"row_format": "chat", "row_template": (str(tmp_path / "chat.txt"),)}
    sample = make_samples(load(tmp_path / "a.jsonl", [{"messages": messages}], tokenizer, **keys), tokenizer)[0]
    assert read_learned(sample, tokenizer) == "a + b<|separator|>\n2 * a<|separator|>\n<|endoftext|>"


def test_each_solution_of_a_problem_of_apps_is_a_row(tmp_path, tokenizer):
    problem = {"question": "Add.", "solutions": json.dumps(["print(1)", "print(2)"]), "input_output": "{}", "starter_code": ""}
    called = problem | {"starter_code": "def f():", "input_output": json.dumps({"fn_name": "f"})}
    keys = {"row_format": "apps", "row_template": ("apps-starter", "apps")}
    rows = load(tmp_path / "a.jsonl", [problem, called], tokenizer, **keys)
    texts = [tokenizer.decode(rows.tokens[rows.slice(row, 0, int(rows.lengths[row]))].tolist()) for row in range(4)]
    assert texts[1] == "\nQUESTION:\nAdd.\n\nUse Standard Input format\nANSWER:\nprint(2)"
    assert texts[2] == "\nQUESTION:\nAdd.\ndef f():\n\nUse Call-Based format\nANSWER:\nprint(1)"


def test_every_form_of_file_has_the_same_rows(tmp_path):
    lines = "".join(json.dumps(row) + "\n" for row in PAIRS).encode()
    (tmp_path / "a.jsonl").write_bytes(lines)
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(lines))
    (tmp_path / "c.jsonl.zst").write_bytes(zstandard.compress(lines))
    (tmp_path / "d.json").write_text(json.dumps(PAIRS))
    pq.write_table(pa.Table.from_pylist(PAIRS), tmp_path / "e.parquet")
    files = find_row_files([str(tmp_path)], "train_rows")
    assert [file.name[0] for file in files] == list("abcde")
    for file in files:
        assert [(place.number, row) for place, row in read_rows(file)] == list(enumerate(PAIRS, 1))


@pytest.mark.parametrize(
    ("row", "keys", "message"),
    [
        ({"prompt": "a"}, {}, "a.jsonl row 2 has no column completion; its columns are prompt."),
        ({"prompt": "a", "completion": " \n"}, {}, "a.jsonl row 2 has an empty column completion."),
        ({"prompt": "a", "completion": 3}, {}, r"a.jsonl row 2 has a column without text \(completion: int\)."),
        ("[1]", {}, r"a.jsonl row 2 is no JSON object \(list\)."),
        ("{", {}, "a.jsonl row 2 is not JSON"),
        (
            {"promt": "a", "completion": "b"},
            {"row_template": ("T",)},
            r"a.jsonl row 2 has no column prompt, which T has; its columns are promt, completion; did you mean promt\?",
        ),
    ],
)
def test_a_bad_row_is_named_with_its_file_and_number(tmp_path, monkeypatch, tokenizer, row, keys, message):
    monkeypatch.chdir(tmp_path)
    Path("T").write_text("{prompt}\n")
    with pytest.raises(DataError, match=message) as raised:
        load(tmp_path / "a.jsonl", [PAIRS[0], row, PAIRS[1]], tokenizer, **keys)
    assert "1 row cannot be used" in str(raised.value)
    assert len(load(tmp_path / "a.jsonl", [PAIRS[0], row, PAIRS[1]], tokenizer, bad_rows="drop", **keys)) == 2


def test_a_row_that_is_not_utf8_is_named(tmp_path, tokenizer):
    (tmp_path / "a.jsonl").write_bytes(b'{"prompt": "", "completion": "\xff"}\n')
    with pytest.raises(DataError, match=r"a\.jsonl row 1 is not UTF-8 \(byte 0xFF at 30\)"):
        load_token_rows([tmp_path / "a.jsonl"], FinetuningConfig(), tokenizer, IndexCache(None))


def test_a_template_that_does_not_exist_or_is_no_template_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"row_template alpacca is neither a file nor one of alpaca, .* did you mean alpaca"):
        read_template("alpacca", {})
    (tmp_path / "t.txt").write_text("{a b}")
    with pytest.raises(ConfigError, match="which is not the name of a column"):
        read_template(str(tmp_path / "t.txt"), {})


def test_long_rows_are_refused_cut_split_or_dropped(tmp_path, tokenizer):
    rows = load(tmp_path / "a.jsonl", [PAIRS[0], {"prompt": "", "completion": "x = 1\n" * 40}], tokenizer)
    length = int(rows.lengths[1])
    every = np.arange(2)
    with pytest.raises(DataError, match=f"a.jsonl row 2 has {length} tokens"):
        limit_lengths(rows, every, 40, "refuse", "train_rows")
    assert limit_lengths(rows, every, 40, "drop", "train_rows").rows.tolist() == [0]
    assert limit_lengths(rows, every, 40, "cut", "train_rows").lengths.tolist() == [rows.lengths[0], 40]
    split = limit_lengths(rows, every, 40, "split", "train_rows")
    assert split.lengths[split.rows == 1].sum() == length
    assert max(split.lengths) == 40


def test_no_project_is_on_both_sides_and_no_row_of_evaluation_is_trained_on(tmp_path, tokenizer):
    own = [row | {"repo": f"r{number // 2}"} for number, row in enumerate(PAIRS)]
    rows = load(tmp_path / "a.jsonl", own, tokenizer, project_column="repo")
    train, valid = divide_by_projects(rows, 0.4, 1)
    assert sorted([*train, *valid]) == list(range(6))
    assert len(valid) == 2
    assert {own[row]["repo"] for row in train}.isdisjoint({own[row]["repo"] for row in valid})
    other = load(tmp_path / "b.jsonl", [PAIRS[3] | {"repo": "r0"}], tokenizer, project_column="repo")
    evaluated = [(other, np.arange(1))]
    assert drop_evaluated(rows, np.arange(6), evaluated, by_project=False).tolist() == [0, 1, 2, 4, 5]
    assert drop_evaluated(rows, np.arange(6), evaluated, by_project=True).tolist() == [2, 4, 5]
