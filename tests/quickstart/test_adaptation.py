"""`finetune --demo` as a user runs it, with a tiny model and a few files; its choices and refusals."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from distributed_runs import run_ranks
from finetuning_job import run_finetuning, write_finetuning

from neox_code.corpus.pipeline.build import build_corpus
from neox_code.corpus.recipes.registry import find_recipe
from neox_code.errors import ConfigError, DataError
from neox_code.quickstart.adaptation import METHODS, AdaptationJob, choose_language
from neox_code.quickstart.demo import main

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "configs" / "finetuning" / "demo.yml"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Returns a folder with a base model, a corpus that stands for its own, and files of Lua."""
    result = tmp_path_factory.mktemp("adaptation")
    file = write_finetuning(result)
    run_ranks(1, run_finetuning, str(file), {"save": str(result / "base"), "train_iters": 1, "heldout_path": "missing"})
    for number in range(8):
        for suffix, line in ((".lua", "local value{0} = {1} + {0}\n"), (".py", "value{0} = {1} + {0}\n")):
            place = result / suffix[1:] / f"project{number}" / f"file{suffix}"
            place.parent.mkdir(parents=True)
            place.write_text("".join(line.format(each, number) for each in range(60)))
    build_corpus([str(result / "py")], result / "known", find_recipe("mixed"), seed=1, shares=(50, 0, 50), workers=1)
    keys = {"train_iters": 4, "train_seconds": None, "log_interval": 1, "precision": "fp32"}
    (result / "tiny.yml").write_text(yaml.safe_dump(yaml.safe_load(DEMO.read_text()) | keys))
    return result


WORDS = ["--demo", *["--base", "base", "--output", "demo", "--data", "lua", "--known", "known", "--config", "tiny.yml", "--json"]]


def read_bits(found: dict[str, Any]) -> dict[str, float]:
    return {language: row["bits_per_byte"]["model"] for language, row in found["languages"].items()}


def test_the_page_has_the_figures_and_a_second_run_skips_every_step(folder, monkeypatch, capfd):
    monkeypatch.chdir(folder)
    assert main(WORDS) == 0
    figures = json.loads(capfd.readouterr().out)
    assert figures["language"] == "Lua"
    bits = {method: read_bits(found) for method, found in figures["methods"].items()}
    assert bits.keys() == METHODS.keys()
    assert all(row.keys() == {"Lua", "Python"} for row in bits.values())
    assert bits["full"]["Lua"] < bits["before"]["Lua"]
    assert bits["lora"]["Lua"] != bits["before"]["Lua"]
    assert {figures["methods"][method]["steps"] for method in ("lora", "full")} == {4}
    beginnings = [prompt["text"] for prompt in figures["prompts"]]
    files = [path.read_text() for path in (folder / "lua").rglob("*.lua")]
    assert beginnings and all(any(file.startswith(text) for file in files) for text in beginnings)
    assert all(len(found["completions"]) == len(beginnings) for found in figures["methods"].values())
    page = (folder / "demo" / "adaptation.html").read_text()
    assert all(f"{value:.3f}" in page for row in bits.values() for value in row.values())
    assert not any(word in page for word in ("<script", "<link", "src=", "http"))
    written = [path.stat().st_mtime_ns for path in sorted((folder / "demo").glob("adaptation.*"))]
    assert main(WORDS) == 0
    assert json.loads(capfd.readouterr().out) == figures
    assert [path.stat().st_mtime_ns for path in sorted((folder / "demo").glob("adaptation.*"))] == written


def test_the_language_with_most_bytes_that_is_not_known_is_chosen(folder):
    sources = [str(folder / "py"), str(folder / "lua")]
    assert choose_language(sources, []).name == "Lua"
    assert choose_language(sources, ["Lua"]).name == "Python"
    with pytest.raises(DataError, match=r"no files of a language that the model has not seen\. Name others by --data PATH"):
        choose_language(sources, ["Lua", "Python"])


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"language_name": "Pyton"}, r"--language Pyton is no language of .* Did you mean Python\?"),
        ({"language_name": "python"}, "was trained on it. Choose another one."),
        ({"data": "nowhere"}, "--data nowhere does not exist"),
        ({"known": None}, r"the corpus of its run \(heldout_path\).* is not here.*--known PATH"),
        ({"base": Path("nowhere")}, "nowhere"),
    ],
)
def test_bad_options_are_refused_before_any_work(folder, keys, message):
    given = {"base": folder / "base", "language_name": "lua", "data": str(folder / "lua"), "known": str(folder / "known")}
    with pytest.raises((ConfigError, DataError), match=message):
        AdaptationJob(**given | keys, output=folder / "other", config_file=folder / "tiny.yml").steps()
    assert not (folder / "other").exists()
