"""Find a vocabulary that does not belong to a model: every code model with its own vocabulary predicts TEXT well.

    log_fit(gpt, tokenizer, context_length, "checkpoints")       # a warning if TEXT needs too many bits

With the vocabulary of another model, or with weights in another order, the model needs at least as many bits for TEXT as byte
frequencies alone. An untrained model causes the same warning.
"""

import math
from collections import Counter

import torch
from torch.nn.functional import cross_entropy

from neox_code.logs import get_logger
from neox_code.model.gpt import GPT
from neox_code.tokenizer.protocol import Tokenizer

log = get_logger(__name__)

TEXT = """def read_lines(path):
    with open(path, encoding="utf-8") as file:
        return [line.strip() for line in file if line.strip()]


int main(int argc, char **argv) {
    for (int i = 0; i < argc; i++) {
        printf("%s\\n", argv[i]);
    }
    return 0;
}

public class Counter {
    private final Map<String, Integer> counts = new HashMap<>();

    public void add(String name) {
        counts.put(name, counts.getOrDefault(name, 0) + 1);
    }
}

function sum(values) {
  let total = 0;
  for (const value of values) {
    total += value;
  }
  return total;
}

if err != nil {
    return nil, err
}
"""

MOST_OPERATIONS = 4e10
"""Maximum number of floating-point operations on a CPU: about a second. Large models read fewer tokens, at least LEAST_TOKENS."""
MOST_TOKENS, LEAST_TOKENS = 256, 48


@torch.no_grad()  # a table that is cached here is used in training too
def log_fit(gpt: GPT, tokenizer: Tokenizer, context_length: int, name: object) -> None:
    """Log a warning if the model needs at least as many bits for TEXT as byte frequencies or uniform token probabilities. `name`
    identifies the model in the message.
    """
    device = next(gpt.parameters()).device
    parameters = sum(parameter.numel() for parameter in gpt.parameters())
    budget = int(MOST_OPERATIONS / 2 / parameters) if device.type == "cpu" else MOST_TOKENS
    length = min(max(budget, LEAST_TOKENS), MOST_TOKENS, context_length)
    ids = tokenizer.encode(TEXT)[:length]
    text = tokenizer.decode(ids).encode()
    if not text:
        return
    tokens_BS = torch.tensor([[tokenizer.eod_id, *ids]], device=device)
    logits_SV = gpt(tokens_BS[:, :-1])[0, :, : tokenizer.vocab_size].float()
    found = cross_entropy(logits_SV, tokens_BS[0, 1:], reduction="sum").item() / math.log(2) / len(text)
    counts = Counter(text)
    by_bytes = sum(count * math.log2(len(text) / count) for count in counts.values()) / len(text)
    expected = min(by_bytes, len(ids) * math.log2(tokenizer.vocab_size) / len(text))
    log.debug("%.2f bits per byte of familiar code", found)
    if not found < expected:
        log.warning(
            "the model of %s needs %.2f bits per byte of familiar code, and a guess without a model needs %.2f: the model is "
            "barely trained, or the vocabulary (%s entries) or other settings do not match",
            *(name, found, expected, f"{tokenizer.vocab_size:,}"),
        )
