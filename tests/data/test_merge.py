import warnings
from pathlib import Path

import numpy as np
import pytest

from neox_code.data import merge
from neox_code.data.identity import write_record
from neox_code.data.indexed_dataset import IndexedDataset, IndexedDatasetWriter
from neox_code.data.merge import DatasetMerger, find_token_files, read_dtype
from neox_code.errors import DataError

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # megatron-core names what is not installed, and deprecated parts of torch, as it is imported
    from megatron.core.datasets.indexed_dataset import IndexedDataset as MegatronDataset
    from megatron.core.datasets.indexed_dataset import IndexedDatasetBuilder as MegatronBuilder


def write(prefix: Path, documents: list[list[list[int]]], dtype: str = "uint16") -> Path:
    with IndexedDatasetWriter(prefix, dtype) as writer:
        for document in documents:
            for sequence in document:
                writer.add_item(sequence)
            writer.end_document()
    return prefix


@pytest.fixture
def parts(tmp_path: Path) -> list[Path]:
    """Documents of no, one and several sequences, in files of which one is empty."""
    generator = np.random.default_rng(0)

    def document() -> list[list[int]]:
        return [generator.integers(0, 50_257, size=generator.integers(0, 50)).tolist() for _ in range(generator.integers(0, 4))]

    (tmp_path / "parts").mkdir()
    sizes = (30, 0, 1, 17)
    return [
        write(tmp_path / f"parts/{name}.x", [document() for _ in range(size)]) for name, size in zip("abcd", sizes, strict=True)
    ]


def merge_all(output: Path, prefixes: list[Path] | list[str]) -> None:
    with DatasetMerger(output, read_dtype(prefixes)) as merger:
        for prefix in prefixes:
            merger.add_dataset(prefix)


@pytest.mark.parametrize("chunk", [3, 2**20])
def test_the_result_equals_that_of_megatron_and_its_reader_reads_it(
    tmp_path: Path, parts: list[Path], chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(merge, "CHUNK", chunk)
    builder = MegatronBuilder(str(tmp_path / "peer.bin"), dtype=np.uint16)
    for part in parts:
        if len(IndexedDataset(part)):
            builder.add_index(str(part))
    builder.finalize(str(tmp_path / "peer.idx"))
    merge_all(tmp_path / "ours", parts)
    for suffix in (".bin", ".idx"):
        assert (tmp_path / f"ours{suffix}").read_bytes() == (tmp_path / f"peer{suffix}").read_bytes()
    peer = MegatronDataset(str(tmp_path / "ours"))
    sequences = [ids.tolist() for part in parts for ids in IndexedDataset(part)]
    assert [peer[index].tolist() for index in range(len(peer))] == sequences
    assert len(peer.document_indices) == 30 + 0 + 1 + 17 + 1


def test_files_are_found_by_folder_and_by_name(tmp_path: Path, parts: list[Path]) -> None:
    assert find_token_files([tmp_path / "parts"]) == [str(part) for part in parts]
    assert find_token_files([f"{parts[2]}.bin", str(parts[0]), f"{parts[0]}.idx"]) == [str(parts[2]), str(parts[0])]
    (tmp_path / "parts/d.x.bin").unlink()
    with pytest.raises(DataError, match=r"has only one half of the pair d\.x"):
        find_token_files([tmp_path / "parts"])
    with pytest.raises(DataError, match="has no token files"):
        find_token_files([tmp_path])


def test_files_of_another_type_or_cut_off_or_the_output_itself_are_refused_and_leave_nothing(
    tmp_path: Path, parts: list[Path]
) -> None:
    wide = write(tmp_path / "wide", [[[1]]], "int32")
    with pytest.raises(DataError, match=r"wide\.bin has ids of type int32, expected uint16"):
        merge_all(tmp_path / "out/all", [*parts, wide])
    before = (tmp_path / "parts/a.x.bin").read_bytes()
    with pytest.raises(DataError, match="is the output as well"):
        merge_all(parts[0], parts)
    assert (tmp_path / "parts/a.x.bin").read_bytes() == before
    (tmp_path / "parts/d.x.bin").write_bytes(b"")
    with pytest.raises(DataError, match=r"d\.x\.bin has 0 bytes"):
        merge_all(tmp_path / "out/all", parts)
    with pytest.raises(DataError, match=r"absent.* does not exist"):
        merge_all(tmp_path / "out/all", [tmp_path / "absent"])
    assert list((tmp_path / "out").iterdir()) == []


def test_the_highest_id_is_that_of_all_files(tmp_path: Path, parts: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(merge, "CHUNK", 7)
    with DatasetMerger(tmp_path / "all", np.dtype("uint16")) as merger:
        for part in parts:
            merger.add_dataset(part)
    assert (
        merger.max_id
        == IndexedDataset(tmp_path / "all").ids.max()
        == max(int(IndexedDataset(part).ids.max(initial=0)) for part in parts)
    )


def test_files_of_two_recorded_vocabularies_are_refused(
    tmp_path: Path, parts: list[Path], caplog: pytest.LogCaptureFixture
) -> None:
    first = {"tokenizer_type": "HFTokenizer", "vocab_file": "a.json", "sha256": "1", "vocab_size": 9, "ids_sha256": "1"}
    second = first | {"vocab_file": "b.json", "sha256": "2", "ids_sha256": "2"}

    def merged(*tokenizers: dict | None) -> DatasetMerger:
        for part, tokenizer in zip(parts, tokenizers, strict=True):
            write_record(part, tokenizer, None)
        with DatasetMerger(tmp_path / "out/all", np.dtype("uint16")) as merger:
            for part in parts:
                merger.add_dataset(part)
        return merger

    assert merged(first, first, first, first).tokenizer == first
    assert merged(first, first, None, first).tokenizer is None
    assert merged(first, second | {"ids_sha256": "1"}, first, first).tokenizer == first
    assert "the ids mean the same" in caplog.text
    before = (tmp_path / "out/all.bin").read_bytes()
    for tokenizers in ((first, second, first, first), (None, first, None, second)):
        with pytest.raises(DataError, match=r"was made with HFTokenizer b\.json .* with HFTokenizer a\.json .* different tokens"):
            merged(*tokenizers)
    assert (tmp_path / "out/all.bin").read_bytes() == before
