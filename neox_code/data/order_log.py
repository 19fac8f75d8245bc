"""Record in `save` what each step of a run reads, and list the documents of a step. tools/which_documents.py prints them.

    maybe_record_order(save, OrderEntry(iteration=0, consumed_samples=0, ...))         # at the start of a run, on rank 0
    entry = find_order_entry(save, step=1200)
    for found in list_documents(entry, step=1200):
        print(found.row, found.origin.path)

SAVE/data_order.jsonl has a line for each start of the run whose settings or place differ from the lines before. A line holds from
its iteration on, until the next line; a line also replaces earlier lines of the same or of later iterations, because a run that
starts again from an earlier checkpoint makes their steps anew.
"""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neox_code.config.data import DataConfig
from neox_code.config.derive import BatchSizes
from neox_code.config.fields import FIELDS, convert
from neox_code.config.neox import NeoXConfig
from neox_code.data.megatron_datasets import SampleDataset, build_training_samples
from neox_code.data.origins import Origin, open_origins
from neox_code.data.shares import DocumentPart
from neox_code.errors import DataError
from neox_code.files import append_json_line, read_json_lines
from neox_code.logs import format_plural

ORDER_FILE = "data_order.jsonl"

UNREAD_KEYS = ("data_cache_path", "num_workers", "heldout_path", "heldout_split", "heldout_bytes_per_language")
"""Keys of the data section that do not change the samples."""


@dataclass(frozen=True)
class OrderEntry:
    """The order of the samples from one iteration on."""

    iteration: int
    """Number of steps that were done before."""
    consumed_samples: int
    """Number of samples that were read before."""
    train_batch_size: int
    micro_batch_size: int
    data_parallel_size: int
    sequence_length: int
    num_samples: int
    """Number of samples of the whole run; it changes the order with `sample_order: all_epochs`."""
    seed: int
    eod_id: int
    data: Mapping[str, Any]
    """Keys of the data section, as JSON values."""
    idx_sha256: Mapping[str, str]
    """Token file -> SHA-256 of its .idx file."""

    def first_sample(self, step: int) -> int:
        """Return the number of samples that were read before a step."""
        return self.consumed_samples + (step - 1 - self.iteration) * self.train_batch_size


@dataclass(frozen=True)
class BatchDocument:
    """A part of a document in the batch of a step."""

    row: int
    """Number of the sample in the batch, from 0."""
    data_rank: int
    micro_batch: int
    """Number of the micro batch of this data rank in the step, from 0."""
    part: DocumentPart
    origin: Origin | None
    """None if the token file has no origins."""


def make_order_entry(
    config: NeoXConfig, sizes: BatchSizes, data_parallel_size: int, place: tuple[int, int], eod_id: int, identity: Mapping[str, Any]
) -> OrderEntry:
    """Return the entry of a run that begins at `place` (iteration, consumed samples). `identity`: see data/identity.py."""
    files = [file for key in ("data_path", "train_data_paths") for file in identity["files"].get(key, ())]
    return OrderEntry(
        *place,
        sizes.train_batch_size,
        sizes.micro_batch_size,
        data_parallel_size,
        config.model.sample_length,
        config.training.num_steps * sizes.train_batch_size,
        config.training.seed,
        eod_id,
        make_data_keys(config.data),
        {file["path"]: file["idx_sha256"] for file in files if "idx_sha256" in file},
    )


def make_data_keys(data: DataConfig) -> dict[str, Any]:
    """Return the keys of the data section that change the samples, as JSON values."""
    return {name: value for name, value in json.loads(json.dumps(dataclasses.asdict(data))).items() if name not in UNREAD_KEYS}


def read_data_keys(keys: Mapping[str, Any]) -> DataConfig:
    """Return the data section, the inverse of `make_data_keys`. Keys of other versions are ignored."""
    return DataConfig(**{name: convert(value, FIELDS[name].annotation) for name, value in keys.items() if name in FIELDS})


def maybe_record_order(save: str, entry: OrderEntry) -> None:
    """Append the entry to SAVE/data_order.jsonl, unless the last entry already describes the same steps."""
    path = Path(save) / ORDER_FILE
    before = read_order(path)[-1:]
    if before and before[0].iteration <= entry.iteration:
        old, new = (dataclasses.replace(each, iteration=0, consumed_samples=0) for each in (before[0], entry))
        if old == new and before[0].first_sample(entry.iteration + 1) == entry.consumed_samples:
            return
    append_json_line(path, dataclasses.asdict(entry))


