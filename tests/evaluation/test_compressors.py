"""Compressed sizes equal those of the programs, and the unigram entropy its definition."""

import math
import shutil
import subprocess

import pytest
from real_code import real_file

from neox_code.evaluation.compressors import compute_compressed_bits, compute_gzip_size, compute_unigram_bits, compute_xz_size

MODULES = ("token", "regexopt", "style", "formatters/html", "lexers/c_cpp")


def read_module(name: str) -> bytes:
    return real_file(f"pygments/{name}.py").read_bytes()


def measure_program(text: bytes, *command: str) -> int:
    if not shutil.which(command[0]):
        pytest.skip(f"no program {command[0]} here")
    return len(subprocess.run(command, input=text, stdout=subprocess.PIPE, check=True).stdout)


@pytest.mark.parametrize("module", MODULES)
def test_xz_sizes_are_those_of_the_program(module):
    text = read_module(module)
    assert compute_xz_size(text) == measure_program(text, "xz", "-9", "-T1")


def test_gzip_sizes_are_those_of_the_program_for_files_of_few_blocks():
    for module in ("token", "regexopt", "style"):
        text = read_module(module)
        assert compute_gzip_size(text) == measure_program(text, "gzip", "-9")


def test_gzip_sizes_of_longer_files_are_within_a_hundredth_of_the_program():
    for module in ("formatters/html", "lexers/c_cpp", "lexer"):
        text = read_module(module)
        assert compute_gzip_size(text) == pytest.approx(measure_program(text, "gzip", "-9"), rel=0.01)


def test_files_are_smaller_joined_than_alone():
    texts = [read_module(module) for module in MODULES]
    bits = compute_compressed_bits(texts)
    assert bits["gzip_alone"] == 8 * sum(map(compute_gzip_size, texts))
    assert bits["xz_joined"] == 8 * compute_xz_size(b"".join(texts))
    assert bits["gzip_joined"] < bits["gzip_alone"]
    assert bits["xz_joined"] < bits["xz_alone"]


def test_progress_counts_every_byte_once_for_each_compressor_and_mode():
    advanced = []
    compute_compressed_bits([b"first", b"second"], advanced.append)
    assert sum(advanced) == 4 * len(b"firstsecond")


def test_unigram_bits_are_the_information_of_each_token():
    files = [[3, 3, 1], [3, 2, 2, 2, 2]]
    share = {3: 3 / 8, 1: 1 / 8, 2: 4 / 8}
    assert compute_unigram_bits(files) == pytest.approx(sum(-math.log2(share[token]) for ids in files for token in ids))
    assert compute_unigram_bits([[5, 5], [5]]) == 0
