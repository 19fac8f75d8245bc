"""Figures of held-out files by language: which files are read, summed and saved."""

import dataclasses
import io
import json
import math
import re
from pathlib import Path

import pytest
from example_model import PYTHON, VOCAB_SIZE, C
from real_code import real_file
from rich.console import Console
from small_corpus import write_corpus
from tokenizers import Tokenizer
from tokenizers.normalizers import Lowercase

from neox_code.errors import CheckpointError, ConfigError, DataError
from neox_code.evaluation.compressors import compute_gzip_size
from neox_code.evaluation.heldout import evaluate_heldout, select_within_limit
from neox_code.evaluation.heldout_result import load_heldout, make_result_path, save_heldout
from neox_code.evaluation.heldout_table import make_heldout_table
from neox_code.evaluation.perplexity import score_files


@pytest.fixture(scope="module")
def result(job_config):
    return evaluate_heldout(job_config)


def test_languages_are_sorted_by_bytes_and_those_without_files_listed(result):
    assert [row.language for row in result.languages] == ["Python", "C"]
    assert result.without_files == ("Rust",)


def test_figures_equal_sums_over_the_files(result, model):
    texts = [real_file(name).read_text(encoding="utf-8") for name in PYTHON[1:]]
    ids = [model.tokenizer.encode(text) for text in texts]
    row = result.languages[0]
    assert (row.files, row.left_aside, row.changed) == (4, 0, 0)
    assert row.bytes == sum(len(text.encode()) for text in texts)
    assert row.tokens == sum(map(len, ids))
    assert row.bits["model"] == pytest.approx(sum(score.bits for score in score_files(model, ids)), rel=1e-6)
    assert row.bits_per_byte("gzip_alone") == pytest.approx(8 * sum(compute_gzip_size(text.encode()) for text in texts) / row.bytes)
    assert row.bits_per_token == pytest.approx(math.log2(row.perplexity))
    assert row.bits["unigram"] < row.tokens * math.log2(VOCAB_SIZE) < row.bits["model"]


def test_the_total_is_the_sum_of_the_languages(result):
    python, c = result.languages
    total = result.total
    assert (total.files, total.bytes, total.tokens) == (python.files + c.files, python.bytes + c.bytes, python.tokens + c.tokens)
    assert total.bits_per_byte("model") == pytest.approx((python.bits["model"] + c.bits["model"]) / (python.bytes + c.bytes))


def test_bf16_figures_are_close_to_those_of_fp32(result, job_config):
    rounded = evaluate_heldout(job_config.replace(precision="bfloat16"))
    assert rounded.total.bits["model"] == pytest.approx(result.total.bits["model"], rel=0.01)
    assert rounded.total.bits["model"] != result.total.bits["model"]


def test_a_second_evaluation_gives_the_same_figures(result, job_config):
    assert evaluate_heldout(job_config) == result


def test_loaded_figures_equal_the_saved_ones(result, tmp_path):
    path = tmp_path / "figures.json"
    save_heldout(result, path)
    assert load_heldout(path) == result
    path.write_text("{}")
    with pytest.raises(DataError, match="has no results"):
        load_heldout(path)


def test_the_result_file_is_beside_the_checkpoint(result, job_config):
    assert str(make_result_path(result)) == f"{job_config.training.load}/eval_results_7.json"


def test_the_table_shows_every_language_and_fits_80_columns(result):
    long_name = dataclasses.replace(result.languages[0], language="JavaScript", bytes=123_456_789, files=12_345)
    result = dataclasses.replace(result, languages=(*result.languages, long_name))
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(make_heldout_table(result))
    text = console.export_text()
    for row in (*result.languages, result.total):
        for method in row.bits:
            assert f"{row.bits_per_byte(method):.3f}" in text
        assert f"{row.bytes:,}" in text
    assert "Rust" in text
    assert "…" not in text


def test_the_limit_selects_whole_files_and_counts_the_others(job_config):
    sizes = {name: len(real_file(name).read_text(encoding="utf-8").encode()) for name in PYTHON[1:]}
    limit = sum(sizes.values()) - 1
    python = evaluate_heldout(job_config.replace(heldout_bytes_per_language=limit)).languages[0]
    assert python.left_aside == 4 - python.files > 0
    assert python.bytes <= limit
    assert any(python.bytes == sum(sizes.values()) - size for size in sizes.values()) or python.left_aside > 1


def test_a_language_whose_files_all_exceed_the_limit_is_listed(job_config):
    result = evaluate_heldout(job_config.replace(heldout_bytes_per_language=len(C[0])))
    assert [row.language for row in result.languages] == ["C"]
    assert result.without_files == ("Python", "Rust")


def test_the_sample_depends_only_on_the_seed():
    sizes = {f"file {number}": 10 for number in range(40)}
    taken = select_within_limit(sizes, 200, seed=1)
    assert len(taken) == 20
    assert select_within_limit(dict(reversed(sizes.items())), 200, seed=1) == taken
    assert select_within_limit(sizes, 200, seed=2) != taken
    assert select_within_limit(sizes, None, seed=1) == set(sizes)


