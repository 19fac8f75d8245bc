import pickle
import warnings
from pathlib import Path

import numpy as np
import pytest

from neox_code.data.indexed_dataset import IndexedDataset, IndexedDatasetWriter, choose_id_dtype
from neox_code.errors import DataError

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # megatron-core names what is not installed, and deprecated parts of torch, as it is imported
    from megatron.core.datasets.indexed_dataset import IndexedDataset as MegatronDataset
    from megatron.core.datasets.indexed_dataset import IndexedDatasetBuilder as MegatronBuilder

IDX_OF_TWO_DOCUMENTS = (
    "4d4d49444944580000 0100000000000000 08 0200000000000000 0300000000000000"
    "03000000 01000000"
    "0000000000000000 0600000000000000"
    "0000000000000000 0100000000000000 0200000000000000"
)


def write(prefix: Path, documents: list[list[int]], dtype: str = "uint16") -> Path:
    with IndexedDatasetWriter(prefix, dtype) as writer:
        for document in documents:
            writer.add_document(document)
    return prefix


@pytest.fixture
def random_documents() -> list[list[int]]:
    generator = np.random.default_rng(0)
    return [generator.integers(0, 50_257, size=generator.integers(1, 200)).tolist() for _ in range(200)]


def test_two_documents_give_the_known_bytes(tmp_path: Path) -> None:
    write(tmp_path / "two", [[1, 2, 3], [4]])
    assert (tmp_path / "two.bin").read_bytes().hex() == "0100020003000400"
    assert (tmp_path / "two.idx").read_bytes() == bytes.fromhex(IDX_OF_TWO_DOCUMENTS)


@pytest.mark.parametrize("dtype", ["uint16", "int32"])
def test_files_equal_those_of_megatron(tmp_path: Path, random_documents: list[list[int]], dtype: str) -> None:
    builder = MegatronBuilder(str(tmp_path / "peer.bin"), dtype=np.dtype(dtype).type)
    for document in random_documents:
        builder.add_document(np.array(document), [len(document)])
    builder.finalize(str(tmp_path / "peer.idx"))
    write(tmp_path / "ours", random_documents, dtype)
    for suffix in (".bin", ".idx"):
        assert (tmp_path / f"ours{suffix}").read_bytes() == (tmp_path / f"peer{suffix}").read_bytes()
    ours, peer = IndexedDataset(tmp_path / "peer"), MegatronDataset(str(tmp_path / "ours"))
    assert len(ours) == len(peer) == 200
    assert [ids.tolist() for ids in ours] == [peer[index].tolist() for index in range(200)] == random_documents
    assert ours.get(3, offset=1, length=2).tolist() == peer.get(3, offset=1, length=2).tolist() == random_documents[3][1:3]
    assert ours.document_indices.tolist() == peer.document_indices.tolist()
    assert ours.sizes.tolist() == peer.sequence_lengths.tolist()


def test_a_document_of_several_sequences_equals_that_of_megatron(tmp_path: Path) -> None:
    builder = MegatronBuilder(str(tmp_path / "peer.bin"), dtype=np.uint16)
    builder.add_document(np.array([1, 2, 3, 4]), [3, 1])
    builder.finalize(str(tmp_path / "peer.idx"))
    with IndexedDatasetWriter(tmp_path / "ours", np.uint16) as writer:
        writer.add_item([1, 2, 3])
        writer.add_item(np.array([4]))
        writer.end_document()
    assert (writer.num_documents, writer.num_tokens) == (1, 4)
    assert (tmp_path / "ours.idx").read_bytes() == (tmp_path / "peer.idx").read_bytes()


def test_the_type_is_that_of_gpt_neox_and_megatron() -> None:
    assert choose_id_dtype(65_499) == np.uint16
    assert choose_id_dtype(65_500) == np.int32


def test_empty_documents_and_empty_files_can_be_read(tmp_path: Path) -> None:
    assert len(IndexedDataset(write(tmp_path / "nothing", []))) == 0
    assert [ids.tolist() for ids in IndexedDataset(write(tmp_path / "hollow", [[], [7], []]))] == [[], [7], []]


