"""The three modes of `generate` on a checkpoint whose completions are known; the dialog through pipes and through a terminal."""

import io
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from scripted_checkpoint import COMPLETION, CONTEXT_LENGTH, write_checkpoint

from neox_code.commands.generate import main
from neox_code.errors import run_command

ROOT = Path(__file__).parents[2]
FIELDS = ["context", "text", "length", "finished", "message", "duration_seconds"]
PROMPT = "Context prompt >>> "


@pytest.fixture
def config_file(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path)


def rows_of(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_a_file_is_completed_as_it_is_into_six_fields_in_their_order(config_file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "prompt.txt").write_bytes("  é\r\n\tf(".encode())
    assert run_command(main, [str(config_file), "-i", "prompt.txt", "-o", "samples.jsonl"]) == 0
    (row,) = rows_of(tmp_path / "samples.jsonl")
    assert list(row) == [*FIELDS, "index", "sample", "stop_reason", "source", "settings"]
    assert row.pop("duration_seconds") > 0 and len(row.pop("settings")) == 8
    assert row == {
        "context": "  é\r\n\tf(",
        "text": COMPLETION,
        "length": len(COMPLETION.encode()),
        "finished": True,
        "message": None,
        "index": 0,
        "sample": 0,
        "stop_reason": "end of document",
        "source": None,
    }


def test_without_an_output_file_the_rows_go_to_standard_output_and_nothing_else_does(config_file, tmp_path):
    (tmp_path / "prompt.txt").write_bytes("é(".encode())
    for words, typed in ((["-i", "prompt.txt"], b""), (["-i", "-", "-o", "-"], "é(".encode())):
        command = [sys.executable, str(ROOT / "deepy.py"), "generate", str(config_file), *words]
        environment = {**os.environ, "LC_ALL": "C", "DS_ACCELERATOR": "cpu"}
        ended = subprocess.run(command, cwd=tmp_path, input=typed, capture_output=True, env=environment, check=False)
        assert ended.returncode == 0, ended.stderr.decode()
        (row,) = (json.loads(line) for line in ended.stdout.decode("utf-8").splitlines())
        assert (row["context"], row["text"]) == ("é(", COMPLETION)
    assert sorted(path.name for path in tmp_path.glob("samples*")) == []


def test_a_prompt_that_cannot_be_completed_is_reported_and_the_others_are_completed(config_file, tmp_path, capfd):
    prompts = ["(", "x" * 100, "\t("]
    (tmp_path / "prompts").write_text("===".join(prompts))
    output = tmp_path / "out.jsonl"
    words = ["-i", str(tmp_path / "prompts"), "-o", str(output), "--set", "prompt_end===="]
    assert run_command(main, [str(config_file), *words]) == 2
    rows = rows_of(output)
    assert [row["context"] for row in rows] == prompts
    assert [row["text"] for row in rows] == [COMPLETION, None, COMPLETION]
    assert all(list(row)[:6] == FIELDS for row in rows)
    assert rows[1]["message"].startswith("ERROR: the prompt that begins with 'xxx")
    reported = capfd.readouterr().err
    assert "error: prompt 2: the prompt that begins with" in reported
    assert "error: 1 of 3 prompts could not be completed" in reported


@pytest.fixture
def config_without_cr(config_file: Path) -> Path:
    """The same with another token in the place of CR's, as in PolyCoder's vocabulary."""
    vocabulary = config_file.with_name("vocab.json")
    vocabulary.write_text(vocabulary.read_text().replace(json.dumps("č"), json.dumps("--")))
    return config_file


@pytest.mark.parametrize(
    ("options", "context"),
    [
        ([], "  é\n\tf("),
        (["newlines=lf"], "  é\n\tf("),
        (["newlines=keep"], "byte 0x0D 1 times"),
        (["newlines=refuse"], "newlines: refuse does not allow"),
    ],
)
def test_line_ends_of_a_prompt_that_the_vocabulary_lacks_are_made_lf_or_refused(
    config_without_cr, tmp_path, capfd, options, context
):
    (tmp_path / "prompt.txt").write_bytes("  é\r\n\tf(".encode())
    files = ["-i", str(tmp_path / "prompt.txt"), "-o", str(tmp_path / "out.jsonl")]
    status = run_command(main, [str(config_without_cr), *files, *(word for option in options for word in ("--set", option))])
    told = capfd.readouterr().err
    if status == 0:
        (row,) = rows_of(tmp_path / "out.jsonl")
        assert row["context"] == context
        assert row["text"] == COMPLETION.replace("\r", "--")
        assert "prompts whose line ends were converted to LF: 1" in told
    else:
        assert (status, (tmp_path / "out.jsonl").exists()) == (2, False)
        assert context in told


def test_several_prompts_keep_their_order_and_report_their_stop_reasons(config_file, tmp_path):
    prompts = ["x" * (CONTEXT_LENGTH - 2), "\t(", "\n x"]
    (tmp_path / "prompts").write_text("===".join(prompts))
    output = tmp_path / "new" / "out.jsonl"
    arguments = ["-i", str(tmp_path / "prompts"), "-o", str(output), "--set", "prompt_end====", "--set", "maximum_tokens=20"]
    assert run_command(main, [str(config_file), *arguments]) == 0
    rows = rows_of(output)
    assert [row["context"] for row in rows] == prompts
    assert [row["text"] for row in rows] == ["..", COMPLETION, "." * 20]
    assert [row["finished"] for row in rows] == [False, True, False]
    assert [bool(row["message"]) for row in rows] == [True, False, False]


def test_unconditional_texts_begin_a_document_and_follow_the_seed(config_file, tmp_path):
    def samples(seed: int) -> list[str]:
        output = tmp_path / "out.jsonl"
        output.unlink(missing_ok=True)
        settings = {"num_samples": 11, "temperature": 30, "top_k": 50, "maximum_tokens": 10, "seed": seed}
        words = [f"--set={key}={value}" for key, value in settings.items()]
        assert run_command(main, [str(config_file), "-o", str(output), *words]) == 0
        assert {row["context"] for row in rows_of(output)} == {""}
        return [row["text"] for row in rows_of(output)]

    first = samples(1)
    assert len(set(first)) > 5
    assert samples(1) == first != samples(2)


@pytest.mark.parametrize(
    ("content", "words", "sentence"),
    [
        (b"x" * 100, [], r"100 tokens, but the model's context of 64 tokens .* Shorten it to 63"),
        (b"ab\xff", [], r"byte 0xFF at offset 2"),
        (b"x", ["--set", "sample_input_file="], r"sample_input_file is not set.* -i FILE"),
        (b"x", ["--iteration", "7"], r"no checkpoint of iteration 7\. There are iterations 1"),
        (
            b"x",
            ["--set", "vocab_file=v.json"],
            r"missing: v\.json \(vocab_file, --set\)\. Copy the file that the model was trained",
        ),
    ],
)
def test_bad_input_is_a_sentence_and_status_2(config_file, tmp_path, capfd, content, words, sentence):
    (tmp_path / "prompt").write_bytes(content)
    output = tmp_path / "out.jsonl"
    assert run_command(main, [str(config_file), "-i", str(tmp_path / "prompt"), "-o", str(output), *words]) == 2
    assert re.search(rf"^error: .*{sentence}", capfd.readouterr().err, re.MULTILINE)
    assert not list(tmp_path.glob("out.jsonl*"))


def test_an_interrupted_output_is_continued_and_another_one_is_refused(config_file, tmp_path, capfd):
    folder = tmp_path / "prompts"
    (folder / "deep").mkdir(parents=True)
    for name, text in (("a.py", "a"), ("deep/b.txt", "b"), ("c", "("), (".hidden", "no prompt")):
        (folder / name).write_text(text)
    (folder / "rows.jsonl").write_text('"d"\n{"prompt": "e", "id": 7, "maximum_tokens": 3}\n')
    output = tmp_path / "out.jsonl"
    words = [str(config_file), "-i", str(folder), "-o", str(output), "--set", "maximum_tokens=9", "--set", "temperature=9"]
    words += ["--set", "samples_per_prompt=2"]
    assert run_command(main, words) == 0
    whole = output.read_bytes()
    rows = rows_of(output)
    assert [(row["context"], row["source"], row["sample"]) for row in rows[:3]] == [
        ("a", "a.py", 0),
        ("a", "a.py", 1),
        ("(", "c", 0),
    ]
    assert [(row["context"], row["length"]) for row in rows[-2:]] == [("e", 3), ("e", 3)]
    lines = whole.splitlines(keepends=True)
    for complete, kept in ((0, b""), (0, lines[0]), (4, b"".join(lines[:5]) + lines[5][:20]), (10, whole)):
        output.write_bytes(kept)
        assert run_command(main, words) == 0
        assert [{**row, "duration_seconds": 0} for row in rows_of(output)] == [{**row, "duration_seconds": 0} for row in rows]
        assert output.read_bytes().startswith(b"".join(lines[:complete]))
    capfd.readouterr()
    for change in (["--set", "seed=5"], ["-i", str(folder / "deep")], []):
        if not change:  # a setting of one row
            (folder / "rows.jsonl").write_text('"d"\n{"prompt": "e", "id": 7, "maximum_tokens": 2}\n')
        assert run_command(main, [*words, *change]) == 2
        assert "was written with another model, other settings or other prompts" in capfd.readouterr().err
        assert output.read_bytes() == whole
    assert run_command(main, [*words[:1], "-i", "-", "-o", str(output), "--set", "sample_input_format=jsonl"]) == 2
    assert "has rows already" in capfd.readouterr().err and output.read_bytes() == whole


def test_rows_of_a_pipe_are_answered_while_it_is_open(config_file):
    words = [str(config_file), "-i", "-", "--set", "sample_input_format=jsonl"]
    environment = {**os.environ, "DS_ACCELERATOR": "cpu", "LC_ALL": "C"}
    command = [sys.executable, str(ROOT / "deepy.py"), "generate", *words]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment) as process:
        assert process.stdin is not None and process.stdout is not None
        for row, expected in (
            ({"prompt": "é(", "id": "first"}, COMPLETION),
            ({"prompt": "x", "maximum_tokens": 2}, ".."),
            ({"prompt": 7}, None),
            ({"prompt": "x", "top_p": 7}, None),
            ("(", COMPLETION),
        ):
            process.stdin.write(json.dumps(row).encode() + b"\n")
            process.stdin.flush()
            answer = json.loads(process.stdout.readline())
            assert answer["text"] == expected, answer
            assert (answer["message"] is not None) == (expected is None)
        process.stdin.close()
        assert process.wait(60) == 2


