"""Sum gradients in fp32 over micro batches, and over data ranks while the backward pass still runs.

    buckets = GradientBuckets(groups, data_group)
    buckets.begin(is_first, is_last)          # before the backward pass of a micro batch
    loss.backward()
    buckets.finish()                          # the fp32 sums are complete after the last micro batch

A bucket is a range of a group's flat gradients. The backward pass computes the gradients of the last layers first, so that the
buckets are in reverse order. A gradient is freed once its bucket is added to the sum. All ranks reduce the buckets in one order.
"""

from collections.abc import Sequence
from functools import partial

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed import ProcessGroup

from neox_code.training.flat_group import FlatGroup


class Bucket:
    """Some parameters of a group, and the range of the group's flat fp32 gradients that belongs to them."""

    def __init__(self, parameters: Sequence[nn.Parameter], flat: torch.Tensor):
        self.parameters = list(parameters)
        self.flat = flat
        sizes = [parameter.numel() for parameter in self.parameters]
        self.views = [part.view_as(parameter) for part, parameter in zip(flat.split(sizes), self.parameters, strict=True)]
        self.missing = 0

    def add(self, is_first: bool, spare: torch.Tensor | None) -> None:
        """Add the parameters' gradients to the sum and free them. `spare` is memory for their fp32 copies on a GPU."""
        gradients = [parameter.grad for parameter in self.parameters]
        for parameter in self.parameters:
            parameter.grad = None
        if is_first and any(gradient is None for gradient in gradients):
            self.flat.zero_()
        views = [view for view, gradient in zip(self.views, gradients, strict=True) if gradient is not None]
        found = [gradient for gradient in gradients if gradient is not None]
        if is_first and found:
            torch._foreach_copy_(views, found)
        elif spare is not None and found:  # one addition for the whole bucket
            wide = spare[: self.flat.numel()]
            sizes = [view.numel() for view in self.views]
            parts = [part.view_as(view) for part, view in zip(wide.split(sizes), self.views, strict=True)]
            if len(found) < len(parts):
                wide.zero_()
            filled = [part for part, gradient in zip(parts, gradients, strict=True) if gradient is not None]
            torch._foreach_copy_(filled, found)
            self.flat.add_(wide)
        else:
            for view, gradient in zip(views, found, strict=True):
                view.add_(gradient)


class GradientBuckets:
    """The fp32 gradients of all groups, `flats`, and the hooks that fill them."""

    def __init__(self, groups: Sequence[FlatGroup], data_group: ProcessGroup | None, elements: int, is_spare_used: bool):
        self.data_group = data_group if data_group is not None and data_group.size() > 1 else None
        self.flats = [torch.zeros(group.weights.numel(), device=group.weights.device) for group in groups]
        self.buckets: list[Bucket] = []
        for group, flat in zip(groups, self.flats, strict=True):
            for parameters in split_in_reverse(group.parameters, elements):
                begin, last = group.offsets[parameters[0]], parameters[-1]
                self.buckets.append(Bucket(parameters, flat[begin : group.offsets[last] + last.numel()]))
        largest = max(bucket.flat.numel() for bucket in self.buckets)
        self.spare = torch.empty(largest, device=self.flats[0].device) if is_spare_used else None
        for bucket in self.buckets:
            for parameter in bucket.parameters:
                parameter.register_post_accumulate_grad_hook(partial(self.receive, bucket))
        self.works: list[dist.Work] = []

    def begin(self, is_first: bool, is_last: bool) -> None:
        """Prepare for the backward pass of a micro batch, the first or last of a step."""
        self.is_first, self.is_last, self.done = is_first, is_last, 0
        for bucket in self.buckets:
            bucket.missing = len(bucket.parameters)

    def receive(self, bucket: Bucket, parameter: nn.Parameter) -> None:
        """Hook of a parameter whose gradient is computed: add all buckets that are complete, in order."""
        bucket.missing -= 1
        while self.done < len(self.buckets) and self.buckets[self.done].missing == 0:
            self.add_next()

    def add_next(self) -> None:
        bucket = self.buckets[self.done]
        bucket.add(self.is_first, self.spare)
        if self.is_last and self.data_group is not None:
            work = dist.all_reduce(bucket.flat, group=self.data_group, async_op=True)
            assert work is not None
            self.works.append(work)
        self.done += 1

    def finish(self) -> None:
        """End a backward pass: add buckets of parameters that the loss does not depend on, and wait for the sums over ranks."""
        while self.done < len(self.buckets):
            self.add_next()
        for work in self.works:
            work.wait()
        self.works.clear()


def split_in_reverse(parameters: Sequence[nn.Parameter], elements: int) -> list[list[nn.Parameter]]:
    """Return runs of parameters from the last to the first. A run has at most `elements` elements, or one parameter."""
    runs: list[list[nn.Parameter]] = [[]]
    for parameter in reversed(parameters):
        if runs[-1] and sum(each.numel() for each in runs[-1]) + parameter.numel() > elements:
            runs.append([])
        runs[-1].insert(0, parameter)
    return runs
