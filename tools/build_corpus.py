#!/usr/bin/env python3
"""Build a corpus of source code: filter and split the files of repositories, archives and datasets into Parquet documents.

    python tools/build_corpus.py ~/repositories --output corpus --recipe polycoder
    python tools/build_corpus.py repositories.jsonl --output corpus --recipe strict --languages C,Rust --workers 16
    python tools/build_corpus.py linux.tar.xz src.zip mirror.git --output corpus --recipe mine.py --newlines lf
    python tools/build_corpus.py ~/scripts --output corpus --recipe mixed --languages lua,mine/zork.yml
    python tools/build_corpus.py local --output corpus --recipe mixed --max-megabytes 64 --split 90,5,5
    python tools/build_corpus.py /shared/code --output /shared/corpus --executor slurm --partition cpu --workers 64

SOURCE is one of these:

    a repository list of tools/crawl_github.py; its repositories are cloned
    a folder of repositories: LANGUAGE/organization/project, organization/project, or one repository
    a git repository, bare or not
    a tar or zip archive, or a folder of them
    a dataset: a file of Parquet, JSON Lines (.jsonl, .ndjson, .json; also .gz, .bz2, .xz, .zst) or one JSON list of rows, or a
        folder of such files at any depth without source code, such as The Stack's data/LANGUAGE/*.parquet
    local: the Python library and packages of this machine (write ./local for a folder of this name)

A compressed tar or JSON Lines file is read by one process. Several files, or one that is not compressed, are read by several.

Rerun the same command to resume an interrupted build. Unfinished work is kept in DIR.work.

With --executor slurm or ray (pip install 'neox-code[cluster]' for ray) other machines do the work. This process submits their jobs,
shows their progress, repeats lost tasks, and cancels the jobs when it is interrupted. All machines must have the sources, the
output and this environment under the same paths. The corpus is the same to the byte on every executor; logs are in
DIR.work/cluster.
"""

import argparse
import dataclasses
import math
import sys
from collections.abc import Sequence
from pathlib import Path

import set_up  # noqa: F401
from rich.console import Console

from neox_code.config.command_line import (
    Parser,
    add_json_option,
    parse_name_list,
    parse_path,
    parse_positive_integer,
    parse_positive_number,
    report_figures,
)
from neox_code.corpus.description.summary_table import print_corpus_table, summarize_languages
from neox_code.corpus.executors.options import add_executor_options, build_executor
from neox_code.corpus.pipeline.build import POLYCODER_SHARES, build_corpus
from neox_code.corpus.pipeline.plan import normalize_sources
from neox_code.corpus.recipes.registry import add_described_languages, find_recipe, list_recipe_names
from neox_code.corpus.sources.find import LOCAL
from neox_code.corpus.sources.folder_layout import LAYOUTS
from neox_code.errors import DataError, run_command
from neox_code.logs import format_plural


def main(argv: Sequence[str]) -> int:
    """Build the corpus and print its table; return the exit status."""
    arguments = make_parser().parse_args(argv)
    refuse_output_in_source(arguments.output, arguments.sources)
    recipe, languages = add_described_languages(find_recipe(arguments.recipe), arguments.languages or ())
    if arguments.newlines is not None:
        recipe = dataclasses.replace(recipe, newlines=arguments.newlines)
    with report_figures(arguments.json) as figures, build_executor(arguments, needs=list_shared_paths(arguments)) as executor:
        summary = build_corpus(
            arguments.sources,
            arguments.output,
            recipe,
            seed=arguments.seed,
            max_bytes=arguments.max_megabytes and int(arguments.max_megabytes * 1e6),
            shares=arguments.split,
            languages=languages,
            workers=arguments.workers,
            tokenizer=arguments.tokenizer,
            layout=arguments.layout,
            language=arguments.language,
            executor=executor,
            clones=arguments.clones,
            overwrite=arguments.overwrite,
        )
        console = Console()
        print_corpus_table(console, summary)
        console.print(
            f"{format_plural(summary.kept_files, 'file')}, {summary.kept_bytes / 1e6:,.1f} MB in {arguments.output}",
            highlight=False,
        )
        figures |= {"corpus": arguments.output, "recipe": summary.recipe, "files": summary.kept_files, "bytes": summary.kept_bytes}
        figures["languages"] = [dataclasses.asdict(row) for row in summarize_languages(summary)]
    return 0


def refuse_output_in_source(output: Path, sources: Sequence[str]) -> None:
    """Raise DataError for an output folder inside a source."""
    for source in normalize_sources(sources):
        if source != LOCAL and Path(source).is_dir() and output.resolve().is_relative_to(source):
            raise DataError(
                f"{output} is inside the source {source}, so the build would read its own output. Choose an --output outside of it."
            )


def list_shared_paths(arguments: argparse.Namespace) -> list[str]:
    """Return the paths that all machines must have."""
    if arguments.executor != "local" and LOCAL in arguments.sources:
        raise DataError(
            f"source {LOCAL} is different on each machine. Name folders that all machines share, or use --executor local."
        )
    return [*normalize_sources(arguments.sources), *(str(path) for path in (arguments.clones, arguments.tokenizer) if path)]


def make_parser() -> Parser:
    """Return the parser of the command line."""
    result = Parser(__doc__)
    result.add_argument("sources", nargs="+", metavar="SOURCE", help="see above")
    result.add_argument("--output", type=parse_path, required=True, metavar="DIR", help="folder for the corpus")
    result.add_argument(
        "--recipe",
        default="polycoder",
        metavar="NAME|FILE.py",
        help=f"languages, filters, edits: {', '.join(list_recipe_names())}, or a Python file with a RECIPE (default: polycoder)",
    )
    result.add_argument(
        "--languages",
        type=parse_name_list,
        metavar="A,B",
        help="languages to include: of the recipe (default: all), of configs/languages/, or YAML files as those there",
    )
    result.add_argument("--language", metavar="A", help="language of dataset rows that have neither a language nor a path")
    result.add_argument("--layout", choices=LAYOUTS, help="meaning of a source's folders (default: detected)")
    result.add_argument("--clones", type=parse_path, metavar="DIR", help="keep clones of listed repositories (default: removed)")
    result.add_argument(
        "--newlines", choices=("lf", "keep"), help="convert line ends to LF, or keep them (default: the recipe's setting)"
    )
    result.add_argument(
        "--max-megabytes",
        type=parse_positive_number,
        metavar="N",
        help="size limit in megabytes: keep a seeded sample of projects; all projects are read first",
    )
    result.add_argument(
        "--split",
        type=parse_shares,
        default=POLYCODER_SHARES,
        metavar="T,V,T",
        help="shares of train, valid and test, divided by projects (default: 98.9,0.1,1)",
    )
    result.add_argument("--seed", type=int, default=1234, help="seed of sample and split (default: %(default)s)")
    result.add_argument("--tokenizer", type=Path, metavar="FILE", help="tokenizer.json, to count the tokens of each document")
    result.add_argument("--overwrite", action="store_true", help="replace an existing corpus")
    add_json_option(result)
    machines = result.add_argument_group("machines")
    machines.add_argument("--workers", type=parse_positive_integer, metavar="N", help="processes at a time (default: one per core)")
    add_executor_options(machines)
    return result


def parse_shares(value: str) -> tuple[float, ...]:
    """Convert an option's value to the shares of train, valid and test."""
    shares = tuple(float(part) for part in value.split(","))
    if len(shares) != 3 or not all(0 <= share < math.inf for share in shares) or not shares[0]:
        raise argparse.ArgumentTypeError(f"{value} is not three shares for train, valid and test; the first must be above 0")
    return shares


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:]))
