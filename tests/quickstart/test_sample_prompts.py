"""Prompts are the first lines of functions of held-out files."""

import time
from pathlib import Path

import pytest
from quickstart.conftest import document
from small_corpus import write_documents

from neox_code.corpus.shards import CorpusSummary, iter_documents, write_summary
from neox_code.quickstart.sample_prompts import DEFINITION, LONGEST, sample_prompts

LICENSE = "Copyright (c) 2020 A. Author. All rights reserved (see the file COPYING)."
BEGINNINGS = {
    "Python": (
        f'"""The module.\n\nclass of numbers; def is not code here.\n"""\n# {LICENSE}\nimport os\n\n',
        "async def run(x):\n",
    ),
    "C": (
        f"/*\n{LICENSE}\n*/\n#include <a.h>\nstruct pair;\nint f(void);\nint table[] = {{1}};\n",
        "static int\nadd(int a,\n    int b)\n{\n",
    ),
    "C++": ("#pragma once\nclass Later;\nnamespace a {\n", "template <typename T>\nstd::vector<T> Range(T x) {\n"),
    "Java": (f"// {LICENSE}\npackage a.b;\nimport c.d;\n\n", "public final class Cat extends Animal {\n"),
    "JavaScript": ("'use strict';\nconst fs = require('fs');\nif (fs) { }\n", "export const add = async (a, b) => {\n"),
    "Go": ("package main\n\nimport (\n)\n", "func (s *Server) Run() error {\n"),
    "Rust": ("use std::io;\nfn_macro!();\n", "pub(crate) fn run() -> u8 {\n"),
    "Ruby": ("require 'set'\n", "module Outer\n"),
    "Shell": ("#!/bin/sh\nset -e\nif (true); then :; fi\n", "usage() {\n"),
}
"""Language -> lines above the first function or class, and its first lines."""


def test_prompts_are_shorter_than_their_held_out_files(corpus: Path) -> None:
    texts = {document.path: document.text for document in iter_documents(corpus, "test")}
    prompts = sample_prompts(corpus, "test", ["C", "Python"], bool, per_language=3, seed=1)
    assert [prompt.language for prompt in prompts] == ["C", "Python", "Python", "Python"]
    for prompt in prompts:
        assert texts[prompt.path].startswith(prompt.text)
        assert 0 < len(prompt.text) <= LONGEST
        assert len(prompt.text) < len(texts[prompt.path])


def test_prompts_end_with_a_whole_line(corpus: Path) -> None:
    prompts = sample_prompts(corpus, "test", ["Python"], bool, per_language=2, seed=1)
    assert all(prompt.text.endswith("\n") for prompt in prompts)


def test_files_whose_prompt_is_rejected_are_skipped(corpus: Path) -> None:
    everything = {prompt.path for prompt in sample_prompts(corpus, "test", ["Python"], bool, per_language=10, seed=1)}
    accepted = {prompt.path for prompt in sample_prompts(corpus, "test", ["Python"], str.isprintable, per_language=10, seed=1)}
    unmarked = sample_prompts(corpus, "test", ["Python"], lambda text: "\x1e" not in text, per_language=10, seed=1)
    assert everything - {prompt.path for prompt in unmarked} == {"marked.py"}
    assert accepted == set()


def test_the_seed_selects_the_files(corpus: Path) -> None:
    def choice(seed: int) -> tuple[str, ...]:
        return tuple(prompt.path for prompt in sample_prompts(corpus, "test", ["Python"], bool, per_language=2, seed=seed))

    assert choice(1) == choice(1)
    assert len({choice(seed) for seed in range(10)}) > 1


@pytest.mark.parametrize("language", BEGINNINGS)
def test_a_prompt_begins_at_the_first_function_or_class(language: str) -> None:
    above, definition = BEGINNINGS[language]
    found = DEFINITION.search(above + definition + "body\n")
    assert found is not None
    assert (above + definition)[found.start() :] == definition


def test_files_with_a_function_are_preferred(tmp_path: Path) -> None:
    plain = [document("C", f"table{number}.c", f"/* {number}, {LICENSE} */\nint x;\n" + "int y;\n" * 100) for number in range(20)]
    function = document("C", "add.c", f"/* {LICENSE} */\n#include <a.h>\nint add(int a) {{\n" + "  a++;\n" * 100 + "}\n")
    write_summary(tmp_path, CorpusSummary("mixed", {"sources": ["local"]}, (), write_documents(tmp_path, [*plain, function])))
    first, second = sample_prompts(tmp_path, "test", ["C"], bool, per_language=2, seed=1)
    assert (first.path, first.text[:16]) == ("add.c", "int add(int a) {")
    assert second.text.startswith("int x;")


def test_long_lines_are_searched_in_linear_time() -> None:
    start = time.process_time()
    for text in ("word " * 200_000, "name(" * 200_000, "a\n" * 500_000, "export " * 150_000):
        assert DEFINITION.search(text) is None
    assert time.process_time() - start < 20
