"""Batches that a side stream copies, with streams that record the order of events: a GPU is not needed."""

import contextlib

import torch

from neox_code.data.batch import copy_ahead, copy_by_side_stream


def test_a_batch_is_copied_before_the_one_ahead_of_it_is_used(monkeypatch):
    events = []

    class Stream:
        def __init__(self, device):
            self.device = device

        def wait_stream(self, other):
            events.append("wait")

    monkeypatch.setattr("torch.cuda.Stream", Stream)
    monkeypatch.setattr("torch.cuda.current_stream", Stream)
    monkeypatch.setattr("torch.cuda.stream", lambda stream: contextlib.nullcontext())
    monkeypatch.setattr("torch.Tensor.record_stream", lambda tensor, stream: None)

    def read():
        for number in range(3):
            events.append(f"read {number}")
            yield torch.tensor(number), (torch.tensor(10 + number), None)

    for tokens, (labels, mask) in copy_by_side_stream(read(), torch.device("cpu")):
        assert (int(labels), mask) == (10 + int(tokens), None)
        events.append(f"use {int(tokens)}")
    assert events == ["read 0", "read 1", "wait", "use 0", "read 2", "wait", "use 1", "wait", "use 2"]


def test_nothing_is_copied_without_a_gpu():
    batches = iter(())
    assert copy_ahead(batches, torch.device("cpu")) is batches
