"""Stack samples into the tensors of a micro batch. Shape letters: B micro batch, S sequence."""

from collections.abc import Mapping, Sequence

import torch

Batch = tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor | None]]
"""(tokens_BS, (labels_BS, loss_mask_BS)): inputs of the first pipeline stage, labels and loss mask of the last. Mask None: no token
is masked."""


def collate(samples: Sequence[Mapping[str, torch.Tensor]], has_mask: bool = True) -> Batch:
    """Stack megatron-core's samples into a batch. `has_mask` may be False only if no token is masked in the loss."""
    tokens_BS, labels_BS, mask_BS = (torch.stack([sample[key] for sample in samples]) for key in ("tokens", "labels", "loss_mask"))
    assert has_mask or mask_BS.all(), "a sample masks tokens, and the configuration has no mask"
    return tokens_BS.long(), (labels_BS.long(), mask_BS.float() if has_mask else None)
