#!/usr/bin/env python3
"""Lists repositories of GitHub by language and stars, for tools/build_corpus.py.

    export GITHUB_TOKEN=...
    python tools/crawl_github.py --preset polycoder --output repositories.jsonl
    python tools/crawl_github.py --languages Rust,Go --min-stars 200 --max-repositories 5000 --license MIT --output mit.jsonl

Presets, each of the repositories with the most stars, without forks:

    polycoder     PolyCoder's twelve languages, 50 stars or more, pushed to after 2020-01-01
    code-clippy   GPT-Code-Clippy's criteria for these: more than 10 stars and 2 commits, a license, under 70,708 KiB
    godot-dodo    GDScript under the MIT license

A run that was stopped, or that GitHub refused, goes on where it was when the same command is given again.
"""

import argparse
import dataclasses
import sys
from collections import Counter
from collections.abc import Sequence
from datetime import date
from pathlib import Path

from neox_code.corpus.github.discover import PRESETS, Criteria, crawl
from neox_code.corpus.github.graphql import ENDPOINT, GitHub, token_from_environment
from neox_code.errors import ConfigError, run_command


def main(argv: Sequence[str]) -> int:
    arguments = parser().parse_args(argv)
    rows = crawl(criteria(arguments), arguments.output, GitHub(token_from_environment(), arguments.endpoint))
    for language, count in Counter(row["language"] for row in rows).items():
        print(f"{language}: {count:,}")
    print(f"{len(rows):,} repositories in {arguments.output}")
    return 0


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    result.add_argument("--output", type=Path, required=True, metavar="FILE", help="a JSON object a line")
    result.add_argument("--preset", choices=list(PRESETS), help="the criteria of a known corpus; the options below change them")
    wanted = result.add_argument_group("criteria")
    wanted.add_argument("--languages", type=names, metavar="A,B", help="by GitHub's names")
    wanted.add_argument("--min-stars", type=int, metavar="N", help="default 50")
    wanted.add_argument("--max-repositories", type=int, metavar="N", help="of each language, the most starred (default 25000)")
    wanted.add_argument("--license", type=names, dest="licenses", metavar="A,B", help="SPDX identifiers, one of which it has")
    wanted.add_argument("--has-license", action=argparse.BooleanOptionalAction, default=None, help="any licence that GitHub knows")
    wanted.add_argument("--min-commits", type=int, metavar="N", help="on the default branch; asking for them is slow")
    wanted.add_argument("--forks", action=argparse.BooleanOptionalAction, default=None, help="default: no forks")
    wanted.add_argument("--max-size-kib", type=int, metavar="N", help="of the repository as GitHub counts it")
    wanted.add_argument("--pushed-after", type=day, metavar="YYYY-MM-DD", help="the last push was later")
    result.add_argument("--endpoint", default=ENDPOINT, metavar="URL", help="default %(default)s")
    return result


def criteria(arguments: argparse.Namespace) -> Criteria:
    """The preset's, changed by the options that were given."""
    said = {field.name: value for field in dataclasses.fields(Criteria) if (value := getattr(arguments, field.name)) is not None}
    if arguments.preset is None and "languages" not in said:
        raise ConfigError(f"no languages. Give --languages, or --preset with one of {', '.join(PRESETS)}.")
    for name, least in (("min_stars", 0), ("max_repositories", 1), ("min_commits", 0), ("max_size_kib", 1)):
        if said.get(name, least) < least:
            raise ConfigError(f"--{name.replace('_', '-')} ({said[name]}) must be at least {least}.")
    return dataclasses.replace(PRESETS[arguments.preset], **said) if arguments.preset else Criteria(**said)


def day(value: str) -> str:
    return date.fromisoformat(value).isoformat()


def names(value: str) -> tuple[str, ...]:
    listed = tuple(name.strip() for name in value.split(",") if name.strip())
    if not listed:
        raise argparse.ArgumentTypeError(f"{value!r} names none")
    return listed


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:]))
