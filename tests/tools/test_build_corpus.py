import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from real_code import real_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

from neox_code.corpus.shards import iter_documents, load_summary, read_manifest

TOOL = Path(__file__).parents[2] / "tools" / "build_corpus.py"
PROJECT = real_file("deepspeed/monitor")


def build_corpus(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, TOOL, *map(str, arguments)], capture_output=True, text=True, check=False, timeout=60)


def test_a_corpus_is_built_and_reported_and_overwritten_only_on_request(tmp_path):
    options = ("--output", tmp_path / "corpus", "--split", "90,5,5", "--workers", "1", "--seed", "7", "--languages", "Python,C")
    done = build_corpus(PROJECT, *options)
    assert (done.returncode, "Traceback" in done.stderr) == (0, False)
    summary = load_summary(tmp_path / "corpus")
    assert f"{summary.kept_files} files" in done.stdout
    assert "Python" in done.stdout
    assert summary.settings["shares"] == {"train": 90, "valid": 5, "test": 5}
    assert (summary.settings["seed"], summary.settings["languages"]) == (7, ["C", "Python"])
    again = build_corpus(PROJECT, *options)
    assert again.returncode == 2
    assert "already holds a corpus" in again.stderr
    as_json = build_corpus(PROJECT, *options, "--overwrite", "--json")
    assert as_json.returncode == 0, as_json.stderr
    figures = json.loads(as_json.stdout)
    assert (figures["files"], figures["bytes"]) == (summary.kept_files, summary.kept_bytes)
    assert [row["kept"]["files"] for row in figures["languages"] if row["language"] == "Python"] == [summary.kept_files]
    assert f"{summary.kept_files} files" in as_json.stderr


def test_mistakes_are_reported_in_one_sentence_with_status_2(tmp_path):
    output = ("--output", tmp_path / "corpus")
    (tmp_path / "empty").mkdir()
    for arguments, message in (
        ((tmp_path / "nowhere", *output), "does not exist"),
        ((tmp_path / "empty", *output), "can be kept; found: no files"),
        ((PROJECT, *output, "--recipe", "mine"), "recipe 'mine' is not known"),
        ((PROJECT, *output, "--languages", "Cobol"), "does not include the language Cobol"),
        ((PROJECT, *output, "--languages", "Typescript"), "the language Typescript. Did you mean TypeScript? It includes C, C#"),
        (("local", *output, "--executor", "slurm"), "source local is different on each machine"),
    ):
        done = build_corpus(*arguments)
        assert (done.returncode, "Traceback" in done.stderr) == (2, False)
        said = [line for line in done.stderr.splitlines() if " | read as " not in line]
        assert len(said) == 1 and said[0].startswith("error: ")
        assert message in done.stderr
    assert not (tmp_path / "corpus").exists()


@pytest.mark.parametrize(
    "option",
    [
        *("--split=1,2", "--split=0,1,1", "--split=inf,0,0", "--split=1,nan,0", "--workers=0", "--languages=,"),
        *("--max-megabytes=-1", "--max-megabytes=inf"),
    ],
)
def test_impossible_options_are_refused(tmp_path, option):
    done = build_corpus(PROJECT, "--output", tmp_path / "corpus", option)
    assert (done.returncode, "Traceback" in done.stderr) == (2, False)
    assert option.split("=")[0] in done.stderr


def test_a_recipe_file_of_the_user_sets_the_corpus(tmp_path):
    (tmp_path / "code" / "me").mkdir(parents=True)
    (tmp_path / "code" / "me" / "a.py").write_bytes(b"x = 1\r\n" * 9)
    (tmp_path / "short.py").write_text(
        "from neox_code.corpus.filters.tokens import MinTokens\n"
        "from neox_code.corpus.languages.rules import FileLanguage\n"
        "from neox_code.corpus.recipes.recipe import Recipe\n"
        "RECIPE = Recipe('short', ('Python',), FileLanguage(('Python',)), (), (MinTokens(20),))\n"
    )
    Tokenizer(WordLevel({"x": 0, "=": 1, "1": 2}, unk_token="x")).save(str(tmp_path / "tokenizer.json"))
    options = ("--recipe", tmp_path / "short.py", "--newlines", "lf", "--tokenizer", tmp_path / "tokenizer.json")
    done = build_corpus(tmp_path / "code", "--output", tmp_path / "corpus", *options)
    assert done.returncode == 0, done.stderr
    (document,) = iter_documents(tmp_path / "corpus", "train")
    assert document.text == "x = 1\n" * 9
    expected = Tokenizer.from_file(str(tmp_path / "tokenizer.json")).encode(document.text, add_special_tokens=False)
    assert document.tokens == len(expected.ids)
    assert [row["edits"] for row in read_manifest(tmp_path / "corpus").to_pylist()] == [["line ends normalized"]]


def test_the_help_lists_every_option_and_recipe():
    text = build_corpus("--help").stdout
    for option in ("--recipe", "--languages", "--workers", "--executor", "--partition", "--time", "--tasks", "--newlines"):
        assert option in text
    for option in ("--max-megabytes", "--split", "--seed", "--overwrite", "--tokenizer", "--layout", "mixed", "polycoder"):
        assert option in text


def test_a_corpus_inside_of_its_source_is_refused(tmp_path):
    shutil.copytree(PROJECT, tmp_path / "monitor")
    done = build_corpus(tmp_path, "--output", tmp_path / "monitor" / "corpus")
    assert done.returncode == 2
    assert "the build would read its own output" in done.stderr
    assert not list(tmp_path.rglob("corpus*"))


RECIPE_WITH_A_MISTAKE = """
from dataclasses import dataclass
from pathlib import Path
from neox_code.corpus.languages.rules import FileLanguage
from neox_code.corpus.recipes.recipe import Recipe
from neox_code.corpus.rows.kotlin import KotlinWindows

@dataclass(frozen=True)
class Filter:
    name = "mine"
    def keep(self, file):
        {filter}

RECIPE = Recipe("mine", ("Python",), FileLanguage(("Python",)), {before}, {after}{rest})
{last}
"""


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (
            {"filter": "return {}['absent']", "after": "(Filter(),)"},
            "mine.py:12 raises KeyError: 'absent' while the recipe decides on",
        ),
        (
            {"filter": "return 1 / 0", "before": "(Filter(),)"},
            "mine.py:12 raises ZeroDivisionError: division by zero",
        ),
        ({"last": "x = = 1"}, "mine.py:15 raises SyntaxError: invalid syntax"),
        ({"last": "raise SystemExit(0)"}, "mine.py:15 raises SystemExit: 0 while the recipe is loaded"),
        ({"last": "import absent_module"}, "mine.py:15 raises ModuleNotFoundError: No module named 'absent_module'"),
        ({"rest": ", rows=KotlinWindows(tokenizer=Path('damaged.json'))"}, "tokenizer damaged.json cannot be read"),
    ],
)
@pytest.mark.parametrize("workers", [1, 2])
def test_a_mistake_in_a_recipe_is_named_with_file_and_line(tmp_path, monkeypatch, parts, message, workers):
    monkeypatch.chdir(tmp_path)
    Path("damaged.json").write_text("{")
    defaults = {"filter": "return True", "before": "()", "after": "()", "rest": "", "last": ""}
    Path("mine.py").write_text(RECIPE_WITH_A_MISTAKE.format(**defaults | parts))
    done = build_corpus(PROJECT, "--output", "corpus", "--recipe", "mine.py", "--workers", str(workers))
    assert (done.returncode, "Traceback" in done.stderr) == (2, False), done.stderr
    assert message in done.stderr
    assert not Path("corpus").exists()
