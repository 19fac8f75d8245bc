import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from neox_code.corpus.shards import load_summary

TOOL = Path(__file__).parents[2] / "tools" / "build_corpus.py"
JSON_PACKAGE = Path(sysconfig.get_path("stdlib")) / "json"


def build_corpus(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, TOOL, *map(str, arguments)], capture_output=True, text=True, check=False, timeout=60)


def test_a_corpus_is_built_and_shown_and_not_overwritten_by_mistake(tmp_path):
    options = ("--output", tmp_path / "corpus", "--split", "90,5,5", "--workers", "1", "--seed", "7", "--languages", "Python,C")
    done = build_corpus(JSON_PACKAGE, *options)
    assert (done.returncode, "Traceback" in done.stderr) == (0, False)
    summary = load_summary(tmp_path / "corpus")
    assert f"{summary.kept_files} files" in done.stdout
    assert "Python" in done.stdout
    assert summary.settings["shares"] == {"train": 90, "valid": 5, "test": 5}
    assert (summary.settings["seed"], summary.settings["languages"]) == (7, ["C", "Python"])
    again = build_corpus(JSON_PACKAGE, *options)
    assert again.returncode == 2
    assert "already holds a corpus" in again.stderr
    assert build_corpus(JSON_PACKAGE, *options, "--overwrite").returncode == 0


def test_mistakes_are_one_sentence_and_status_2(tmp_path):
    output = ("--output", tmp_path / "corpus")
    (tmp_path / "empty").mkdir()
    for arguments, message in (
        ((tmp_path / "nowhere", *output), "does not exist"),
        ((tmp_path / "empty", *output), "can be kept; found: no files"),
        ((JSON_PACKAGE, *output, "--recipe", "mine"), "recipe 'mine' is not known"),
        ((JSON_PACKAGE, *output, "--languages", "Cobol"), "does not know the language Cobol"),
    ):
        done = build_corpus(*arguments)
        assert (done.returncode, "Traceback" in done.stderr) == (2, False)
        assert done.stderr.count("\n") == done.stderr.count("error: ") + done.stderr.count("corpus: ")
        assert message in done.stderr
    assert not (tmp_path / "corpus").exists()


@pytest.mark.parametrize("option", ["--split=1,2", "--split=0,1,1", "--workers=0", "--max-megabytes=-1"])
def test_impossible_options_are_refused(tmp_path, option):
    done = build_corpus(JSON_PACKAGE, "--output", tmp_path / "corpus", option)
    assert done.returncode == 2
    assert option.split("=")[0] in done.stderr