def test_files_that_the_tokenizer_changes_are_counted(job_config, tmp_path):
    lowering = Tokenizer.from_file(str(Path(job_config.data.vocab_file).with_name("tokenizer.json")))
    lowering.normalizer = Lowercase()
    lowering.save(str(tmp_path / "tokenizer.json"))
    write_corpus(tmp_path / "corpus", {"test": {"C": ["int x;\n", "int Y;\n", "int z;\n"]}})
    result = evaluate_heldout(
        job_config.replace(
            tokenizer_type="HFTokenizer", vocab_file=str(tmp_path / "tokenizer.json"), heldout_path=str(tmp_path / "corpus")
        )
    )
    assert (result.languages[0].files, result.languages[0].changed) == (3, 1)


def test_newlines_sets_how_line_ends_are_read(job_config, tmp_path):
    write_corpus(tmp_path / "corpus", {"test": {"C": ["int x;\n", "int y;\r\n"]}})
    tokens = {}
    for newlines, changed in ((None, 0), ("keep", 0), ("lf", 1)):
        row = evaluate_heldout(job_config.replace(heldout_path=str(tmp_path / "corpus"), newlines=newlines)).languages[0]
        assert (row.files, row.changed, row.bytes) == (2, changed, 15)
        tokens[newlines] = row.tokens
    assert tokens["lf"] < tokens["keep"] == tokens[None]
    result = evaluate_heldout(job_config.replace(heldout_path=str(tmp_path / "corpus"), newlines="refuse"))
    assert result.languages[0].files == 1 and result.skipped == {"C": 1}
    assert result.skipped_files[0].startswith("project-of-test/C-1.txt has CR line endings, which newlines: refuse does not allow")
    write_corpus(tmp_path / "dos", {"test": {"C": ["int y;\r\n"]}})
    with pytest.raises(DataError, match=r"none of the held-out files .* can be encoded; the first: project-of-test/C-0\.txt has"):
        evaluate_heldout(job_config.replace(heldout_path=str(tmp_path / "dos"), newlines="refuse"))


def test_files_that_the_vocabulary_cannot_encode_are_skipped_and_counted(job_config, tmp_path, caplog):
    """The figures are those of a corpus without these files."""
    vocabulary = json.loads(Path(job_config.data.vocab_file).read_text(encoding="utf-8"))
    tilde = vocabulary.pop("~")
    (tmp_path / "vocab.json").write_text(json.dumps(vocabulary | {"no-tilde": tilde}), encoding="utf-8")
    merges = Path(job_config.data.merge_file).read_text(encoding="utf-8").splitlines()
    (tmp_path / "merges.txt").write_text("\n".join(line for line in merges if "~" not in line), encoding="utf-8")
    texts = [f"int x{number};\n" for number in range(3)]
    write_corpus(tmp_path / "good", {"train": {"C": texts, "Go": ["x"]}, "test": {"C": texts}})
    refused = [f"int y{number} = ~0;\n" for number in range(12)]
    write_corpus(tmp_path / "mixed", {"train": {"C": texts, "Go": ["x"]}, "test": {"C": texts + refused, "Go": ["~x"]}})
    files = {"vocab_file": str(tmp_path / "vocab.json"), "merge_file": str(tmp_path / "merges.txt")}
    good, mixed = (evaluate_heldout(job_config.replace(heldout_path=str(tmp_path / name), **files)) for name in ("good", "mixed"))
    assert mixed.languages == good.languages and good.skipped == {}
    assert mixed.skipped == {"C": 12, "Go": 1} and mixed.without_files == ("Go",)
    assert len(mixed.skipped_files) == 10
    assert all(re.match(r"project-of-test/C-\d+\.txt: the text contains byte 0x7E", reason) for reason in mixed.skipped_files)
    assert "13 held-out files cannot be encoded" in caplog.text and mixed.skipped_files[9] in caplog.text
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(make_heldout_table(mixed))
    assert "skipped files that cannot be encoded: 12 C, 1 Go" in console.export_text()
    save_heldout(mixed, tmp_path / "figures.json")
    assert load_heldout(tmp_path / "figures.json") == mixed
    assert json.loads((tmp_path / "figures.json").read_text())["skipped"] == {"C": 12, "Go": 1}


@pytest.mark.parametrize(
    ("keys", "error", "message"),
    [
        ({"heldout_path": None}, ConfigError, "heldout_path is not set"),
        ({"heldout_path": "elsewhere"}, DataError, "elsewhere does not exist"),
        ({"heldout_split": "valid"}, DataError, "split valid of the corpus .* holds no documents"),
        ({"heldout_bytes_per_language": 3}, DataError, r"None of its 6 files fits into heldout_bytes_per_language \(3\)"),
        ({"load": None}, ConfigError, "load is not set"),
        ({"iteration": 8}, CheckpointError, "no checkpoint of iteration 8"),
    ],
)
def test_missing_input_is_reported(job_config, keys, error, message):
    with pytest.raises(error, match=message):
        evaluate_heldout(job_config.replace(**keys))
