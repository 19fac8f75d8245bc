r"""Turn the change of a file into next edits: an excerpt before and after each edit, with the edits that were made earlier.

    for edit in split_into_edits("a = 1\nb = 2\n", "a = 1\nb = 3\n", "m.py"):
        edit.before[edit.cursor :], edit.after           # "2\n", "a = 1\nb = 3\n"
        edit.prompt                                      # "--- m.py\na = 1\nb = <|cursor|>2\n+++ m.py\n"

The lines above an edit are those after the earlier edits of the file, as in an editor in which the edits are made in order. The
cursor is where the edit begins. `prompt` has the latest earlier edits as a diff, the excerpt with the cursor's mark, and the line
after which the model writes the excerpt as it shall be.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from os.path import commonprefix

CURSOR = "<|cursor|>"

CONTEXT_LINES = 12
"""Number of lines around an edit in its excerpt."""

NEIGHBORING_LINES = 3
"""Changed lines with at most twice this number of equal lines between them are one edit."""

LONGEST_EXCERPT = 6_000
LONGEST_HISTORY = 2_000
"""Characters of an excerpt, before or after, and of the earlier edits."""

TOO_LONG = "edit too long"


@dataclass(frozen=True)
class NextEdit:
    prompt: str
    before: str
    cursor: int
    """Place of the cursor in `before`, in characters."""
    after: str


def split_into_edits(before: str, after: str, path: str) -> Iterator[NextEdit | str]:
    """Yield the edits of a file in the order of its lines; TOO_LONG for an edit whose excerpt is too long."""
    old, new = before.splitlines(keepends=True), after.splitlines(keepends=True)
    history: list[str] = []
    for group in SequenceMatcher(None, old, new).get_grouped_opcodes(NEIGHBORING_LINES):
        changed = [code for code in group if code[0] != "equal"]
        (_, old_begin, _, new_begin, _), (_, _, old_end, _, new_end) = changed[0], changed[-1]
        head, tail = new[max(0, new_begin - CONTEXT_LINES) : new_begin], old[old_end : old_end + CONTEXT_LINES]
        excerpt = "".join([*head, *old[old_begin:old_end], *tail])
        result = "".join([*head, *new[new_begin:new_end], *tail])
        if max(len(excerpt), len(result)) > LONGEST_EXCERPT:
            yield TOO_LONG
        else:
            cursor = len(commonprefix([excerpt, result]))  # noqa: RUF071
            marked = excerpt[:cursor] + CURSOR + excerpt[cursor:]
            newline = "" if marked.endswith("\n") else "\n"
            edits = keep_latest(history)
            yield NextEdit(f"{edits}--- {path}\n{marked}{newline}+++ {path}\n", excerpt, cursor, result)
        history.append("".join(["@@\n", *mark(old[old_begin:old_end], "-"), *mark(new[new_begin:new_end], "+")]))


def mark(lines: Sequence[str], sign: str) -> list[str]:
    return [f"{sign}{line}" if line.endswith("\n") else f"{sign}{line}\n" for line in lines]


def keep_latest(history: Sequence[str]) -> str:
    """Return the latest edits that together have at most LONGEST_HISTORY characters, in order."""
    kept, size = 0, 0
    for edit in reversed(history):
        size += len(edit)
        if size > LONGEST_HISTORY:
            break
        kept += 1
    return "".join(history[len(history) - kept :])
