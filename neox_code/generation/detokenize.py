"""Convert new tokens to text as they arrive. A character that consists of several tokens is returned when it is complete.

detokenizer = Detokenizer(tokenizer, prompt_ids)
"".join(map(detokenizer.feed, new_ids)) + detokenizer.finish()      # exactly the text after the prompt
"""

import codecs
from collections.abc import Sequence

from neox_code.tokenizer.protocol import Tokenizer


class Detokenizer:
    """Convert tokens to the text after `prompt_ids`. Its first `skipped_bytes` are left out; bytes that are not UTF-8 become
    U+FFFD.

    A token is decoded together with the previous one, because some vocabularies decode a token differently at the start of a text.
    """

    def __init__(self, tokenizer: Tokenizer, prompt_ids: Sequence[int] = (), skipped_bytes: int = 0):
        self._tokenizer = tokenizer
        self._before = list(prompt_ids[-1:])
        self._skipped_bytes = skipped_bytes
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self.num_bytes = 0
        """Number of bytes of all tokens so far, the skipped bytes included."""

    def feed(self, token: int) -> str:
        """Return the characters that this token completes, perhaps none."""
        decode = self._tokenizer.decode_bytes
        new_bytes = decode([*self._before, token])[len(decode(self._before)) :]
        self._before = [token]
        skipped = max(self._skipped_bytes - self.num_bytes, 0)
        self.num_bytes += len(new_bytes)
        return self._decoder.decode(new_bytes[skipped:])

    def finish(self) -> str:
        """Return U+FFFD if the last token left a character incomplete."""
        return self._decoder.decode(b"", final=True)
