"""The table of all configuration keys, with the rule by which each key of GPT-NeoX's files becomes fields of the sections.

Each field of a section is a key of the same name. The table adds keys of another form (dictionaries, renamed keys), keys that are
accepted without effect, and refused keys with the reason of the refusal.

    for assignment in find_rule("optimizer").read({"type": "Adam", "params": {"lr": 1e-4}}): ...
    find_rule("scaled_upper_triang_masked_softmax_fusion").ignored          # why it has no effect
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from neox_code.config.deepspeed_settings import BF16, CHECKPOINT, FP16, OTHERS, ZERO, SettingProblem, find_problems, is_default
from neox_code.config.fields import FIELDS, convert, join_with_or, list_choices
from neox_code.config.former_keys import HARMLESS, OTHER_WORDS, REFUSED, RENAMED, SWITCHED
from neox_code.config.model import MOST_LAYERS
from neox_code.config.spelling import find_nearest, format_suggestion


class Assignment(NamedTuple):
    """A field and its value. `inner` is the dotted name of the value inside the key's dictionary."""

    field: str
    value: Any
    inner: str = ""


class Requirement(NamedTuple):
    """A requirement that a setting puts on another field. A message is formatted as: the setting, `text`, the other field."""

    field: str
    value: Any
    text: str


class NoEffect(NamedTuple):
    """A legacy setting that has no effect. `inner` is its dotted name inside the key's dictionary. `because` is the reason, without
    a period.

    `is_changed` is True if the value is known to differ from the default.
    """

    inner: str
    value: Any
    because: str
    is_changed: bool = False


Meaning = Assignment | SettingProblem | Requirement | NoEffect
Reader = Callable[[Any], Iterable[Meaning]]

ALREADY_DONE = "this is already the default behavior"


class NotBuilt(Exception):
    """Raised if a value requests a feature that is not built. The exception's text follows "cannot be used:" in a message."""


@dataclass(frozen=True)
class Rule:
    """The treatment of a key: it is converted to fields by `read`, or ignored or refused for the given reason."""

    read: Reader | None = None
    """Function that converts the value to fields. It raises NotBuilt, or ValueError with the expected values ("must be ...")."""

    ignored: str = ""
    refused: str = ""

    harmless: tuple[Any, ...] = (None, False)
    """Values of a refused key that request no feature and are ignored."""

    def refuses(self, value: Any) -> bool:
        is_disabled = isinstance(value, Mapping) and value.get("enabled") is False
        return bool(self.refused) and not is_disabled and value not in (*self.harmless, {}, [], "")


def find_rule(key: str) -> Rule | None:
    """Return the rule for a key, by its name or its prefix; None for an unknown key."""
    if key in KEYS:
        return KEYS[key]
    return next((rule for prefix, rule in PREFIXES.items() if key.startswith(prefix)), None)


def find_similar_keys(key: str) -> list[str]:
    """Return known keys that are similar to an unknown key; keys with an effect are first.

    >>> find_similar_keys("hiden_size"), find_similar_keys("dropout"), find_similar_keys("zebra")
    (['hidden_size', 'size'], ['attention_dropout', 'hidden_dropout'], [])
    >>> find_similar_keys("num_hidden_layers"), find_similar_keys("wand_host")
    (['num_layers'], ['wandb_host'])
    """
    if key in OTHER_WORDS:
        return [OTHER_WORDS[key]]
    current = {known: rule for known, rule in KEYS.items() if known not in (*RENAMED, *SWITCHED) and not rule.refused}
    return find_nearest(key, (known for known, rule in current.items() if rule.read)) or find_nearest(key, current)


# ---- readers


def set_field(field: str) -> Rule:
    """Return the rule of a key that sets `field`. The key may have another name than the field."""
    return Rule(lambda value: [Assignment(field, value)])


def set_if_true(field: str, value: Any) -> Rule:
    """Return the rule of a switch: `true` sets the field to `value`, and `false` has no effect."""

    def read(given: Any) -> Iterable[Assignment]:
        if given not in (True, False, None):
            raise ValueError("true or false")
        return [Assignment(field, value)] if given else []

    return Rule(read)


def pass_on(key: str) -> Rule:
    """Return the rule that checks the value of a key of DeepSpeed's (a key in OTHERS) and passes the value to DeepSpeed."""
    kind = OTHERS[key]

    def read(value: Any) -> Iterator[Assignment | SettingProblem]:
        if isinstance(kind, Mapping):
            value = {name: None if is_default(inner) else inner for name, inner in require_dictionary(value).items()} or None
            yield from find_problems(value or {}, kind)
        elif is_default(value):
            value = None  # DeepSpeed takes `auto` in the dictionaries of its models alone
        else:
            convert(value, kind)
        yield Assignment("deepspeed_extra_args", {key: value})

    return Rule(read)


