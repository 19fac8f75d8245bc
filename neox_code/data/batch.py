"""Stack samples into the tensors of a micro batch. Shape letters: B micro batch, S sequence."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain

import torch

Inputs = torch.Tensor | tuple[torch.Tensor, torch.Tensor]
"""tokens_BS, or with dropout (tokens_BS, keys_B): the key of each row's dropout masks, int64."""

Batch = tuple[Inputs, tuple[torch.Tensor, torch.Tensor | None]]
"""(inputs, (labels_BS, loss_mask_BS)): inputs of the first pipeline stage, labels and loss mask of the last. Mask None: no token
is masked."""


def collate(samples: Sequence[Mapping[str, torch.Tensor]], has_mask: bool = True) -> Batch:
    """Stack megatron-core's samples into a batch. `has_mask` may be False only if no token is masked in the loss."""
    tokens_BS, labels_BS, mask_BS = (torch.stack([sample[key] for sample in samples]) for key in ("tokens", "labels", "loss_mask"))
    assert has_mask or mask_BS.all(), "a sample masks tokens, and the configuration has no mask"
    return tokens_BS.long(), (labels_BS.long(), mask_BS.float() if has_mask else None)


def move_to_device(batch: Batch, device: torch.device) -> Batch:
    """Return the batch on a device. Copies from pinned memory to a GPU do not make the host wait."""
    inputs, (labels, mask) = batch

    def move(tensor: torch.Tensor) -> torch.Tensor:
        return tensor.to(device, non_blocking=True)

    moved = (move(inputs[0]), move(inputs[1])) if isinstance(inputs, tuple) else move(inputs)
    return moved, (move(labels), None if mask is None else move(mask))


def copy_ahead(batches: Iterator[Batch], device: torch.device) -> Iterator[Batch]:
    """Return the batches; on a GPU each is copied to it while the GPU computes with the one before."""
    return copy_by_side_stream(batches, device) if device.type == "cuda" else batches


def copy_by_side_stream(batches: Iterator[Batch], device: torch.device) -> Iterator[Batch]:
    """Yield the batches on a GPU. The copy of the next one has begun when a batch is yielded."""
    stream = torch.cuda.Stream(device)
    copied: Batch | None = None
    for batch in chain(batches, [None]):
        ready = copied
        if ready is not None:
            torch.cuda.current_stream(device).wait_stream(stream)
        if batch is not None:
            with torch.cuda.stream(stream):
                copied = move_to_device(batch, device)
        if ready is not None:
            inputs, (labels, mask) = ready
            for tensor in (*(inputs if isinstance(inputs, tuple) else (inputs,)), labels, mask):
                if tensor is not None:
                    tensor.record_stream(torch.cuda.current_stream(device))
            yield ready
