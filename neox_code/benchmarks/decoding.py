"""Decoding speed, beside transformers' model of the same configuration (`peer.py`), llama.cpp, and the matrix products alone.

    python -m neox_code.benchmarks.decoding NAME:BATCH FOLDER CONFIG...    one contestant; started by `deepy.py benchmark decoding`

Decoding is greedy, with random weights in bf16 or 8-bit integers and random prompts. A round measures two times for each length in
CACHED_TOKENS: until every row has its first token, and of a step, which adds a token to every row. In a ragged batch the rows have
different lengths with the same sum. The table also shows how long the machine takes to read the weights of a step from memory: no
decoder at batch 1 is faster. On a CPU every contestant has the memory-allocator settings of the commands and one thread for each
available core, whatever OMP_NUM_THREADS is. `FOLDER` has MODEL.gguf files and `node` for llama.cpp.
"""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import nn

from neox_code.benchmarks.contest import run_requested_rounds
from neox_code.benchmarks.conversion import CHECKPOINT, write_random_checkpoint
from neox_code.benchmarks.peer import build_peer_model
from neox_code.checkpoint.model_folder import load_config
from neox_code.config.command_line import parse_command_line
from neox_code.config.derive import compute_padded_vocab_size
from neox_code.config.model import ModelConfig
from neox_code.config.neox import NeoXConfig
from neox_code.conversion.convert import convert
from neox_code.conversion.options import ConversionOptions
from neox_code.errors import NeoXError, run_command
from neox_code.generation.engine import Engine
from neox_code.generation.loading import LoadedModel, prepare_for_inference
from neox_code.generation.request import Request
from neox_code.model.gpt import GPT, build_layers
from neox_code.parallel.allocator import keep_freed_memory
from neox_code.parallel.grid import select_device, single_process_grid
from neox_code.parallel.packed import PackedLinear, QuantizedLinear
from neox_code.parallel.plain_layers import PlainLinear
from neox_code.processes.workers import count_available_cores
from neox_code.tokenizer.char_level import CharLevelTokenizer
from neox_code.training.throughput import read_peak_memory_gib

VOCAB_SIZE = 50_257
CACHED_TOKENS = (128, 1500)
STEPS = 16
RAGGED = (1 / 8, 7 / 8, 9 / 8, 9 / 8, 19 / 16, 19 / 16, 19 / 16, 19 / 16)
"""Lengths of the rows of a ragged batch, as multiples of the mean length."""

WARM_UP_TOKENS = 16
"""Length of the prompts that a contestant reads before the first round."""

LLAMA_CPP = {"llama.cpp BF16": "bfloat16", "llama.cpp Q8_0": "q8_0"}
"""Contestant -> type of the weights in its file."""

Figures = dict[str, dict[str, float]]
"""Subject of the measurement -> {"first 128": seconds until the first token, "step 128": seconds of a step, ...}."""

Decode = Callable[[Sequence[Sequence[int]]], tuple[float, float]]
"""Prompts -> seconds until every row has its first token, and seconds of a step after it."""


class RandomTokens(CharLevelTokenizer):
    """A vocabulary whose tokens have no text."""

    vocab_size = VOCAB_SIZE

    def decode_bytes(self, ids: Sequence[int]) -> bytes:
        return b""


def make_prompts(lengths: Sequence[int]) -> list[list[int]]:
    return [torch.randint(0, VOCAB_SIZE, (length,)).tolist() for length in lengths]


def measure_uniform(decode: Decode, batch: int) -> dict[str, float]:
    return measure_lengths(decode, {cached: [cached] * batch for cached in CACHED_TOKENS})


def measure_lengths(decode: Decode, lengths: Mapping[int, Sequence[int]]) -> dict[str, float]:
    figures = {}
    for cached, row_lengths in lengths.items():
        figures[f"first {cached}"], figures[f"step {cached}"] = decode(make_prompts(row_lengths))
    return figures


