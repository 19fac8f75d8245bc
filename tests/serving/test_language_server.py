"""Sessions of an editor with the language server, message by message, on models whose completions are known."""

import itertools
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from generation.test_infilling import QWEN, byte_level, write_out
from scripted_checkpoint import KEYS, scripted_gpt, write_checkpoint

from neox_code.config.generation import GenerationConfig
from neox_code.config.model import ModelConfig
from neox_code.generation.generator import Generator
from neox_code.generation.loading import LoadedModel
from neox_code.generation.stopping import StopReason
from neox_code.serving.language_server import Completer, EndOfLine, run_language_server

ROOT = Path(__file__).parents[2]
URI = "file:///project/src/a.py"
SUPPORTED = {"textDocument": {"inlineCompletion": {}}}


class Editor:
    """The client's end of a session; `send` numbers its requests."""

    def __init__(self, sink, source):
        self.sink, self.source, self.numbers = sink, source, itertools.count(1)

    def write(self, message):
        body = json.dumps({"jsonrpc": "2.0", **message}).encode()
        self.sink.write(b"Content-Length: %d\r\n\r\n" % len(body) + body)
        self.sink.flush()

    def notify(self, method, **params):
        self.write({"method": method, "params": params})

    def send(self, method, **params):
        number = next(self.numbers)
        self.write({"id": number, "method": method, "params": params})
        return number

    def read(self):
        headers = dict(line.decode().split(": ") for line in iter(self.source.readline, b"\r\n"))
        return json.loads(self.source.read(int(headers["Content-Length"])))

    def ask(self, method, **params):
        number = self.send(method, **params)
        answer = self.read()
        assert answer["id"] == number and "error" not in answer, answer
        return answer["result"]

    def initialize(self, encodings=None, capabilities=SUPPORTED):
        general = {"general": {"positionEncodings": encodings}} if encodings else {}
        return self.ask("initialize", processId=None, rootUri="file:///project", capabilities=capabilities | general)

    def open(self, text, uri=URI):
        self.notify("textDocument/didOpen", textDocument={"uri": uri, "languageId": "python", "version": 1, "text": text})

    def change(self, begin, end, text, uri=URI):
        area = {name: {"line": line, "character": column} for name, (line, column) in (("start", begin), ("end", end))}
        self.notify(
            "textDocument/didChange", textDocument={"uri": uri, "version": 2}, contentChanges=[{"range": area, "text": text}]
        )

    def send_completion(self, line, character, **context):
        position = {"line": line, "character": character}
        document = {"uri": URI}
        return self.send(
            "textDocument/inlineCompletion", textDocument=document, position=position, context={"triggerKind": 2, **context}
        )

    def complete(self, line, character, **context):
        number = self.send_completion(line, character, **context)
        answer = self.read()
        assert answer["id"] == number
        return answer["result"]["items"]

    def complete_text(self, line, character):
        return [item["insertText"] for item in self.complete(line, character)]


def wait_for(condition):
    """Wait until the server's threads have made a condition true."""
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)


class Session:
    """A server in a thread. `steps` holds the engine's steps after `hold`."""

    def __init__(self, loaded, **settings):
        self.generator = Generator(loaded, GenerationConfig(**settings), seed=1)
        self.engine, self.requests, self.steps = self.generator.engine, [], None
        step, add = self.engine.step, self.engine.add

        def step_if_allowed():
            if self.steps is not None:
                self.steps.acquire()
            return step()

        def record(request):
            self.requests.append(request)
            return add(request)

        self.engine.step, self.engine.add = step_if_allowed, record
        (source, sink), (answers, output) = os.pipe(), os.pipe()
        self.editor = Editor(os.fdopen(sink, "wb"), os.fdopen(answers, "rb"))
        self.files = [self.editor.sink, self.editor.source, os.fdopen(source, "rb"), os.fdopen(output, "wb")]
        self.status = None
        self.thread = threading.Thread(target=self.run, args=(Completer(self.generator, 60), *self.files[2:]))

    def run(self, *parts):
        self.status = run_language_server(*parts)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.steps = None
        self.editor.sink.close()
        self.thread.join(30)
        for file in self.files:
            file.close()


@pytest.fixture
def start(scripted):
    return lambda loaded=scripted, **settings: Session(loaded, **settings)


@pytest.fixture(scope="module")
def infilling(tmp_path_factory):
    tokenizer = byte_level(QWEN)
    gpt = scripted_gpt(tokenizer)
    return LoadedModel(gpt, tokenizer, ModelConfig(**KEYS), torch.device("cpu"), torch.float32, Path("global_step1"))


