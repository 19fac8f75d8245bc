"""Find the start of a run: its newest checkpoint in `save`, else the checkpoint in `load`, else a start from scratch.

    start = find_start(training, layout, values)            # on rank 0, while the lock on `save` is held
    check_start(start, config, tokenizer)
    changes = list_changes(start, layout, config, values, data)

`save` holds    load, finetune, iteration, no_load_optim                      the run begins
------------    ----------------------------------------------------------    ------------------------------------------------
nothing         load is another folder                                        from load
                load is save or not set                                       from scratch; with finetune or iteration: error
checkpoints     as when the run that wrote the newest was first started       from the newest: it resumes
                load is save or not set, and the others are not set           from the newest: it resumes
                load is save, with iteration or no_load_optim                 from that iteration, without the optimizer's state
                anything else                                                 error

A run is refused if `save` contains a later iteration than its start: the run would replace that checkpoint.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from neox_code.checkpoint.layout import (
    RUN_RECORD,
    VOCABULARY_FOLDER,
    find_checkpoint,
    find_configuration,
    get_latest_path,
    has_zero_3_files,
    is_hugging_face_model,
    is_universal,
    list_checkpoints,
    list_layer_files,
    list_model_files,
    parse_iteration,
    require_whole_weights,
)
from neox_code.checkpoint.record import RunRecord, StoredConfig, list_incomplete_files, read_record, read_stored_config
from neox_code.config.assembly import DEFAULT, format_value
from neox_code.config.neox import NeoXConfig
from neox_code.config.optimizer import is_offloaded
from neox_code.config.resume_rules import MODEL, OPTIMIZER_STATE, ORDER, SCHEDULE, Difference, Values, compare, derive_values
from neox_code.config.training import TrainingConfig
from neox_code.data.identity import list_data_changes
from neox_code.errors import CheckpointError, ConfigError
from neox_code.files import partial_path
from neox_code.logs import get_logger
from neox_code.tokenizer.comparison import compare_vocabulary, name_vocabulary
from neox_code.tokenizer.protocol import Tokenizer

log = get_logger(__name__)


@dataclass(frozen=True)
class Start:
    """The checkpoint and the iteration from which a run begins."""

    folder: Path | None = None
    """The checkpoint to load; None: from scratch."""

    record: RunRecord | None = None
    """The content of the checkpoint's run.json; None if the checkpoint has none."""

    stored: StoredConfig | None = None
    """The configuration that the checkpoint was written with; None if it cannot be read."""

    iteration: int = 0
    """Steps done when the run begins."""

    started_from: Mapping[str, Any] | None = None
    """Keys that selected the checkpoint of the run's first start (`make_start_request`); None for a start from scratch."""

    run: str | None = None
    """Name of the run that resumes; None if a new run begins."""

    resets: bool = False
    """True if training begins at step 0 with the checkpoint's weights (`finetune`, or a Hugging Face model)."""

    loads_optimizer: bool = True

    is_resharded: bool = False
    """True if the files have another layout than this run or another writer. Weights and state are then read by parameter."""

    def is_in_folder(self, save: str) -> bool:
        """Return True if the checkpoint is in the folder `save`."""
        return self.folder is not None and is_same_folder(str(self.folder.parent), save)

    @property
    def sample_length(self) -> int | None:
        """Number of tokens in a sample of the checkpoint's run; None if it is not known."""
        return derive_values(self.stored.values)["seq_length"] if self.stored else None


def make_start_request(training: TrainingConfig) -> dict[str, Any]:
    """Return the keys, with JSON values, that select the checkpoint of a run's first start."""
    options = {"iteration": training.iteration, "finetune": training.finetune, "no_load_optim": training.no_load_optim}
    return {"load": str(Path(training.load).resolve()) if training.load else None, **options}


