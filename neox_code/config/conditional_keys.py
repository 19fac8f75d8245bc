"""Keys whose value has an effect only if another key has a certain value.

    for key, because in find_keys_without_effect(values, given={"rotary_pct"}):
        print(key, because)             # rotary_pct it counts only with pos_emb: rotary

A value without effect is reported and accepted, because users combine one file of GPT-NeoX with many others.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, NamedTuple

from neox_code.config.deepspeed_settings import is_default, is_for_stage_3
from neox_code.config.fields import FIELDS

Values = Mapping[str, Any]


class Condition(NamedTuple):
    """Fields, the condition under which the fields have an effect, and the reason that is reported if the condition is not met."""

    fields: str
    is_met: Callable[[Values], bool]
    because: str


def has_value(key: str, *wanted: Any) -> Callable[[Values], bool]:
    return lambda values: values[key] in wanted


def is_set(*keys: str) -> Callable[[Values], bool]:
    return lambda values: any(values[key] for key in keys)


STANDARD_DEVIATIONS = ("normal", "scaled_normal", "single_residual_scaled_normal")

CONDITIONS = (
    Condition("layernorm_epsilon", has_value("norm", "layernorm"), "it counts only with norm: layernorm"),
    Condition(
        "rms_norm_epsilon",
        lambda values: values["norm"] == "rmsnorm" or values["qk_norm"],
        "it counts only with norm: rmsnorm, or with qk_norm",
    ),
    Condition(
        "rotary_pct rotary_emb_base rotary_save_freqs_buffer", has_value("pos_emb", "rotary"), "it counts only with pos_emb: rotary"
    ),
    Condition(
        "attention_config",
        lambda values: values["pos_emb"] == "alibi" and values["apply_query_key_layer_scaling"],
        "global and flash compute the same, except with pos_emb: alibi and apply_query_key_layer_scaling",
    ),
    Condition(
        "apply_query_key_layer_scaling",
        has_value("pos_emb", "alibi"),
        "scores are scaled back; it counts only with pos_emb: alibi",
    ),
    Condition("bias_gelu_fusion", has_value("activation", "gelu"), "it counts only with activation: gelu"),
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
    Condition(
        "sequence_parallel", lambda values: values["model_parallel_size"] > 1, "it counts only with model_parallel_size above 1"
    ),
    Condition("checkpoint_granularity", is_set("checkpoint_activations"), "it counts only with checkpoint_activations"),
    Condition("muon_lr", has_value("optimizer_type", "muon"), "it counts only with optimizer.type: muon"),
    Condition("lr_decay_share", has_value("lr_decay_style", "wsd"), "it counts only with lr_decay_style: wsd"),
    Condition("head_lr", is_set("no_weight_tying"), "the output layer is the embedding; it counts only with no_weight_tying"),
    Condition("fp16", has_value("precision", "fp16"), "it counts only with precision: fp16"),
    Condition("weighted_sampler_alpha", is_set("weight_by_num_documents"), "it counts only with weight_by_num_documents"),
    Condition(
        "fim_spm_rate",
        lambda values: values["fim_rate"] or values["row_format"] == "infilling",
        "it counts only with fim_rate above 0 or row_format: infilling",
    ),
    Condition("fim_cut fim_syntax_rate", is_set("fim_rate"), "it counts only with fim_rate above 0"),
    Condition("row_language", is_set("fim_syntax_rate"), "it counts only with fim_syntax_rate above 0"),
    Condition("split", is_set("data_path"), "it divides data_path, which is not set"),
    Condition(
        "merge_file merge_file_reader", has_value("tokenizer_type", "GPT2BPETokenizer"), "GPT2BPETokenizer alone reads merge_file"
    ),
    Condition("vocab_file", lambda values: values["tokenizer_type"] != "CharLevelTokenizer", "CharLevelTokenizer reads no file"),
    Condition("heldout_split heldout_bytes_per_language", is_set("heldout_path"), "it counts only with heldout_path"),
    Condition(
        "eval_task_limit eval_results_prefix eval_samples eval_protocol eval_corpus",
        is_set("eval_tasks"),
        "it counts only with eval_tasks",
    ),
    Condition(
        "lora_alpha use_rslora use_dora lora_dropout lora_target_modules loraplus_lr_ratio",
        is_set("lora_rank"),
        "it counts only with lora_rank",
    ),
    Condition(
        "frozen_modules",
        lambda values: not (values["lora_rank"] or values["trained_token_rows"] or values["first_trained_token_row"] is not None),
        "the weights are frozen in any case; frozen_layers chooses the blocks without LoRA",
    ),
    Condition(
        "save_huggingface",
        lambda values: not (values["lora_rank"] or values["trained_token_rows"] or values["first_trained_token_row"] is not None),
        "checkpoints hold an adapter in PEFT's format; convert --merge-adapter writes the whole model",
    ),
    Condition("num_samples", has_value("text_gen_type", "unconditional", None), "it counts only with text_gen_type: unconditional"),
    Condition("sample_input_file", has_value("text_gen_type", "input-file", None), "it counts only with text_gen_type: input-file"),
    Condition("sample_output_file", lambda values: values["text_gen_type"] != "interactive", "answers to typed prompts are shown"),
    Condition("prompt_end", lambda values: values["text_gen_type"] != "unconditional", "unconditional texts have no prompt"),
    Condition("top_k top_p", is_set("temperature"), "temperature is 0, which takes the most probable token"),
)


def find_keys_without_effect(values: Values, given: Collection[str]) -> Iterator[tuple[str, str]]:
    """Yield the given fields that differ from their defaults and have no effect, each with the reason.

    A setting inside the dictionary `zero_optimization` has a dotted name.
    """
    if values["zero_stage"] < 3:
        for name, value in values["zero_optimization"].items():
            if is_for_stage_3(name) and not is_default(value):
                yield f"zero_optimization.{name}", "it counts only with zero_optimization.stage: 3"
    for condition in CONDITIONS:
        if not condition.is_met(values):
            for key in condition.fields.split():
                if key in given and values[key] != FIELDS[key].default:
                    yield key, condition.because
