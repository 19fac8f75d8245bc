"""What each rank last said of itself, where all others can read it: torch.distributed's store, read and written by a thread.

    words = Words(say)              # on every rank; say() -> {...}, asked once a second
    words.listen()
    words.readings                  # complete readings since then; 0 where the store does not answer
    words.latest, words.fresh       # the last word of each rank, and the ranks that have said something since
    words.close(say())              # the last word of this rank

No collective is involved, and nothing of it waits for the thread that trains.
"""

import json
import threading
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

import torch.distributed as dist

Word = Mapping[str, Any]

SAY_SECONDS = 1.0
STORE_SECONDS = 5.0


class Words:
    """This rank's word, said every second, and those of the others, read while it listens."""

    def __init__(self, say: Callable[[], Word]) -> None:
        self.say = say
        self.key = f"neox_code/words/{dist.get_rank()}"
        self.keys = [f"neox_code/words/{rank}" for rank in range(dist.get_world_size())]
        self.store = dist.distributed_c10d._get_default_store().clone()  # a connection of its own: no call waits for another's
        self.store.set_timeout(timedelta(seconds=STORE_SECONDS))
        self.said = 0
        self.listen(False)
        self.post(say())
        self.closing = threading.Event()
        self.thread = threading.Thread(target=self.work, name="words", daemon=True)
        self.thread.start()

    def listen(self, is_listening: bool = True) -> None:
        """Begins to read the others' words anew, or stops it."""
        self.first: list[Word] = []
        self.latest: list[Word] = []
        self.readings = 0
        self.is_listening = is_listening

    @property
    def fresh(self) -> set[int]:
        """The ranks whose word has changed since this one listens."""
        pairs = zip(self.first, self.latest, strict=False)
        return {rank for rank, (first, latest) in enumerate(pairs) if first["said"] != latest["said"]}

    def close(self, last: Word) -> None:
        """Says the last word and ends the thread; a store that does not answer is not waited for."""
        self.closing.set()
        self.thread.join(SAY_SECONDS)
        if not self.thread.is_alive():
            try:
                self.post(last)
            except dist.DistError:
                return  # the rank that keeps the store has ended before

    def work(self) -> None:
        while not self.closing.wait(SAY_SECONDS):
            try:
                self.post(self.say())
                if self.is_listening:
                    self.read()
            except (dist.DistError, RuntimeError):
                continue

    def post(self, word: Word) -> None:
        self.said += 1
        self.store.set(self.key, json.dumps({**word, "said": self.said}))

    def read(self) -> None:
        self.latest = [json.loads(text) for text in self.store.multi_get(self.keys)]
        self.first = self.first or self.latest
        self.readings += 1
