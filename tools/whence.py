"""Find the longest passage of a text that the training split of a corpus contains, with its repository, path and license.

    python tools/whence.py data/corpus                                 build the index of the corpus (once)
    python tools/whence.py data/corpus completions.jsonl               a row for each row of `deepy.py generate`, or of a task
    python tools/whence.py data/corpus module.py --minimum 100         a whole file; only overlaps of at least 100 bytes
    ... | python tools/whence.py data/corpus -                         text from standard input

Each result is one JSON line: `source`, `overlap` (null, or begin and length in bytes, repository, path, commit, license, line) and
`text`, the passage itself. Every overlap of 64 bytes or more is found. The index is stored in data/corpus/overlap; rerun a killed
build to resume.
"""

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import set_up  # noqa: F401

from neox_code.config.command_line import Parser, parse_positive_integer
from neox_code.corpus.overlap.seeds import GUARANTEED_BYTES
from neox_code.corpus.overlap.whence import build_overlap_index, find_overlaps
from neox_code.errors import DataError, run_command
from neox_code.files import read_bounded, read_json_lines

TEXT_KEYS = ("completion", "text", "solution")
"""Keys of a row that can have the completion; the first that is present is used."""


def main(argv: Sequence[str]) -> int:
    """Build the index, and print the overlap of each text; return 0."""
    parser = Parser(__doc__)
    parser.add_argument("corpus", type=Path, metavar="DIR", help="folder of a corpus")
    parser.add_argument("files", nargs="*", metavar="FILE", help="JSON Lines with completions, any other file as one text, or -")
    parser.add_argument(
        "--minimum",
        type=parse_positive_integer,
        default=GUARANTEED_BYTES,
        metavar="N",
        help="bytes of a reported overlap (default %(default)s)",
    )
    parser.add_argument(
        "--workers", type=parse_positive_integer, metavar="N", help="processes that build the index; default: one a core"
    )
    arguments = parser.parse_args(argv)
    texts = [item for file in arguments.files for item in read_texts(file)]
    index = build_overlap_index(arguments.corpus, arguments.workers)
    for (source, text), overlap in zip(texts, find_overlaps(index, [text for _, text in texts]), strict=True):
        row: dict = {"source": source, "overlap": None, "text": None}
        if overlap is not None and overlap.length >= arguments.minimum:
            passage = text.encode("utf-8", "replace")[overlap.begin : overlap.begin + overlap.length]
            row |= {"overlap": asdict(overlap), "text": passage.decode("utf-8", "ignore")}
        print(json.dumps(row, ensure_ascii=False))
    return 0


def read_texts(file: str) -> Iterator[tuple[str, str]]:
    """Yield (place, text) for each text of a file. Raise DataError for a row without a text."""
    if file == "-":
        yield "standard input", sys.stdin.buffer.read().decode("utf-8", "replace")
    elif not file.endswith(".jsonl"):
        yield file, read_bounded(file).decode("utf-8", "replace")
    else:
        read_bounded(file)
        for number, row in enumerate(read_json_lines(file), 1):
            text = next((row[key] for key in TEXT_KEYS if isinstance(row, dict) and isinstance(row.get(key), str)), None)
            if text is None:
                raise DataError(f"{file}:{number} has no text under {', '.join(TEXT_KEYS)}. Correct the row.")
            yield f"{file}:{number}", text


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:]))