def test_the_command_serves_a_session_and_ends_with_the_status_of_the_protocol(tmp_path):
    config = write_checkpoint(tmp_path)
    command = [sys.executable, str(ROOT / "deepy.py"), "lsp", str(config)]
    environment = {**os.environ, "LC_ALL": "C", "DS_ACCELERATOR": "cpu"}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
    ) as process:
        editor = Editor(process.stdin, process.stdout)
        answer = editor.initialize()
        editor.notify("initialized")
        editor.open("😀 f()\n")
        assert editor.complete_text(0, 5) == ["a, é"]
        assert editor.ask("shutdown") is None
        editor.notify("exit")
        assert process.wait(60) == 0 and process.stdout.read() == b""
        assert "continuing the text before the cursor" in process.stderr.read().decode()
    assert answer["serverInfo"]["name"] == "neox-code"
    capabilities = answer["capabilities"]
    assert capabilities["inlineCompletionProvider"] == {"workDoneProgress": False}
    assert capabilities["positionEncoding"] == "utf-16" and capabilities["textDocumentSync"]["change"] == 2
    assert "completionProvider" not in capabilities


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-32"])
def test_positions_are_read_in_the_encoding_of_the_client_after_changes(start, encoding):
    width = len("😀".encode({"utf-16": "utf-16-le", "utf-32": "utf-32-le"}.get(encoding, encoding))) // {
        "utf-8": 1, "utf-16": 2, "utf-32": 4
    }[encoding]  # fmt: skip
    with start() as session:
        editor = session.editor
        assert editor.initialize([encoding])["capabilities"]["positionEncoding"] == encoding
        editor.open("one\x0c two\r\n😀 = 1\r\n")
        editor.change((1, width + 3), (1, width + 4), "f(")
        (item,) = editor.complete(1, width + 5)
        place = {"line": 1, "character": width + 5}
        assert item == {"insertText": "a, é):", "range": {"start": place, "end": place}}
        request = session.requests[0]
        assert request.repeat_bytes == b"("
        assert session.generator.tokenizer.decode(request.prompt_ids) == "one\x0c two\r\n😀 = f"
        editor.change((2, 0), (2, 0), "😀\n(\n")
        assert editor.complete_text(3, 1) == ["a, é):"]
        editor.change((0, 0), (4, 0), "")
        editor.notify("textDocument/didChange", textDocument={"uri": URI, "version": 3}, contentChanges=[{"text": "whole text (]"}])
        assert editor.complete_text(0, 12) == ["a, é):"]
        editor.open("x" + URI, f"{URI}2")
        editor.notify("textDocument/didClose", textDocument={"uri": URI})
        assert editor.complete(0, 0) == []
    assert session.status == 1, "the editor went without shutdown"


def test_nothing_is_proposed_inside_a_word_and_the_selected_text_of_a_menu_is_continued(start):
    with start() as session:
        session.editor.initialize()
        session.editor.open("fx(name\nab(\n")
        assert session.editor.complete(0, 5) == [] and session.requests == []
        area = {"start": {"line": 1, "character": 0}, "end": {"line": 1, "character": 3}}
        (item,) = session.editor.complete(1, 3, selectedCompletionInfo={"range": area, "text": "above("})
        assert item == {"insertText": "above(a, é):", "range": area}


def test_a_model_with_infilling_tokens_reads_the_suffix_and_the_other_documents(start, infilling):
    for order, expected, text in (
        ("psm", "{R}project\n{F}b.py\nB\n{F}src/a.py\n{P}f({S})\n{M}", "...."),
        ("spm", "{R}project\n{F}b.py\nB\n{F}src/a.py\n{P}{S})\n{M}f(", "a, é"),
    ):
        with start(infilling, infilling_order=order, maximum_tokens=4 if order == "psm" else 16, token_healing=False) as session:
            session.editor.initialize()
            session.editor.open("B\n", "file:///project/b.py")
            session.editor.open("f()\n")
            assert session.editor.complete_text(0, 2) == [text]
        assert write_out(infilling.tokenizer, session.requests[0].prompt_ids) == expected


def test_a_cancelled_or_outdated_completion_stops_at_the_next_step(start):
    with start(maximum_tokens=40, token_healing=False, prompt_lookup_num_tokens=0) as session:  # a token in each step
        editor, engine = session.editor, session.engine
        editor.initialize()
        editor.open("x")
        for end_it in (
            lambda number: editor.notify("$/cancelRequest", id=number),
            lambda number: editor.change((0, 0), (0, 0), "x"),
        ):
            session.steps = threading.Semaphore(0)
            number = editor.send_completion(0, 1)
            session.steps.release(5)
            wait_for(lambda: engine.running and len(engine.running[0].tokens) == 5)
            (row,) = engine.running
            end_it(number)
            wait_for(lambda row=row: row.is_cancelled)
            session.steps.release(1)
            answer = editor.read()
            assert answer["id"] == number
            assert answer.get("error", {}).get("code") == -32800 or answer["result"] == {"items": []}
            wait_for(lambda: engine.is_idle)
            assert row.stop_reason is StopReason.CANCELLED and len(row.tokens) == 5
        session.steps = threading.Semaphore(0)
        first, second = editor.send_completion(0, 1), editor.send_completion(0, 2)
        session.steps.release(1000)
        answers = {answer["id"]: answer["result"]["items"] for answer in (editor.read(), editor.read())}
        assert answers[first] == [] and answers[second][0]["insertText"] == "." * 40
        assert editor.ask("shutdown") is None
        editor.notify("exit")
        session.thread.join(30)
    assert session.status == 0


def test_the_next_keystroke_reads_only_what_is_new(start):
    with start(token_healing=False) as session:
        session.editor.initialize()
        session.editor.open("some text x")
        session.editor.complete(0, 11)
        rows = []
        add = session.engine.add
        session.engine.add = lambda request: rows.extend(add(request)) or rows
        session.editor.change((0, 11), (0, 11), "y")
        session.editor.complete(0, 12)
        assert rows[0].cached_tokens == 11 and rows[0].prompt_length == 12


def test_an_editor_without_inline_completion_is_warned(start):
    with start() as session:
        session.editor.initialize(capabilities={})
        session.editor.notify("initialized")
        message = session.editor.read()
    assert message["method"] == "window/showMessage" and "textDocument/inlineCompletion (LSP 3.18)" in message["params"]["message"]


def test_the_end_of_a_line_is_the_first_one_after_text():
    rule = EndOfLine()
    assert [rule.find_end(text) for text in ("ab", "ab\r", "ab\r\n", "\n  ab\nc", "\n\n", "")] == [None, None, 2, 5, None, None]
    assert rule.count_unsettled("ab\r") == 1
