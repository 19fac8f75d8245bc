"""Functions and windows of Kotlin, and the Kotlin project's rows compared with the documented algorithm of its libraries."""

import glob
import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from neox_code.corpus.rows.chunks import estimate_token_counts, split_recursively
from neox_code.corpus.rows.kotlin import SEPARATORS, KotlinFunctions, KotlinWindows
from neox_code.corpus.rows.kotlin_source import find_kotlin_functions
from neox_code.corpus.shards import Document

FILE = '''/*
 * Copyright 2020 Ann.
 */
package me

fun interface Shape { fun area(): Int }
val text = "fun no() { ${ if (true) "}" else "{" } } $text fun"
/* a comment /* in a comment } */ fun no() {} */

/**
 * Adds [a] and [b].
 *
 * @param a a number
 */
@Suppress("fun x() {", level = f(1))
@JvmStatic
public inline fun <reified T : Comparable<T>> Map<String, List<T>>.add(
    a: (Int) -> Unit = { println("}") },
    b: Char = '}',
): Map<String, (T) -> Unit> where T : Any,
    T : Number
{
    val raw = """
        } $a ${"}"} "quoted" """"
    // }
    fun local() { }
    return run { 'a' }
}

abstract class Tree {
    abstract fun none(): Int
    protected abstract fun neither(a: Int)
    // Says it twice.
    // Then stops.
    internal fun `with a } name`() = when {
        a -> 1
        else -> 2
    }
    fun long(a: Int) =
        a
            .plus(1)
            ?: 2
    fun short(): Int = 1 + // plus
    2
    fun branch(a: Boolean) = if (a) 1
    else 2

    val later = fun(x: Int): Int { return x }
    val of = fun Int.(y: Int) = y
    fun (() -> Int).called() = this()
    object Leaf { @Test fun leaf() = 3; fun other() {} }
}
'''


def between(start: str, end: str) -> str:
    begin = FILE.index(start)
    return FILE[begin : FILE.index(end, begin)]


FUNCTIONS = [
    (between('@Suppress("fun', "\nabstract class"), "Adds [a] and [b]."),
    (between("    internal fun", "    fun long"), "Says it twice.\nThen stops."),
    (between("    fun long", "    fun short"), ""),
    (between("    fun short", "    fun branch"), ""),
    (between("    fun branch", "\n    val later"), ""),
    (between("    fun (()", "    object"), ""),
    ("@Test fun leaf() = 3", ""),
    ("fun other() {}", ""),
]


def document(text: str, path: str = "Tree.kt") -> Document:
    return Document(text, "Kotlin", "me/tree", path, "0" * 64, len(text.encode()), "train")


def test_functions_are_extracted_unchanged() -> None:
    assert list(find_kotlin_functions(FILE)) == FUNCTIONS
    assert list(KotlinFunctions().rows(document(FILE), None)) == [{"instruction": kdoc, "output": code} for code, kdoc in FUNCTIONS]


def test_functions_are_found_in_files_with_windows_line_ends() -> None:
    assert [code for code, _ in find_kotlin_functions(FILE.replace("\n", "\r\n"))] == [
        code.replace("\n", "\r\n") for code, _ in FUNCTIONS
    ]


@pytest.mark.parametrize(
    "text",
    [
        "fun f(",
        "fun f() {",
        'fun f() = "',
        "fun <T",
        "fun f() = (",
        '"${' * 5_000 + "fun",
        "fun f(" * 9_999,
        "@A " * 99_999 + "fun",
        "fun <A" * 99_999,
        "fun f(): " * 99_999,
        "fun a " * 9_999,
    ],
)
def test_broken_code_is_scanned_without_error(text: str) -> None:
    assert len(list(find_kotlin_functions(text))) <= 1


def recursive_chunks(text: str, separators: list[str], size: int, length: Callable[[str], int]) -> list[str]:
    """Split as RecursiveCharacterTextSplitter is documented to do, with separators kept in front and no overlap."""
    for place, candidate in enumerate(separators):
        separator, finer = candidate, separators[place + 1 :]
        if candidate in text:
            break
    halves = text.split(separator)
    pieces = [piece for piece in [halves[0], *(separator + half for half in halves[1:])] if piece]
    done: list[str] = []
    waiting = ""
    waiting_length = 0
    for piece in [*pieces, None]:
        is_small = piece is not None and length(piece) < size
        if waiting and not (is_small and waiting_length + length(str(piece)) <= size):
            if waiting.strip():
                done.append(waiting.strip())
            waiting, waiting_length = "", 0
        if piece is None:
            break
        if is_small:
            waiting += piece
            waiting_length += length(piece)
        else:
            done.extend(recursive_chunks(piece, finer, size, length) if finer else [piece])
    return done


