"""A connection between the head of a run on several hosts and the agent on one of them: a JSON object a line, and a beat a second.

    if know_each_other(connection, key, "head"):        # and "agent" there; nothing else is said before
        contact = Contact(connection, inbox.put)
    contact.send(kind="start", module="neox_code.commands.train")
    contact.silent_seconds                  # since anything was heard, beats included

What arrives is handed to a function as (contact, message); the last message is `{"kind": "lost"}`.

Each side shows that it knows the run's key without saying it: it answers the other's random number with an HMAC of both numbers.
Nothing is encrypted: who can listen on the hosts' network reads what is sent, and who can change it there changes it.
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

BEAT_SECONDS = 1.0
SILENT_SECONDS = 10.0
"""Without a beat so long, the other side is cut off."""

PROOF_SECONDS = 5.0
"""A connection that has not shown by then that it knows the key is closed."""

LONGEST_MESSAGE = 2**24
"""Bytes of a line; a longer one ends the connection."""

NUMBER_SIZE = 32
"""Bytes of a random number, and of a SHA-256."""


def know_each_other(connection: socket.socket, key: bytes, side: Literal["head", "agent"]) -> bool:
    """Shows the other side that this one knows the key, and returns whether the other does.

    Raises OSError where it is gone or too slow.
    """
    deadline = time.monotonic() + PROOF_SECONDS
    number = secrets.token_bytes(NUMBER_SIZE)
    connection.settimeout(PROOF_SECONDS)
    connection.sendall(number)
    its_number = received(connection, NUMBER_SIZE, deadline)
    connection.sendall(proof(key, side, its_number + number))
    other = "agent" if side == "head" else "head"
    return hmac.compare_digest(received(connection, NUMBER_SIZE, deadline), proof(key, other, number + its_number))


def proof(key: bytes, side: str, numbers: bytes) -> bytes:
    """What only who knows the key can say; the side's name in it, so that no side's proof can be sent back to it."""
    return hmac.digest(key, side.encode() + numbers, "sha256")


def received(connection: socket.socket, size: int, deadline: float) -> bytes:
    """So many bytes."""
    data = b""
    while len(data) < size:
        connection.settimeout(max(0.01, deadline - time.monotonic()))
        part = connection.recv(size - len(data))
        if not part:
            raise ConnectionError("the other side closed the connection")
        data += part
    return data


class Contact:
    """One end of a connection."""

    def __init__(self, connection: socket.socket, receive: Callable[["Contact", Message], object]) -> None:
        self.connection = connection
        self.address = str(connection.getpeername()[0]).removeprefix("::ffff:")  # IPv4 on a socket for both
        self.receive = receive
        self.heard = self.looked = time.monotonic()
        self.lock = threading.Lock()
        self.is_open = True
        connection.settimeout(None)
        for work in (self.read, self.beat):
            threading.Thread(target=work, daemon=True).start()

    def send(self, **message: Any) -> None:
        """Sends a message; nothing happens where nobody is there any more."""
        with self.lock:
            try:
                self.connection.sendall(json.dumps(message).encode() + b"\n")
            except OSError:
                self.is_open = False

    def read(self) -> None:
        with suppress(OSError, ValueError, RecursionError), self.connection.makefile("rb") as lines:
            while line := lines.readline(LONGEST_MESSAGE):
                self.heard = time.monotonic()
                message = json.loads(line)
                if not isinstance(message, dict) or not isinstance(message.get("kind"), str):
                    break
                if message["kind"] != "beat":
                    self.receive(self, message)
        self.close()
        self.receive(self, {"kind": "lost"})

    def close(self) -> None:
        """Ends the connection; the other side is told by the network."""
        self.is_open = False
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)  # first: whoever waits in it lets go of it
        with self.lock:
            self.connection.close()

    def beat(self) -> None:
        while self.is_open:
            self.send(kind="beat")
            time.sleep(BEAT_SECONDS)

    @property
    def is_silent(self) -> bool:
        """Whether the other side has been silent too long; to be asked at least once a second.

        Not where the question itself comes late: then this process was paused, perhaps both.
        """
        now = time.monotonic()
        late, self.looked = now > self.looked + SILENT_SECONDS / 2, now
        if late:
            self.heard = now
        return now > self.heard + SILENT_SECONDS
