"""Labeling against a server that imitates OpenAI's chat completions API, including rate limits and failures."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from json_server import JsonServer

from neox_code.corpus.json_endpoint import JsonEndpoint
from neox_code.corpus.rows.label_files import RowSelection, label_files
from neox_code.corpus.rows.labels import Labeler, Prices
from neox_code.errors import DataError

KEY = "a-key"
TOOL = Path(__file__).parents[3] / "tools" / "label_rows.py"


class ChatServer(JsonServer):
    """Answer each request with the name of the function in it."""

    def __init__(self) -> None:
        self.usage: dict[str, int] | None = {"prompt_tokens": 100, "completion_tokens": 10}
        super().__init__()

    @property
    def url(self) -> str:
        return f"{super().url}/v1"

    def codes(self) -> Counter[str]:
        return Counter(question["messages"][1]["content"] for question in self.asked)

    def refusal(self, path: str, authorization: str) -> tuple[int, Any] | None:
        if path != "/v1/chat/completions":
            return 404, {"error": {"message": "no such page"}}
        return None if authorization == f"Bearer {KEY}" else (401, {"error": {"message": "Incorrect API key provided"}})

    def answer(self, question: dict[str, Any]) -> Any:
        name = question["messages"][1]["content"].partition("(")[0].removeprefix("func ")
        message = {"role": "assistant", "content": f'"// Do {name}."' if name != "silent" else ""}
        usage = {"usage": self.usage} if self.usage else {}
        return {"choices": [{"index": 0, "message": message}], **usage}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ChatServer]:
    monkeypatch.setattr("neox_code.corpus.rows.labels.FIRST_PAUSE_SECONDS", 0.01)
    with ChatServer() as server:
        yield server


def labeler(server: ChatServer, key: str = KEY) -> Labeler:
    return Labeler(JsonEndpoint(f"{server.url}/chat/completions", {"Authorization": f"Bearer {key}"}), "a-model")


def function(name: str) -> dict[str, str]:
    return {"instruction": "", "output": f"func {name}():\n\tpass\n", "version": "4"}


def write(path: Path, rows: list[dict[str, str]]) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def read(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def answered(name: str) -> dict[str, str]:
    return function(name) | {"instruction": f"Do {name}."}


def test_rows_get_the_models_instructions_and_keep_their_authors(server: ChatServer, tmp_path: Path) -> None:
    described = function("described") | {"instruction": "As its author says."}
    train = write(tmp_path / "rows" / "train.jsonl", [function("a"), described, function("a"), function("silent"), function("b")])
    test = write(tmp_path / "rows" / "test.jsonl", [function("b"), function("c")])
    report = label_files([train, test], tmp_path / "out", labeler(server), prices=Prices(1.0, 10.0))
    assert read(tmp_path / "out" / "train.jsonl") == [answered("a"), described, answered("b")]
    assert read(tmp_path / "out" / "test.jsonl") == [answered("c")]
    assert server.codes() == Counter(function(name)["output"] for name in ("a", "silent", "b", "c"))
    assert report.rows == {
        "labeled by the model": 3,
        "described by their authors": 1,
        "duplicate output": 2,
        "without words in the answer": 1,
    }
    assert (report.usage.input_tokens, report.usage.output_tokens) == (400, 40)
    assert Prices(1.0, 10.0).compute_cost(report.usage) == pytest.approx(800e-6)
    question = server.asked[0]
    assert question["model"] == "a-model" and "GDScript" in question["messages"][0]["content"]
    label_files([train, test], tmp_path / "out", labeler(server))
    assert len(server.asked) == 4
    label_files([train], tmp_path / "out", labeler(server), selection=RowSelection(min_length=20, relabel=True))
    assert read(tmp_path / "out" / "train.jsonl") == [answered("described")]
    assert len(server.asked) == 5


LIMIT = (429, {"error": {"message": "Rate limit reached", "code": "rate_limit_exceeded"}}, {"retry-after": "0.05"})


@pytest.mark.parametrize(
    "trouble",
    [
        LIMIT,
        (429, {"error": "slow down"}),
        (503, {"error": {"message": "overloaded"}}, {"retry-after": "0.02"}),
        (500, {}),
        (200, {"choices": []}),
        "drop",
        "half",
    ],
)
def test_a_temporary_failure_is_retried(server: ChatServer, tmp_path: Path, trouble: Any) -> None:
    rows = [function(name) for name in "abcdef"]
    server.trouble = [None, trouble, None, trouble, trouble]
    begin = time.monotonic()
    label_files([write(tmp_path / "rows" / "r.jsonl", rows)], tmp_path / "out", labeler(server), concurrency=2)
    assert time.monotonic() - begin >= (0.05 if trouble is LIMIT else 0.01)
    assert read(tmp_path / "out" / "r.jsonl") == [answered(name) for name in "abcdef"]
    lines = read(tmp_path / "out" / "answers.jsonl")
    assert len(lines) == len({line["key"] for line in lines}) == 6


def test_requests_are_sent_concurrently(server: ChatServer, tmp_path: Path) -> None:
    server.delay = 0.1
    rows = [function(f"f{number}") for number in range(12)]
    label_files([write(tmp_path / "rows" / "r.jsonl", rows)], tmp_path / "out", labeler(server), concurrency=4)
    assert server.most_at_once == 4


@pytest.mark.parametrize("usage", [{"prompt_tokens": 500, "completion_tokens": 500}, None])
def test_the_cost_stays_below_its_maximum(server: ChatServer, tmp_path: Path, usage: dict[str, int] | None) -> None:
    server.usage = usage
    rows = write(tmp_path / "rows" / "r.jsonl", [function(f"f{number}") for number in range(40)])
    costs, labeled = [], []
    for max_cost in (0.02, 0.02, 0.05):
        report = label_files([rows], tmp_path / "out", labeler(server), prices=Prices(1, 3), max_cost=max_cost, concurrency=3)
        costs.append(Prices(1, 3).compute_cost(report.usage))
        labeled.append(report.rows["labeled by the model"])
        assert report.is_over_budget and report.rows["not requested yet"] == 40 - labeled[-1]
        assert max_cost - 0.004 < costs[-1] <= max_cost
    assert labeled[0] == labeled[1] < labeled[2] == len(server.asked)
    assert not label_files([rows], tmp_path / "out", labeler(server), prices=Prices(1, 3), max_cost=9).is_over_budget
    assert len(server.asked) == 40


def test_a_refused_row_is_left_out_and_not_requested_again(server: ChatServer, tmp_path: Path) -> None:
    rows = write(tmp_path / "rows" / "r.jsonl", [function(name) for name in "abc"])
    server.trouble = [(400, {"error": {"message": "content filter"}})]
    for _ in range(2):
        report = label_files([rows], tmp_path / "out", labeler(server), concurrency=1)
        assert report.rows == {"labeled by the model": 2, "refused by the endpoint": 1}
    assert len(server.asked) == 3


def test_max_completion_tokens_is_sent_to_a_model_that_requires_it(server: ChatServer, tmp_path: Path) -> None:
    server.trouble = [(400, {"error": {"message": "Unsupported 'max_tokens'. Use 'max_completion_tokens' instead."}})]
    rows = write(tmp_path / "rows" / "r.jsonl", [function(name) for name in "ab"])
    assert label_files([rows], tmp_path / "out", labeler(server), concurrency=1).rows == {"labeled by the model": 2}
    assert [set(question) & {"max_tokens", "max_completion_tokens"} for question in server.asked] == [
        {"max_tokens"},
        {"max_completion_tokens"},
        {"max_completion_tokens"},
    ]


@pytest.mark.parametrize(
    ("trouble", "word"),
    [
        ([None, (404, {"error": {"message": "The model does not exist"}})], "does not exist"),
        ([None, (429, {"error": {"message": "You exceeded your current quota", "code": "insufficient_quota"}})], "quota"),
        ([None, *[(502, {})] * 8], "8 times"),
    ],
)
def test_a_permanent_failure_ends_the_run_and_keeps_the_answers(
    server: ChatServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trouble: list[Any], word: str
) -> None:
    monkeypatch.setattr("neox_code.corpus.rows.labels.LONGEST_BACKOFF_SECONDS", 0.01)
    rows = write(tmp_path / "rows" / "r.jsonl", [function(name) for name in "abcd"])
    server.trouble = trouble
    with pytest.raises(DataError, match=word):
        label_files([rows], tmp_path / "out", labeler(server), concurrency=1)
    assert len(read(tmp_path / "out" / "answers.jsonl")) == 1
    label_files([rows], tmp_path / "out", labeler(server), concurrency=1)
    assert server.codes()[function("a")["output"]] == 1
    assert read(tmp_path / "out" / "r.jsonl") == [answered(name) for name in "abcd"]


def test_labeling_stops_if_the_first_requests_are_all_refused(server: ChatServer, tmp_path: Path) -> None:
    rows = write(tmp_path / "rows" / "r.jsonl", [function(name) for name in "abcdefgh"])
    server.trouble = [(400, {"error": {"message": "unknown model"}})] * 8
    with pytest.raises(DataError, match="unknown model"):
        label_files([rows], tmp_path / "out", labeler(server), concurrency=1)
    assert len(server.asked) < 6
    server.trouble = []
    label_files([rows], tmp_path / "out", labeler(server))
    assert len(read(tmp_path / "out" / "r.jsonl")) == 8


def test_a_wrong_key_is_reported_and_a_key_is_never_sent_in_clear_text(server: ChatServer, tmp_path: Path) -> None:
    rows = write(tmp_path / "rows" / "r.jsonl", [function("a")])
    with pytest.raises(DataError, match="OPENAI_API_KEY"):
        label_files([rows], tmp_path / "out", labeler(server, "wrong"))
    with pytest.raises(DataError, match="https"):
        JsonEndpoint("http://example.org/v1", {"Authorization": "Bearer x"})
    assert JsonEndpoint("http://example.org/v1", {}).url


def test_rows_without_instruction_and_an_output_in_the_input_folder_are_errors(server: ChatServer, tmp_path: Path) -> None:
    rows = write(tmp_path / "rows" / "r.jsonl", [{"prompt": "a", "completion": "b"}])
    with pytest.raises(DataError, match="instruction"):
        label_files([rows], tmp_path / "out", labeler(server))
    with pytest.raises(DataError, match="different"):
        label_files([rows], tmp_path / "rows", labeler(server))


def test_a_killed_command_resumes_without_repeating_requests(tmp_path: Path) -> None:
    names = [f"f{number}" for number in range(120)]
    rows = write(tmp_path / "rows" / "train-00000.jsonl", [function(name) for name in names])
    with ChatServer() as server:
        server.delay = 0.02
        command = [
            *(sys.executable, str(TOOL), str(rows), "--endpoint", server.url, "--model", "m", "--concurrency", "2"),
            *("--price-in", "2", "--price-out", "4"),
        ]
        environment = os.environ | {"OPENAI_API_KEY": KEY}
        journal = tmp_path / "rows" / "labeled" / "answers.jsonl"
        for known in (20, 60):
            process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            until = time.monotonic() + 30
            while time.monotonic() < until and (not journal.exists() or journal.read_bytes().count(b"\n") < known):
                time.sleep(0.01)
            process.send_signal(signal.SIGKILL)
            process.wait()
        with journal.open("ab") as file:
            file.write(b'{"key": "cut o')
        assert not (tmp_path / "rows" / "labeled" / rows.name).exists()
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        assert read(tmp_path / "rows" / "labeled" / rows.name) == [answered(name) for name in names]
        asked = server.codes()
        assert len(asked) == 120 and asked.total() <= 120 + 2 * 2  # what was under way at a kill
        assert len(read(journal)) == 120
        assert "120 rows labeled by the model" in done.stdout
        assert "12,000 tokens in, 1,200 out, cost 0.0288" in done.stdout
        without = subprocess.run(
            [*command, "--max-cost", "1", "--price-in", "0", "--price-out", "0"], capture_output=True, text=True
        )
        assert without.returncode == 2 and "--price-in" in without.stderr