def interactive(config_file: Path, *words: str) -> list[str]:
    return [str(config_file), "--set", "text_gen_type=interactive", *words]


def test_a_dialog_without_a_terminal_is_exact_and_outlives_bad_prompts(config_file, monkeypatch, capsys):
    typed = [b"\\tf(", b"x" * 70, b"\xff", b"", b"x\\n\\\\n", b"("]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\n".join(typed))))
    assert run_command(main, interactive(config_file, "--set", "maximum_tokens=20")) == 0
    completions = [COMPLETION + "\n", "", "", f"({COMPLETION}\n", "." * 20 + "\n", COMPLETION + "\n", "\n"]
    shown, messages = capsys.readouterr()
    assert shown == "".join(PROMPT + completion for completion in completions)
    assert "70 tokens" in messages and "surrogate" in messages


class Terminal:
    """A program on a terminal of its own, and what it has shown."""

    def __init__(self, words: list[str], state: Path):
        self.main, terminal = pty.openpty()
        environment = os.environ | {"TERM": "xterm", "COLUMNS": "200", "LC_ALL": "C", "XDG_STATE_HOME": str(state)}
        environment.pop("NO_COLOR", None)
        self.process = subprocess.Popen(
            words, stdin=terminal, stdout=terminal, stderr=subprocess.DEVNULL, env=environment, start_new_session=True
        )
        os.close(terminal)
        self.shown = b""

    def type(self, text: bytes) -> None:
        os.write(self.main, text)

    def wait_for(self, text: bytes, seconds: float = 100) -> bytes:
        """What is shown up to and with the text, and no longer kept."""
        deadline = time.monotonic() + seconds
        while text not in self.shown:
            ready, _, _ = select.select([self.main], [], [], max(deadline - time.monotonic(), 0))
            assert ready, f"{text!r} is not in {self.shown[-500:]!r}"
            self.shown += os.read(self.main, 65536)
        before, _, self.shown = self.shown.partition(text)
        return before + text


