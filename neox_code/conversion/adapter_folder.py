"""Write an adapter for publishing: its two files in PEFT's format, and a model card.

write_adapter_folder(source, Path("kotlin-adapter"), ConversionOptions(adapter=Path("checkpoints/kotlin/adapter")))
"""

import shutil
from pathlib import Path

from neox_code.adapters.files import CONFIG, WEIGHTS, encode_peft_config, read_adapter
from neox_code.config.hugging_face import read_json_object
from neox_code.conversion.model_card import make_model_card
from neox_code.conversion.options import ConversionOptions
from neox_code.conversion.source import ModelSource
from neox_code.files import write_text


def write_adapter_folder(source: ModelSource, output: Path, options: ConversionOptions) -> None:
    """Write the adapter's folder. Raise CheckpointError, before anything is written, if it is for another base than `source`.

    The base that the files name is that of the card's facts, since the path of a folder has no meaning on other machines.
    """
    assert options.adapter is not None
    read_adapter(options.adapter, source.model).require_base(source.folder, source.weights)
    card = make_model_card(source, options.facts, options.adapter, is_merged=False)
    content = read_json_object(options.adapter / CONFIG)
    if options.facts.base_model:
        content |= {"base_model_name_or_path": options.facts.base_model}
    output.mkdir(parents=True)
    (output / CONFIG).write_bytes(encode_peft_config(content))
    shutil.copyfile(options.adapter / WEIGHTS, output / WEIGHTS)
    write_text(output / "README.md", card)
