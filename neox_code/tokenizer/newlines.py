"""Treat CR characters (in CR LF, or alone) in a text before it is encoded, because not every vocabulary has a token for CR.

treat_newlines = select_newline_treatment(tokenizer)     # default for the vocabulary; or (tokenizer, "keep"), as configured
treat_newlines("int x;\\r\\n", "src/x.c")                  # "int x;\\n" with PolyCoder's vocabulary, which has no CR
"""

from collections.abc import Callable

from neox_code.errors import DataError
from neox_code.tokenizer.protocol import Tokenizer

NewlineTreatment = Callable[[str, str], str]
"""(text, description of the text for error messages) -> the text to encode."""


def convert_to_lf(text: str, _: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")


def keep_newlines(text: str, _: str) -> str:
    return text


def refuse_cr(text: str, place: str) -> str:
    if "\r" in text:
        raise DataError(
            f"{place} has CR line endings, which newlines: refuse does not allow. "
            "Convert them to LF, or set newlines to lf or keep."
        )
    return text


NEWLINES: dict[str, NewlineTreatment] = {"lf": convert_to_lf, "keep": keep_newlines, "refuse": refuse_cr}
"""Value of the setting `newlines` -> treatment."""


def select_newline_treatment(tokenizer: Tokenizer, newlines: str | None = None) -> NewlineTreatment:
    """Return the function for the setting `newlines`. None means the vocabulary's default (`choose_default_newlines`)."""
    return NEWLINES[newlines or choose_default_newlines(tokenizer)]


def choose_default_newlines(tokenizer: Tokenizer) -> str:
    """Return `lf` if the vocabulary has no token for CR, else `keep`."""
    try:
        tokenizer.encode("\r")
    except DataError:
        return "lf"
    return "keep"
