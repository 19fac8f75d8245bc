"""Familiar code costs a model with its own vocabulary less than by the frequencies of bytes, and more with another one."""

import pytest
import torch
from foreign_checkpoint import build_peer, write_foreign_checkpoint

from neox_code.config.model import ModelConfig
from neox_code.config.neox import NeoXConfig
from neox_code.evaluation.perplexity import score_files
from neox_code.generation.familiar_text import TEXT, log_fit
from neox_code.generation.loading import load_model
from neox_code.model.gpt import GPT, build_layers
from neox_code.parallel.grid import single_process_grid
from neox_code.tokenizer.gpt2 import GPT2Tokenizer

KEYS = {"num_layers": 2, "hidden_size": 64, "num_attention_heads": 4, "max_position_embeddings": 64}
KEYS |= {"pos_emb": "rotary", "no_weight_tying": True}


class ShiftedTokenizer:
    """The ids of another vocabulary of the same size."""

    def __init__(self, tokenizer: GPT2Tokenizer):
        self.tokenizer, self.vocab_size, self.eod_id = tokenizer, tokenizer.vocab_size, tokenizer.eod_id

    def encode(self, text: str) -> list[int]:
        return [(token + 100) % self.vocab_size for token in self.tokenizer.encode(text)]

    def decode(self, ids: list[int]) -> str:
        return self.tokenizer.decode([(token - 100) % self.vocab_size for token in ids])


def test_a_model_that_learned_code_passes_and_is_reported_with_another_vocabulary(job_folder, capfd):
    tokenizer = GPT2Tokenizer.from_files(job_folder / "code-vocab.json", job_folder / "code-merges.txt")
    gpt = GPT(build_layers(ModelConfig(**KEYS), 640, 640, single_process_grid(), torch.float32))
    log_fit(gpt, tokenizer, 64, "untrained")
    assert "the model of untrained needs" in capfd.readouterr().err
    ids = torch.tensor([tokenizer.eod_id, *tokenizer.encode(TEXT)])[:65]
    optimizer = torch.optim.Adam(gpt.parameters(), lr=3e-3)
    for _ in range(40):
        loss = torch.nn.functional.cross_entropy(gpt(ids[None, :-1])[0], ids[1:])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    log_fit(gpt, tokenizer, 64, "trained")
    assert "needs" not in capfd.readouterr().err
    log_fit(gpt, ShiftedTokenizer(tokenizer), 64, "confused")
    assert "the model of confused needs" in capfd.readouterr().err


@pytest.mark.parametrize("precision", ["fp32", "bfloat16"])
@pytest.mark.parametrize("tensor_size", [1, 2])
def test_gpt_neox_s_padding_has_probabilities_as_in_its_own_loss(job_folder, tmp_path, precision, tensor_size):
    """At model_parallel_size 2 the file has 768 rows for 640 entries; GPT-NeoX's softmax is over all of them."""
    files = {"vocab_file": job_folder / "code-vocab.json", "merge_file": job_folder / "code-merges.txt", "load": tmp_path}
    keys = {**KEYS, "precision": precision} | {key: str(path) for key, path in files.items()}
    peer = build_peer(keys, 640 if tensor_size == 1 else 768, torch.float32 if precision == "fp32" else torch.bfloat16)
    write_foreign_checkpoint(tmp_path, peer, keys, "legacy", "layers", tensor_size)
    ids = torch.arange(5, 45).tolist()
    found, masked = (
        sum(score.bits for score in score_files(load_model(NeoXConfig.load([tmp_path / "configs/model.yml"], chosen)), [ids]))
        for chosen in ({}, {"mask_padded_vocab": True})
    )
    with torch.no_grad():
        logits = peer(torch.tensor([[0, *ids[:-1]]])).logits[0].float()
    tolerance = 1e-5 if precision == "fp32" else 0.02
    for bits, rows in ((found, logits.shape[-1]), (masked, 640)):
        expected = torch.nn.functional.cross_entropy(logits[:, :rows], torch.tensor(ids), reduction="sum") / torch.tensor(2.0).log()
        assert bits == pytest.approx(expected.item(), rel=tolerance)