def record_move(save: str | Path, iteration: int, consumed_samples: int, train_batch_size: int | None = None) -> None:
    """Record that a run returns to an iteration, or continues with another batch size, and reads the samples after
    `consumed_samples` next."""
    entries = read_order(Path(save) / ORDER_FILE)
    if entries:
        batch = train_batch_size or entries[-1].train_batch_size
        moved = dataclasses.replace(entries[-1], iteration=iteration, consumed_samples=consumed_samples, train_batch_size=batch)
        maybe_record_order(str(save), moved)


def read_order(path: Path) -> list[OrderEntry]:
    """Return the entries that hold, by iteration; [] if the file does not exist. Raise DataError if it is damaged."""
    entries: list[OrderEntry] = []
    for row in read_json_lines(path) if path.exists() else ():
        try:
            entry = OrderEntry(**row)
            entries = [each for each in entries if each.iteration < entry.iteration]
        except TypeError as error:
            raise DataError(f"{path} has a line that is not an entry ({error}). Use the version that wrote it.") from None
        entries.append(entry)
    return entries


def find_order_entry(run: Path, step: int) -> OrderEntry:
    """Return the entry of a step. `run` is a folder with checkpoints (`save`), or a checkpoint in it."""
    is_checkpoint = run.is_dir() and not (run / ORDER_FILE).exists() and (run.parent / ORDER_FILE).exists()
    folder = run.parent if is_checkpoint else run
    entries = read_order(folder / ORDER_FILE)
    if not entries:
        raise DataError(f"{run} has no {ORDER_FILE}, which training writes into save. Name the folder `save` of a run.")
    if step <= entries[0].iteration:
        raise DataError(
            f"step {step} is not of this run: {folder} begins after step {entries[0].iteration}. For earlier steps, name the "
            "folder from which the run was loaded."
        )
    entry = [entry for entry in entries if entry.iteration < step][-1]
    if step > (last := entry.num_samples // entry.train_batch_size):
        raise DataError(f"step {step} is not of this run: {folder} ends after step {last} (train_iters).")
    return entry


def list_documents(entry: OrderEntry, step: int) -> list[BatchDocument]:
    """Return the parts of documents in the batch of a step, by row. Raise DataError if a token file changed since."""
    samples = build_training_samples(
        read_data_keys(entry.data), entry.sequence_length, entry.num_samples, entry.seed, entry.eod_id, entry.idx_sha256
    )
    samples.extend(entry.first_sample(step) + entry.train_batch_size)
    sizes = BatchSizes(entry.train_batch_size, entry.micro_batch_size, 0)
    return list_batch_documents(samples, entry.first_sample(step), sizes, entry.data_parallel_size)


def list_batch_documents(
    samples: SampleDataset, first_sample: int, sizes: BatchSizes, data_parallel_size: int
) -> list[BatchDocument]:
    """Return the parts of documents in consecutive samples, which data ranks read as in neox_code/data/sampler.py."""
    parts = [(row, part) for row in range(sizes.train_batch_size) for part in samples.list_parts(first_sample + row)]
    origins: dict[tuple[str, int], Origin] = {}
    for prefix in {part.prefix for _, part in parts}:
        numbers = sorted({part.document for _, part in parts if part.prefix == prefix})
        if file := open_origins(prefix):
            origins |= {(prefix, number): origin for number, origin in zip(numbers, file.read(numbers), strict=True)}
    found = []
    for row, part in parts:
        micro_batch, place = divmod(row, sizes.micro_batch_size * data_parallel_size)
        origin = origins.get((part.prefix, part.document))
        found.append(BatchDocument(row, place // sizes.micro_batch_size, micro_batch, part, origin))
    return found


def describe_batch(samples: SampleDataset, first_sample: int, sizes: BatchSizes, most: int) -> str:
    """Return the number of documents in consecutive samples, with repository, path, license and tokens of the `most` largest."""
    documents = list_batch_documents(samples, first_sample, sizes, 1)
    largest = sorted(documents, key=lambda document: -document.part.length)[:most]
    number = len({(document.part.prefix, document.part.document) for document in documents})
    return f"{format_plural(number, 'document')}, the largest parts: {'; '.join(map(format_document, largest))}"


def format_document(document: BatchDocument) -> str:
    """Return repository, path, license and range of tokens; without origins, the token file and the document's number."""
    part, origin = document.part, document.origin
    place = f"{origin.repository}/{origin.path} ({origin.license or 'no license'})" if origin else f"{part.prefix}#{part.document}"
    return f"{place}, tokens {part.offset:,} to {part.offset + part.length:,}"
