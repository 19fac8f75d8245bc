"""Token healing: a prompt that ends inside a token is completed as if it did not.

    healing = TokenHealing(tokenizer)
    kept_ids, remaining = healing.split(tokenizer.encode("for i in ran"))      # ids of "for i in", b" ran"
    while remaining:
        token = ...                                                            # among healing.find_allowed(remaining): " range"
        remaining = healing.drop_repeated(remaining, token)

The prompt is cut at the last index that no token crosses. The completion first repeats the bytes after this index, in tokens of the
model's choice. The last of these tokens may continue beyond the prompt's end.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from neox_code.tokenizer.protocol import Tokenizer

MOST_TOKENS = 32
"""Maximum number of tokens at the end of a prompt that are repeated. If the end has more tokens (many spaces), fewer are repeated.
"""

Ids = NDArray[np.int64]


class TokenHealing:
    def __init__(self, tokenizer: Tokenizer):
        self.tokenizer = tokenizer
        self.bytes_of_id = tokenizer.read_token_bytes()
        order = sorted((data, token_id) for token_id, data in enumerate(self.bytes_of_id) if data)
        self._sorted_bytes = [data for data, _ in order]
        self._sorted_ids = np.array([token_id for _, token_id in order], dtype=np.int64)
        self._longest = max(map(len, self._sorted_bytes), default=0)

    def split(self, ids: Sequence[int]) -> tuple[list[int], bytes]:
        """Return the ids to keep, and the bytes of the other ids, which the completion repeats.

        Nothing is repeated after a special token. If no id would be kept, return the end-of-document token.
        """
        begin = len(ids)
        while begin and len(ids) - begin < MOST_TOKENS and self.bytes_of_id[ids[begin - 1]]:
            begin -= 1
        data = b"".join(self.bytes_of_id[token_id] for token_id in ids[begin:])
        text = data.decode("utf-8", errors="replace")
        piece = text[self.tokenizer.find_last_stable_boundary(text) :].encode()
        if not data.endswith(piece):  # bytes that are not UTF-8
            return list(ids), b""
        kept, repeated = list(ids), b""
        while len(repeated) < len(piece):
            repeated = self.bytes_of_id[kept.pop()] + repeated
        return kept or [self.tokenizer.eod_id], repeated

    def find_allowed(self, remaining: bytes) -> Ids:
        """Return the ids, ascending, of all tokens that `remaining` begins with or that begin with `remaining`."""
        prefixes = [remaining[:length] for length in range(1, min(len(remaining), self._longest + 1))]
        ranges = [(bisect_left(self._sorted_bytes, data), bisect_right(self._sorted_bytes, data)) for data in prefixes]
        first = bisect_left(self._sorted_bytes, remaining)
        last = bisect_left(self._sorted_bytes, True, lo=first, key=lambda data: not data.startswith(remaining))
        return np.sort(np.concatenate([self._sorted_ids[begin:end] for begin, end in [*ranges, (first, last)]]))

    def drop_repeated(self, remaining: bytes, token_id: int) -> bytes:
        """Return the bytes that remain to be repeated after an allowed token."""
        return remaining[len(self.bytes_of_id[token_id]) :]
