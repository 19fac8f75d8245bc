"""Heartbeats: once a second, a thread of each rank writes the rank's state to torch.distributed's store, where all ranks read it.

    heartbeats = Heartbeats(make_state)       # on every rank; make_state() -> {...} is called once a second
    heartbeats.start_reading()
    heartbeats.num_readings                   # complete readings since start_reading; 0 if the store does not answer
    heartbeats.latest, heartbeats.live_ranks  # last state of each rank; ranks with a new state since start_reading
    heartbeats.close(make_state())            # publish the last state of this rank

No collective operation is used, and nothing here waits for the training thread.
"""

import json
import threading
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

import torch.distributed as dist

RankState = Mapping[str, Any]

PUBLISH_SECONDS = 1.0
STORE_SECONDS = 5.0


class Heartbeats:
    """Publish this rank's state every second, and read the states of the other ranks on demand."""

    def __init__(self, make_state: Callable[[], RankState]) -> None:
        self.make_state = make_state
        self.key = f"neox_code/heartbeats/{dist.get_rank()}"
        self.keys = [f"neox_code/heartbeats/{rank}" for rank in range(dist.get_world_size())]
        default_store: Any = dist.distributed_c10d._get_default_store()
        self.store = default_store.clone()  # an own connection: no call waits for another thread's
        self.store.set_timeout(timedelta(seconds=STORE_SECONDS))
        self.num_published = 0
        self.stop_reading()
        self.publish(make_state())
        self.closing = threading.Event()
        self.thread = threading.Thread(target=self.exchange_heartbeats, name="heartbeats", daemon=True)
        self.thread.start()

    def start_reading(self) -> None:
        """Read the states of all ranks every second from now on."""
        self.stop_reading()
        self.is_reading = True

    def stop_reading(self) -> None:
        """Stop reading, and delete the states that were read."""
        self.is_reading = False
        self.first: list[RankState] = []
        self.latest: list[RankState] = []
        self.num_readings = 0

    @property
    def live_ranks(self) -> set[int]:
        """The ranks that have published a state since reading started."""
        pairs = zip(self.first, self.latest, strict=False)
        return {rank for rank, (first, latest) in enumerate(pairs) if first["number"] != latest["number"]}

    def close(self, last: RankState) -> None:
        """Publish the last state and end the thread. Wait at most one second for the store."""
        self.closing.set()
        self.thread.join(PUBLISH_SECONDS)
        if not self.thread.is_alive():
            try:
                self.publish(last)
            except dist.DistError:
                return  # the rank that keeps the store has ended before

    def exchange_heartbeats(self) -> None:
        while not self.closing.wait(PUBLISH_SECONDS):
            try:
                self.publish(self.make_state())
                if self.is_reading:
                    self.read()
            except (dist.DistError, RuntimeError):
                continue

    def publish(self, state: RankState) -> None:
        self.num_published += 1
        self.store.set(self.key, json.dumps({**state, "number": self.num_published}))

    def read(self) -> None:
        self.latest = [json.loads(text) for text in self.store.multi_get(self.keys)]
        self.first = self.first or self.latest
        self.num_readings += 1