TEXTS = [FILE, FILE * 3, "x" * 300 + " " + "y " * 100, "\n\n\t}} }\n" * 40, "a", "", "one\ttwo}three four\n" * 20]


@pytest.mark.parametrize("size", [5, 20, 100])
@pytest.mark.parametrize("text", TEXTS)
def test_chunks_equal_those_of_the_recursive_splitter(text: str, size: int) -> None:
    length = lambda piece: estimate_token_counts([piece])[0]  # noqa: E731
    expected = recursive_chunks(text, list(SEPARATORS), size, length)
    assert split_recursively(text, SEPARATORS, size, estimate_token_counts) == expected


def test_faithful_rows_equal_those_of_the_kotlin_project() -> None:
    maker = KotlinWindows(tokens=20, faithful=True)
    without_notice = FILE[FILE.index("*/") + 2 :]
    chunks = recursive_chunks(without_notice, list(SEPARATORS), 20, lambda piece: estimate_token_counts([piece])[0])
    rows = list(maker.rows(document(FILE), None))
    assert rows == [{"prompt": prompt, "completion": f"{completion}<|endoftext|>"} for prompt, completion in pairwise(chunks)]
    assert not any(row["prompt"].startswith((" ", "\n")) for row in rows)
    for left_out in ("one\nline", FILE + "1" * 40, FILE + "x" * 200):
        assert list(maker.rows(document(left_out), None)) == []


def test_faithful_rows_are_made_from_files_that_match_the_kotlin_projects_glob(tmp_path: Path) -> None:
    paths = ["a.kt", "a/b.c/d.kt", ".kt", ".a.kt", "a/.b/c.kt", ".a/b.kt", "a/.b.kt", "a.kts", "build.gradle.kts", "a.KT", "akt"]
    for path in paths:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    found = set(glob.glob("**/*.kt", root_dir=tmp_path, recursive=True))  # noqa: PTH207 - Path.glob would match hidden files
    maker = KotlinWindows(tokens=20, faithful=True)
    assert {path for path in paths if list(maker.rows(document(FILE, path), None))} == found == {"a.kt", "a/b.c/d.kt"}


def write_tokenizer(folder: Path) -> Path:
    """Write a byte-level tokenizer without merges: each byte is a token."""
    alphabet = {character: number for number, character in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(alphabet, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder / "tokenizer.json"


@pytest.mark.parametrize("limit", [30, 200, 600])
def test_windows_join_to_the_whole_text(tmp_path: Path, limit: int) -> None:
    file = write_tokenizer(tmp_path)
    text = FILE + "\n" * 3 + "é" * 500 + "\n\n"
    rows = list(KotlinWindows(limit, tokenizer=file).rows(document(text), None))
    windows = [rows[0]["prompt"], *(row["completion"] for row in rows)]
    assert "".join(windows) == text
    assert [row["prompt"] for row in rows] == windows[:-1]
    assert all(window.strip() for window in windows)
    assert all(len(window.strip().encode()) <= limit for window in windows)
    if limit == 600:
        starts = [text[: text.index(window)].count("\n") for window in windows[:-1]]
        assert all(window.startswith(("/*", "\n", "abstract", "}", "é", "    ")) for window in windows), starts


def test_a_function_that_fits_in_a_window_is_not_split() -> None:
    one = "fun name{}() {{\n    val a = {}\n    if (a > 3) {{\n        println(a)\n    }}\n}}\n\n"
    text = "".join(one.format(number, number) for number in range(30))
    rows = list(KotlinWindows(tokens=100).rows(document(text), None))
    assert len(rows) > 5
    assert all(row["completion"].startswith("fun name") and row["prompt"].endswith("}\n\n") for row in rows)


def test_an_overlap_adds_the_preceding_lines_to_the_prompt(tmp_path: Path) -> None:
    file = write_tokenizer(tmp_path)
    text = "".join(f"val a{number:03d} = 1\n" for number in range(100))  # 13 tokens each
    plain = list(KotlinWindows(130, tokenizer=file).rows(document(text), None))
    rows = list(KotlinWindows(130, overlap=40, tokenizer=file).rows(document(text), None))
    assert [row["completion"] for row in rows] == [row["completion"] for row in plain]
    for row, without in zip(rows[1:], plain[1:], strict=True):
        before = row["prompt"].removesuffix(without["prompt"])
        assert before.count("\n") == 40 // 13 and text.index(row["prompt"]) + len(before) == text.index(without["prompt"])
    assert re.match("val a000", rows[0]["prompt"]) and rows[0] == plain[0]