def find_start(training: TrainingConfig, layout: Mapping[str, int], values: Values) -> Start:
    """Return the start of a run with this layout and configuration (`values`, by flat keys), by the table at the top of this file.

    Raise ConfigError for keys that need `load`. Raise CheckpointError if there is no checkpoint to load, a file of it is missing or
    incomplete, or a checkpoint in `save` would be replaced.
    """
    save, load = (Path(path) if path else None for path in (training.save, training.load))
    for key in ("finetune", "iteration"):
        if load is None and (value := getattr(training, key)):
            raise ConfigError(
                f"{key} ({format_value(value)}) needs a checkpoint to begin with. Set load to its folder, or remove {key}."
            )
    if save is not None:
        finish_interrupted_save(save)
    own = list_checkpoints(save) if save else {}
    if own:
        assert save is not None
        start = find_start_in_used_folder(training, layout, values, save)
    else:
        start = find_initial_start(training)
    if start.folder is None:
        return start
    record = read_record(start.folder)
    require_complete_checkpoint(start.folder, record)
    begin = 0 if start.resets else record.iteration if record else parse_iteration(start.folder) or 0
    if later := [number for number in own if number > begin]:
        raise CheckpointError(
            f"{save} holds checkpoints of iterations {', '.join(map(str, later))}, which this run would replace: it begins at "
            f"{begin}, from {start.folder}. Set save to another folder, or move these checkpoints."
        )
    is_resharded = start.loads_optimizer and needs_resharding(start.folder, record, layout, values)
    stored = read_stored_config(start.folder, record)
    return replace(start, record=record, stored=stored, iteration=begin, is_resharded=is_resharded)


def find_initial_start(training: TrainingConfig) -> Start:
    """Return the start of a run whose `save` holds no checkpoint."""
    if training.load is None:
        return Start()
    load = Path(training.load)
    if is_same_folder(training.save, training.load) and is_hugging_face_model(load):
        raise CheckpointError(f"load and save are the same folder, which is a Hugging Face model: {load}. Choose another for save.")
    needs_one = training.finetune or training.iteration is not None or get_latest_path(load).exists()
    if is_same_folder(training.save, training.load) and not needs_one:
        log.info("no checkpoint in %s yet: training starts from scratch", load)
        return Start()
    folder = find_checkpoint(load, training.iteration)
    resets = training.finetune or is_hugging_face_model(folder)  # which has weights alone
    loads_optimizer = not (resets or training.no_load_optim)
    return Start(folder, started_from=make_start_request(training), resets=resets, loads_optimizer=loads_optimizer)


def find_start_in_used_folder(training: TrainingConfig, layout: Mapping[str, int], values: Values, save: Path) -> Start:
    """Return the start of a run whose `save` holds checkpoints. Raise CheckpointError if they are of another run."""
    newest = find_checkpoint(save)
    record = read_record(newest)
    request = make_start_request(training)
    is_plain = not (training.finetune or training.no_load_optim or training.iteration is not None)
    is_own_load = training.load is None or is_same_folder(training.save, training.load)
    is_restart = record is not None and record.started_from == request
    if is_restart or (is_own_load and is_plain):
        if training.load is None or not is_plain or not is_own_load:
            log.info("save (%s) holds checkpoints of this run: it resumes from the newest, %s", save, newest.name)
        is_fit = record is None or not (
            (find_layout_differences(record, layout, values) and find_resharding_obstacle(record, values))
            or compare(record.config, values, OPTIMIZER_STATE)
        )
        loads_optimizer = is_fit or not training.no_load_optim
        if record is None:
            return Start(newest, loads_optimizer=loads_optimizer)
        return Start(newest, started_from=record.started_from, run=record.run, loads_optimizer=loads_optimizer)
    if is_own_load and not training.finetune:
        folder = find_checkpoint(save, training.iteration)
        return Start(folder, started_from=request, loads_optimizer=not training.no_load_optim)
    asked = ", ".join(f"{key}: {format_value(value)}" for key, value in request.items() if value not in (None, False))
    raise CheckpointError(
        f"the folder of the key save ({save}) has checkpoints of another run, the newest {newest.name}; this run would start from "
        f"the beginning ({asked}). To resume that run, set the key load to {save} and remove the keys finetune and iteration. "
        "For a new run, set the key save to another folder."
    )


def is_same_folder(one: str | None, other: str | None) -> bool:
    return one is not None and other is not None and Path(one).resolve() == Path(other).resolve()


def finish_interrupted_save(save: Path) -> None:
    """Complete a save that was killed between the rename of its folder and the rename of `latest`."""
    new_latest = partial_path(get_latest_path(save))
    if new_latest.is_file():
        name = new_latest.read_text(encoding="utf-8", errors="replace").strip()
        if any(folder.name == name for folder in list_checkpoints(save).values()):
            new_latest.replace(get_latest_path(save))
        else:
            new_latest.unlink()


