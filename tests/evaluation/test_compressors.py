"""Compressed sizes against the programs, and the unigram entropy against its definition."""

import math
import shutil
import subprocess

import pytest
from real_code import real_file

from neox_code.evaluation.compressors import compressed_bits, gzip_size, unigram_bits, xz_size

MODULES = ("token", "regexopt", "style", "formatters/html", "lexers/c_cpp")


def module_bytes(name: str) -> bytes:
    return real_file(f"pygments/{name}.py").read_bytes()


def program_size(text: bytes, *command: str) -> int:
    if not shutil.which(command[0]):
        pytest.skip(f"no program {command[0]} here")
    return len(subprocess.run(command, input=text, stdout=subprocess.PIPE, check=True).stdout)


@pytest.mark.parametrize("module", MODULES)
def test_xz_sizes_are_those_of_the_program(module):
    text = module_bytes(module)
    assert xz_size(text) == program_size(text, "xz", "-9", "-T1")


def test_gzip_sizes_are_those_of_the_program_for_files_of_few_blocks():
    for module in ("token", "regexopt", "style"):
        text = module_bytes(module)
        assert gzip_size(text) == program_size(text, "gzip", "-9")


def test_gzip_sizes_of_longer_files_are_within_a_hundredth_of_the_program():
    for module in ("formatters/html", "lexers/c_cpp", "lexer"):
        text = module_bytes(module)
        assert gzip_size(text) == pytest.approx(program_size(text, "gzip", "-9"), rel=0.01)


def test_files_are_smaller_joined_than_alone():
    texts = [module_bytes(module) for module in MODULES]
    bits = compressed_bits(texts)
    assert bits["gzip_alone"] == 8 * sum(map(gzip_size, texts))
    assert bits["xz_joined"] == 8 * xz_size(b"".join(texts))
    assert bits["gzip_joined"] < bits["gzip_alone"]
    assert bits["xz_joined"] < bits["xz_alone"]


def test_progress_is_told_every_byte_once_for_each_compressor_and_way():
    told = []
    compressed_bits([b"first", b"second"], told.append)
    assert sum(told) == 4 * len(b"firstsecond")


def test_unigram_bits_are_the_information_of_each_token():
    files = [[3, 3, 1], [3, 2, 2, 2, 2]]
    share = {3: 3 / 8, 1: 1 / 8, 2: 4 / 8}
    assert unigram_bits(files) == pytest.approx(sum(-math.log2(share[token]) for ids in files for token in ids))
    assert unigram_bits([[5, 5], [5]]) == 0
