"""Find the infilling tokens of a vocabulary, which mark the parts (prefix, suffix, middle) of a text whose middle is missing.

find_infilling_tokens(vocabulary)     # {"fim_prefix_token": "<|fim_prefix|>", ...}
"""

from collections.abc import Container, Mapping

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
