#!/usr/bin/env python3
"""Has a language model write the instructions of rows that have none, for fine-tuning.

    export OPENAI_API_KEY=...
    python tools/label_rows.py corpus/rows/train-*.jsonl --endpoint https://api.openai.com/v1 --model gpt-4o-mini \\
        --price-in 0.15 --price-out 0.60 --max-cost 30 --concurrency 16
    python tools/label_rows.py corpus/rows/*.jsonl --endpoint http://localhost:8000/v1 --model qwen --output labeled

ROWS are files of rows with `instruction` and `output`, which tools/build_corpus.py makes with the recipes godot and
kotlin-functions. Rows that have an instruction keep it. The rows of ROWS stand in a file of the same name below --output, without
those that have no instruction yet. The endpoint is any with OpenAI's interface; the key comes from OPENAI_API_KEY, and none is sent
where that is not set. A run that was stopped goes on where it was when the same command is given again; what was answered is
neither asked nor paid for twice.
"""

import argparse
import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from neox_code.corpus.json_endpoint import JsonEndpoint
from neox_code.corpus.rows.label_files import BY_AUTHOR, BY_MODEL, LabelReport, Wanted, label_files
from neox_code.corpus.rows.labels import Labeler, Prices
from neox_code.errors import ConfigError, run_command

KEY_VARIABLE = "OPENAI_API_KEY"
LONGEST_TIMEOUT_SECONDS = 86_400


def main(argv: Sequence[str]) -> int:
    arguments = parser().parse_args(argv)
    prices = Prices(arguments.price_in, arguments.price_out)
    if not all(0 <= price < math.inf for price in (prices.input, prices.output, arguments.max_cost or 0.0)):
        raise ConfigError("--price-in, --price-out and --max-cost must be numbers of at least 0.")
    if arguments.max_cost is not None and not prices.input + prices.output:
        raise ConfigError("--max-cost needs prices. Give --price-in and --price-out, of a million tokens.")
    if arguments.concurrency < 1 or arguments.max_tokens < 1:
        raise ConfigError("--concurrency and --max-tokens must be at least 1.")
    if not 0 < arguments.timeout <= LONGEST_TIMEOUT_SECONDS:
        raise ConfigError(f"--timeout must be above 0, and at most {LONGEST_TIMEOUT_SECONDS:,} seconds.")
    key = os.environ.get(KEY_VARIABLE, "").strip()
    url = f"{arguments.endpoint.rstrip('/').removesuffix('/chat/completions')}/chat/completions"
    endpoint = JsonEndpoint(url, {"Authorization": f"Bearer {key}"} if key else {}, arguments.timeout)
    output = arguments.output or arguments.rows[0].parent / "labeled"
    report = label_files(
        arguments.rows,
        output,
        Labeler(endpoint, arguments.model, arguments.language, arguments.max_tokens),
        concurrency=arguments.concurrency,
        prices=prices,
        max_cost=arguments.max_cost,
        wanted=Wanted(arguments.min_length, arguments.relabel),
    )
    show(report, output, prices)
    return 0


def show(report: LabelReport, output: Path, prices: Prices) -> None:
    for fate, count in report.rows.most_common():
        print(f"{count:,} rows {fate}")
    spent = report.spent
    print(f"{spent.input_tokens:,} tokens in, {spent.output_tokens:,} out, cost {prices.of(spent):.4f}")
    print(f"{report.rows[BY_MODEL] + report.rows[BY_AUTHOR]:,} rows in {output}")
    if report.is_over_budget:
        print("the next question could have cost more than --max-cost leaves; with a higher one the same command goes on")


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    result.add_argument("rows", nargs="+", type=Path, metavar="ROWS", help="JSON Lines")
    result.add_argument("--endpoint", required=True, metavar="URL", help="up to and with /v1")
    result.add_argument("--model", required=True, metavar="NAME")
    result.add_argument("--output", type=Path, metavar="DIR", help="default: labeled, beside the first ROWS")
    result.add_argument("--language", default="GDScript", help="of the functions (default: %(default)s)")
    result.add_argument("--min-length", type=int, default=0, metavar="N", help="leave out functions of fewer characters")
    result.add_argument("--relabel", action="store_true", help="ask about functions that their authors describe, too")
    result.add_argument("--concurrency", type=int, default=4, metavar="N", help="questions at a time (default: %(default)s)")
    result.add_argument("--max-tokens", type=int, default=512, metavar="N", help="of an answer (default: %(default)s)")
    result.add_argument("--timeout", type=float, default=120.0, metavar="SECONDS", help="for an answer (default: %(default)s)")
    cost = result.add_argument_group("cost")
    cost.add_argument("--price-in", type=float, default=0.0, metavar="PRICE", help="of a million tokens that are sent")
    cost.add_argument("--price-out", type=float, default=0.0, metavar="PRICE", help="of a million tokens that are answered")
    cost.add_argument("--max-cost", type=float, metavar="PRICE", help="stop before this is exceeded, earlier runs included")
    return result


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:]))
