"""The connection of head and agent: only an end with the key is accepted, and only valid messages."""

import argparse
import json
import queue
import socket
import threading
import time
from contextlib import suppress

import pytest

from neox_code.errors import LaunchError
from neox_code.launch import agent, fleet
from neox_code.launch.connection import NUMBER_SIZE, Connection, authenticate
from neox_code.launch.stop_signals import StopSignals

KEY = b"the run's key"


@pytest.fixture
def pair():
    """Two ends of a TCP connection."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        here = socket.create_connection(server.getsockname())
        there, _ = server.accept()
    with here, there:
        yield here, there


def authenticate_both(here, there, keys, sides):
    """Return for each of the two ends whether it accepts the other."""
    results = queue.SimpleQueue()
    other = threading.Thread(target=lambda: results.put(authenticate(there, keys[1], sides[1])))
    other.start()
    accepted = authenticate(here, keys[0], sides[0])
    other.join()
    return accepted, results.get()


@pytest.mark.parametrize(
    ("keys", "sides", "accepted"),
    [
        ((KEY, KEY), ("head", "agent"), (True, True)),
        ((KEY, b"a guess"), ("head", "agent"), (False, False)),
        ((KEY, KEY), ("head", "head"), (False, False)),
    ],
)
def test_two_ends_authenticate_by_the_key_and_their_sides(pair, keys, sides, accepted):
    assert authenticate_both(*pair, keys, sides) == accepted


def test_repeating_the_other_ends_bytes_is_no_proof(pair):
    here, there = pair

    def echo():
        with suppress(OSError):
            while data := there.recv(1000):
                there.sendall(data)

    threading.Thread(target=echo, daemon=True).start()
    assert not authenticate(here, KEY, "head")


def test_a_slow_authentication_ends_at_its_time_limit(pair, monkeypatch):
    monkeypatch.setattr("neox_code.launch.connection.PROOF_SECONDS", 0.5)
    here, there = pair

    def drip():
        with suppress(OSError):
            while True:
                there.sendall(b"x")
                time.sleep(0.1)

    threading.Thread(target=drip, daemon=True).start()
    begin = time.monotonic()
    with pytest.raises(OSError):
        authenticate(here, KEY, "head")
    assert time.monotonic() - begin < 2


@pytest.mark.parametrize(
    "words",
    [b"3\n", b"[]\n", b"{}\n", b'{"kind": 3}\n', b"nothing\n", b"\xff\n", b"[" * 200_000 + b"\n", b"x" * 3_000_000],
    ids=["number", "list", "no kind", "kind of another type", "no JSON", "no UTF-8", "deep", "long"],
)
def test_an_invalid_message_ends_the_connection(pair, monkeypatch, words):
    monkeypatch.setattr("neox_code.launch.connection.LONGEST_MESSAGE", 1_000_000)
    here, there = pair
    inbox = queue.SimpleQueue()
    listener = Connection(here, lambda _, message: inbox.put(message))
    there.sendall(json.dumps({"kind": "hello"}).encode() + b"\n")

    def say():
        with suppress(OSError):
            there.sendall(words)

    threading.Thread(target=say, daemon=True).start()
    assert [inbox.get(timeout=5)["kind"], inbox.get(timeout=5)["kind"]] == ["hello", "lost"]
    assert not listener.is_open
    assert here.fileno() == -1
    there.settimeout(5)
    with pytest.raises(ConnectionError):
        while there.recv(1000):
            pass
        raise ConnectionError("closed in good order")


@pytest.fixture
def head(tmp_path, monkeypatch):
    """A head that waits for two agents; yields it and its port."""
    monkeypatch.chdir(tmp_path)
    parsed = argparse.Namespace(launcher="pdsh", hosts={"a": ["0"], "b": ["0"]}, stop_timeout=600.0)
    with fleet.open_listener() as server:
        made = fleet.Fleet(parsed, server, StopSignals())
        threading.Thread(target=made.accept, daemon=True).start()
        yield made, server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_an_agent_reaches_the_head_at_the_addresses_that_it_names(head, host):
    made, port = head
    try:
        socket.create_connection((host, port)).close()
    except OSError:
        pytest.skip(f"this machine has no {host}")
    (address,) = fleet.find_own_addresses([host])
    with agent.connect_to_head(f"{address}:{port}", made.key) as connection:
        connection.sendall(b'{"kind": "hello"}\n')
        known, message = made.inbox.get(timeout=5)
    assert (known.address, message) == (host, {"kind": "hello"})
    assert made.inbox.get(timeout=5) == (known, {"kind": "lost"})


def test_a_host_that_does_not_share_the_key_is_named(tmp_path):
    with pytest.raises(LaunchError, match=rf"^{socket.gethostname()} cannot read the run's key {tmp_path}/key \(No such file"):
        agent.read_key(tmp_path / "key")


def test_the_head_ignores_and_closes_a_connection_without_the_key(head):
    made, port = head
    with socket.create_connection(("127.0.0.1", port)) as stranger:
        stranger.sendall(b'{"kind": "hello", "run": "guessed", "node": 0, "host": null, "port": 1}\n')
        stranger.settimeout(5)
        received = b""
        with pytest.raises(ConnectionError):
            while part := stranger.recv(1000):
                received += part
            raise ConnectionError("closed in good order")
    assert len(received) <= 2 * NUMBER_SIZE  # a random number and a proof
    assert made.inbox.empty()


def test_an_agent_skips_an_address_where_another_program_answers(head):
    made, port = head
    with socket.create_server(("127.0.0.1", 0)) as stranger:

        def answer():
            with suppress(OSError), stranger.accept()[0] as connection:
                connection.sendall(bytes(2 * NUMBER_SIZE))

        threading.Thread(target=answer, daemon=True).start()
        agent.connect_to_head(f"127.0.0.1:{stranger.getsockname()[1]},127.0.0.1:{port}", made.key).close()
    assert made.inbox.get(timeout=5)[1] == {"kind": "lost"}
