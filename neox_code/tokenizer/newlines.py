"""Line ends with CR (CR LF, or CR alone) before a text is encoded: made LF, kept, or refused. Not every vocabulary holds CR.

treat = line_ends(tokenizer)                      # as the vocabulary allows; line_ends(tokenizer, "keep") as a setting says
treat("int x;\\r\\n", "src/x.c") == "int x;\\n"     # of PolyCoder's vocabulary, which has no CR
"""

from collections.abc import Callable

from neox_code.errors import DataError
from neox_code.tokenizer.protocol import Tokenizer

Treatment = Callable[[str, str], str]
"""From a text and the words that name it in an error to the text that is encoded."""


def to_lf(text: str, _: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")


def keep(text: str, _: str) -> str:
    return text


def refuse(text: str, place: str) -> str:
    if "\r" in text:
        raise DataError(f"{place} has line ends with CR, and newlines is refuse. Convert it, or set newlines to lf or keep.")
    return text


NEWLINES: dict[str, Treatment] = {"lf": to_lf, "keep": keep, "refuse": refuse}
"""By the values of the setting `newlines`."""


def line_ends(tokenizer: Tokenizer, newlines: str | None = None) -> Treatment:
    """The treatment of that name, by default that of `default_newlines`."""
    return NEWLINES[newlines or default_newlines(tokenizer)]


def default_newlines(tokenizer: Tokenizer) -> str:
    """`lf` where the vocabulary has no CR, else `keep`."""
    try:
        tokenizer.encode("\r")
    except DataError:
        return "lf"
    return "keep"
