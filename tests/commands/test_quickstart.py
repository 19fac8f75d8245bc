"""The quickstart as a user runs it, on a small source folder and with a tiny model: killed, resumed, repeated."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from real_code import MODULES, real_file

from neox_code.checkpoint.layout import find_checkpoint
from neox_code.corpus.shards import SPLITS, iter_documents
from neox_code.errors import EXIT_RESUME

DEEPY = Path(__file__).parents[2] / "deepy.py"

TINY = {
    "num_layers": 2,
    "hidden_size": 64,
    "num_attention_heads": 4,
    "max_position_embeddings": 256,
    "seq_length": 64,
    "pos_emb": "rotary",
    "precision": "bfloat16",
    "pipe_parallel_size": 1,
    "train_batch_size": 4,
    "train_iters": 30,
    "optimizer": {"type": "Adam", "params": {"lr": 0.005}},
    "zero_optimization": {"stage": 1},
    "num_workers": 0,
    "log_interval": 5,
    "eval_interval": 15,
    "eval_iters": 1,
    "checkpoint_factor": 5,
    "heldout_bytes_per_language": 20_000,
    "text_gen_type": "interactive",
    "maximum_tokens": 8,
    "temperature": 0.5,
}


@dataclass(frozen=True)
class Place:
    """A folder to run in, with `tiny.yml` and the source folder `source`; the output is `output`."""

    folder: Path

    @property
    def output(self) -> Path:
        return self.folder / "output"

    @property
    def words(self) -> list[str]:
        options = ["--source", "source", "--output", "output", "--config", "tiny.yml"]
        return [sys.executable, str(DEEPY), "quickstart", *options]

    @property
    def environment(self) -> dict[str, str]:
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        return {**os.environ, "PATH": path, "OMP_NUM_THREADS": "1", "COLUMNS": "200"}

    def run(self, *options: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [*self.words, *options], cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=600, check=False
        )


def place_with(folder: Path, modules: tuple[str, ...]) -> Place:
    (folder / "source").mkdir()
    for module in modules:
        shutil.copy(real_file(module), folder / "source" / module.replace("/", "_"))
    (folder / "tiny.yml").write_text(yaml.safe_dump(TINY))
    return Place(folder)


@dataclass(frozen=True)
class Story:
    """A quickstart killed in training, and the run that completed it."""

    place: Place
    left_running: list[str]
    """Command lines of the killed run's processes, a while after the kill."""

    checkpoints_at_kill: list[str]
    second: "subprocess.CompletedProcess[str]"


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    place = place_with(tmp_path_factory.mktemp("quickstart"), MODULES)
    killed = subprocess.Popen(place.words, cwd=place.folder, env=place.environment, stderr=subprocess.PIPE, start_new_session=True)
    wait_for(place.output / "latest", killed)
    killed.kill()
    killed.communicate()
    deadline = time.monotonic() + 5
    while processes_of(place.output) and time.monotonic() < deadline:
        time.sleep(0.1)
    left, checkpoints = processes_of(place.output), sorted(path.name for path in place.output.glob("global_step*[0-9]"))
    stale = {"context": "import", "text": "x", "length": 1, "finished": True, "seconds": 0.1}
    (place.output / "completions.jsonl").write_text(json.dumps(stale) + "\n")  # an earlier model's
    yield Story(place, left, checkpoints, place.run())