def require_complete_checkpoint(folder: Path, record: RunRecord | None) -> None:
    """Raise CheckpointError if files of the checkpoint are missing or incomplete."""
    faults = list_incomplete_files(folder, record) if record else []
    earlier = [other for number, other in list_checkpoints(folder.parent).items() if number < (parse_iteration(folder) or 0)]
    if record is None and earlier and (earlier[-1] / RUN_RECORD).is_file():
        reason = f"which is written last, and {earlier[-1].name} has one: it is incomplete or of another program"
        faults = [f"{folder} has no {RUN_RECORD}, {reason}"]
    if not (list_layer_files(folder) or list_model_files(folder) or has_zero_3_files(folder) or is_hugging_face_model(folder)):
        faults = [f"{folder} holds no file of weights"]
    if faults:
        more = f" (and {len(faults) - 1} more)" if faults[1:] else ""
        raise CheckpointError(f"{faults[0]}{more}. Copy the checkpoint again, or move {folder} away to begin with an earlier one.")


# ---- comparison


def check_start(start: Start, config: NeoXConfig, tokenizer: Tokenizer) -> None:
    """Raise CheckpointError if the configuration cannot use the weights or optimizer state; the message lists all differences."""
    if start.folder is not None:
        check_vocabulary(start.folder, start.record, tokenizer)
        check_model(start.folder, start.stored, config, with_optimizer=start.loads_optimizer)


def list_changes(start: Start, layout: Mapping[str, int], config: NeoXConfig, values: Values, data: Mapping[str, Any]) -> list[str]:
    """Return a line for each change since the checkpoint that a run begins with.

    `values` are the configuration's fields with the derived batch size; `data` is from `data.identity.read_data_identity`. Raise
    CheckpointError if the optimizer's state cannot be divided for this layout.
    """
    if start.folder is None:
        return []
    check_layout(start, start.record, layout, values)
    if start.stored is None or start.resets:
        return []
    stored = start.stored
    effects = [*([] if start.loads_optimizer else [OPTIMIZER_STATE]), SCHEDULE, ORDER]
    changed = [difference for effect in effects for difference in compare(stored.values, values, effect)]
    changed = [difference for difference in changed if (difference.field, difference.before) != ("train_batch_size", None)]
    lines = [format_change(difference, stored, config) for difference in changed]
    try:
        return lines + ([f"data: {change}" for change in list_data_changes(start.record.data, data)] if start.record else [])
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{start.folder / RUN_RECORD} is damaged (data: {error}). Copy the checkpoint again, or remove the file."
        ) from None


def check_model(folder: Path, stored: StoredConfig | None, config: NeoXConfig, with_optimizer: bool = False) -> None:
    """Raise CheckpointError with all differences between the model of a configuration and that of a checkpoint.

    With `with_optimizer` the differences of the optimizer's state are included.
    """
    if stored is None:
        log.info("%s has no readable configuration: the current one is not compared with the checkpoint's", folder)
        return
    problems = []
    if found := compare(stored.values, config.values(), MODEL):
        problems.append(f"{folder} is of another model. Use its configuration ({find_configuration(folder)}), or other folders:")
        problems += [format_change(difference, stored, config) for difference in found]
    if with_optimizer and (found := compare(stored.values, config.values(), OPTIMIZER_STATE)):
        problems.append(
            f"{folder} holds another optimizer's state. Change these keys back, or load the weights alone (no_load_optim: true):"
        )
        problems += [format_change(difference, stored, config) for difference in found]
    if problems:
        raise CheckpointError("\n".join(problems))


def check_layout(start: Start, record: RunRecord | None, layout: Mapping[str, int], values: Values) -> None:
    """Raise CheckpointError if the optimizer state needs resharding, but a setting prevents it."""
    assert start.folder is not None
    if not start.loads_optimizer:
        require_whole_weights(start.folder)
        return
    obstacle = find_resharding_obstacle(record, values)
    if not obstacle or not (start.is_resharded or (record and find_layout_differences(record, layout, values))):
        return
    if has_zero_3_files(start.folder):
        remedy = "Change them back: with ZeRO stage 3 the weights cannot be loaded alone."
    else:
        remedy = "Change them back, or load the weights alone with no_load_optim: true."
    found = find_layout_differences(record, layout, values) if record else []
    old, new = (
        ", ".join(f"{LAYOUT_KEYS.get(each.field, each.field)} {format_value(getattr(each, side))}" for each in found)
        for side in ("before", "now")
    )
    division = f"is divided by {old}, and this run has {new}" if found else "must be divided over the ranks of this run"
    raise CheckpointError(
        f"{start.folder} has an optimizer state that {division}. It cannot be resharded because of {obstacle}. {remedy}"
    )


def find_resharding_obstacle(record: RunRecord | None, values: Values) -> str | None:
    """Return the setting (of the checkpoint's run or of this run) that prevents resharding of optimizer state, or None."""
    sides = [derive_values(side) for side in ((record.config, values) if record else (values,))]
    if any(side["zero_stage"] == 3 for side in sides):
        return "ZeRO stage 3"
    if any(is_round_robin(side) for side in sides):  # DeepSpeed's table of positions has another order
        return "zero_optimization.round_robin_gradients: true"
    if any(side["use_bnb_optimizer"] for side in sides):  # a scale belongs to a block of the flat tensor
        return "use_bnb_optimizer: true"
    return None


