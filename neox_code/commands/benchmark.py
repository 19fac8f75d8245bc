"""Speed beside a peer: `./deepy.py benchmark training|decoding CONFIG... [--peer transformers] [--rounds N]`.

The last line is `ratio R`: how many times as many tokens a second as the peer. In training that is the peer with bf16 weights
alone, in decoding the smaller ratio of batch 1 and batch 8.
"""

import importlib.util
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import torch

from neox_code.benchmarks.contest import Contestant, Measured, compete, ratio
from neox_code.benchmarks.report import print_table
from neox_code.config.command_line import config_parser, from_parsed
from neox_code.errors import ConfigError, run_command
from neox_code.logs import progress

PEERS = ("transformers",)
CPU_TOKENS = 1024
"""Without a GPU a training step is one sequence of at most so many tokens, unless `--set` asks for another."""


def contest(module: str, names: Sequence[str], words: Sequence[str], rounds: int) -> list[Measured]:
    """Runs the named contestants of a benchmark module; a bar counts the rounds."""
    starts = [partial(Contestant, name, f"neox_code.benchmarks.{module}", [name, *words]) for name in names]
    with progress(module, rounds * len(names), " rounds") as advance:
        return compete(starts, rounds, take_turns=not torch.cuda.is_available(), advance=partial(advance, 1))


def training(words: Sequence[str], rounds: int) -> float:
    ours, peer, peer_with_masters = contest("training", ("neox-code", "transformers", "transformers-fp32-master"), words, rounds)
    print_table(f"Training, {ours.notes}", ours, [peer, peer_with_masters])
    return ratio(ours, peer)


def decoding(words: Sequence[str], rounds: int) -> float:
    ratios = []
    for batch in (1, 8):
        ours, peer = contest("decoding", (f"neox-code:{batch}", f"transformers:{batch}"), words, rounds)
        print_table(f"Greedy decoding, {ours.notes}", ours, [peer])
        ratios.append(ratio(ours, peer))
    return min(ratios)


BENCHMARKS: dict[str, Callable[[Sequence[str], int], float]] = {"training": training, "decoding": decoding}


def main(argv: Sequence[str]) -> int:
    parser = config_parser(__doc__, "deepy.py benchmark")
    parser.add_argument("--peer", choices=PEERS, default="transformers", help="the implementation to compare with")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each contestant")
    if not argv or argv[0] not in BENCHMARKS:
        raise ConfigError(f"say what to measure: ./deepy.py benchmark {'|'.join(BENCHMARKS)} CONFIG...")
    parsed = parser.parse_intermixed_args(list(argv[1:]))
    if importlib.util.find_spec(parsed.peer) is None:
        raise ConfigError(f"the peer {parsed.peer} is not installed. Run: pip install -e '.[{parsed.peer}]'")
    if parsed.rounds < 1:
        raise ConfigError(f"--rounds {parsed.rounds} measures nothing. Use at least 1.")
    command_line = from_parsed(parsed)
    model = command_line.load().model
    if argv[0] == "training" and not torch.cuda.is_available():
        defaults = {"train_micro_batch_size_per_gpu": 1, "seq_length": min(CPU_TOKENS, model.sample_length)}
        command_line = replace(command_line, overrides={**defaults, **command_line.overrides})
    print(f"ratio {BENCHMARKS[argv[0]](command_line.arguments, parsed.rounds):.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:]))
