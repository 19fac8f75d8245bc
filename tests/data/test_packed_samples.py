"""Rows of whole documents, and the documents of every kind of sample, against the token files."""

import os
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from distributed_runs import run_ranks

from neox_code.config.data import DataConfig
from neox_code.config.model import ModelConfig
from neox_code.config.parallelism import ParallelismConfig
from neox_code.data import packed_samples
from neox_code.data.index_cache import IndexCache
from neox_code.data.indexed_dataset import IndexedDataset, IndexedDatasetWriter
from neox_code.data.megatron_datasets import build_datasets
from neox_code.errors import DataError
from neox_code.model.form import ModelForm
from neox_code.model.gpt import GPT, build_layers
from neox_code.parallel.grid import single_process_grid
from neox_code.parallel.startup import startup

EOD = 0


class Vocabulary:
    vocab_size, eod_id, pad_id, identity = 60_000, EOD, EOD, {"type": "test"}


def write(prefix: Path, documents: list[list[int]], end: tuple[int, ...] = (EOD,)) -> str:
    with IndexedDatasetWriter(prefix, np.uint16) as writer:
        for ids in documents:
            writer.add_document([*ids, *end])
    return str(prefix)


def make_documents(first: int, count: int, longest: int) -> list[list[int]]:
    """Documents of 0 to `longest` tokens; no token twice."""
    ids = iter(range(first, 60_000))
    return [[next(ids) for _ in range(length)] for length in np.random.default_rng(first).integers(0, longest, count)]


def build(data: DataConfig, length: int, count: int, cache: IndexCache | None = None):
    return build_datasets(data, length, (count, 0, 0), Vocabulary(), 7, cache)[0]


def read_row(sample: dict) -> tuple[list[int], list[int], list[bool]]:
    return sample["tokens"].tolist(), sample["labels"].tolist(), sample["loss_mask"].bool().tolist()


def test_rows_are_those_drawn_in_the_documentation(tmp_path):
    a, b, c = [10, 11, 12], [20, 21], list(range(30, 48))
    samples = build(DataConfig(train_data_paths=(write(tmp_path / "t", [a, b, c]),), pack_impl="best_fit"), 8, 1)
    rows = sorted(read_row(samples[index]) for index in range(len(samples)))
    whole = [True] * 8
    assert rows[-2:] == [([0, *c[:7]], c[:8], whole), ([0, *c[8:15]], c[8:16], whole)]
    first, second, third = [0, *a], [0, *b], [0, *c[16:]]  # 4, 3 and 3 inputs: the first shares its row with one of the others
    shared = {tuple(one + other) for one, other in ((first, second), (second, first), (first, third), (third, first))}
    packed = [(tuple(np.array(tokens)[mask].tolist()), labels, mask) for tokens, labels, mask in rows[:-2]]
    assert len(packed) == 2 and [inputs for inputs, _, _ in packed if inputs in shared]
    for inputs, labels, mask in packed:
        assert labels == [*inputs[1:], *[0] * (9 - len(inputs))] and mask == [index < len(inputs) for index in range(8)]


@pytest.mark.parametrize("end", [(EOD,), ()])
def test_every_token_and_every_end_is_predicted_once_an_epoch_and_another_epoch_packs_anew(tmp_path, end):
    documents = make_documents(1, 150, 70)
    data = DataConfig(train_data_paths=(write(tmp_path / "t", documents, end),), pack_impl="best_fit")
    per_epoch = len(build(data, 32, 1))
    samples = build(data, 32, 3 * per_epoch, IndexCache(tmp_path / "cache", smallest=0))
    epochs = []
    for epoch in range(3):
        rows = [read_row(samples[index]) for index in range(epoch * per_epoch, (epoch + 1) * per_epoch)]
        assert all(tokens[0] == EOD and labels[:-1] == tokens[1:] for tokens, labels, _ in rows)
        predicted = Counter(label for _, labels, mask in rows for label, kept in zip(labels, mask, strict=True) if kept)
        ends = sum(bool(ids) and (len(ids) + 1) % 32 != 1 for ids in documents)
        assert predicted == Counter([token for ids in documents for token in ids]) + Counter({EOD: ends})
        epochs.append([tokens for tokens, _, _ in rows])
    assert sorted(epochs[0]) != sorted(epochs[1]) and epochs[1] != epochs[2]
    assert [read_row(build(data, 32, 1)[index]) for index in range(per_epoch)] == [
        read_row(samples[index]) for index in range(per_epoch)
    ]


