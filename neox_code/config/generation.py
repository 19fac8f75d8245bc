"""Keys of text generation with a trained model."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class GenerationConfig:
    text_gen_type: Literal["interactive", "input-file", "unconditional"] | None = None
    """Mode; default `input-file` with `sample_input_file`, else `unconditional`."""

    maximum_tokens: int = 64
    """Greatest number of new tokens for a prompt."""

    prompt_end: str | None = None
    """Text that ends a prompt in the mode interactive (default: a line end), or separates the prompts of a file in the mode
    input-file (default: the file is one prompt)."""

    temperature: float = 0.0
    """Number by which logits are divided; 0 takes the most probable token."""

    top_k: int = 0
    """Sample among the k most probable tokens; 0 for all."""

    top_p: float = 0.0
    """Sample among the most probable tokens whose probabilities add up to this value; 0 for all."""

    min_p: float = 0.0
    """Sample among the tokens whose probability is at least this share of the highest probability; 0 for all."""

    repetition_penalty: float = 1.0
    """Penalty for tokens that occur in the prompt or completion: a positive logit is divided by this number, a negative logit is
    multiplied by it; 1 for no penalty."""

    frequency_penalty: float = 0.0
    """Number that is subtracted from a token's logit for each time that the token occurs in the completion."""

    presence_penalty: float = 0.0
    """Number that is subtracted once from a token's logit if the token occurs in the completion."""

    stop: tuple[str, ...] = ()
    """Texts that end a completion. The completion does not contain the text that ends it."""

    stop_rules: tuple[Literal["dedent", "block", "bracket"], ...] = ()
    """Places in the code at which a completion ends. `dedent`: at a line that is indented less than the prompt's last line.
    `block`: at the end of the block that the prompt opens or is in. `bracket`: at the bracket that closes the prompt's last open
    one."""

    token_healing: bool = True
    """True: a prompt may end inside a token. The prompt is read without its last word; then tokens are generated that repeat this
    word and continue it. Prompts of token ids are read unchanged."""

    infilling_order: Literal["psm", "spm"] = "psm"
    """Order in which a model with infilling tokens reads prefix and suffix: `psm` reads the prefix first, `spm` the suffix first.
    With `spm` an editor's next request is cheaper, because only the prefix has changed."""

    samples_per_prompt: int = 1
    """Number of completions of each prompt, with different random numbers."""

    long_prompts: Literal["error", "cut"] = "error"
    """Treatment of a prompt that fills the context: `error` refuses the prompt, `cut` removes whole lines from its beginning."""

    kept_head_tokens: int = 0
    """Number of tokens at the beginning of a long prompt that are kept with `long_prompts: cut`."""

    maximum_rows: int = 8
    """Greatest number of completions that run at once; others wait."""

    prefix_cache_gib: float = 1.0
    """GiB of memory for the attention keys and values of earlier texts. A prompt with the same beginning as an earlier text is
    read only from the first different token on."""

    prompt_lookup_num_tokens: int = 7
    """Maximum number of tokens that are guessed at a time on CPUs; 0 guesses none. The guess is the text that followed the last
    tokens where they occurred before. The model reads the guessed tokens in one pass and keeps those that it would generate itself,
    so completions do not change."""

    recompute: bool = False
    """Recompute the whole context for every token, without a cache."""

    use_average: bool = False
    """True: load the average of the weights in a checkpoint (`average_decay`) in place of the weights; also in `convert --set`."""

    load_in_8bit: bool = False
    """True: round the weights of linear layers to 8-bit integers when the model is loaded onto a CPU, for half the memory and less
    time. In a small trained model, bits per byte of Python changed by less than 0.001. To measure your model, run `evaluate` with
    and without this key."""

    num_samples: int = 1
    """Number of texts in the mode unconditional."""

    sample_input_file: str | None = None
    """File with the prompts of the mode input-file, or a folder with a file for each prompt; `-` is standard input."""

    sample_input_format: Literal["text", "jsonl"] | None = None
    """Format of the prompt file; default by its name. `jsonl` prompts from standard input are completed as they arrive."""

    sample_output_file: str | None = None
    """JSON Lines file for the results; default (and `-`) standard output. The rows of an existing file are kept and continued."""
