"""Batches for a rank, from any sample on, by workers that stay."""

import os
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset, get_worker_info

from neox_code.config.data import DataConfig
from neox_code.data.identity import write_record
from neox_code.data.indexed_dataset import IndexedDatasetWriter
from neox_code.data.loaders import BatchLoader
from neox_code.data.megatron_datasets import build_datasets
from neox_code.errors import DataError
from neox_code.parallel.grid import ParallelGrid, single_process_grid


class Vocabulary:
    vocab_size, eod_id, pad_id, identity = 1000, 0, 1, {"type": "test"}


def samples(prefix: Path, count: int, order: str = "per_epoch", last: int = 7) -> Dataset:
    with IndexedDatasetWriter(prefix, np.uint16) as writer:
        for number in range(50):
            writer.add_document([2 + number, 60 + number, 5, 6, last, 0])
    write_record(prefix, None, 999)  # as a sample of a large file may look
    data = DataConfig(train_data_paths=(str(prefix),), sample_order=order)
    return build_datasets(data, 8, (count, 0, 0), Vocabulary(), 1, None)[0]


class PlacesOfWorkers(Dataset):
    """The index of each sample as its token, and the process that read it as its label."""

    def __init__(self, deadly: int | None = None):
        self.deadly = deadly

    def __len__(self) -> int:
        return 24

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        if index == self.deadly:
            os.kill(os.getpid(), signal.SIGKILL)
        process = os.getpid() if get_worker_info() else 0
        return {"tokens": torch.tensor([index]), "labels": torch.tensor([process]), "loss_mask": torch.ones(1)}


def test_more_steps_than_samples_are_an_error_only_if_the_order_depends_on_their_number(tmp_path):
    loader = BatchLoader(samples(tmp_path / "a", 10), 2, single_process_grid(), 0)
    before = [batch[0].tolist() for batch, _ in zip(loader, range(5), strict=False)]
    loader.seek(4)
    loader.require(100)
    batches = [batch[0].tolist() for batch in loader]
    assert len(batches) >= 100
    assert batches[:3] == before[2:]
    loader = BatchLoader(samples(tmp_path / "a", 10, "all_epochs"), 2, single_process_grid(), 0)
    total = len(loader.dataset)
    loader.seek(4)
    loader.require((total - 4) // 2)
    with pytest.raises(DataError, match=rf"there are {total} training samples, .* 4 are consumed, .* need 200\."):
        loader.require(100)


def test_batches_from_workers_equal_those_of_one_process_and_the_workers_are_kept():
    loader = BatchLoader(PlacesOfWorkers(), 2, single_process_grid(), 2)
    processes = set()
    for _ in range(3):
        loader.seek(4)
        batches = [batch for batch, _ in zip(loader, range(6), strict=False)]
        assert [tokens.flatten().tolist() for tokens, _ in batches] == [[index, index + 1] for index in range(4, 16, 2)]
        processes |= {int(process) for _, (labels, _) in batches for process in labels.flatten()}
    assert len(processes) == 2 and 0 not in processes


@pytest.mark.parametrize(("stage", "workers"), [(0, 2), (1, 0), (2, 0), (3, 2)])
def test_only_the_first_and_the_last_stage_have_workers(stage, workers):
    loader = BatchLoader(PlacesOfWorkers(), 2, ParallelGrid(pipeline_size=4, rank=stage), 2)
    assert loader.loader.num_workers == workers


@pytest.mark.parametrize("workers", [0, 2])
def test_an_id_beyond_the_vocabulary_is_an_error_without_a_stack_trace(tmp_path, workers):
    loader = BatchLoader(samples(tmp_path / "a", 10, last=1001), 2, single_process_grid(), workers)
    with pytest.raises(DataError, match=r"^\S+a\.bin has token id 1,001 ") as caught:
        next(iter(loader))
    assert "Traceback" not in str(caught.value)


def test_a_killed_worker_is_an_error_with_a_remedy():
    loader = BatchLoader(PlacesOfWorkers(deadly=23), 2, single_process_grid(), 1)
    loader.seek(20)
    with pytest.raises(DataError, match=r"a worker process that reads samples ended: DataLoader worker .*num_workers: 0"):
        list(loader)


@pytest.mark.parametrize("data_size", [1, 2])
def test_a_longer_run_and_other_ranks_read_the_same_samples_in_the_same_order(tmp_path, data_size):
    dataset, longer = samples(tmp_path / "a", 40), samples(tmp_path / "a", 300)
    loaders = [
        BatchLoader(longer, 2, replace(single_process_grid(), data_size=data_size, rank=rank), 1) for rank in range(data_size)
    ]
    steps = zip(*loaders, strict=True)
    read = [row for step in steps for tokens, _ in step for row in tokens.tolist()]
    assert read[:40] == [dataset[index]["tokens"].tolist() for index in range(40)]
