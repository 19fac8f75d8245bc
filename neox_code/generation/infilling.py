r"""The prompt for the text that is missing between a prefix and a suffix.

    prompt = build_infilling_prompt(TokenHealing(tokenizer), "def f(x", "\n    return y\n", budget=1900)
    Request(tuple(prompt.ids), repeat_bytes=prompt.repeat_bytes, stop=(SuffixOverlap(suffix),), ...)

With PRE, SUF and MID for the vocabulary's infilling tokens, the orders are

    psm    FILES PRE prefix SUF suffix MID            the missing text follows MID
    spm    FILES PRE SUF suffix MID prefix            the missing text follows the prefix

and FILES are `<repo_name>name\n`, then `<file_sep>path\ntext\n` for each other file and `<file_sep>path\n` for this one. Without
infilling tokens the prompt is the other files and the prefix. Names of special tokens in these texts are encoded as text.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from neox_code.errors import ConfigError
from neox_code.generation.token_healing import TokenHealing
from neox_code.tokenizer.infilling import Order, encode_next, find_markers, order_parts

PREFIX_SHARE = 0.75
"""Share of the prompt for the prefix where prefix and suffix are both too long, as in llama.cpp's server."""

CHARACTERS_PER_TOKEN = 64
"""Maximum number of characters per token of the budget. A longer text is cut before it is encoded."""

NUM_MARKERS = 8
"""Number of tokens of the budget that are reserved for special tokens and for a space before a text."""


@dataclass(frozen=True)
class ContextFile:
    """Another file, or a part of one, that the model reads before the prefix."""

    path: str
    text: str


@dataclass(frozen=True)
class InfillingPrompt:
    ids: list[int]
    """The model's input."""
    repeat_bytes: bytes
    """The end of the prefix, which the completion repeats first (token healing)."""
    reads_suffix: bool
    """True if the prompt contains the suffix; False if the vocabulary has no infilling tokens."""
    left_out: dict[str, int]
    """Number of UTF-8 bytes of `files`, `prefix` and `suffix` that the budget left out; 0 for each that is whole."""


def build_infilling_prompt(
    healing: TokenHealing,
    prefix: str,
    suffix: str,
    budget: int,
    files: Sequence[ContextFile] = (),
    repository: str = "",
    path: str = "",
    order: Order = "psm",
    heals: bool = True,
    middle: str = "",
) -> InfillingPrompt:
    """Return a prompt of at most `budget` tokens; the last of `files` is the most important.

    The other files are left out first, then the beginning of the prefix and the end of the suffix at the borders of lines.
    `middle` is the known beginning of the missing text, for example what is before the cursor in its line. It follows all else, so
    that the ids before it stay the same while it is typed. Raise ConfigError for another order, and for a budget that has no space
    for text.
    """
    if order not in ("psm", "spm"):
        raise ConfigError(f"the order of infilling is {order!r}. Known orders: psm, spm.")
    if budget <= NUM_MARKERS:
        raise ConfigError(
            f"a prompt of {budget} tokens is too small for infilling. Generate fewer tokens, or use a longer context."
        )
    special = healing.tokenizer.infilling_ids
    markers = find_markers(healing.tokenizer)
    reads_suffix = bool(markers)
    middle_ids = encode_next(healing.tokenizer, middle) if reads_suffix and len(middle) < budget else []
    if len(middle_ids) > budget // 4 or not middle_ids:
        prefix, middle_ids = prefix + middle, []
    budget -= len(middle_ids)
    space, characters = budget - NUM_MARKERS, budget * CHARACTERS_PER_TOKEN
    prefix_ids = healing.tokenizer.encode(prefix[-characters:])
    suffix_ids = encode_next(healing.tokenizer, suffix[:characters]) if reads_suffix else []
    prefix_ids = keep_end(healing, prefix_ids, max(int(space * PREFIX_SHARE), space - len(suffix_ids)))
    suffix_ids = keep_beginning(healing, suffix_ids, space - len(prefix_ids))
    left_out = {
        "files": sum(len(file.text.encode()) for file in files),
        "prefix": count_missing(healing, prefix, prefix_ids),
        "suffix": count_missing(healing, suffix, suffix_ids) if reads_suffix else 0,
    }
    space -= len(prefix_ids) + len(suffix_ids)
    head, tail = [], []
    if "repo_name" in special and repository:
        head = [special["repo_name"], *encode_next(healing.tokenizer, f"{repository}\n")]
    if "file_sep" in special and (files or head):
        tail = [special["file_sep"], *encode_next(healing.tokenizer, f"{path}\n")]
    if len(head) + len(tail) > space:
        head, tail, files = [], [], ()
    kept: list[int] = []
    for file in reversed(files):
        name = [special["file_sep"], *encode_next(healing.tokenizer, f"{file.path}\n")] if "file_sep" in special else []
        text = file.text if file.text.endswith("\n") else f"{file.text}\n"
        whole = encode_next(healing.tokenizer, text[-characters:])
        ids = keep_end(healing, whole, space - len(head) - len(tail) - len(name) - len(kept))
        if ids:
            kept = [*name, *ids, *kept]
            left_out["files"] -= len(file.text.encode()) - count_missing(healing, text, ids)
        if len(ids) < len(whole):
            break
    others = [*head, *kept, *tail]
    marker = markers[0] if markers else healing.tokenizer.eod_id
    repeated = b""
    if heals and not middle_ids:
        (_, *prefix_ids), repeated = healing.split([marker, *prefix_ids])
    if not reads_suffix:
        ids = [*others, *prefix_ids] or [healing.tokenizer.eod_id]
    else:
        ids = [*others, *order_parts(markers, prefix_ids, suffix_ids, order)]
    if middle_ids:
        ids, repeated = healing.split([*ids, *middle_ids]) if heals else ([*ids, *middle_ids], b"")
    return InfillingPrompt(ids, repeated, reads_suffix, left_out)


def keep_end(healing: TokenHealing, ids: list[int], most: int) -> list[int]:
    """Return the last ids of a text, at most `most`. They start at the beginning of a line if one begins among them."""
    if len(ids) <= most:
        return ids
    kept = ids[len(ids) - max(most, 0) :]
    _, _, lines = join_bytes(healing, kept).partition(b"\n")
    return keep_end(healing, encode_next(healing.tokenizer, lines.decode()), most) if lines else kept


def keep_beginning(healing: TokenHealing, ids: list[int], most: int) -> list[int]:
    """Return the first ids of a text, at most `most`. They stop at the end of a line if one ends among them."""
    if len(ids) <= most:
        return ids
    kept = ids[: max(most, 0)]
    lines, line_end, _ = join_bytes(healing, kept).rpartition(b"\n")
    return keep_beginning(healing, encode_next(healing.tokenizer, (lines + line_end).decode()), most) if line_end else kept


def join_bytes(healing: TokenHealing, ids: Sequence[int]) -> bytes:
    return b"".join(healing.bytes_of_id[token_id] for token_id in ids)


def count_missing(healing: TokenHealing, text: str, ids: Sequence[int]) -> int:
    """Return the number of bytes of the text that the ids do not contain."""
    return max(len(text.encode()) - len(join_bytes(healing, ids)), 0)
