import os
import subprocess
import sys
from pathlib import Path

from neox_code.data.indexed_dataset import IndexedDataset, IndexedDatasetWriter

TOOL = Path(__file__).parents[2] / "tools/merge_datasets.py"


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run(
        [sys.executable, TOOL, *map(str, arguments)], capture_output=True, text=True, env=environment, check=False
    )


def test_a_folder_of_pairs_is_merged_and_mistakes_are_reported_in_one_sentence(tmp_path: Path) -> None:
    for name, ids in (("b", [3]), ("a", [1, 2])):
        with IndexedDatasetWriter(tmp_path / "parts" / name, "uint16") as writer:
            writer.add_document(ids)
    result = run("--input", tmp_path / "parts", "--output-prefix", tmp_path / "all")
    assert result.returncode == 0, result.stderr
    assert "2 documents, 3 tokens of 2 files" in result.stderr
    assert [ids.tolist() for ids in IndexedDataset(tmp_path / "all")] == [[1, 2], [3]]
    result = run("--input", tmp_path / "nothing", "--output-prefix", tmp_path / "other")
    assert result.returncode == 2
    assert "does not exist" in result.stderr
    assert "Traceback" not in result.stderr
