"""What the server does with many clients, with clients that go, with hostile requests, and at its end."""

import asyncio
import json
import re
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from scripted_checkpoint import COMPLETION

from neox_code.config.generation import GenerationConfig
from neox_code.generation.generator import Generator


class Gate:
    """Hold the engine before each step."""

    def __init__(self, engine):
        self.step, self.permits, engine.step = engine.step, threading.Semaphore(0), self.wait_and_step

    def wait_and_step(self):
        assert self.permits.acquire(timeout=20)
        return self.step()


def send(client, path, body) -> socket.socket:
    """Send a request and leave the connection open."""
    data = json.dumps(body).encode()
    connection = socket.create_connection(("127.0.0.1", client.port), timeout=20)
    connection.sendall(
        f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data
    )
    return connection


def wait_until(condition) -> None:
    limit = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.005)


def test_a_hundred_clients_of_which_a_tenth_goes_have_the_single_answers(start, with_infilling):
    alone = Generator(with_infilling, GenerationConfig(temperature=1.0, maximum_tokens=8), 5)
    prompts = [f"{number % 7 * 'x'}def f{number}(" for number in range(100)]
    expected = [alone.complete([prompt])[0].text for prompt in prompts]
    with start(with_infilling) as client:

        def ask(number: int) -> str | None:
            fields = {"prompt": prompts[number], "seed": 5, "temperature": 1.0, "max_tokens": 8}
            if number % 10 == 3:
                connection = send(client, "/v1/completions", fields | {"max_tokens": 400, "stream": number % 20 == 3})
                time.sleep(0.001 * number)
                return connection.close()
            if number % 2:
                chunks = client.get_events("/v1/completions", fields | {"stream": True})[:-1]
                return "".join(chunk["choices"][0]["text"] for chunk in chunks)
            return client.get("/v1/completions", fields)["choices"][0]["text"]

        with ThreadPoolExecutor(100) as pool:
            found = list(pool.map(ask, range(100)))
        wait_until(lambda: not client.service.thread.num_open_rows and not client.service.watchers)
        assert found == [None if number % 10 == 3 else text for number, text in enumerate(expected)]
        engine = client.service.thread.engine
        assert engine.is_idle and not client.service.thread.places
        assert engine.prefixes.num_bytes <= engine.prefixes.maximum_bytes
        ended = re.findall(r'neox_code_ended_rows_total\{reason="(.*)"\} ([0-9.]+)', client.get_text("/metrics"))
        assert sum(float(count) for _, count in ended) == 100 and "cancelled" in dict(ended)


@pytest.mark.parametrize("path", ["/v1/completions", "/infill"])
@pytest.mark.parametrize("stream", [True, False])
def test_work_stops_within_one_token_when_the_client_goes(start, with_infilling, path, stream):
    with start(with_infilling) as client:
        gate = Gate(client.service.thread.engine)
        connection = send(client, path, {"prompt": "def f(", "max_tokens": 400, "n_predict": 400, "stream": stream})
        gate.permits.release(3)
        wait_until(lambda: gate.permits._value == 0 and client.service.thread.places)
        ((row, (job, _)),) = client.service.thread.places.items()
        wait_until(lambda: len(row.tokens) >= 2)
        connection.close()
        wait_until(lambda: job.is_cancelled)
        gate.permits.release(1000)
        wait_until(lambda: not client.service.thread.num_open_rows)
        assert len(row.tokens) <= 4 and row.stop_reason.value == "cancelled"


def test_connections_and_uploads_that_are_too_slow_are_closed(start, scripted):
    with start(scripted, header_seconds=1, body_seconds=0.3) as client:
        head = b"POST /completion HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 15\r\n"
        parts = {
            "silent": b"",
            "header": head,
            "body": head + b"\r\n{",
            "second": b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n" + head,
        }
        sockets = {name: socket.create_connection(("127.0.0.1", client.port), timeout=20) for name in parts}
        for name, part in parts.items():
            sockets[name].sendall(part)
        answers = {name: b"".join(iter(lambda connection=each: connection.recv(4096), b"")) for name, each in sockets.items()}
        for each in sockets.values():
            each.close()
        assert answers["silent"] == answers["header"] == b"" and answers["second"].startswith(b"HTTP/1.1 200")
        assert answers["body"].startswith(b"HTTP/1.1 408") and b"did not arrive in 0.3 s" in answers["body"]
        assert client.get("/completion", {"prompt": "f("})["content"] == COMPLETION


