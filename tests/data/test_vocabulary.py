"""Token files of another vocabulary are refused before training, as far as that can be known."""

from pathlib import Path

import numpy as np
import pytest

from neox_code.data.identity import write_record
from neox_code.data.indexed_dataset import IndexedDataset, IndexedDatasetWriter, get_record_path
from neox_code.data.vocabulary import check_vocabulary, sample_highest_id
from neox_code.errors import DataError
from neox_code.tokenizer.char_level import CharLevelTokenizer
from neox_code.tokenizer.comparison import describe_vocabulary

CHARACTERS = CharLevelTokenizer()


def write(prefix: Path, ids: list[int], dtype: str = "uint16") -> IndexedDataset:
    with IndexedDatasetWriter(prefix, dtype) as writer:
        writer.add_document(ids)
    return IndexedDataset(prefix)


def test_files_of_the_vocabulary_and_of_other_programs_log_nothing(tmp_path: Path, caplog) -> None:
    dataset = write(tmp_path / "a", [1, 511])
    check_vocabulary(dataset, CHARACTERS)
    write_record(tmp_path / "a", describe_vocabulary(CHARACTERS), 511)
    check_vocabulary(dataset, CHARACTERS)
    check_vocabulary(write(tmp_path / "empty", []), CHARACTERS)
    assert caplog.text == ""


def test_a_recorded_vocabulary_that_differs_is_named_with_the_configurations(tmp_path: Path) -> None:
    dataset = write(tmp_path / "a", [1, 2])
    recorded = {"tokenizer_type": "HFTokenizer", "vocab_file": "code.json", "sha256": "0123456789abcdef"}
    write_record(tmp_path / "a", recorded | {"vocab_size": 9, "ids_sha256": "0"}, 2)
    with pytest.raises(
        DataError, match=r"a\.bin was made with HFTokenizer code\.json .*, the configuration has CharLevelTokenizer"
    ):
        check_vocabulary(dataset, CHARACTERS)


@pytest.mark.parametrize(
    ("recorded", "message"),
    [
        (describe_vocabulary(CHARACTERS) | {"sha256": "0"}, "the two may divide a text into other tokens"),
        ({"tokenizer_type": "HFTokenizer", "sha256": "0"}, "cannot be checked that the ids mean the same"),
    ],
)
def test_a_comparison_without_a_clear_result_is_a_warning(tmp_path: Path, caplog, recorded: dict, message: str) -> None:
    dataset = write(tmp_path / "a", [1, 2])
    write_record(tmp_path / "a", recorded, 2)
    check_vocabulary(dataset, CHARACTERS)
    assert message in caplog.text


@pytest.mark.parametrize("has_record", [True, False])
def test_an_id_beyond_the_vocabulary_is_found_with_and_without_a_record(tmp_path: Path, has_record: bool) -> None:
    dataset = write(tmp_path / "a", [1, 512])
    if has_record:
        write_record(tmp_path / "a", None, 512)
    with pytest.raises(DataError, match=r"a\.bin has token id 512, but the vocabulary of CharLevelTokenizer .* ids 0 to 511"):
        check_vocabulary(dataset, CHARACTERS)


def test_a_large_file_is_sampled_from_end_to_end(tmp_path: Path) -> None:
    for place in (0, 5_000, 9_999):
        ids = np.zeros(10_000, np.int32)
        ids[place] = 70_000
        dataset = write(tmp_path / "a", ids, "int32")
        assert sample_highest_id(dataset, 600) == 70_000
        assert sample_highest_id(dataset, 600, blocks=3, block_tokens=10) == 70_000


def test_a_type_without_ids_beyond_the_vocabulary_is_not_searched(tmp_path: Path) -> None:
    dataset = write(tmp_path / "a", [65_535])
    assert sample_highest_id(dataset, 65_536) == -1
    assert sample_highest_id(dataset, 65_535) == 65_535
    assert not get_record_path(tmp_path / "a").exists()
