"""A group of parameters as flat tensors: 16-bit weights, fp32 master weights, fp32 gradients, and the optimizer's moments.

    the flat tensors of a group   [ embedding | 2.query_key_value | 2.dense | ... | padding ]   in the order of the parameters
    data ranks                    |--- rank 0 ---|--- rank 1 ---|--- rank 2 ---|

The parameters of the module are views of the flat weights. Each data rank has the master weights and moments of its own equal part
only (ZeRO stage 1). With fp32 weights the master weights are the weights themselves. DeepSpeed's files have the same order.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import nn

from neox_code.checkpoint.optimizer_state import Fragment

ALIGNMENT = 2
"""Number of elements of which each rank's part is a multiple, as in DeepSpeed's files."""

ELEMENTS_AT_ONCE = 1 << 20
"""Maximum number of elements that a CPU updates at once, few enough for its cache."""


class MasterShare(NamedTuple):
    """A part of a parameter that this rank updates: the optimizer's fp32 weights, and where their gradient is."""

    master: nn.Parameter
    weights: torch.Tensor
    """The module's weights that receive the updated master weights; the master weights themselves in fp32."""
    parameter: nn.Parameter | None
    """The module's parameter; None for the rank's whole part of the group."""
    begin: int
    """Position of the first element in the flat parameter, or in the group's flat tensors if `parameter` is None."""


class FlatGroup:
    """The flat tensors of one parameter group. Building it moves the parameters of the module into `weights`."""

    def __init__(self, parameters: Sequence[nn.Parameter], data_rank: int, data_size: int):
        self.parameters = list(parameters)
        first, count = self.parameters[0], sum(parameter.numel() for parameter in self.parameters)
        step = ALIGNMENT * data_size
        self.weights = torch.zeros(-(-count // step) * step, dtype=first.dtype, device=first.device)
        self.padding = self.weights.numel() - count
        self.size = self.weights.numel() // data_size
        self.begin = data_rank * self.size
        self.offsets: dict[nn.Parameter, int] = {}
        offset = 0
        for parameter in self.parameters:
            view = self.weights[offset : offset + parameter.numel()].view(parameter.shape)
            view.copy_(parameter.data)
            parameter.data = view
            self.offsets[parameter] = offset
            offset += parameter.numel()
        self.own_weights = self.weights[self.begin : self.begin + self.size]
        self.is_fp32 = first.dtype == torch.float32
        self.master = self.own_weights if self.is_fp32 else self.own_weights.float()
        self.moments: dict[str, torch.Tensor] = {}
        """Name in the optimizer's state -> flat tensor of this rank's part."""

    def list_fragments(self) -> Iterator[Fragment]:
        """Yield the part of each parameter that this rank updates, in order; parameters of other ranks have no part."""
        for parameter, offset in self.offsets.items():
            begin, end = max(offset, self.begin), min(offset + parameter.numel(), self.begin + self.size)
            if begin < end:
                yield Fragment(parameter, begin - offset, end - begin, begin - self.begin)

    def make_shares(self, is_whole: bool) -> list[list[MasterShare]]:
        """Return the shares that the optimizer updates, in lists that it updates together.

        With `is_whole` this is the rank's whole part: few launches on a GPU. Else each list has at most `ELEMENTS_AT_ONCE`
        elements, and a share belongs to one parameter.
        """
        if is_whole:
            return [[MasterShare(nn.Parameter(self.master), self.own_weights, None, self.begin)]]
        shares: list[list[MasterShare]] = [[]]
        filled = 0
        for parameter, source, count, target in self.list_fragments():
            for begin in range(0, count, ELEMENTS_AT_ONCE):
                part = slice(target + begin, target + min(count, begin + ELEMENTS_AT_ONCE))
                if filled + part.stop - part.start > ELEMENTS_AT_ONCE:
                    shares.append([])
                    filled = 0
                shares[-1].append(MasterShare(nn.Parameter(self.master[part]), self.own_weights[part], parameter, source + begin))
                filled += part.stop - part.start
        return [together for together in shares if together]