def wait_for(path: Path, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + 150
    while not path.exists():
        assert process.poll() is None, process.stderr.read().decode()
        assert time.monotonic() < deadline, f"{path} did not appear"
        time.sleep(0.02)


def processes_of(output: Path) -> list[str]:
    """Command lines of the processes that name the folder in their arguments or environment."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            command, environment = (entry / "cmdline").read_bytes(), (entry / "environ").read_bytes()
        except OSError:
            continue
        if str(output).encode() in command + environment:
            found.append(command.replace(b"\0", b" ").decode())
    return found


def test_a_signal_in_training_saves_and_ends_with_the_status_of_a_resume(tmp_path: Path) -> None:
    place = place_with(tmp_path, MODULES)
    stopped = subprocess.Popen(place.words, cwd=place.folder, env=place.environment, stderr=subprocess.PIPE)
    wait_for(place.output / "latest", stopped)
    stopped.send_signal(signal.SIGTERM)
    _, printed = stopped.communicate(timeout=600)
    assert stopped.returncode == EXIT_RESUME, printed.decode()
    assert b"Rerun the same command to resume" in printed
    assert find_checkpoint(place.output).name != "global_step30"


def test_no_process_outlives_a_killed_run(story: Story) -> None:
    assert story.left_running == []


def test_the_next_run_reports_what_it_resumes_and_completes(story: Story) -> None:
    assert story.second.returncode == 0, story.second.stderr
    assert "1/7 corpus | skipped: finished before" in story.second.stderr
    assert "3/7 tokens | skipped: finished before" in story.second.stderr
    went_on = re.search(r"4/7 training \| was interrupted: resumes after iteration (\d+)", story.second.stderr)
    assert f"global_step{went_on[1]}" in story.checkpoints_at_kill
    assert f"training from iteration {went_on[1]} to 30" in story.second.stderr


def test_the_resumed_training_leaves_one_unbroken_series_of_losses(story: Story) -> None:
    rows = [json.loads(line) for line in (story.place.output / "metrics.jsonl").read_text().splitlines()]
    losses = {row["iteration"]: row["train/lm_loss"] for row in rows if "train/lm_loss" in row}
    assert list(losses) == [5, 10, 15, 20, 25, 30]
    assert losses[30] < losses[5] - 0.5


def test_a_checkpoint_has_its_configuration_beside_it(story: Story) -> None:
    output = story.place.output
    assert (output / "latest").read_text().strip() == "global_step30"
    for folder in (output / "configs", output / "global_step30" / "configs"):
        assert {"tiny.yml", "paths.yml"} <= {path.name for path in folder.iterdir()}
    assert list((output / "global_step30").glob("layer_02-model_00-model_states.pt"))
    assert list((output / "tensorboard").glob("*/events.*"))


def test_the_report_has_corpus_loss_figures_and_completions(story: Story) -> None:
    page = (story.place.output / "report.html").read_text()
    judged = json.loads((story.place.output / "eval_results_30.json").read_text())["languages"][0]
    completions = [json.loads(line) for line in (story.place.output / "completions.jsonl").read_text().splitlines()]
    assert f"{judged['bits']['model'] / judged['bytes']:.3f}" in page
    assert f"{judged['bits']['gzip_alone'] / judged['bytes']:.3f}" in page
    assert page.count('<span class="completion">') == len(completions) + 1 == 3
    assert page.count("<polyline") == 2


def test_prompts_are_the_beginnings_of_held_out_files(story: Story) -> None:
    files = {path.read_text(encoding="utf-8") for path in (story.place.folder / "source").iterdir()}
    for line in (story.place.output / "completions.jsonl").read_text().splitlines():
        row = json.loads(line)
        assert any(row["context"] in text for text in files)
        assert 0 < row["length"] <= 8


def test_the_printed_prompt_completes_code_on_this_checkpoint(story: Story) -> None:
    command = next(line for line in story.second.stdout.splitlines() if " generate " in line)
    done = subprocess.run(
        command,
        shell=True,
        cwd=story.place.folder,
        env=story.place.environment,
        input="import os\\n\n",
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_a_third_run_skips_every_stage_within_three_seconds(story: Story) -> None:
    begin = time.monotonic()
    third = story.place.run()
    assert time.monotonic() - begin < 3 * slowness()
    assert third.returncode == 0, third.stderr
    assert third.stderr.count("finished before") == third.stderr.count("skipped") == 7
    assert story.second.stdout.endswith(third.stdout)
    assert "report: output/report.html" in third.stdout


def slowness() -> float:
    """How many times longer than its processor time a second of work takes here, with other work on the machine."""
    begin, used = time.monotonic(), time.process_time()
    while time.process_time() - used < 0.5:
        sum(range(1000))
    return max(1.0, (time.monotonic() - begin) / 0.5)


def test_a_bare_repository_is_read_by_git_and_ends_with_held_out_figures(tmp_path: Path) -> None:
    place = place_with(tmp_path, MODULES)
    shutil.move(tmp_path / "source", tmp_path / "tree")
    identity = ("-c", "user.name=a", "-c", "user.email=a@b.c")
    for words in (("init", "-q"), ("add", "-A"), (*identity, "commit", "-qm", "x")):
        subprocess.run(["git", *words], cwd=tmp_path / "tree", check=True)
    subprocess.run(["git", "clone", "-q", "--bare", "tree", "source"], cwd=tmp_path, check=True)
    (tmp_path / "tiny.yml").write_text(yaml.safe_dump(TINY | {"train_iters": 5, "eval_interval": 5}))
    done = place.run()
    assert done.returncode == 0, done.stderr
    files = {path.read_text(encoding="utf-8") for path in (tmp_path / "tree").glob("*.py")}
    documents = {split: {document.text for document in iter_documents(place.output / "corpus", split)} for split in SPLITS}
    assert all(documents.values()) and files == set().union(*documents.values())
    languages = json.loads((place.output / "eval_results_5.json").read_text())["languages"]
    assert [row["language"] for row in languages] == ["Python"] and languages[0]["files"] == len(documents["test"])
    assert (place.output / "report.html").exists()


def test_an_empty_source_is_an_error_and_leaves_no_corpus(tmp_path: Path) -> None:
    place = place_with(tmp_path, ())
    done = place.run()
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: nothing in source can be kept")
    assert "Traceback" not in done.stderr
    assert not (place.output / "corpus").exists() and not list(place.output.glob("*.partial"))


def test_fresh_refuses_to_delete_other_files(tmp_path: Path) -> None:
    place = place_with(tmp_path, ("pygments/regexopt.py",))
    place.output.mkdir()
    (place.output / "latest").write_text("global_step1000")
    done = place.run("--fresh")
    assert done.returncode == 2
    assert "has other contents" in done.stderr
    assert [path.name for path in place.output.iterdir()] == ["latest"]


def test_a_configuration_that_cannot_train_is_refused_before_anything_is_done(tmp_path: Path) -> None:
    place = place_with(tmp_path, ("pygments/regexopt.py",))
    (tmp_path / "tiny.yml").write_text(yaml.safe_dump(TINY | {"train_iters": None}))
    done = place.run()
    assert done.returncode == 2
    assert "train_iters is missing" in done.stderr
    assert not (place.output / "corpus").exists()