def needs_resharding(folder: Path, record: RunRecord | None, layout: Mapping[str, int], values: Values) -> bool:
    """Return True if another program wrote the optimizer's state, or if its files have another layout than this run."""
    if has_zero_3_files(folder):
        return False
    return record is None or is_universal(folder) or bool(find_layout_differences(record, layout, values))


LAYOUT_KEYS = {
    "data_parallel_size": "data_parallel_size (ranks / model_parallel_size / pipe_parallel_size)",
    "padded_vocab_size": "padded_vocab_size (from make_vocab_size_divisible_by)",
}
"""Size of a parallel axis -> its description for messages, with the keys that determine the size."""


def find_layout_differences(record: RunRecord, layout: Mapping[str, int], values: Values) -> list[Difference]:
    """Return the differences in the keys that determine which optimizer files exist and what they contain.

    ZeRO stages 0, 1 and 2 write the same files. A size that the record of an older version lacks is not compared.
    """
    before, now = derive_values(record.config), derive_values(values)
    pairs = {"pipe_parallel_size": (before["pipe_parallel_size"], now["pipe_parallel_size"])}
    if all(pairs["pipe_parallel_size"]) or not any(pairs["pipe_parallel_size"]):  # 0 and 1 are one size and two kinds of files
        pairs = {}
    pairs |= {name: (record.layout[name], size) for name, size in layout.items() if name in record.layout and name not in pairs}
    stages = (before["zero_stage"], now["zero_stage"])
    if 3 in stages:
        pairs["zero_optimization.stage"] = stages
    if stages == (3, 3):
        name = "sub_group_size"  # of the parameters that ZeRO stage 3 updates together
        pairs[f"zero_optimization.{name}"] = (before["zero_optimization"].get(name), now["zero_optimization"].get(name))
    if max(stages) < 3:
        pairs["zero_optimization.round_robin_gradients"] = (is_round_robin(before), is_round_robin(now))
    for name in ("embedding_lr", "head_lr"):  # a rate of its own makes a parameter group of its own
        pairs[name] = (before[name] is not None, now[name] is not None)
    if min(before["pipe_parallel_size"], now["pipe_parallel_size"]) > 1:
        pairs["pipe_partition_method"] = (before["pipe_partition_method"], now["pipe_partition_method"])
    return [Difference(name, *pair) for name, pair in pairs.items() if pair[0] != pair[1]]


def is_round_robin(values: Values) -> bool:
    """Return True if the optimizer's state has its parameters in the order of `round_robin_gradients`.

    DeepSpeed's bf16 optimizer, which sums in fp32 at ZeRO stages 0 and 1, has no such order.
    """
    zero, extra = values["zero_optimization"], values["deepspeed_extra_args"]
    is_bf16_optimizer = values["precision"] == "bfloat16" and values["zero_stage"] < 2 and not is_offloaded(zero)
    return bool(zero.get("round_robin_gradients")) and not (is_bf16_optimizer and not extra.get("data_types"))


def format_change(difference: Difference, stored: StoredConfig, config: NeoXConfig) -> str:
    """Return a changed field with both values and where they are set.

    lr (0.001, --set) was (0.003, job.yml:14)
    """
    name = difference.field
    sides = [(difference.now, config.origins[name]), (difference.before, stored.origins.get(name, DEFAULT))]
    now, before = (f"({format_value(value)}, {origin})" for value, origin in sides)
    return f"{name} {now} was {before}"


def check_vocabulary(folder: Path, record: RunRecord | None, tokenizer: Tokenizer) -> None:
    """Raise CheckpointError if an id means another text in the tokenizer than in the checkpoint's tokenizer."""
    if record is None:
        return
    comparison = compare_vocabulary(record.tokenizer, tokenizer)
    if comparison == "other":
        raise CheckpointError(
            f"{folder} was trained with the vocabulary of {name_vocabulary(record.tokenizer)}, and this configuration has "
            f"{name_vocabulary(tokenizer.identity)}. The checkpoint's vocabulary is in {folder / VOCABULARY_FOLDER}: set "
            "vocab_file and merge_file to its files."
        )
    if comparison == "same ids":
        log.info("%s has the same vocabulary as the checkpoint's file (%s)", name_vocabulary(tokenizer.identity), folder)