def test_separated_documents_of_a_row_are_predicted_as_if_each_were_alone(tmp_path):
    generator = np.random.default_rng(3)
    documents = [generator.integers(1, 60, length).tolist() for length in generator.integers(1, 60, 20)]
    samples = build(DataConfig(train_data_paths=(write(tmp_path / "t", documents),), pack_impl="best_fit"), 32, 1)
    shape = {"num_layers": 2, "hidden_size": 32, "num_attention_heads": 4, "max_position_embeddings": 32, "pos_emb": "rotary"}
    grid, separated = single_process_grid(), {"reset_position_ids": True, "reset_attention_mask": True}
    row_model = GPT(build_layers(ModelConfig(**shape, **separated), 60, 64, grid, torch.float32, form=ModelForm(eod_id=EOD)))
    plain_model = GPT(build_layers(ModelConfig(**shape), 60, 64, grid, torch.float32, form=ModelForm(eod_id=None)))
    for index in range(len(samples)):
        tokens = samples[index]["tokens"]
        logits = row_model(tokens[None])[0]
        for part in samples.list_parts(index):
            begin, end = part.place - 1, min(part.place + part.length, 32)
            alone = plain_model(tokens[None, begin:end])[0]
            assert tokens[begin] == EOD and (logits[begin:end] - alone).abs().max() < 1e-5


def pack_on_rank(path: str, folder: Path) -> list[int]:
    """Build the same samples on a rank of several; each packing leaves a file in `folder`."""
    pack = packed_samples.pack_documents

    def count_and_pack(*arguments):
        (folder / f"{os.getpid()}-{time.monotonic_ns()}").touch()
        return pack(*arguments)

    packed_samples.pack_documents = count_and_pack
    with startup(ParallelismConfig()):
        data = DataConfig(train_data_paths=(path,), pack_impl="best_fit")
        return build(data, 32, 1, IndexCache(folder.parent / "cache", smallest=0))[5]["tokens"].tolist()


def test_rows_are_drawn_once_for_all_ranks_of_a_host(tmp_path):
    (tmp_path / "packed").mkdir()
    first, second = run_ranks(2, pack_on_rank, write(tmp_path / "t", make_documents(1, 150, 70)), tmp_path / "packed")
    assert first == second and len(list((tmp_path / "packed").iterdir())) == 1


def test_masked_ends_of_documents_and_files_without_tokens(tmp_path):
    data = DataConfig(train_data_paths=(write(tmp_path / "t", [[5, 6, 7]] * 20),), pack_impl="best_fit", eod_mask_loss=True)
    tokens, _, mask = read_row(build(data, 8, 1)[0])
    assert tokens == [0, 5, 6, 7] * 2 and mask == [False, True, True, True] * 2
    with pytest.raises(DataError, match="only empty documents"):
        build(replace(data, train_data_paths=(write(tmp_path / "e", [[]] * 20),)), 8, 1)


@pytest.mark.parametrize(
    "keys",
    [{}, {"sample_order": "all_epochs"}, {"pack_impl": "best_fit"}, {"blend": True}, {"blend": True, "sample_order": "all_epochs"}],
)
def test_a_sample_consists_of_the_parts_of_documents_that_it_names(tmp_path, keys):
    blended = keys.pop("blend", False)
    paths = tuple(write(tmp_path / name, make_documents(first, 40, 50)) for name, first in (("a", 1), ("b", 9_000)))
    data = DataConfig(train_data_paths=paths if blended else paths[:1], **keys)
    samples, files = build(data, 24, 90), {path: IndexedDataset(path) for path in paths}
    for index in range(90):
        tokens, labels, _ = read_row(samples[index])
        row = [*tokens, labels[-1]]
        places = set()
        for part in samples.list_parts(index):
            expected = files[part.prefix].get(part.document, part.offset, part.length).tolist()
            assert row[part.place : part.place + part.length] == expected
            places |= set(range(part.place, part.place + part.length))
        others = {row[place] for place in set(range(len(row))) - places}
        assert others == ({EOD} if keys.get("pack_impl") else set())
