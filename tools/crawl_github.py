#!/usr/bin/env python3
"""List repositories of GitHub by language and stars, for tools/build_corpus.py.

    export GITHUB_TOKEN=...
    python tools/crawl_github.py --preset polycoder --output repositories.jsonl
    python tools/crawl_github.py --languages Rust,Go --min-stars 200 --max-repositories 5000 --license MIT --output mit.jsonl

Presets; each selects the repositories with the most stars, without forks:

    polycoder     PolyCoder's twelve languages, 50 stars or more, pushed to after 2020-01-01
    code-clippy   PolyCoder's languages by GPT-Code-Clippy's criteria: over 10 stars and 2 commits, a license, under 70,708 KiB
    godot-dodo    GDScript under the MIT license

Rerun the same command to resume a run that was stopped or that GitHub refused.
"""

import argparse
import dataclasses
import sys
from collections import Counter
from collections.abc import Sequence
from datetime import date
from pathlib import Path

import set_up  # noqa: F401

from neox_code.config.command_line import (
    Parser,
    add_json_option,
    parse_name_list,
    parse_non_negative_integer,
    parse_positive_integer,
    report_figures,
)
from neox_code.corpus.github.discover import PRESETS, Criteria, crawl
from neox_code.corpus.github.graphql import ENDPOINT, GitHub, read_token
from neox_code.errors import ConfigError, run_command
from neox_code.logs import format_plural


def main(argv: Sequence[str]) -> int:
    arguments = make_parser().parse_args(argv)
    with report_figures(arguments.json) as figures:
        rows = crawl(select_criteria(arguments), arguments.output, GitHub(read_token(), arguments.endpoint))
        languages = Counter(row["language"] for row in rows)
        for language, repositories in languages.items():
            print(f"{language}: {repositories:,}")
        print(f"{format_plural(len(rows), 'repository')} in {arguments.output}")
        figures |= {"output": arguments.output, "repositories": len(rows), "languages": languages}
    return 0


def make_parser() -> Parser:
    """Return the parser of the command line."""
    result = Parser(__doc__)
    result.add_argument("--output", type=Path, required=True, metavar="FILE", help="JSON Lines, one repository per line")
    result.add_argument("--preset", choices=list(PRESETS), help="the criteria of a known corpus; the options below change them")
    wanted = result.add_argument_group("criteria")
    wanted.add_argument("--languages", type=parse_name_list, metavar="A,B", help="languages, by GitHub's names")
    wanted.add_argument("--min-stars", type=parse_non_negative_integer, metavar="N", help="least number of stars (default 50)")
    wanted.add_argument(
        "--max-repositories",
        type=parse_positive_integer,
        metavar="N",
        help="maximum per language, most stars first (default 25000)",
    )
    wanted.add_argument(
        "--license", type=parse_name_list, dest="licenses", metavar="A,B", help="SPDX identifiers of the accepted licenses"
    )
    wanted.add_argument(
        "--has-license", action=argparse.BooleanOptionalAction, default=None, help="require a license that GitHub recognizes"
    )
    wanted.add_argument(
        "--min-commits", type=parse_non_negative_integer, metavar="N", help="least number of commits; slow to request"
    )
    wanted.add_argument("--forks", action=argparse.BooleanOptionalAction, default=None, help="include forks (default: no)")
    wanted.add_argument("--max-size-kib", type=parse_positive_integer, metavar="N", help="maximum size, as GitHub reports it")
    wanted.add_argument("--pushed-after", type=parse_day, metavar="YYYY-MM-DD", help="the last push must be after this day")
    result.add_argument("--endpoint", default=ENDPOINT, metavar="URL", help="default %(default)s")
    add_json_option(result)
    return result


def select_criteria(arguments: argparse.Namespace) -> Criteria:
    """Return the criteria of the preset, changed by the options that were given."""
    given = {field.name: value for field in dataclasses.fields(Criteria) if (value := getattr(arguments, field.name)) is not None}
    if arguments.preset is None and "languages" not in given:
        raise ConfigError(f"no languages. Give --languages, or --preset with one of {', '.join(PRESETS)}.")
    return dataclasses.replace(PRESETS[arguments.preset], **given) if arguments.preset else Criteria(**given)


def parse_day(value: str) -> str:
    try:
        return date.fromisoformat(value).isoformat()
    except ValueError:
        raise argparse.ArgumentTypeError(f"invalid day value: {value!r}") from None


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:]))
