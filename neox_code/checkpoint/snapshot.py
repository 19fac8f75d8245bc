"""Copy state dicts to host memory while the next step computes its gradients.

    snapshot = Snapshot({"layer_02-model_00-model_states.pt": state, ...})      # allocates; copies nothing
    snapshot.copy()                  # on another thread: read all tensors
    snapshot.wait()                  # before the optimizer changes weights and moments
    snapshot.files                   # name -> state dict of copies, each a tensor of its own storage

If the host lacks the memory for copies, `files` has the tensors themselves: the caller then waits until they are written.
"""

import os
import threading
from collections.abc import Mapping
from typing import Any

import torch

from neox_code.logs import get_logger
from neox_code.machine import read_available_bytes

log = get_logger(__name__)

SPARE_SHARE = 0.1
"""Share of the copies' size that must stay available besides them."""


class Snapshot:
    def __init__(self, files: Mapping[str, Any]):
        self.copied = threading.Event()
        tensors = [tensor for state in files.values() for tensor in list_tensors(state)]
        self.num_bytes = sum(tensor.nbytes for tensor in {id(tensor): tensor for tensor in tensors}.values())
        available = read_available_bytes()
        needed = self.num_bytes * int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        self.has_copies = available is None or available > (1 + SPARE_SHARE) * needed
        self.pairs: dict[tuple[Any, ...], tuple[torch.Tensor, torch.Tensor]] = {}
        """Key of a tensor's memory -> (the tensor, its copy). Tied weights are copied once."""
        self.files = {name: self.allocate(state) if self.has_copies else state for name, state in files.items()}
        self.is_on_gpu = any(tensor.is_cuda for tensor in tensors)
        if self.is_on_gpu:
            self.stream = torch.cuda.Stream()
            self.stream.wait_stream(torch.cuda.current_stream())
        if not self.has_copies:
            log.warning(
                "%.1f GiB of memory are available, and copies of the state need %.1f GiB: training waits until it is written",
                (available or 0) / 2**30,
                needed / 2**30,
            )

    def allocate(self, value: Any) -> Any:
        """Return the value with an uninitialized copy in place of each tensor, and with containers of its own."""
        if isinstance(value, torch.Tensor):
            key = (value.data_ptr() or id(value), value.dtype, value.shape, value.stride())
            if key not in self.pairs:
                copy = torch.empty(value.shape, dtype=value.dtype, device="cpu", pin_memory=value.is_cuda)
                self.pairs[key] = (value.detach(), copy)
            return self.pairs[key][1]
        if isinstance(value, dict):
            return {name: self.allocate(inner) for name, inner in value.items()}
        if type(value) in (list, tuple):
            return type(value)(self.allocate(inner) for inner in value)
        return value

    def copy(self) -> None:
        """Fill the copies. Other threads continue meanwhile."""
        with torch.no_grad():
            if self.is_on_gpu:
                with torch.cuda.stream(self.stream):
                    for source, target in self.pairs.values():
                        target.copy_(source, non_blocking=True)
                self.stream.synchronize()
            else:
                for source, target in self.pairs.values():
                    target.copy_(source)
        self.pairs = {}
        if self.has_copies:
            self.copied.set()

    def wait(self) -> None:
        """Return when the original tensors may change."""
        self.copied.wait()


def list_tensors(value: Any) -> list[torch.Tensor]:
    """Return the tensors in nested dictionaries, lists and tuples."""
    if isinstance(value, torch.Tensor):
        return [value]
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ()
    return [tensor for each in inner for tensor in list_tensors(each)]
