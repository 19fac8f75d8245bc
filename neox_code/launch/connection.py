"""A connection between the head of a run and the agent on one host: a JSON object per line, and a heartbeat every second.

    if authenticate(sock, key, "head"):       # "agent" on the other side; before any message
        connection = Connection(sock, handle)
    connection.send(kind="start", module="neox_code.commands.train")
    connection.is_silent                      # True if no message or heartbeat has arrived for SILENT_SECONDS

`handle` is called with (connection, message) for each message that arrives; the last message is `{"kind": "lost"}`.

Each side proves that it has the run's key without sending the key: it sends an HMAC of both sides' random numbers.
Nothing is encrypted: anyone who can read or change the traffic of the hosts' network can read or change the messages.
"""

import hmac
import json
import secrets
import socket
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Literal

Message = Mapping[str, Any]

HEARTBEAT_SECONDS = 1.0
SILENT_SECONDS = 10.0
"""Seconds without a heartbeat after which the other side counts as lost."""

PROOF_SECONDS = 5.0
"""Time limit of the authentication in seconds. A connection that takes longer is closed."""

LONGEST_MESSAGE = 2**24
"""Maximum number of bytes of a message. A longer message ends the connection."""

NUMBER_SIZE = 32
"""Bytes of a random number and of a SHA-256."""


def authenticate(connection: socket.socket, key: bytes, side: Literal["head", "agent"]) -> bool:
    """Prove to the other side that this side has the key; return True if the other side proves the same.

    Raise OSError if the other side has ended or takes longer than PROOF_SECONDS.
    """
    deadline = time.monotonic() + PROOF_SECONDS
    number = secrets.token_bytes(NUMBER_SIZE)
    connection.settimeout(PROOF_SECONDS)
    connection.sendall(number)
    its_number = receive_bytes(connection, NUMBER_SIZE, deadline)
    connection.sendall(make_proof(key, side, its_number + number))
    other = "agent" if side == "head" else "head"
    return hmac.compare_digest(receive_bytes(connection, NUMBER_SIZE, deadline), make_proof(key, other, number + its_number))


def make_proof(key: bytes, side: str, numbers: bytes) -> bytes:
    """Return the HMAC of side name and random numbers. The side name prevents that a proof is accepted by the side that made it."""
    return hmac.digest(key, side.encode() + numbers, "sha256")


def receive_bytes(connection: socket.socket, size: int, deadline: float) -> bytes:
    """Return exactly `size` bytes; raise OSError if they do not arrive before `deadline`."""
    data = b""
    while len(data) < size:
        connection.settimeout(max(0.01, deadline - time.monotonic()))
        part = connection.recv(size - len(data))
        if not part:
            raise ConnectionError("the other side closed the connection")
        data += part
    return data


class Connection:
    """One end of an authenticated connection; `handle` receives the other end's messages."""

    def __init__(self, connection: socket.socket, handle: Callable[["Connection", Message], object]) -> None:
        self.connection = connection
        self.address = str(connection.getpeername()[0]).removeprefix("::ffff:")  # IPv4 on a socket for both
        self.handle = handle
        self.last_arrival = self.last_check = time.monotonic()
        self.lock = threading.Lock()
        self.is_open = True
        connection.settimeout(None)
        for work in (self.read, self.send_heartbeats):
            threading.Thread(target=work, daemon=True).start()

    def send(self, **message: Any) -> None:
        """Send a message; do nothing if the other end has closed."""
        with self.lock:
            try:
                self.connection.sendall(json.dumps(message).encode() + b"\n")
            except OSError:
                self.is_open = False

    def read(self) -> None:
        """Pass messages to `handle` until the connection ends or a message is invalid."""
        with suppress(OSError, ValueError, RecursionError), self.connection.makefile("rb") as lines:
            while line := lines.readline(LONGEST_MESSAGE):
                self.last_arrival = time.monotonic()
                message = json.loads(line)
                if not isinstance(message, dict) or not isinstance(message.get("kind"), str):
                    break
                if message["kind"] != "heartbeat":
                    self.handle(self, message)
        self.close()
        self.handle(self, {"kind": "lost"})

    def close(self) -> None:
        """Close the connection. The other side then reads the end of the connection."""
        self.is_open = False
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)  # first: a thread that waits in the socket leaves it
        with self.lock:
            self.connection.close()

    def send_heartbeats(self) -> None:
        while self.is_open:
            self.send(kind="heartbeat")
            time.sleep(HEARTBEAT_SECONDS)

    @property
    def is_silent(self) -> bool:
        """True if nothing has arrived for SILENT_SECONDS. Read it at least once a second.

        If more than a second has passed since the last read, this process was paused, and perhaps the other side too. Then the time
        starts again.
        """
        now = time.monotonic()
        was_paused, self.last_check = now > self.last_check + SILENT_SECONDS / 2, now
        if was_paused:
            self.last_arrival = now
        return now > self.last_arrival + SILENT_SECONDS
