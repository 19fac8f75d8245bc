"""From samples to the tensors a step takes. Shape letters: B micro batch, S sequence."""

from collections.abc import Mapping, Sequence

import torch

Batch = tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor]]
"""(tokens_BS, (labels_BS, loss_mask_BS)): inputs of the first stage, labels of the last."""


def collate(samples: Sequence[Mapping[str, torch.Tensor]]) -> Batch:
    """Stacks megatron-core's samples."""
    tokens_BS, labels_BS, mask_BS = (torch.stack([sample[key] for sample in samples]) for key in ("tokens", "labels", "loss_mask"))
    return tokens_BS.long(), (labels_BS.long(), mask_BS.float())
