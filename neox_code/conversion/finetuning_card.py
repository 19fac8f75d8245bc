"""The parts of a model card that describe a fine-tuning: base, method, rows and figures before and after."""

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from neox_code.checkpoint.layout import find_checkpoint
from neox_code.checkpoint.record import RunRecord, read_record
from neox_code.config.yaml_merge import parse_value
from neox_code.conversion.card_facts import CardFacts
from neox_code.corpus.sources.row_files import BadRow, read_rows
from neox_code.errors import CheckpointError, DataError
from neox_code.files import read_bounded
from neox_code.logs import get_logger

log = get_logger(__name__)


def find_adapter_run(adapter: Path) -> tuple[Path, RunRecord] | None:
    """Return the checkpoint and the record of the run that trained an adapter; None for an adapter without them."""
    try:
        folder = adapter.resolve().parent
        if not (record := read_record(folder)):
            folder = find_checkpoint(folder)
            record = read_record(folder)
    except CheckpointError as error:
        log.warning("the model card has no training: the run of the adapter %s is not here (%s)", adapter, error)
        return None
    return (folder, record) if record else None


def is_finetuning(record: RunRecord | None) -> bool:
    return record is not None and bool(record.config.get("train_rows"))


def describe_base(record: RunRecord, facts: CardFacts) -> list[tuple[str, str]]:
    """Return the base's name and license. The license is that of the facts, or of the base's own model card."""
    folder = Path(str((record.started_from or {}).get("load") or ""))
    rows = [("base model", facts.base_model or folder.name)] if facts.base_model or folder.name else []
    license_name = facts.base_license or read_card_metadata(folder / "README.md").get("license")
    return rows + ([("license of the base model", license_name)] if isinstance(license_name, str) else [])


def read_card_metadata(path: Path) -> Mapping[str, Any]:
    """Return the YAML metadata at the top of a model card; {} without a card that can be read."""
    try:
        first, _, rest = read_bounded(path).decode().partition("---\n")
        found = parse_value(rest.partition("\n---")[0]) if not first else None
    except (DataError, UnicodeDecodeError, yaml.YAMLError):
        return {}
    return found if isinstance(found, dict) else {}


def describe_method(config: Mapping[str, Any]) -> str:
    """Return the method of a fine-tuning, from the configuration of its run.

    >>> describe_method({"lora_rank": 16, "lora_alpha": 32.0, "use_dora": True, "base_bits": 8})
    'DoRA, rank 16, alpha 32, over a base in 8 bits'
    >>> describe_method({"frozen_layers": [0, 1]})
    'all weights but those of frozen layers'
    """
    parts = []
    if rank := config.get("lora_rank"):
        name = "DoRA" if config.get("use_dora") else "rsLoRA" if config.get("use_rslora") else "LoRA"
        parts.append(f"{name}, rank {rank}, alpha {config.get('lora_alpha', rank):g}")
        if config.get("base_bits", 16) != 16:
            parts.append(f"over a base in {config['base_bits']} bits")
    if config.get("trained_token_rows") or config.get("first_trained_token_row") is not None:
        parts.append("rows of new tokens")
    if not parts:
        is_frozen = config.get("frozen_layers") or config.get("frozen_modules")
        parts.append("all weights but those of frozen layers" if is_frozen else "all weights")
    return ", ".join(parts)


def list_row_files(record: RunRecord) -> Iterator[tuple[str, Counter[str] | None]]:
    """Yield name and split of each file of rows, with its rows by license; None if the file is not here as it was read."""
    files = record.data.get("files")
    for key, found in files.items() if isinstance(files, dict) else ():
        for file in found if key.endswith("_rows") and isinstance(found, list) else ():
            path = Path(str(file.get("path")))
            try:
                is_same = path.stat().st_size == file.get("bytes")
                counts = count_licenses_of_rows(path) if is_same else None
            except (DataError, OSError) as error:
                log.warning("the model card has no licenses of %s (%s)", path, error)
                counts = None
            yield f"{path.parent.name}/{path.name} ({key.removesuffix('_rows')})", counts


NOT_GIVEN = "not given"


def count_licenses_of_rows(path: Path) -> Counter[str]:
    """Return the number of rows of a file by their column `license`. Raise DataError if the file is damaged."""
    values = [None if isinstance(row, BadRow) else row.get("license") for _, row in read_rows(path)]
    return Counter(", ".join(map(str, value)) if isinstance(value, list) else str(value or NOT_GIVEN) for value in values)
