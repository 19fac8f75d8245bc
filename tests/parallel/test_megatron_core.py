"""Imports of megatron-core leave out torch's compiler."""

import sys

from distributed_runs import run_ranks


def is_imported(module: str) -> bool:
    return module in sys.modules


def test_a_rank_does_not_import_torchs_compiler():
    assert run_ranks(1, is_imported, "megatron.core") == [True]
    assert run_ranks(1, is_imported, "torch._inductor.compile_fx") == [False]