def test_parts_beyond_a_sequence_are_refused(tmp_path: Path) -> None:
    dataset = IndexedDataset(write(tmp_path / "two", [[1, 2, 3], [4]]))
    assert dataset.get(0, offset=3).tolist() == []
    assert dataset[-1].tolist() == [4]
    for arguments in ((0, 2, 2), (0, 4), (0, -1), (2,), (0, 0, -1)):
        with pytest.raises(IndexError):
            dataset.get(*arguments)


def test_a_dataset_can_be_pickled_and_its_arrays_are_read_only(tmp_path: Path) -> None:
    dataset = IndexedDataset(write(tmp_path / "two", [[1, 2, 3], [4]]))
    pickled = pickle.dumps(dataset)
    assert len(pickled) < 1000
    assert pickle.loads(pickled)[0].tolist() == [1, 2, 3]
    with pytest.raises(ValueError, match="read-only"):
        dataset[0][0] = 9


@pytest.mark.parametrize("ids", [[65_536], [-1], np.array([70_000])])
def test_ids_beyond_the_type_are_refused_and_leave_nothing(tmp_path: Path, ids: list[int]) -> None:
    with pytest.raises(DataError, match="do not fit into uint16"), IndexedDatasetWriter(tmp_path / "wide", np.uint16) as writer:
        writer.add_document([1])
        writer.add_document(ids)
    assert list(tmp_path.iterdir()) == []


def test_a_failed_writer_leaves_the_older_pair_whole(tmp_path: Path) -> None:
    write(tmp_path / "kept", [[1, 2, 3]])
    with pytest.raises(KeyboardInterrupt), IndexedDatasetWriter(tmp_path / "kept", np.uint16) as writer:
        writer.add_document([9])
        raise KeyboardInterrupt
    assert IndexedDataset(tmp_path / "kept")[0].tolist() == [1, 2, 3]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kept.bin", "kept.idx"]


def test_the_index_file_appears_after_the_bin_file(tmp_path: Path) -> None:
    with IndexedDatasetWriter(tmp_path / "new", np.uint16) as writer:
        writer.add_document([1])
        assert [path.name for path in tmp_path.iterdir()] == ["new.bin.partial"]


@pytest.mark.parametrize(
    ("suffix", "change", "message"),
    [
        (".bin", lambda data: data[:-2], r"two.bin has 6 bytes, expected 8"),
        (".bin", lambda data: data + b"\0\0", r"two.bin has 10 bytes, expected 8"),
        (".idx", lambda data: data[:-1], r"two.idx has 81 bytes, expected 82"),
        (".idx", lambda data: data[:20], r"two.idx has 20 bytes, expected 34"),
        (".idx", lambda data: b"", r"two.idx has 0 bytes, expected 34"),
        (".idx", lambda data: b"TNTIDX\0\0" + data[8:], r"begins with b'TNTIDX"),
        (".idx", lambda data: data[:17] + b"\x07" + data[18:], r"type 7"),
        (".idx", lambda data: data[:-8] + b"\x05" + data[-7:], r"its documents end at sequence 5"),
        (".idx", lambda data: data[:50] + b"\x08" + data[51:], r"ends at byte 10 of 8"),
    ],
)
def test_damaged_files_are_named_with_what_was_expected(tmp_path: Path, suffix: str, change, message: str) -> None:
    write(tmp_path / "two", [[1, 2, 3], [4]])
    path = tmp_path / f"two{suffix}"
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(DataError, match=message):
        IndexedDataset(tmp_path / "two")


@pytest.mark.parametrize("missing", [".bin", ".idx"])
def test_a_missing_file_is_named(tmp_path: Path, missing: str) -> None:
    write(tmp_path / "two", [[1]])
    (tmp_path / f"two{missing}").unlink()
    with pytest.raises(DataError, match=rf"two\{missing} does not exist"):
        IndexedDataset(tmp_path / "two")
