"""Validation of each language in the loop: bits per byte against the decoded labels, at every layout."""

import math

import pytest
from distributed_runs import run_ranks, train
from real_code import real_texts
from small_corpus import write_corpus

from neox_code.config.neox import NeoXConfig
from neox_code.corpus.tokens.tokenize_shards import tokenize_corpus
from neox_code.data.megatron_datasets import build_validation_languages
from neox_code.files import read_json_lines
from neox_code.tokenizer.gpt2 import GPT2Tokenizer

BATCH = 4


@pytest.fixture
def data(job_folder, tmp_path) -> dict:
    """Token files of real texts: Python and C for training and validation, with one text of C that is shorter than a window."""
    texts = real_texts(14)
    splits = {"train": {"Python": texts[:4], "C": texts[4:6]}, "valid": {"Python": texts[6:10], "C": texts[10:13], "Go": ["x"]}}
    write_corpus(tmp_path / "corpus", splits)
    tokenizer = GPT2Tokenizer.from_files(job_folder / "code-vocab.json", job_folder / "code-merges.txt")
    tokenize_corpus(tmp_path / "corpus", tmp_path, tokenizer)
    return {f"{split}_data_paths": [str(tmp_path / f"{split}_text_document")] for split in splits}


@pytest.mark.parametrize("pack_impl", ["packed", "best_fit"])
def test_bits_per_byte_of_each_language_are_those_of_the_decoded_labels(job, job_folder, tmp_path, data, pack_impl):
    tokenizer = GPT2Tokenizer.from_files(job_folder / "code-vocab.json", job_folder / "code-merges.txt")
    keys = {"pack_impl": pack_impl, "valid_by_language": True, "eval_iters": 3, "eval_interval": 1, "train_iters": 1}
    file = job(data_path=None, split=None, **data, **keys, train_batch_size=BATCH, train_micro_batch_size_per_gpu=1)
    layouts = ((1, {"pipe_parallel_size": 0}), (2, {"pipe_parallel_size": 2}), (2, {"pipe_parallel_size": 0}))
    rows = []
    for number, (ranks, layout) in enumerate(layouts[:: 1 if pack_impl == "best_fit" else 2]):
        metrics = tmp_path / f"{number}.jsonl"
        run_ranks(ranks, train, [str(file)], {"metrics_file": str(metrics), **layout})
        found = {}
        for row in read_json_lines(metrics):
            found |= {name: value for name, value in row.items() if name.startswith("validation/")}
        rows.append(found)
    languages = {name.split("/")[1] for name in rows[0] if name.count("/") == 2}
    assert languages == ({"C", "Python"} if pack_impl == "packed" else {"C", "Go", "Python"})
    assert all(row == pytest.approx(rows[0], rel=1e-5) for row in rows[1:])
    config = NeoXConfig.load([file], {})
    samples = build_validation_languages(config.data, config.model.sample_length, tokenizer, config.training.seed, None)
    for language in languages:
        count = min(3, max(1, len(samples[language]) // BATCH)) * BATCH
        samples[language].extend(count)
        own = [samples[language][index] for index in range(count)]
        labels = [label for sample in own for label in sample["labels"][sample["loss_mask"] > 0].tolist()]
        text = tokenizer.decode_bytes([label for label in labels if label != tokenizer.eod_id])
        expected = rows[0][f"validation/{language}/lm_loss"] * len(labels) / math.log(2) / len(text)
        assert rows[0][f"validation/{language}/bits_per_byte"] == pytest.approx(expected, rel=1e-6)
    assert 0 < rows[0]["validation/bits_per_byte"] < 9