def measure_ours(name: str, load_in_8bit: bool, model: ModelConfig, batch: int) -> Iterator[Figures]:
    """Yield the figures of our engine for uniform rows and for ragged rows, and those of the model's matrix products alone."""
    device = select_device()
    padded = compute_padded_vocab_size(VOCAB_SIZE, model.make_vocab_size_divisible_by, 1)
    layers = build_layers(model, VOCAB_SIZE, padded, single_process_grid(device), torch.bfloat16)
    gpt = prepare_for_inference(GPT(layers), device, load_in_8bit)
    loaded = LoadedModel(gpt, RandomTokens(), model, device, torch.bfloat16, Path())
    products = list(find_products(gpt, model, torch.randn(1, batch, model.hidden_size, device=device)))
    weights_1024 = torch.ones(count_product_bytes(gpt, model) // 4096, 1024, device=device)
    reading = f"{name}, reading {weights_1024.nbytes / 1e6:,.0f} MB"

    def decode(prompts: Sequence[Sequence[int]]) -> tuple[float, float]:
        engine = Engine(loaded, cache_bytes=0)
        begin = time.perf_counter()
        rows = [engine.add(Request(tuple(prompt), 1 << 30, ignore_eod=True))[0] for prompt in prompts]
        while any(not row.tokens for row in rows):
            engine.step()
        first = time.perf_counter()
        for _ in range(STEPS):
            engine.step()
        return first - begin, (time.perf_counter() - first) / STEPS

    @torch.inference_mode()
    def measure_products() -> float:
        return measure_step(lambda: [product() for product in products], device)

    decode(make_prompts([WARM_UP_TOKENS] * batch))
    while True:
        before = measure_products()
        figures = {name: measure_uniform(decode, batch)}
        if batch == len(RAGGED):
            lengths = {cached: [int(share * cached) for share in RAGGED] for cached in CACHED_TOKENS}
            figures[f"{name}, ragged"] = measure_lengths(decode, lengths)
        step = f"step {CACHED_TOKENS[0]}"
        figures[f"{name}, products"] = {step: (before + measure_products()) / 2}
        figures[reading] = {step: measure_step(lambda: weights_1024.sum(1), device)}
        yield figures


def measure_step(compute: Callable[[], object], device: torch.device) -> float:
    """Return the mean seconds of a call, over STEPS calls."""
    begin = time.perf_counter()
    for _ in range(STEPS):
        compute()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return (time.perf_counter() - begin) / STEPS


def count_product_bytes(gpt: GPT, model: ModelConfig) -> int:
    """Return the number of bytes of the weights that a step multiplies with."""
    linears = [module for module in gpt.modules() if isinstance(module, PlainLinear | PackedLinear | QuantizedLinear)]
    tied = [] if model.no_weight_tying else [gpt.get_parameter("sequential.0.word_embeddings.weight")]
    return sum(weight.numel() * weight.element_size() for weight in [*(linear.weight for linear in linears), *tied])


def find_products(gpt: GPT, model: ModelConfig, hidden_1BH: torch.Tensor) -> Iterator[Callable[[], object]]:
    """Yield functions that compute a step's matrix products, from the first layer to the head."""
    if gpt.decoder is not None:
        for weights in gpt.decoder.products:
            yield partial(gpt.decoder.multiply, weights, torch.randn(hidden_1BH.shape[1], weights.columns))
        return
    hidden_1BH = hidden_1BH.bfloat16()
    for module in gpt.modules():
        if isinstance(module, PlainLinear | PackedLinear | QuantizedLinear):
            width = module.weight.shape[1]
            yield partial(module, hidden_1BH.repeat(1, 1, -(-width // model.hidden_size))[..., :width])
    if not model.no_weight_tying:
        yield partial(gpt.logits, hidden_1BH)


def measure_transformers(model: ModelConfig, batch: int) -> Iterator[Figures]:
    """Yield the figures of transformers' model, without the time that its `generate` adds."""
    device = select_device()
    peer = build_peer_model(
        model, compute_padded_vocab_size(VOCAB_SIZE, model.make_vocab_size_divisible_by, 1), torch.bfloat16
    ).eval()
    nn.Module.to(peer, device)

    @torch.inference_mode()
    def decode(prompts: Sequence[Sequence[int]]) -> tuple[float, float]:
        begin = time.perf_counter()
        tokens_BS, past, times = torch.tensor(prompts, device=device), None, []
        for _ in range(1 + STEPS):
            output = peer(tokens_BS, past_key_values=past, use_cache=True, logits_to_keep=1)
            tokens_BS, past = output.logits[:, -1:].argmax(-1), output.past_key_values
            assert tokens_BS.cpu().shape == (batch, 1)
            times.append(time.perf_counter())
        return times[0] - begin, (times[-1] - times[0]) / STEPS

    decode(make_prompts([WARM_UP_TOKENS] * batch))
    while True:
        yield {"transformers": measure_uniform(decode, batch)}


def measure_llama_cpp(name: str, folder: Path, batch: int) -> Iterator[Figures]:
    """Yield the figures of llama.cpp with a file that `write_gguf_files` has written."""
    tokens = batch * (max(CACHED_TOKENS) + STEPS + 2)
    script, model_file = Path(__file__).with_name("llama_cpp.mjs"), folder / f"{name}.gguf"
    command = ["node", *map(str, (script, folder / "node", model_file, batch, tokens, count_available_cores()))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None and process.stdout is not None
        requests, results = process.stdin, process.stdout

        def answer() -> dict:
            line = results.readline()
            if not line:
                raise NeoXError(f"llama.cpp has ended with status {process.wait()}.")
            return json.loads(line)

        def decode(prompts: Sequence[Sequence[int]]) -> tuple[float, float]:
            print(json.dumps({"prompts": prompts, "steps": STEPS}), file=requests, flush=True)
            times = answer()
            return times["first"], times["step"]

        answer()
        decode(make_prompts([WARM_UP_TOKENS] * batch))
        while True:
            yield {name: measure_uniform(decode, batch)}


def find_llama_cpp_obstacle(config: NeoXConfig, node_folder: Path) -> str | None:
    """Return the reason why llama.cpp cannot be measured, or None."""
    if not shutil.which("node"):
        return "node is not installed"
    if not (node_folder / "node_modules/node-llama-cpp").is_dir():
        return f"{node_folder} has no node_modules/node-llama-cpp; install it there with npm, and name the folder by --llama-cpp"
    return None if config.data.vocab_file else "its files need a vocabulary, and the configuration has no vocab_file"


def write_gguf_files(config: NeoXConfig, folder: Path, node_folder: Path) -> None:
    """Write a GGUF file with random weights into `folder` for each contestant of LLAMA_CPP.

    Also make folder/node a symbolic link to `node_folder`, because a contestant is passed `folder` alone and needs node-llama-cpp.
    """
    write_random_checkpoint(config, folder)
    vocabulary = {key: path for key in ("vocab_file", "merge_file") if (path := getattr(config.data, key))}
    for name, dtype in LLAMA_CPP.items():
        options = ConversionOptions(dtype=dtype)
        convert(folder / CHECKPOINT, folder / f"{name}.gguf", "gguf", options, overrides=vocabulary)
    shutil.rmtree(folder / CHECKPOINT)
    (folder / "node").symlink_to(node_folder.resolve())


CONTESTANTS: dict[str, Callable[[ModelConfig, int, Path], Iterator[Figures]]] = {
    "neox-code": lambda model, batch, folder: measure_ours("neox-code", False, model, batch),
    "neox-code 8-bit": lambda model, batch, folder: measure_ours("neox-code 8-bit", True, model, batch),
    "transformers": lambda model, batch, folder: measure_transformers(model, batch),
    "llama.cpp BF16": lambda model, batch, folder: measure_llama_cpp("llama.cpp BF16", folder, batch),
    "llama.cpp Q8_0": lambda model, batch, folder: measure_llama_cpp("llama.cpp Q8_0", folder, batch),
}


def main(argv: Sequence[str]) -> int:
    """Run one contestant."""
    name, _, batch = argv[0].partition(":")
    model = load_config(parse_command_line(argv[2:], __doc__)).model
    model = replace(model, max_position_embeddings=max(model.max_position_embeddings, 2048))
    if select_device().type == "cpu":
        keep_freed_memory()
        torch.set_num_threads(count_available_cores())
    torch.manual_seed(0)
    rounds = CONTESTANTS[name](model, int(batch), Path(argv[1]))

    def measure() -> dict:
        begin = time.perf_counter()
        figures = next(rounds)
        amount = sum(map(len, figures.values()))
        return {"amount": amount, "seconds": time.perf_counter() - begin, "memory_gib": read_peak_memory_gib(), "figures": figures}

    run_requested_rounds(measure, f"batch {batch}")
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:]))
