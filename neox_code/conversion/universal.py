"""Write a checkpoint in DeepSpeed's universal format, with the optimizer state in fp32; checkpoint.universal lists its files.

OUTPUT/latest, OUTPUT/latest_universal, OUTPUT/global_stepN/...      N is the source's iteration

The key `load` reads OUTPUT at any layout. DeepSpeed reads it with `checkpoint: {load_universal: true}`.
"""

from pathlib import Path

import torch

from neox_code.checkpoint.consistency import has_finite_values
from neox_code.checkpoint.layer_writer import copy_shared_storage
from neox_code.checkpoint.layout import UNIVERSAL_FOLDER, make_step_name, model_file, parse_iteration
from neox_code.checkpoint.load import load_client_state
from neox_code.checkpoint.optimizer_files import read_optimizer_state
from neox_code.checkpoint.record import write_record
from neox_code.checkpoint.serialization import save_file
from neox_code.checkpoint.universal import GLOBAL_STATE, STEP, get_name_in_engine
from neox_code.checkpoint.universal_division import describe_sharding
from neox_code.conversion.neox import write_companion_files
from neox_code.conversion.options import ConversionOptions
from neox_code.conversion.source import ModelSource
from neox_code.errors import CheckpointError
from neox_code.model.sharding import get_sharding


def write_universal(source: ModelSource, output: Path, options: ConversionOptions) -> None:
    """Write weights and optimizer state in fp32. With `options.pipe_parallel_size` 0, names are those of a model without pipeline.

    Raise CheckpointError if the source has no optimizer state, another type than fp32 is requested, or a value is not finite.
    """
    if options.dtype not in (None, "fp32"):
        raise CheckpointError(f"The universal format holds the optimizer's weights in fp32, not {options.dtype}. Remove --dtype.")
    states = read_optimizer_state(source.folder, source.model)
    folder = output / make_step_name(parse_iteration(source.folder) or 0)
    for name in source.weights:
        place = folder / UNIVERSAL_FOLDER / get_name_in_engine(name, options.pipe_parallel_size > 0, source.model)
        place.mkdir(parents=True)
        for key in states.list_keys(name):
            whole = states.read(name, key)
            if not has_finite_values(whole):
                raise CheckpointError(
                    f"{key} of {name} has values that are not finite in {source.folder}. Choose an earlier checkpoint."
                )
            if get_sharding(name).is_vocabulary:
                whole = whole[: source.vocab_rows]
            content = {"param": copy_shared_storage(whole), **describe_sharding(name, whole, source.model)}
            save_file(content, place / f"{key}.pt")
        if (step := states.read_step(name)) is not None:
            save_file(torch.tensor(float(step)), place / f"{STEP}.pt")
    save_file(states.read_global_state(), folder / UNIVERSAL_FOLDER / GLOBAL_STATE)
    state = {key: value for key, value in load_client_state(source.folder).items() if key != "param_shapes"}
    sizes = {"dp_world_size": 1, "mp_world_size": 1}
    save_file({**state, "module": {}, "optimizer": {}, **sizes}, model_file(folder, 0))
    write_companion_files(source.config.replace(save=None, load=None, finetune=False), folder, output)
    (output / "latest_universal").write_text(folder.name + "\n", encoding="utf-8")
    if source.record:
        write_record(folder, source.record)
