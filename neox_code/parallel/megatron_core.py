"""Import megatron-core without torch's compiler. Every module that imports `megatron.core` imports this module first.

megatron-core and DeepSpeed's optimizer Muon decorate some functions with `torch.compile`. These functions are not used here, but
the decoration imports the compiler, which takes two fifths of the time in which a rank imports its modules.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch


def leave_uncompiled(function: Callable[..., Any]) -> Callable[..., Any]:
    return function


@contextmanager
def disable_compiler() -> Iterator[None]:
    """Within the block, replace `torch.compile`, so that imported modules leave their decorated functions uncompiled."""
    original, torch.compile = torch.compile, leave_uncompiled  # type: ignore[assignment]
    try:
        yield
    finally:
        torch.compile = original


with disable_compiler():
    import megatron.core  # noqa: F401
