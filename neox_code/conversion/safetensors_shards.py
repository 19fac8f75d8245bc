"""Write safetensors files with one tensor in memory at a time: one file, or shards and an index, with the names of transformers.

write_safetensors(folder, shapes, tensors, torch.bfloat16, shard_bytes=5 * 10**9)

model.safetensors                      or model-00001-of-00002.safetensors, ... and model.safetensors.index.json
8 bytes     length of the header, little endian
header      JSON: name -> dtype, shape, first and last byte after the header; padded with spaces to a multiple of 8 bytes
tensors     in the order of the header
"""

import json
from collections.abc import Iterator, Mapping
from math import prod
from pathlib import Path

import torch

from neox_code.files import write_json

DTYPE_NAMES = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}


def write_safetensors(
    folder: Path,
    shapes: Mapping[str, torch.Size],
    tensors: Iterator[tuple[str, torch.Tensor]],
    dtype: torch.dtype,
    shard_bytes: int,
) -> None:
    """Write the weight files and, if there are several, their index. `tensors` has the names of `shapes` in the same order.

    A tensor larger than `shard_bytes` has a file of its own.
    """
    sizes = {name: prod(shape) * dtype.itemsize for name, shape in shapes.items()}
    shards = divide_into_shards(sizes, shard_bytes)
    places: dict[str, str] = {}
    for number, names in enumerate(shards, 1):
        file_name = "model.safetensors" if len(shards) == 1 else f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        places |= dict.fromkeys(names, file_name)
        with (folder / file_name).open("wb") as file:
            file.write(make_header({name: shapes[name] for name in names}, dtype))
            for expected in names:
                name, tensor = next(tensors)
                assert (name, tensor.shape, tensor.dtype) == (expected, shapes[name], dtype)
                file.write(tensor.contiguous().flatten().view(torch.uint8).numpy().data)
    assert next(tensors, None) is None
    if len(shards) > 1:
        metadata = {"total_parameters": sum(map(prod, shapes.values())), "total_size": sum(sizes.values())}
        write_json(folder / "model.safetensors.index.json", {"metadata": metadata, "weight_map": places})


def divide_into_shards(sizes: Mapping[str, int], shard_bytes: int) -> list[list[str]]:
    """Divide tensors, given by name and size in bytes, into files; return the names of each file's tensors.

    >>> divide_into_shards({"a": 3, "b": 3, "c": 9, "d": 1}, 6)
    [['a', 'b'], ['c'], ['d']]
    """
    shards: list[list[str]] = []
    free_bytes = 0
    for name, size in sizes.items():
        if not shards or size > free_bytes:
            shards.append([])
            free_bytes = shard_bytes
        shards[-1].append(name)
        free_bytes -= size
    return shards


def make_header(shapes: Mapping[str, torch.Size], dtype: torch.dtype) -> bytes:
    """Return the length and the header of a file with these tensors."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, shape in shapes.items():
        start, end = end, end + prod(shape) * dtype.itemsize
        header[name] = {"dtype": DTYPE_NAMES[dtype], "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text
