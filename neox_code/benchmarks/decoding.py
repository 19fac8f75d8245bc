"""Decoding speed, compared with transformers' model of the same configuration (`peer.py`).

    python -m neox_code.benchmarks.decoding NAME:BATCH CONFIG...        one contestant; started by `deepy.py benchmark decoding`

Decoding is greedy in bf16: 64 new tokens after prompts of 128 random tokens, prefill included. On a CPU both sides use
the memory-allocator settings of the commands. The speed is the number of new tokens of the whole batch per second.
"""

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import nn

from neox_code.benchmarks.contest import run_requested_rounds
from neox_code.benchmarks.peer import build_peer_model
from neox_code.checkpoint.model_folder import load_config
from neox_code.config.command_line import parse_command_line
from neox_code.config.derive import padded_vocab_size
from neox_code.config.model import ModelConfig
from neox_code.errors import run_command
from neox_code.generation.engine import Engine
from neox_code.generation.loading import LoadedModel, prepare_for_inference
from neox_code.generation.request import Request
from neox_code.model.gpt import GPT, build_layers
from neox_code.parallel.allocator import keep_freed_memory
from neox_code.parallel.grid import select_device, single_process_grid
from neox_code.tokenizer.char_level import CharLevelTokenizer
from neox_code.training.throughput import read_peak_memory_gib

VOCAB_SIZE, PROMPT_LENGTH, NEW_TOKENS = 50_257, 128, 64

Decode = Callable[[torch.Tensor], torch.Tensor]
"""prompts_BS -> new tokens [B, T]."""


class RandomTokens(CharLevelTokenizer):
    """A vocabulary whose tokens have no text."""

    vocab_size = VOCAB_SIZE

    def decode_bytes(self, ids: Sequence[int]) -> bytes:
        return b""


def build_our_decoder(model: ModelConfig, padded: int, device: torch.device) -> Decode:
    """Return greedy decoding by our engine."""
    gpt = prepare_for_inference(GPT(build_layers(model, VOCAB_SIZE, padded, single_process_grid(device), torch.bfloat16)), device)
    loaded = LoadedModel(gpt, RandomTokens(), model, device, torch.bfloat16, Path())

    def decode(prompts_BS: torch.Tensor) -> torch.Tensor:
        engine = Engine(loaded, cache_bytes=0)
        rows = [engine.add(Request(tuple(prompt), NEW_TOKENS, ignore_eod=True))[0] for prompt in prompts_BS.tolist()]
        while not engine.is_idle:
            engine.step()
        return torch.tensor([row.tokens for row in rows])

    return decode


def build_peer_decoder(model: ModelConfig, padded: int, device: torch.device) -> Decode:
    """Return greedy decoding by transformers' model."""
    peer = build_peer_model(model, padded, torch.bfloat16).eval()
    nn.Module.to(peer, device)
    settings = {
        "do_sample": False,
        "min_new_tokens": NEW_TOKENS,
        "max_new_tokens": NEW_TOKENS,
        "pad_token_id": 0,
        "eos_token_id": None,
    }

    @torch.inference_mode()
    def decode(prompts_BS: torch.Tensor) -> torch.Tensor:
        mask = torch.ones_like(prompts_BS)
        return peer.generate(prompts_BS, attention_mask=mask, **settings)[:, PROMPT_LENGTH:]

    return decode


CONTESTANTS: dict[str, Callable[[ModelConfig, int, torch.device], Decode]] = {
    "neox-code": build_our_decoder,
    "transformers": build_peer_decoder,
}


def main(argv: Sequence[str]) -> int:
    """Run one contestant."""
    name, _, batch = argv[0].partition(":")
    model = load_config(parse_command_line(argv[1:], __doc__)).model
    device = select_device()
    if device.type == "cpu":
        keep_freed_memory()
    torch.manual_seed(0)
    decode = CONTESTANTS[name](model, padded_vocab_size(VOCAB_SIZE, model.make_vocab_size_divisible_by, 1), device)
    prompts_BS = torch.randint(0, VOCAB_SIZE, (int(batch), PROMPT_LENGTH)).to(device)

    def measure() -> dict:
        begin = time.perf_counter()
        tokens = decode(prompts_BS).cpu()
        assert tokens.shape == (int(batch), NEW_TOKENS)
        return {"amount": tokens.numel(), "seconds": time.perf_counter() - begin, "memory_gib": read_peak_memory_gib()}

    measure()
    run_requested_rounds(measure, f"batch {batch}, prompt {PROMPT_LENGTH}, {NEW_TOKENS} new tokens")
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:]))
