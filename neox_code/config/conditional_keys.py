"""Keys whose value takes part only where another key has a certain value.

    for key, because in without_effect(values, given={"rotary_pct"}):
        print(key, because)             # rotary_pct it counts only with pos_emb: rotary

A value that was given and takes no part is reported, not refused: one file of GPT-NeoX's goes with many others.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, NamedTuple

from neox_code.config.fields import FIELDS

Values = Mapping[str, Any]


class Condition(NamedTuple):
    """Fields, when they take part, and the reason to be given where they do not."""

    fields: str
    takes_part: Callable[[Values], bool]
    because: str


def has(key: str, *wanted: Any) -> Callable[[Values], bool]:
    return lambda values: values[key] in wanted


def is_set(*keys: str) -> Callable[[Values], bool]:
    return lambda values: any(values[key] for key in keys)


STANDARD_DEVIATIONS = ("normal", "scaled_normal", "single_residual_scaled_normal")

CONDITIONS = (
    Condition("layernorm_epsilon", has("norm", "layernorm"), "it counts only with norm: layernorm"),
    Condition("rms_norm_epsilon", has("norm", "rmsnorm"), "it counts only with norm: rmsnorm"),
    Condition(
        "rotary_pct rotary_emb_base rotary_save_freqs_buffer", has("pos_emb", "rotary"), "it counts only with pos_emb: rotary"
    ),
    Condition(
        "attention_config",
        lambda values: values["pos_emb"] == "alibi" and values["apply_query_key_layer_scaling"],
        "global and flash compute the same, except with pos_emb: alibi and apply_query_key_layer_scaling",
    ),
    Condition(
        "apply_query_key_layer_scaling",
        has("pos_emb", "alibi"),
        "scores are scaled back; it counts only with pos_emb: alibi",
    ),
    Condition("bias_gelu_fusion", has("activation", "gelu"), "it counts only with activation: gelu"),
    Condition(
        "init_method_std",
        lambda values: not {values["init_method"], values["output_layer_init_method"]}.isdisjoint(STANDARD_DEVIATIONS),
        f"it counts only with an init_method or output_layer_init_method of {', '.join(STANDARD_DEVIATIONS)}",
    ),
    Condition(
        "pipe_partition_method",
        lambda values: values["pipe_parallel_size"] > 1,
        "there is one stage; it counts only with pipe_parallel_size above 1",
    ),
    Condition(
        "checkpoint_num_layers",
        lambda values: values["checkpoint_activations"] and values["pipe_parallel_size"] > 0,
        "every layer is recomputed or none; it counts only with checkpoint_activations and pipe_parallel_size above 0",
    ),
    Condition("split", is_set("data_path"), "it divides data_path, which is not set"),
    Condition("merge_file merge_file_reader", has("tokenizer_type", "GPT2BPETokenizer"), "GPT2BPETokenizer alone reads merge_file"),
    Condition("vocab_file", lambda values: values["tokenizer_type"] != "CharLevelTokenizer", "CharLevelTokenizer reads no file"),
    Condition("heldout_split heldout_bytes_per_language", is_set("heldout_path"), "it counts only with heldout_path"),
    Condition("num_samples", has("text_gen_type", "unconditional", None), "it counts only with text_gen_type: unconditional"),
    Condition("sample_input_file", has("text_gen_type", "input-file", None), "it counts only with text_gen_type: input-file"),
    Condition("sample_output_file", lambda values: values["text_gen_type"] != "interactive", "answers to typed prompts are shown"),
    Condition("prompt_end", lambda values: values["text_gen_type"] != "unconditional", "unconditional texts have no prompt"),
    Condition("top_k top_p", is_set("temperature"), "temperature is 0, which takes the most probable token"),
)


def without_effect(values: Values, given: Collection[str]) -> Iterator[tuple[str, str]]:
    """The given fields that differ from their defaults and take no part, each with the reason."""
    for condition in CONDITIONS:
        if not condition.takes_part(values):
            for key in condition.fields.split():
                if key in given and values[key] != FIELDS[key].default:
                    yield key, condition.because
