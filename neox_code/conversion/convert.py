"""Convert a model from any format to any other: a table has the writer of each format; weights are read one at a time.

    convert(Path("checkpoints"), Path("model"), "huggingface", ConversionOptions())

A conversion that fails leaves nothing behind: files are written to a temporary path and renamed to the output at the end.
"""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from neox_code.adapters.files import merge_weights, read_adapter
from neox_code.checkpoint.layout import is_hugging_face_model
from neox_code.config.hugging_face import OWN_KEYS
from neox_code.config.neox import NeoXConfig
from neox_code.conversion.adapter_folder import write_adapter_folder
from neox_code.conversion.gguf import write_gguf
from neox_code.conversion.huggingface import write_hugging_face
from neox_code.conversion.neox import write_neox
from neox_code.conversion.options import QUANTIZED, ConversionOptions
from neox_code.conversion.source import ModelSource, open_source
from neox_code.conversion.universal import write_universal
from neox_code.errors import CheckpointError, ConfigError
from neox_code.files import partial_path, replace_durably
from neox_code.logs import get_logger

log = get_logger(__name__)

WRITERS: dict[str, Callable[[ModelSource, Path, ConversionOptions], None]] = {
    "neox": write_neox,
    "huggingface": write_hugging_face,
    "gguf": write_gguf,
    "universal": write_universal,
    "adapter": write_adapter_folder,
}
"""Format -> function that writes a model to a new path (a folder; a file for gguf)."""


def convert(
    path: Path,
    output: Path,
    form: str,
    options: ConversionOptions,
    iteration: int | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> None:
    """Write the model in the folder `path` to `output` in another format; see `open_source` and `write_model`."""
    if options.dtype in QUANTIZED and form != "gguf":
        raise CheckpointError(
            f"--dtype {options.dtype} is a type of GGUF alone, not of {form}. Add --to gguf, or choose another --dtype."
        )
    require_new_path(output)
    source = open_source(path, iteration, overrides)
    if options.adapter is not None and form != "adapter":
        adapter = read_adapter(options.adapter, source.model)
        source = replace(source, weights=merge_weights(source.weights, adapter, source.folder))
    if form != "universal":
        refuse_own_keys(source.config)
    write_model(source, output, form, options)


def refuse_own_keys(config: NeoXConfig) -> None:
    """Raise ConfigError with the keys of a model that GPT-NeoX's files and all other formats but this package's own lack."""
    if found := [config.format_key(key) for key in OWN_KEYS if getattr(config.model, key)]:
        raise ConfigError(
            f"{', '.join(found)}: GPT-NeoX, Hugging Face and GGUF have no such key. Train a model without it to convert it. "
            "The commands of this package read the checkpoint as it is, for any number of ranks; --to universal writes all of it."
        )


def choose_format(source: ModelSource) -> str:
    """Return the format in which a changed model is written, which is the format of its source."""
    return "huggingface" if is_hugging_face_model(source.folder) else "neox"


def require_new_path(output: Path) -> None:
    """Raise CheckpointError if `output` exists, unless it is an empty folder."""
    if output.exists() and not (output.is_dir() and not any(output.iterdir())):
        raise CheckpointError(f"{output} exists and is not replaced. Choose another path, or move it away.")


def write_model(source: ModelSource, output: Path, form: str, options: ConversionOptions) -> None:
    """Write a model to `output`. The path exists only when the model is complete.

    Raise NeoXError if the model cannot be read, the format cannot hold it, or `output` exists.
    """
    require_new_path(output)
    partial = partial_path(output)
    output.parent.mkdir(parents=True, exist_ok=True)
    remove_file_or_folder(partial)
    try:
        WRITERS[form](source, partial, options)
        if output.is_dir():
            output.rmdir()
        replace_durably(partial, output)
    except BaseException:
        remove_file_or_folder(partial)
        raise
    log.info("%s written to %s", form, output)


def remove_file_or_folder(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