def test_a_dialog_on_a_terminal_streams_stops_at_ctrl_c_and_ends_at_ctrl_d(tmp_path):
    config_file = write_checkpoint(tmp_path, max_position_embeddings=100_000, maximum_tokens=90_000)
    terminal = Terminal([sys.executable, str(ROOT / "deepy.py"), "generate.py", *interactive(config_file)], tmp_path)
    try:
        terminal.wait_for(PROMPT.encode())
        terminal.type(b"\\tf\t(\n")
        shown = terminal.wait_for(PROMPT.encode())
        prompt, _, completion = shown.partition(b"\x1b[2m\tf\t(\x1b[0m")
        assert rb"\tf" in prompt
        visible = re.sub(rb"\x1b\[\d+m", b"", completion).replace(b"\r\n", b"\n")
        assert visible.decode().startswith("a, é):\\r\n\t\\x1b~\n")

        terminal.type("\x1b[200~é\n\t(\x1b[201~\n".encode())  # a paste, in a locale without UTF-8
        shown = terminal.wait_for(PROMPT.encode()).replace(b"\r\n", b"\n")
        assert "\x1b[2mé\n\t(\x1b[0m".encode() in shown
        for command, expected in ((b":maximum_tokens 3\n", b""), (b":n 2\n", b""), (b"x\n", b"[2] ")):
            terminal.type(command)
            assert expected in terminal.wait_for(PROMPT.encode())
        terminal.type(b":n 1\n:maximum_tokens 90000\n")
        terminal.wait_for(PROMPT.encode())
        terminal.wait_for(PROMPT.encode())

        terminal.type(b"x\n")
        terminal.wait_for(b"\x1b[0m" + b"\x1b[36m........\x1b[0m" * 20)  # a step and its seven tokens of prompt lookup
        terminal.process.send_signal(signal.SIGINT)
        terminal.wait_for(PROMPT.encode(), seconds=40)

        terminal.type(b"half a prompt")
        terminal.wait_for(b"half a prompt")
        terminal.process.send_signal(signal.SIGINT)
        try:
            terminal.wait_for(PROMPT.encode(), seconds=10)
        except AssertionError:  # Python's input() can miss a signal that arrives just before it waits for a key
            terminal.process.send_signal(signal.SIGINT)
            terminal.wait_for(PROMPT.encode(), seconds=40)

        terminal.type(b"\x04")
        assert terminal.process.wait(10) == 0
        history = (tmp_path / "neox-code/prompts").read_text(encoding="utf-8").splitlines()
        assert history[:3] == [r"\tf\t(".replace(r"\t(", "\t("), r"é\n\t(", ":maximum_tokens 3"]
    finally:
        terminal.process.kill()
        terminal.process.wait()
        os.close(terminal.main)
