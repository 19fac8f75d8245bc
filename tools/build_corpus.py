#!/usr/bin/env python3
"""Builds a corpus of source code: folders, git repositories and archives become Parquet documents, filtered and split.

    python tools/build_corpus.py local --output corpus --max-megabytes 64 --split 90,5,5
    python tools/build_corpus.py ~/projects linux.tar.xz src.zip mirror.git --output corpus --languages C,Rust

SOURCE is a folder (its first-level folders are projects), a git repository (work tree or bare; its HEAD is read), a tar or zip
archive, or `local`: the Python library and packages of this machine (Python, C, C++ and JavaScript). A folder of that name is
`./local`. Exit status 2 for what the user can mend.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console

from neox_code.corpus.build import POLYCODER_SHARES, build_corpus
from neox_code.corpus.recipes import POLYCODER, RECIPES, recipe_by_name
from neox_code.corpus.report import show_corpus
from neox_code.corpus.shards import is_corpus
from neox_code.errors import DataError, run_command


def main(argv: Sequence[str]) -> int:
    arguments = parser().parse_args(argv)
    if is_corpus(arguments.output) and not arguments.overwrite:
        raise DataError(f"{arguments.output} already holds a corpus. Choose another --output, or replace it with --overwrite.")
    summary = build_corpus(
        arguments.sources,
        arguments.output,
        recipe_by_name(arguments.recipe),
        seed=arguments.seed,
        max_bytes=arguments.max_megabytes and int(arguments.max_megabytes * 1e6),
        shares=arguments.split,
        languages=arguments.languages,
        workers=arguments.workers,
    )
    console = Console()
    show_corpus(console, summary)
    console.print(f"{summary.kept_files:,} files, {summary.kept_bytes / 1e6:,.1f} MB in {arguments.output}", highlight=False)
    return 0


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    result.add_argument("sources", nargs="+", metavar="SOURCE", help="folder, git repository, tar or zip archive, or `local`")
    result.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder for the corpus")
    result.add_argument("--recipe", default=POLYCODER.name, help=f"filters: {', '.join(RECIPES)} (default %(default)s)")
    result.add_argument("--languages", type=names, metavar="A,B", help="languages to take (default: all of the recipe)")
    result.add_argument("--workers", type=positive(int), metavar="N", help="processes (default: one per core)")
    result.add_argument("--max-megabytes", type=positive(float), metavar="N", help="limit: a seeded sample of projects")
    result.add_argument("--split", type=three_shares, default=POLYCODER_SHARES, metavar="T,V,T", help="train, valid, test")
    result.add_argument("--seed", type=int, default=1234, help="of sample and split (default %(default)s)")
    result.add_argument("--overwrite", action="store_true", help="replace a corpus that is there")
    return result


def names(value: str) -> list[str]:
    return [name.strip() for name in value.split(",") if name.strip()]


def positive(kind: type[float]) -> Callable[[str], float]:
    def convert(value: str) -> float:
        number = kind(value)
        if not number > 0:
            raise argparse.ArgumentTypeError(f"{value} is not above 0")
        return number

    convert.__name__ = f"positive {kind.__name__}"
    return convert


def three_shares(value: str) -> tuple[float, ...]:
    shares = tuple(float(part) for part in value.split(","))
    if len(shares) != 3 or min(shares) < 0 or not shares[0] > 0:
        raise argparse.ArgumentTypeError(f"{value} is not three shares for train, valid and test, the first above 0")
    return shares


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:]))
