"""Requests to complete a prompt, and how their tokens are sampled.

SamplingSettings(temperature=0.8, top_p=0.95)        # ConfigError for a value out of its range
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from numbers import Integral, Real

from neox_code.config.checks import SAMPLING_RANGES, ValueRange
from neox_code.errors import ConfigError
from neox_code.generation.stop_rules import StopRule

LOGIT_BIAS = ValueRange(-100, 100)


@dataclass(frozen=True)
class SamplingSettings:
    """Settings that select a token from the logits; neox_code/generation/sampling.py has the order in which they are applied."""

    temperature: float = 0.0
    """Divisor of the logits; 0 selects the most probable token."""
    top_k: int = 0
    """Keep the k most probable tokens; 0 keeps all."""
    top_p: float = 0.0
    """Keep the fewest most probable tokens that reach this probability together; 0 and 1 keep all."""
    min_p: float = 0.0
    """Keep tokens of at least this share of the highest probability; 0 keeps all."""
    repetition_penalty: float = 1.0
    """For tokens in the prompt or completion: a positive logit is divided by this value, a negative one multiplied; 1 changes
    nothing.
    """
    frequency_penalty: float = 0.0
    """Subtracted from a token's logit for each time that it occurs in the completion."""
    presence_penalty: float = 0.0
    """Subtracted from a token's logit if it occurs in the completion."""
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    """Token id -> number added to its logit; -inf excludes the token."""

    @property
    def has_penalties(self) -> bool:
        """True if the tokens so far change the logits."""
        return (self.repetition_penalty, self.frequency_penalty, self.presence_penalty) != (1.0, 0.0, 0.0)

    def __post_init__(self) -> None:
        problems = []
        for name, value_range in SAMPLING_RANGES.items():
            value = getattr(self, name)
            kind, expected = (Integral, "a whole number ") if name == "top_k" else (Real, "")
            if isinstance(value, bool) or not isinstance(value, kind) or value not in value_range:
                problems.append(f"{name} ({value!r}) must be {expected}{value_range}.")
        for token_id, bias in self.logit_bias.items():
            if not isinstance(token_id, Integral) or token_id < 0:
                problems.append(f"logit_bias has the token id {token_id!r}; ids are whole numbers of at least 0.")
            elif not isinstance(bias, Real) or (bias not in LOGIT_BIAS and bias != -math.inf):
                problems.append(f"logit_bias of token {token_id} ({bias!r}) must be {LOGIT_BIAS}, or -inf to exclude the token.")
        if problems:
            raise ConfigError("\n".join(problems))

    def check_ids(self, vocab_size: int) -> None:
        """Raise ConfigError if `logit_bias` has an id outside the vocabulary."""
        if self.logit_bias and (highest := max(self.logit_bias)) >= vocab_size:
            raise ConfigError(f"logit_bias has the token id {highest}; the vocabulary has the ids 0 to {vocab_size - 1:,}.")


@dataclass(frozen=True, eq=False)
class Request:
    """A prompt with everything that determines its completions."""

    prompt_ids: tuple[int, ...]
    """The model's input, at least one token."""
    maximum_tokens: int
    """Maximum number of new tokens; 0 reads the prompt only, so that a later request continues there."""
    sampling: SamplingSettings = SamplingSettings()
    seed: int = 0
    index: int = 0
    """Index of the prompt. Prompts with the same seed and different indices get different random numbers."""
    num_samples: int = 1
    stop: tuple[StopRule, ...] = ()
    ignore_eod: bool = False
    """True if the completion continues after an end-of-document token."""
    repeat_bytes: bytes = b""
    """Bytes that the completion repeats first, and that are not part of its text (token healing)."""
    top_logprobs: int | None = None
    """Number of most probable tokens reported for each token; None reports no log-probabilities."""
    prompt_logprobs: bool = False
    """True if the log-probabilities of the prompt's tokens are reported too."""
    adapter: str | None = None
    """Name of the served adapter that completes the prompt; None: the model as it was loaded."""
    prompt_seconds: float = math.inf
    """Time limit in seconds from `add` until the prompt has been read."""
    seconds: float = math.inf
    """Time limit in seconds for the completion, after the prompt has been read."""
