"""New tokens to text as they come: a character that is split over tokens waits until it is whole.

detokenizer = Detokenizer(tokenizer, prompt_ids)
"".join(map(detokenizer.feed, new_ids)) + detokenizer.finish()      # exactly what follows the prompt
"""

import codecs
from collections.abc import Sequence

from neox_code.tokenizer.protocol import Tokenizer


class Detokenizer:
    """The text behind `prompt_ids`; bytes that are no UTF-8 become U+FFFD.

    A token is decoded together with the one before it, since some vocabularies write it otherwise at the start of a text.
    """

    def __init__(self, tokenizer: Tokenizer, prompt_ids: Sequence[int] = ()):
        self._tokenizer = tokenizer
        self._before = list(prompt_ids[-1:])
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def feed(self, token: int) -> str:
        """The characters that this token completes, perhaps none."""
        decode = self._tokenizer.decode_bytes
        new_bytes = decode([*self._before, token])[len(decode(self._before)) :]
        self._before = [token]
        return self._decoder.decode(new_bytes)

    def finish(self) -> str:
        """U+FFFD for a character that the last token left unfinished."""
        return self._decoder.decode(b"", final=True)
