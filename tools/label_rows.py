#!/usr/bin/env python3
"""Let a language model write instructions for rows without an instruction, for fine-tuning.

    export OPENAI_API_KEY=...
    python tools/label_rows.py corpus/rows/train-*.jsonl --endpoint https://api.openai.com/v1 --model gpt-4o-mini \\
        --price-in 0.15 --price-out 0.60 --max-cost 30 --concurrency 16
    python tools/label_rows.py corpus/rows/*.jsonl --endpoint http://localhost:8000/v1 --model qwen --output labeled

ROWS are files of rows with `instruction` and `output`. tools/build_corpus.py makes such files with the recipes godot and
kotlin-functions. Rows that have an instruction keep it. For each file, a file of the same name is written to the folder --output,
with the rows that have an instruction. Any endpoint with OpenAI's interface can be used. The key is read from OPENAI_API_KEY; if
it is not set, no key is sent. Rerun the same command to resume. A request that was answered is not sent or paid for again.
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import set_up  # noqa: F401

from neox_code.config.command_line import (
    Parser,
    add_json_option,
    parse_non_negative_integer,
    parse_non_negative_number,
    parse_positive_integer,
    parse_positive_number,
    report_figures,
)
from neox_code.corpus.json_endpoint import JsonEndpoint
from neox_code.corpus.rows.label_files import BY_AUTHOR, BY_MODEL, LabelReport, RowSelection, label_files
from neox_code.corpus.rows.labels import Labeler, Prices
from neox_code.errors import ConfigError, run_command
from neox_code.logs import format_plural

KEY_VARIABLE = "OPENAI_API_KEY"
LONGEST_TIMEOUT_SECONDS = 86_400


def main(argv: Sequence[str]) -> int:
    """Let a model write the missing instructions of the rows; return the exit status."""
    arguments = make_parser().parse_args(argv)
    prices = Prices(arguments.price_in, arguments.price_out)
    if arguments.max_cost is not None and not prices.input + prices.output:
        raise ConfigError("--max-cost needs the prices of tokens. Add --price-in and --price-out (prices per million tokens).")
    if arguments.timeout > LONGEST_TIMEOUT_SECONDS:
        raise ConfigError(f"--timeout {arguments.timeout:g} must be at most {LONGEST_TIMEOUT_SECONDS:,} seconds.")
    key = os.environ.get(KEY_VARIABLE, "").strip()
    url = f"{arguments.endpoint.rstrip('/').removesuffix('/chat/completions')}/chat/completions"
    endpoint = JsonEndpoint(url, {"Authorization": f"Bearer {key}"} if key else {}, arguments.timeout)
    output = arguments.output or arguments.rows[0].parent / "labeled"
    with report_figures(arguments.json) as figures:
        report = label_files(
            arguments.rows,
            output,
            Labeler(endpoint, arguments.model, arguments.language, arguments.max_tokens),
            concurrency=arguments.concurrency,
            prices=prices,
            max_cost=arguments.max_cost,
            selection=RowSelection(arguments.min_length, arguments.relabel),
        )
        print_report(report, output, prices)
        figures |= {
            "output": output,
            "rows": report.rows,
            "cost": prices.compute_cost(report.usage),
            "over_budget": report.is_over_budget,
        }
        figures |= {"input_tokens": report.usage.input_tokens, "output_tokens": report.usage.output_tokens}
    return 0


def print_report(report: LabelReport, output: Path, prices: Prices) -> None:
    for outcome, count in report.rows.most_common():
        print(f"{format_plural(count, 'row')} {outcome}")
    usage = report.usage
    print(f"{usage.input_tokens:,} tokens in, {usage.output_tokens:,} out, cost {prices.compute_cost(usage):.4f}")
    print(f"{format_plural(report.rows[BY_MODEL] + report.rows[BY_AUTHOR], 'row')} in {output}")
    if report.is_over_budget:
        print("the next request could exceed --max-cost. Rerun the same command with a higher --max-cost to resume.")


def make_parser() -> Parser:
    """Return the parser of the command line."""
    result = Parser(__doc__)
    result.add_argument("rows", nargs="+", type=Path, metavar="ROWS", help="JSON Lines")
    result.add_argument("--endpoint", required=True, metavar="URL", help="address of the interface, up to /v1")
    result.add_argument("--model", required=True, metavar="NAME")
    result.add_argument("--output", type=Path, metavar="DIR", help="default: labeled, beside the first ROWS")
    result.add_argument("--language", default="GDScript", help="language of the functions (default: %(default)s)")
    result.add_argument(
        "--min-length", type=parse_non_negative_integer, default=0, metavar="N", help="leave out functions with fewer characters"
    )
    result.add_argument("--relabel", action="store_true", help="replace the instructions that authors wrote, too")
    result.add_argument(
        "--concurrency", type=parse_positive_integer, default=4, metavar="N", help="requests at a time (default: %(default)s)"
    )
    result.add_argument(
        "--max-tokens", type=parse_positive_integer, default=512, metavar="N", help="tokens per answer (default: %(default)s)"
    )
    result.add_argument(
        "--timeout",
        type=parse_positive_number,
        default=120.0,
        metavar="SECONDS",
        help="timeout of a request (default: %(default)s)",
    )
    cost = result.add_argument_group("cost")
    cost.add_argument(
        "--price-in", type=parse_non_negative_number, default=0.0, metavar="PRICE", help="price of a million input tokens"
    )
    cost.add_argument(
        "--price-out", type=parse_non_negative_number, default=0.0, metavar="PRICE", help="price of a million output tokens"
    )
    cost.add_argument(
        "--max-cost",
        type=parse_non_negative_number,
        metavar="PRICE",
        help="stop before the total cost of all runs exceeds this amount",
    )
    add_json_option(result)
    return result


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:]))
