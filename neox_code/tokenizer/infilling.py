"""The tokens with which a vocabulary marks the parts of a text whose middle is missing.

find_infilling_tokens(vocabulary)     # {"fim_prefix_token": "<|fim_prefix|>", ...}
"""

from collections.abc import Container

PARTS = ("fim_prefix", "fim_middle", "fim_suffix", "fim_pad", "repo_name", "file_sep")


def find_infilling_tokens(vocabulary: Container[str]) -> dict[str, str]:
    """Return the token of each part that the vocabulary has, by the name `PART_token`.

    >>> find_infilling_tokens({"<fim_prefix>": 1, "<fim-middle>": 2, "<|endoftext|>": 0})
    {'fim_prefix_token': '<fim_prefix>', 'fim_middle_token': '<fim-middle>'}
    """
    found = {}
    for part in PARTS:
        names = [spelling.format(name) for spelling in ("<|{}|>", "<{}>") for name in (part, part.replace("_", "-"))]
        if name := next((name for name in names if name in vocabulary), None):
            found[f"{part}_token"] = name
    return found
