#!/usr/bin/env python3
"""Make next-edit rows from the commits of git repositories, for fine-tuning a model that proposes the next change of a file.

    python tools/edits.py ~/repositories --output edits
    python tools/edits.py project.git other --output edits --recipe strict --languages Lua,Kotlin --max-commits 5000 --workers 4

SOURCE is a git repository, bare or not, or a folder of repositories. OUTPUT is a new folder with train.jsonl, valid.jsonl,
test.jsonl (a repository is in one of them) and edits.json (counts of rows, and of all that was left out, by reason). A row has
prompt, before, cursor, after, path, language, repository, commit and license; the loss is on `after`:

    train_rows: [edits/train.jsonl]
    valid_rows: [edits/valid.jsonl]
    completion_column: after
    project_column: repository

Filters, edits and licenses are those of the recipe, applied to the file before and after the change. Merges, commits of many files,
and added or deleted files are left out. Rerun the same command to resume. Install with: pip install 'neox-code[edits]'
"""

import sys
from collections.abc import Sequence

import set_up  # noqa: F401

from neox_code.config.command_line import Parser, add_json_option, parse_path, parse_positive_integer, report_figures
from neox_code.corpus.edits.collect import SPLITS, EditSettings, collect_edits, find_repositories
from neox_code.corpus.edits.history import HistoryLimits
from neox_code.corpus.recipes.registry import find_recipe, list_recipe_names
from neox_code.errors import ConfigError, run_command
from neox_code.logs import format_plural


def main(argv: Sequence[str]) -> int:
    """Write the rows; return the exit status."""
    arguments = make_parser().parse_args(argv)
    recipe = find_recipe(arguments.recipe)
    languages = tuple(name.strip() for name in arguments.languages.split(",")) if arguments.languages else ()
    if unknown := sorted(set(languages) - set(recipe.languages)):
        raise ConfigError(f"--languages {', '.join(unknown)}: not in the recipe {recipe.name}. Use its names, such as Python.")
    limits = HistoryLimits(arguments.max_commits, arguments.max_files)
    with report_figures(arguments.json) as figures:
        settings = EditSettings(recipe, languages, seed=arguments.seed, limits=limits)
        summary = collect_edits(find_repositories(arguments.sources), arguments.output, settings, arguments.workers)
        for reason, count in summary["left_out"].items():
            print(f"{count:,} left out: {reason}")
        rows = ", ".join(f"{format_plural(summary['rows'][split], 'row')} in {split}" for split in SPLITS)
        print(f"{arguments.output}: {rows}")
        figures |= {"output": arguments.output, **summary}
    return 0


def make_parser() -> Parser:
    """Return the parser of the command's options."""
    parser = Parser(__doc__)
    parser.add_argument("sources", nargs="+", metavar="SOURCE", help="a git repository, or a folder of repositories")
    parser.add_argument("--output", type=parse_path, required=True, metavar="DIR", help="the folder to write; it must be new")
    parser.add_argument(
        "--recipe",
        default="strict",
        metavar="RECIPE",
        help=f"filters, edits and licenses: {', '.join(list_recipe_names())}, or a Python file (default: %(default)s)",
    )
    parser.add_argument("--languages", metavar="A,B", help="languages of the rows (default: all of the recipe)")
    parser.add_argument(
        "--max-commits", type=parse_positive_integer, default=20_000, metavar="N", help="commits of a repository (default: 20,000)"
    )
    parser.add_argument(
        "--max-files", type=parse_positive_integer, default=20, metavar="N", help="files that a commit may change (default: 20)"
    )
    parser.add_argument("--seed", type=int, default=1234, help="seed of the splits (default: %(default)s)")
    parser.add_argument("--workers", type=parse_positive_integer, default=1, metavar="N", help="processes (default: %(default)s)")
    add_json_option(parser)
    return parser


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:]))
