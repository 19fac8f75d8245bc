"""Completing text with a trained model."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class GenerationConfig:
    text_gen_type: Literal["interactive", "input-file", "unconditional"] | None = None
    """Mode; default `input-file` with `sample_input_file`, else `unconditional`."""

    maximum_tokens: int = 64
    """Greatest number of new tokens for a prompt."""

    prompt_end: str | None = None
    """interactive: the text that ends a prompt (default: a line end). input-file: the text that separates prompts (default: the
    file is one prompt)."""

    temperature: float = 0.0
    """Number by which logits are divided; 0 takes the most probable token."""

    top_k: int = 0
    """Sample among the k most probable tokens; 0 for all."""

    top_p: float = 0.0
    """Sample among the most probable tokens that reach this probability together; 0 for all."""

    min_p: float = 0.0
    """Sample among the tokens of at least this share of the highest probability; 0 for all."""

    repetition_penalty: float = 1.0
    """Divisor of the positive and factor of the negative logits of tokens in the prompt or the completion; 1 for none."""

    frequency_penalty: float = 0.0
    """Subtracted from a token's logit for each time that it occurs in the completion."""

    presence_penalty: float = 0.0
    """Subtracted from a token's logit if it occurs in the completion."""

    stop: tuple[str, ...] = ()
    """Texts at which a completion ends; the text is not part of it."""

    stop_rules: tuple[Literal["dedent", "block", "bracket"], ...] = ()
    """Places in the code at which a completion ends. `dedent`: at a line that is indented less than the prompt's last line.
    `block`: at the end of the block that the prompt opens or is in. `bracket`: at the bracket that closes the prompt's last open
    one."""

    token_healing: bool = True
    """Read a prompt only to the beginning of its last word, and generate tokens that repeat that word first, so that a prompt which
    ends inside a token is completed as if it did not. Not for prompts of token ids."""

    infilling_order: Literal["psm", "spm"] = "psm"
    """Order in which a model with infilling tokens reads a prompt with a suffix: `psm` prefix first, `spm` suffix first, which
    makes the next keystroke in an editor cheaper."""

    samples_per_prompt: int = 1
    """Number of completions of each prompt, with different random numbers."""

    long_prompts: Literal["error", "cut"] = "error"
    """A prompt that fills the context is an error, or loses its beginning up to a line's end."""

    kept_head_tokens: int = 0
    """Number of tokens at a long prompt's beginning that are kept when it is cut."""

    maximum_rows: int = 8
    """Greatest number of completions that run at once; others wait."""

    prefix_cache_gib: float = 1.0
    """Memory for the keys and values of earlier texts: a prompt that begins like one of them is read from where they part."""

    recompute: bool = False
    """Recompute the whole context for every token, without a cache."""

    load_in_8bit: bool = False
    """Round the weights of linear layers to 8-bit integers when the model is loaded onto a CPU: half the memory and less time. Bits
    per byte of Python changed by less than 0.001 in a small trained model; `evaluate` with and without it measures it for yours."""

    num_samples: int = 1
    """unconditional: number of texts."""

    sample_input_file: str | None = None
    """input-file: the prompt's file, or a folder with a file for each prompt; `-` is standard input."""

    sample_input_format: Literal["text", "jsonl"] | None = None
    """Kind of the prompt's file; default by its name. Prompts of standard input as `jsonl` are completed while it is read."""

    sample_output_file: str | None = None
    """JSON Lines file for the results; default (and `-`) standard output. The rows of an existing file are kept and continued."""