def ignore(because: str) -> Rule:
    return Rule(ignored=because)


def refuse(because: str, *harmless: Any) -> Rule:
    return Rule(refused=because, harmless=(None, False, *harmless))


def accept_only(value: Any, because: str) -> Rule:
    """Return the rule of a key that must have its default `value`, because other values are not built."""
    return Rule(refused=because, harmless=(None, value))


def assign_rule(rule: Rule, keys: str) -> dict[str, Rule]:
    """Return a dictionary with one rule for several keys, which are separated by spaces."""
    return dict.fromkeys(keys.split(), rule)


def require_dictionary(value: Any) -> Mapping[str, Any]:
    if value is None or value is False:
        return {}
    if not isinstance(value, Mapping):
        raise ValueError("a dictionary")
    return value


def list_leaves(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the values of nested dictionaries with their dotted names.

    >>> list(list_leaves({"type": "Adam", "params": {"lr": 0.1}}))
    [('type', 'Adam'), ('params.lr', 0.1)]
    """
    for key, inner in value.items():
        if isinstance(inner, Mapping):
            yield from list_leaves(inner, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", inner


OPTIMIZER_PARAMETERS = {
    **dict.fromkeys(("adam", "adamw", "cpu_adam"), ("lr", "embedding_lr", "head_lr", "betas", "eps", "weight_decay")),
    "sgd": ("lr", "embedding_lr", "head_lr", "momentum", "dampening", "nesterov", "weight_decay"),
    "adafactor": ("lr", "embedding_lr", "head_lr", "weight_decay"),
    "lion": ("lr", "embedding_lr", "head_lr", "betas", "weight_decay"),
    "muon": ("lr", "muon_lr", "embedding_lr", "head_lr", "momentum", "betas", "eps", "weight_decay"),
}
"""Type of optimizer -> the parameters in `optimizer.params`; each is a field."""

USUAL_PARAMETERS = {"adam_w_mode": True, "bias_correction": True, "amsgrad": False, "set_grad_none": True}
"""Parameter of Adam in DeepSpeed -> the only supported value."""

PARAMETERS_OF_THEIR_OWN = {"max_grad_norm": "gradient_clipping"}
"""Parameter that GPT-NeoX's and DeepSpeed's examples set for any optimizer -> the field that it sets."""

UNBUILT_OPTIMIZERS = ("onebitadam", "onebitlamb", "zerooneadam", "lamb", "adagrad", "sm3", "madgrad_wd")


def read_optimizer(value: Any) -> Iterator[Assignment | SettingProblem]:
    """Read GPT-NeoX's `optimizer`: its type and its parameters, each of which is a field."""
    given = require_dictionary(value)
    kind = given.get("type")
    if isinstance(kind, str):
        kind = kind.lower().replace("cpu_torch_adam", "cpu_adam")
    if kind in UNBUILT_OPTIMIZERS and kind not in list_choices("optimizer_type"):
        raise NotBuilt(f"{given['type']} is not built. Use {join_with_or(list_choices('optimizer_type'))}")
    if "type" in given:
        yield Assignment("optimizer_type", kind, "type")
    allowed = OPTIMIZER_PARAMETERS.get(str(kind)) or sorted({name for names in OPTIMIZER_PARAMETERS.values() for name in names})
    for name, inner in list_leaves({key: inner for key, inner in given.items() if key != "type"}):
        parameter = name.removeprefix("params.")
        if not name.startswith("params."):
            yield SettingProblem(name, inner, f"is neither type nor params. {find_remedy(parameter, allowed)}")
        elif parameter in USUAL_PARAMETERS and USUAL_PARAMETERS[parameter] == inner:
            continue
        elif parameter in PARAMETERS_OF_THEIR_OWN:
            yield Assignment(PARAMETERS_OF_THEIR_OWN[parameter], inner, name)
        elif parameter in allowed:
            yield Assignment(parameter, inner, name)
        else:
            optimizer = given.get("type", "the optimizer")
            yield SettingProblem(name, inner, f"is no parameter of {optimizer} here. {find_remedy(parameter, allowed)}")


def find_remedy(parameter: str, allowed: Sequence[str]) -> str:
    """Return the remedy for a parameter that the optimizer does not have.

    >>> find_remedy("learning_rate", ["lr"]), find_remedy("lr", ["lr"]), find_remedy("momentum", ["lr", "eps"])
    ('Write optimizer.params.lr.', 'Write optimizer.params.lr.', 'Remove it; there are lr, eps.')
    """
    if parameter in USUAL_PARAMETERS:
        return f"Remove it, or set it to {str(USUAL_PARAMETERS[parameter]).lower()}: nothing else is built."
    word = OTHER_WORDS.get(parameter, "").removeprefix("optimizer.params.") or parameter
    similar = [word] if word in allowed else find_nearest(parameter, allowed)
    return f"Write optimizer.params.{similar[0]}." if similar else f"Remove it; there are {', '.join(allowed)}."


def read_zero(value: Any) -> Iterator[Meaning]:
    rest = dict(require_dictionary(value))
    if isinstance(rest.get("stage"), (list, tuple)):
        raise NotBuilt(AUTOTUNING)
    if "stage" in rest:
        yield Assignment("zero_stage", rest.pop("stage"), "stage")
    yield from pop_refused_settings(rest, REFUSED_IN_ZERO)
    yield from find_problems(rest, ZERO)
    yield from find_settings_without_effect(rest, WITHOUT_EFFECT_IN_ZERO)
    yield Assignment("zero_optimization", rest)


REFUSED_IN_ZERO: dict[str, tuple[tuple[Any, ...], str]] = {
    "compute_grad_norm": ((None, True), "the norm of the gradient is always computed. Remove it"),
    "elastic_checkpoint": ((None, False), "DeepSpeed cannot load the checkpoints that it writes then. Remove it"),
    "legacy_stage1": ((None, False), "DeepSpeed has removed the former stage 1. Remove it"),
    "load_from_fp32_weights": (
        (None, True),
        "weights in 16 bits are no substitute for those in fp32. Remove it",
    ),
    "mics_hierarchical_params_gather": ((None, False), "DeepSpeed has removed MiCS. Remove it"),
    "mics_shard_size": ((None, -1), "DeepSpeed has removed MiCS. Remove it"),
    "zeropp_loco_param": ((None, {}), "DeepSpeed has removed LoCo. Remove it"),
}
REFUSED_IN_BF16: dict[str, tuple[tuple[Any, ...], str]] = {
    "bf16_optimizer_states": ((None, False), "optimizer states are kept in fp32. Remove it, or set use_bnb_optimizer for 8 bits"),
}
REFUSED_IN_CHECKPOINT: dict[str, tuple[tuple[Any, ...], str]] = {
    "load_universal": ((None, False), "a checkpoint of any layout, the universal format included, is loaded without it. Remove it"),
    "use_node_local_storage": ((None, False), "all ranks write to one folder that all hosts see. Remove it"),
}
"""Name in DeepSpeed's dictionary `checkpoint` -> values that request no feature, and the reason why other values are refused."""


def pop_refused_settings(settings: dict[str, Any], table: Mapping[str, tuple[tuple[Any, ...], str]]) -> Iterator[SettingProblem]:
    """Remove from `settings` the names in the table. Yield a problem for each removed setting with a refused value."""
    for name in table.keys() & settings.keys():
        (harmless, because), value = table[name], settings.pop(name)
        if value not in harmless:
            yield SettingProblem(name, value, f"cannot be used: {because}.")


SAVE_16_BITS = "it is for a function of DeepSpeed that writes 16-bit weights, which is not used"
WITHOUT_EFFECT_IN_ZERO: dict[str, tuple[Any, str]] = {
    "allgather_partitions": (True, "DeepSpeed reads it no longer: weights are always gathered"),
    "cpu_offload_use_pin_memory": (None, "DeepSpeed reads it no longer. Use offload_optimizer.pin_memory"),
    **dict.fromkeys(
        (
            "gather_16bit_weights_on_model_save",
            "stage3_gather_16bit_weights_on_model_save",
            "stage3_gather_fp16_weights_on_model_save",
        ),
        (False, SAVE_16_BITS),
    ),
    "save_muon_momentum_buffer_in_memory": (False, "Muon's momentum is saved with the optimizer's state at every layout"),
}
WITHOUT_EFFECT_IN_FP16 = {"auto_cast": (False, "the model's inputs are integers, which are not cast")}
WITHOUT_EFFECT_IN_BF16 = {"check_grad_overflow": (True, "a step whose gradient is not finite is always skipped")}
"""Name in DeepSpeed's dictionary `bf16` -> its default, and the reason why another value has no effect."""


def find_settings_without_effect(settings: dict[str, Any], table: Mapping[str, tuple[Any, str]]) -> Iterator[NoEffect]:
    """Remove from `settings` the names in the table. Yield each removed setting that differs from its default."""
    for name in [name for name in settings if name in table]:
        (default, because), value = table[name], settings.pop(name)
        if not is_default(value) and value != default:
            yield NoEffect(name, value, because, is_changed=True)


def pop_enabled(settings: dict[str, Any]) -> bool:
    """Remove `enabled` from a dictionary of DeepSpeed and return its value."""
    enabled = settings.pop("enabled", False)
    if not isinstance(enabled, (bool, type(None))):
        raise ValueError(f"a dictionary in which enabled is true or false, not {enabled}")
    return bool(enabled)


def read_fp16(value: Any) -> Iterator[Meaning]:
    """Read DeepSpeed's dictionary `fp16`. `enabled` sets precision fp16, or bfloat16 with `type: bfloat16` (files of 2021).

    `fp16: true` enables fp16, as on Megatron-LM's command line.
    """
    if value is True:
        yield Assignment("precision", "fp16")
        return
    rest = dict(require_dictionary(value))
    precision = "bfloat16" if rest.pop("type", None) == "bfloat16" else "fp16"
    rest.pop("fp16", None)
    if pop_enabled(rest):
        yield Assignment("precision", precision, "enabled")
    yield from find_problems(rest, FP16)
    yield from find_settings_without_effect(rest, WITHOUT_EFFECT_IN_FP16)
    yield Assignment("fp16", rest)


def read_bf16(value: Any) -> Iterator[Meaning]:
    """Read DeepSpeed's dictionary `bf16`, or `true`. Settings of a loss scale in it have no effect, because bf16 has none."""
    if value is True:
        yield Assignment("precision", "bfloat16")
        return
    rest = {name: inner for name, inner in require_dictionary(value).items() if name not in ("bf16", *FP16)}
    if pop_enabled(rest):
        yield Assignment("precision", "bfloat16", "enabled")
    yield from pop_refused_settings(rest, REFUSED_IN_BF16)
    yield from find_problems(rest, BF16)
    yield from find_settings_without_effect(rest, WITHOUT_EFFECT_IN_BF16)
    if rest:
        yield Assignment("deepspeed_extra_args", {"bf16": rest})


def read_extra(value: Any) -> Iterator[Meaning]:
    """Read the dictionary `deepspeed_extra_args`: each setting is read by the rule that its key has at the top level."""
    for key, inner in require_dictionary(value).items():
        if key in FIELDS or key in ("optimizer", "scheduler"):
            raise ValueError(f"a dictionary of DeepSpeed's other settings, and {key} is a key of its own: set it at the top level")
        rule = KEYS.get(key)
        if rule is None:
            yield SettingProblem(key, inner, f"is an unknown key: {format_suggestion(find_nearest(str(key), OTHERS))}")
        elif rule.refuses(inner):
            yield SettingProblem(key, inner, f"cannot be used: {rule.refused}.")
        elif rule.read is None:
            yield NoEffect(key, inner, rule.ignored or ALREADY_DONE)
        else:
            try:
                for meaning in rule.read(inner):
                    yield (
                        meaning
                        if isinstance(meaning, Requirement)
                        else meaning._replace(inner=f"{key}.{meaning.inner}".rstrip("."))
                    )
            except NotBuilt as error:
                yield SettingProblem(key, inner, f"cannot be used: {error}.")
            except ValueError as error:
                yield SettingProblem(key, inner, f"must be {error}.")


def read_checkpoint(value: Any) -> Iterator[Assignment | SettingProblem]:
    """Read DeepSpeed's `checkpoint`, its settings for writing and loading files. `load_universal` is refused: DeepSpeed would not
    check the checkpoint, and would load wrong weights in another layout.
    """
    given = dict(require_dictionary(value))
    yield from pop_refused_settings(given, REFUSED_IN_CHECKPOINT)
    yield from find_problems(given, CHECKPOINT)
    yield Assignment("deepspeed_extra_args", {"checkpoint": given or None})


def read_split(value: Any) -> Iterator[Assignment]:
    """Read three shares from `969, 30, 1`, `98.9/0.1/1` or a list; missing shares are 0."""
    if value is None:
        yield Assignment("split", None)
        return
    parts = value.replace("/", ",").split(",") if isinstance(value, str) else value if isinstance(value, (list, tuple)) else [value]
    try:
        shares = [] if any(isinstance(part, bool) for part in parts) else [float(part) for part in parts]
    except (TypeError, ValueError):
        shares = []
    if not 1 <= len(shares) <= 3 or min(shares) < 0 or sum(shares) <= 0:
        raise ValueError("up to three shares that are not negative and not all 0, such as 969, 30, 1")
    yield Assignment("split", (*shares, *[0.0] * (3 - len(shares))))


def read_attention_config(value: Any) -> Iterator[Assignment | Requirement]:
    """Read GPT-NeoX's `attention_config`, a list of `[[type, ...], count]` or of types. One type for all layers is stored once."""
    if not isinstance(value, (list, tuple, type(None))):
        raise ValueError("a list such as [[[global], 12]]")
    kinds: list[Any] = []
    is_counted = bool(value)
    for entry in value or []:
        types, count = entry if isinstance(entry, list) and len(entry) == 2 else (entry, 1 if isinstance(entry, str) else "all")
        types = types if isinstance(types, list) else [types]
        is_count = isinstance(count, int) and not isinstance(count, bool) and 1 <= count <= MOST_LAYERS
        if not (is_count or count == "all") or not all(isinstance(kind, str) for kind in types):
            raise ValueError("a list such as [[[global], 12]]")
        is_counted = is_counted and is_count
        kinds += types if count == "all" else types * int(count)
    for kind in kinds:
        if kind not in list_choices("attention_config"):
            built_kinds = join_with_or(list_choices("attention_config"))
            raise NotBuilt(LAYER_KINDS.get(kind, f"{kind} layers are not built. Use {built_kinds}"))
    yield Assignment("attention_config", kinds if len(set(kinds)) > 1 else kinds[:1])
    if is_counted:
        yield Requirement("num_layers", len(kinds), f"has {len(kinds)} layer{'s' * (len(kinds) != 1)}, which must be as many as")


def set_converted_value(field: str) -> Rule:
    """Return the rule of a key that sets a field, except for GPT-NeoX's values in UNBUILT, which are refused."""

    def read(value: Any) -> Iterable[Assignment]:
        if isinstance(value, str) and value in UNBUILT[field] and value not in list_choices(field):
            raise NotBuilt(UNBUILT[field][value])
        return [Assignment(field, value)]

    return Rule(read)


def set_unless_all(field: str) -> Rule:
    """Return the rule of a key that sets a number of hosts or ranks. -1 means all, as in DeepSpeed, and is read as the default."""
    return Rule(lambda value: [] if value == -1 else [Assignment(field, value)])


# ---- reasons

SAME_RESULT = "fused kernels are chosen by PyTorch, with the same result"
MEMORY_ONLY = "it moves activations, and changes no result"
NO_EFFECT = "it has no effect in GPT-NeoX either"
ALWAYS_LOGGED = "the norms of gradients and weights are always logged"
NOT_LOGGED = "this figure is not logged; training is the same"
NO_DEEPSPEED_LOG = "DeepSpeed's log is not printed below warnings; training is the same"
NOT_PROFILED = "nothing is profiled; training is the same"
ALIGNMENT = "learning from preferences is not built; only the next token is trained. Remove it"
EXPERTS = "mixtures of experts are not built, only dense models. Remove it"
TRANSFORMER_ENGINE = "Transformer Engine's layers are not built. Remove it"
MAMBA = "Mamba layers are not built. Remove it"
RWKV = "RWKV layers are not built. Remove it"
GMLP = "gMLP layers are not built. Remove it"
SPARSE = "sparse attention is not built; attention sees the whole context. Remove it"
MUP = "muP is not built. Remove it"
AUTOTUNING = "DeepSpeed's autotuning is not built. Remove it"
WORKED_OUT = "it is derived from other keys, as in GPT-NeoX"
LLAMA_FEED_FORWARD = (
    "LLaMA's feed-forward layer has other keys now. Set activation: swiglu, expansion_factor: 8, mlp_multiple_of: 256 and "
    "use_bias_in_mlp: false, and remove it"
)

LAYER_KINDS = {
    **dict.fromkeys(("local", "sparse_fixed", "sparse_variable", "bigbird", "bslongformer"), SPARSE),
    **dict.fromkeys(("gmlp", "amlp"), GMLP),
    "mamba": MAMBA,
    "rwkv": RWKV,
}
"""Type of a layer in `attention_config` that is not built -> reason."""

UNBUILT = {
    "launcher": {
        "mvapich": "MVAPICH's mpirun is not built. Use mpich, whose command line it has, or openmpi",
        "impi": "Intel MPI's mpirun is not built. Use mpich, whose command line it has, or openmpi",
        "srun": "the launcher of Slurm has another name. Use slurm",
        "jsrun": "jsrun does not start ranks. Use openmpi, or start each rank by jsrun python -m neox_code.commands.train",
    },
    "lr_decay_style": {
        "infinite_cosine": "schedules without an end are not built. Use cosine with lr_decay_iters and min_lr",
        "infinite_inv_sqrt": "schedules without an end are not built. Use cosine with lr_decay_iters and min_lr",
    },
    "norm": {
        "non_parametric_layernorm": "layernorm without weights is not built. Use layernorm",
        "scalenorm": "scalenorm is not built. Use rmsnorm, which has a weight for each dimension",
        "te_layernorm": "Transformer Engine's layers are not built. Use layernorm, which computes the same",
        "te_rmsnorm": "Transformer Engine's layers are not built. Use rmsnorm, which computes the same",
    },
    "pos_emb": {"rpe": "T5's relative positions are not built. Use alibi, which also adds to attention's scores, or rotary"},
    "text_gen_type": {
        "humaneval": "HumanEval's mode of PolyCoder's fork is not built. Use input-file",
        "precompute": "precomputed log probabilities are not built. Use evaluate",
    },
}
"""Key -> value of GPT-NeoX that is not built -> reason."""

FIELDS_WITHOUT_MEANING = dict.fromkeys(
    (MAMBA, RWKV, GMLP), ("num_attention_heads", "num_kv_heads", "rotary_pct", "intermediate_size", "expansion_factor")
)
"""Reason of a refusal -> fields without meaning for the refused feature. Problems with these fields are not reported."""

REMOVED_BY_DEEPSPEED = "eigenvalue graph_harvesting nebula progressive_layer_drop quantize_training"
"""Settings of earlier DeepSpeed versions that the current version refuses. None of them is a key of GPT-NeoX."""

KEYS: dict[str, Rule] = {
    **{field: set_field(field) for field in FIELDS},
    # other spellings and dictionaries
    **{key: set_field(field) for key, field in RENAMED.items()},
    **{key: set_if_true(*assigned) for key, assigned in SWITCHED.items()},
    "optimizer": Rule(read_optimizer),
    "zero_optimization": Rule(read_zero),
    "fp16": Rule(read_fp16),
    "bf16": Rule(read_bf16),
    "split": Rule(read_split),
    "attention_config": Rule(read_attention_config),
    **{field: set_converted_value(field) for field in UNBUILT},
    **{field: set_unless_all(field) for field in ("num_nodes", "num_gpus")},
    "deepspeed_extra_args": Rule(read_extra),
    "checkpoint": Rule(read_checkpoint),
    "fp32_allreduce": Rule(
        lambda value: [Assignment("deepspeed_extra_args", {"communication_data_type": "fp32"})] if value else []
    ),
    # DeepSpeed's own
    **{key: pass_on(key) for key in OTHERS},
    **assign_rule(ignore(NO_DEEPSPEED_LOG), "comms_logger dump_state log_level"),
    **assign_rule(refuse("metrics have their own keys. Use tensorboard_dir, and remove it"), "tensorboard"),
    **assign_rule(refuse("metrics have their own keys. Use use_wandb, and remove it"), "wandb"),
    **assign_rule(refuse("Comet is not built. Use tensorboard_dir or use_wandb"), "comet"),
    **assign_rule(refuse("DeepSpeed has removed it. Remove it here too"), REMOVED_BY_DEEPSPEED),
    "sparse_gradients": refuse("DeepSpeed has removed it, and the embedding's gradients are dense. Remove it"),
    "torch_autocast": refuse("the whole model has one precision. Set precision, and remove it"),
    **assign_rule(
        refuse("this part of DeepSpeed is not used. Remove it"),
        "compile datastates_ckpt expert_parallel hybrid_engine pipeline tensor_parallel timers weight_quantization",
    ),
    "gradient_allreduce_op": accept_only("mean", "gradients of data-parallel ranks are averaged. Remove it"),
    "managed_gradient_accumulation": accept_only(True, "DeepSpeed counts the micro batches of a step. Remove it"),
    "dataloader_drop_last": ignore("DeepSpeed's loader of data is not used"),
    **assign_rule(ignore("the log line has the memory in use"), "memory_breakdown"),
    **assign_rule(ignore("nothing in DeepSpeed depends on it here"), "disable_allgather disable_python_gc vocabulary_size"),
    # no effect on what is computed
    **assign_rule(
        ignore(SAME_RESULT),
        "bias_dropout_fusion fused_kernels_build_path layernorm_fusion rmsnorm_fusion rope_fusion "
        "scaled_masked_softmax_fusion scaled_upper_triang_masked_softmax_fusion use_flashattn_swiglu",
    ),
    **assign_rule(
        ignore(MEMORY_ONLY),
        "activation_checkpointing checkpoint_in_cpu contiguous_checkpointing distribute_checkpointed_activations "
        "partition_activations profile_backward synchronize_each_layer",
    ),
    **assign_rule(
        ignore(NO_EFFECT),
        "adlr_autoresume adlr_autoresume_interval deepscale deepscale_config hysteresis loss_scale_window min_scale "
        "no_save_optim num_unique_layers param_sharing_style short_seq_prob use_bias_in_norms weight_server_port",
    ),
    **assign_rule(ignore(ALWAYS_LOGGED), "log_grad_norm log_param_norm"),
    **assign_rule(
        ignore("it counts only with log_gradient_noise_scale"), "gradient_noise_scale_cpu_offload gradient_noise_scale_n_batches"
    ),
    **assign_rule(
        ignore(NOT_LOGGED),
        "log_grad_pct_zeros log_gradient_noise_scale log_l1_norm log_optimizer_states",
    ),
    **assign_rule(
        ignore(NOT_PROFILED),
        "flops_profiler memory_profiling memory_profiling_path profiling",
    ),
    **assign_rule(
        ignore(WORKED_OUT),
        "config_files detect_nvlink_pairs do_test do_train do_valid dynamic_loss_scale git_hash is_pipe_parallel "
        "lazy_mpu_init local_rank loss_scale padded_vocab_size params rank user_script world_size "
        "zero_allgather_bucket_size zero_contiguous_gradients zero_reduce_bucket_size zero_reduce_scatter",
    ),
    "attention_softmax_in_fp32": ignore("PyTorch's attention always accumulates the softmax in fp32"),
    "checkpoint_validation_with_forward_pass": ignore("a checkpoint's names and shapes are checked when it is loaded"),
    **assign_rule(ignore("it counts only with use_mup"), "base_shapes_file coord_check coord_check_nseeds coord_check_nsteps"),
    **assign_rule(ignore("it is for sbatch or srun: give it there"), "account comment slurm_comment"),
    **assign_rule(ignore("it is a name that nothing reads"), "identifier_string train_dataset_name val_dataset_name"),
    "generating_batch_size": ignore("a completion does not depend on the prompts that are completed beside it"),
    "deepspeed": ignore("DeepSpeed is always used"),
    "deepspeed_activation_checkpointing": ignore("checkpoint_activations alone decides whether activations are recomputed"),
    "force_multi": ignore("a hostfile is always followed"),
    "fp16_lm_cross_entropy": ignore("the loss is computed in fp32"),
    "onnx_safe": ignore("models are not exported to ONNX"),
    "zero_allow_untested_optimizer": ignore("DeepSpeed takes every optimizer"),
    "mmap_warmup": ignore("the operating system reads token files ahead"),
    **assign_rule(
        ignore("the masks of dropout depend on `seed` and the number of the sample, and no generator's state is saved"),
        "no_load_rng no_save_rng",
    ),
    "no_ssh_check": ignore("the launcher's check is quick and names the host that is down"),
    "override_lr_scheduler": ignore("the schedule is a function of the step, always the configuration's"),
    "rpe_max_distance": ignore("it counts only with pos_emb: rpe"),
    "rpe_num_buckets": ignore("it counts only with pos_emb: rpe"),
    "scalenorm_epsilon": ignore("it counts only with norm: scalenorm"),
    "steps_per_print": ignore("a line is printed every log_interval steps"),
    "use_cpu_initialization": ignore("the initial weights do not depend on the device"),
    "wall_clock_breakdown": ignore("DeepSpeed's timers make the device wait; the log line has the throughput"),
    "wandb_host": ignore("Weights & Biases reads its address from WANDB_BASE_URL"),
    # former years and branches
    **{key: refuse(because, *HARMLESS.get(key, ())) for key, because in REFUSED.items()},
    "mlp_type": Rule(refused=LLAMA_FEED_FORWARD, harmless=(None, "regular")),
    "num_experts": refuse(EXPERTS, 0, 1),
    **assign_rule(
        ignore("it counts only with num_experts above 1"),
        "create_deepspeed_moe_param_group create_moe_param_group enable_expert_tensor_parallelism expert_interval "
        "use_deepspeed_moe use_tutel",
    ),
    "sparsity": refuse(SPARSE, "none"),
    **assign_rule(refuse(ALIGNMENT), "label_data_paths"),
    # built in one way
    "allow_chopped": accept_only(True, "a document that is longer than a sample is always cut. Remove it"),
    "char_level_ppl": refuse("perplexity is by token and by byte: use evaluate. Remove it"),
    "dataset_impl": accept_only("gpt2", ALIGNMENT),
    "opt_pos_emb_offset": refuse("learned positions begin at row 0. Remove it", 0),
    "output_layer_parallelism": accept_only("column", "the head is always divided by vocabulary. Remove it"),
    "train_impl": accept_only("normal", ALIGNMENT),
    "use_shared_fs": accept_only(
        True, "sample indices are built once. Set data_cache_path to a folder that all hosts share, and remove it"
    ),
    "data_impl": Rule(refused="only memory-mapped .bin/.idx files are read. Use data_impl: mmap", harmless=(None, "mmap", "infer")),
    # not built
    "amp": refuse("NVIDIA apex is not used. Set precision instead"),
    **assign_rule(refuse(AUTOTUNING), "autotuning autotuning_config autotuning_run"),
    "compression_training": refuse("compression is not built. Remove it"),
    "curriculum_learning": refuse("samples have one length. Remove it"),
    "curriculum_seqlen": refuse("samples have one length. Remove it", 0),
    "data_efficiency": refuse("DeepSpeed's data sampling is not built. Remove it"),
    **assign_rule(refuse(RWKV), "dim_att ffn_dim head_size"),
    "elasticity": refuse("a run has a fixed number of ranks. Resume from a checkpoint with another number instead"),
    "num_fewshot": ignore("each task has the examples of its protocol"),
    "gmlp_attn_dim": refuse(GMLP, 64),
    "gpt_j_tied": refuse("attention and feed-forward have a norm each. Remove it"),
    "precompute_model_name": refuse("precomputed log probabilities are not built. Remove it"),
    "return_logits": refuse("logits are not written. Remove it"),
    "s3_chunk_size": ignore("it counts only with s3_path"),
    "s3_path": refuse("checkpoints are written to folders. Use save, and copy from there"),
    "scheduler": refuse("DeepSpeed's schedules are not used. Use lr_decay_style, lr_decay_iters, min_lr and warmup"),
    "sliding_window_width": refuse("sliding windows are not built; attention sees the whole context. Remove it"),
    "soft_prompt_tuning": refuse("soft prompts are not built. Remove it"),
    **assign_rule(refuse(SPARSE), "sparse_attention sparsity_config"),
    "train_epochs": refuse("use train_iters, in steps"),
    "use_checkpoint_lr_scheduler": refuse("the schedule is a function of the step. Set lr, lr_decay_iters, min_lr and warmup"),
    "use_comet": refuse("Comet is not built. Use tensorboard_dir or use_wandb"),
    **assign_rule(refuse(MUP), "save_base_shapes use_mup"),
    "qk_layernorm_over_heads": ignore("it counts only with use_qk_layernorm"),
    "use_qk_layernorm": refuse(
        "GPT-NeoX normalizes queries and keys over all heads of a tensor rank together, so that the model depends "
        "on model_parallel_size. Use qk_norm, which normalizes each head by rmsnorm, or remove it"
    ),
    "wandb_init_all_ranks": refuse("rank 0 reports for all. Remove it"),
    "z_loss": refuse("the loss is the cross entropy alone. Remove it", 0),
}

PREFIXES: dict[str, Rule] = {
    "mamba_": refuse(MAMBA),
    "moe_num_experts": refuse(EXPERTS, 0, 1),
    "moe_": ignore("it counts only with moe_num_experts above 1"),
    "mup_": ignore("it counts only with use_mup"),
    "comet_": ignore("it counts only with use_comet"),
    "te_": refuse(TRANSFORMER_ENGINE),
    "rwkv_": refuse(RWKV),
    "fp32_reinforce": refuse(ALIGNMENT),
    "dpo_": refuse(ALIGNMENT),
    "kto_": refuse(ALIGNMENT),
    "kl_": refuse(ALIGNMENT),
    "reinforce_": refuse(ALIGNMENT),
    "serve_model_weights": refuse(ALIGNMENT),
    "online_dataserver_": refuse(ALIGNMENT),
    **{f"{sign}_{part}_": refuse(ALIGNMENT) for sign in ("pos", "neg") for part in ("train", "valid", "test")},
    **{f"{part}_{kind}_data_path": refuse(ALIGNMENT) for part in ("train", "valid", "test") for kind in ("label", "reward")},
}
