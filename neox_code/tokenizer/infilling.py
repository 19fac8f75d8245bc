"""The infilling tokens of a vocabulary, which mark the parts (prefix, suffix, middle) of a text, and the order of the parts.

    find_infilling_tokens(vocabulary)     # {"fim_prefix_token": "<|fim_prefix|>", ...}
    order_parts(find_markers(tokenizer), prefix_ids, suffix_ids, "psm")      # [PRE, *prefix_ids, SUF, *suffix_ids, MID]

Generation (neox_code/generation/infilling.py) and training (neox_code/data/fill_in_the_middle.py) use the same order.
"""

from collections.abc import Container, Mapping, Sequence
from typing import Literal

from neox_code.tokenizer.protocol import Tokenizer

SPELLINGS = ("<|{}|>", "<{}>")
OTHER_NAMES = {
    "fim_prefix": ("\u2581<PRE>", "<\uff5cfim\u2581begin\uff5c>"),
    "fim_middle": ("\u2581<MID>", "<\uff5cfim\u2581end\uff5c>"),
    "fim_suffix": ("\u2581<SUF>", "<\uff5cfim\u2581hole\uff5c>"),
    "fim_pad": (),
    "repo_name": ("<reponame>",),
    "file_sep": ("<filename>",),
}
"""Part of an infilling prompt -> further token names, used by Code Llama, DeepSeek-Coder and the first StarCoder."""

PARTS = tuple(OTHER_NAMES)

Order = Literal["psm", "spm"]


def find_infilling_tokens(vocabulary: Container[str]) -> dict[str, str]:
    """Return `PART_token` -> token, for each part of an infilling prompt for which the vocabulary has a token.

    >>> find_infilling_tokens({"<fim_prefix>": 1, "<fim-middle>": 2, "▁<SUF>": 3, "<|endoftext|>": 0})
    {'fim_prefix_token': '<fim_prefix>', 'fim_middle_token': '<fim-middle>', 'fim_suffix_token': '▁<SUF>'}
    """
    found = {}
    for part, others in OTHER_NAMES.items():
        names = [spelling.format(name) for spelling in SPELLINGS for name in (part, part.replace("_", "-"))]
        if name := next((name for name in (*names, *others) if name in vocabulary), None):
            found[f"{part}_token"] = name
    return found


def find_infilling_ids(ids: Mapping[str, int]) -> dict[str, int]:
    """Return part -> id, for each part of an infilling prompt for which the vocabulary has a token.

    >>> find_infilling_ids({"<fim_prefix>": 1, "<|endoftext|>": 0})
    {'fim_prefix': 1}
    """
    return {key.removesuffix("_token"): ids[name] for key, name in find_infilling_tokens(ids).items()}


def find_markers(tokenizer: Tokenizer) -> list[int]:
    """Return the ids of the tokens that mark prefix, suffix and middle; none if the vocabulary lacks one."""
    ids = [tokenizer.infilling_ids.get(part) for part in ("fim_prefix", "fim_suffix", "fim_middle")]
    return [] if None in ids else [token for token in ids if token is not None]


def order_parts(markers: Sequence[int], prefix: Sequence[int], suffix: Sequence[int], order: Order) -> list[int]:
    """Return the ids after which the middle follows. `markers` are those of `find_markers`.

    >>> order_parts([1, 2, 3], [10], [20], "psm"), order_parts([1, 2, 3], [10], [20], "spm")
    ([1, 10, 2, 20, 3], [1, 2, 20, 3, 10])
    """
    before, after, middle = markers
    return [before, *prefix, after, *suffix, middle] if order == "psm" else [before, after, *suffix, middle, *prefix]


def encode_next(tokenizer: Tokenizer, text: str) -> list[int]:
    """Return the ids of a text that follows another text, without the space that some vocabularies add before the first word."""
    before = tokenizer.encode("\n")
    ids = tokenizer.encode(f"\n{text}")
    return ids[len(before) :] if ids[: len(before)] == before else tokenizer.encode(text)
