"""What the processor can do, read from texts that Linux writes for real ones."""

import pytest

from neox_code.machine import cpu_computes_bf16


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("flags : fpu avx2 avx512f avx512_vnni", False),
        ("flags : fpu avx512f avx512_bf16 avx512_vnni", True),
        ("flags : fpu amx_tile amx_bf16 amx_int8", True),
        ("Features : fp asimd i8mm bf16 dgh", True),
    ],
)
def test_instructions_for_bf16_are_found_by_their_names(tmp_path, flags, expected):
    (tmp_path / "cpuinfo").write_text(f"processor : 0\n{flags}\n")
    assert cpu_computes_bf16(tmp_path / "cpuinfo") is expected
