"""A connection between the head of a run on several hosts and the agent on one of them: a JSON object a line, and a beat a second.

    contact = Contact(connection, inbox.put)
    contact.send(kind="start", module="neox_code.commands.train")
    contact.silent_seconds                  # since anything was heard, beats included

What arrives is handed to a function as (contact, message); the last message is `{"kind": "lost"}`.
"""

import json
import socket
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

Message = Mapping[str, Any]

BEAT_SECONDS = 1.0
SILENT_SECONDS = 10.0
"""Without a beat so long, the other side is cut off."""


class Contact:
    """One end of a connection."""

    def __init__(self, connection: socket.socket, receive: Callable[["Contact", Message], object]) -> None:
        self.connection = connection
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
        try:
            for line in self.connection.makefile("r", encoding="utf-8"):
                self.heard = time.monotonic()
                message = json.loads(line)
                if message["kind"] != "beat":
                    self.receive(self, message)
        except (OSError, ValueError):
            pass
        self.is_open = False
        self.receive(self, {"kind": "lost"})

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