def test_a_full_queue_is_answered_with_the_time_to_wait(start, scripted):
    with start(scripted, maximum_open_rows=3) as client:
        gate = Gate(client.service.thread.engine)
        fields = {"prompt": "f(", "n": 2, "temperature": 0}
        waiting = send(client, "/v1/completions", fields)
        wait_until(lambda: client.service.thread.num_open_rows == 2)
        gate.permits.release(2)
        wait_until(lambda: len(client.service.thread.engine.running) == 2)
        running = [slot for slot in client.get("/slots") if slot["is_processing"]]
        assert [slot["n_prompt_tokens"] for slot in running] == [1, 1] and "prompt" not in running[0], "f; the ( is repeated"
        for path, body in (("/v1/completions", fields), ("/completion", {"prompt": "f(", "n_cmpl": 2})):
            assert client.get_error(path, body)[0] == 429
        with send(client, "/v1/completions", fields) as connection:
            raised = connection.recv(1000).lower()
        assert raised.startswith(b"http/1.1 429") and b"retry-after: 1\r\n" in raised
        gate.permits.release(1000)
        with waiting:
            assert waiting.recv(10_000).startswith(b"HTTP/1.1 200")
        wait_until(lambda: not client.service.thread.num_open_rows)
        assert client.get("/v1/completions", fields)["choices"][0]["text"] == COMPLETION


def test_draining_ends_open_requests_and_refuses_new_ones(start, scripted):
    with start(scripted) as client:
        gate = Gate(client.service.thread.engine)
        with ThreadPoolExecutor() as pool:
            answer = pool.submit(client.get, "/completion", {"prompt": "f("})
            wait_until(lambda: client.service.thread.num_open_rows)
            drained = pool.submit(asyncio.run, client.service.thread.drain(20))
            wait_until(lambda: client.service.thread.is_draining)
            assert client.get_error("/v1/completions", {"prompt": "x"})[0] == 503
            assert client.get_error("/completion", {"prompt": "x"}) == (
                503,
                {"message": "the server is stopping.", "type": "unavailable_error", "param": None, "code": 503},
            )
            assert not drained.done()
            gate.permits.release(1000)
            assert answer.result()["content"] == COMPLETION
            drained.result()


def test_a_failure_of_the_engine_is_one_answer_and_the_next_request_is_served(start, scripted, capsys):
    with start(scripted) as client:
        engine = client.service.thread.engine
        step, engine.step = engine.step, lambda: 1 / 0
        status, error = client.get_error("/v1/completions", {"prompt": "f("})
        assert (status, error["type"]) == (500, "server_error") and "ZeroDivisionError" in error["message"]
        events = client.get_events("/v1/completions", {"prompt": "f(", "stream": True})
        assert "ZeroDivisionError" in events[0]["error"]["message"]
        engine.step = step
        assert client.get("/completion", {"prompt": "f("})["content"] == COMPLETION
    assert "ZeroDivisionError" in capsys.readouterr().err


def test_with_a_key_every_address_but_the_health_needs_it(start, scripted):
    with start(scripted, key="secret") as client:
        assert client.get("/health") == {"status": "ok"}
        for path, code in (("/v1/completions", "invalid_api_key"), ("/completion", 401)):
            for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "secrét"}):
                status, error = client.get_error(path, {"prompt": "f("}, **headers)
                assert (status, error["code"], error["type"]) == (401, code, "authentication_error")
        assert client.get("/completion", {"prompt": "f("}, Authorization="Bearer secret")["content"] == COMPLETION
        assert client.get("/v1/models", **{"X-Api-Key": "secret"})["data"]


@pytest.mark.parametrize(
    ("path", "body", "status", "message"),
    [
        ("/v1/completions", b'{"prompt": "' + 10_000_000 * b"x" + b'"}', 413, "larger than 8,388,608 bytes"),
        ("/completion", b'{"prompt": "x"', 400, "the body is not JSON"),
        ("/completion", b"[1]", 400, "must be a JSON object"),
        ("/completion", b"\xff\xfe", 400, ""),
        ("/completion", 100_000 * b"[", 400, ""),
        ("/completion", b'{"prompt": ' + 5000 * b"9" + b"}", 400, ""),
        ("/completion", b'{"n_predict": ' + 5000 * b"[" + 5000 * b"]" + b"}", 400, ""),
        ("/completion", b'{"prompt": "x", "temperature": NaN}', 400, "temperature (nan) must be"),
        ("/completion", b'{"prompt": [' + b"[]," * 1000 + b"[]]}", 400, "completions are requested at once"),
        ("/no/such/path", b"{}", 404, "Not Found"),
    ],
    ids=lambda value: str(value)[:24],
)
def test_a_hostile_body_is_refused(client, path, body, status, message):
    found, error = client.get_error(path, body)
    assert found == status and message in error["message"]
    assert client.get("/completion", {"prompt": "f("})["content"] == COMPLETION


def test_another_content_type_is_refused_so_that_no_web_page_sends_requests(client):
    status, error = client.get_error("/completion", {"prompt": "x"}, **{"Content-Type": "text/plain"})
    assert status == 400 and "Content-Type: application/json" in error["message"]


def test_a_reader_that_stops_reading_delays_nobody(start, with_infilling):
    with start(with_infilling) as client:
        slow = [send(client, "/v1/completions", {"prompt": "x", "max_tokens": 300, "n": 3, "stream": True}) for _ in range(3)]
        assert client.get("/v1/completions", {"prompt": "x"})["choices"]
        wait_until(lambda: not client.service.thread.num_open_rows)
        for connection in slow:
            connection.close()
