"""List the documents of a training step's batch: repository, path, license, and place in the document and in the batch.

    python tools/which_documents.py checkpoints 1200                   a line for each part of a document
    python tools/which_documents.py checkpoints 1200 --json            the same as JSON Lines

RUN is the folder `save` of the run, or a checkpoint in it. A document's tokens are counted from its first token. `row` is the
number of the sample in the batch. The samples are divided into micro batches and data-parallel ranks as the step divided them.

The token files of the run must be unchanged. PREFIX.origins.parquet beside them has the repository, path and license of each
document; tools/preprocess_data.py writes it. For token files without it, the number of the document in the token file is listed.
"""

import json
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

import set_up  # noqa: F401

warnings.filterwarnings("ignore", "Transformer", UserWarning)  # of megatron-core, when it is imported

from neox_code.config.command_line import Parser, parse_positive_integer  # noqa: E402
from neox_code.data.order_log import BatchDocument, find_order_entry, format_document, list_documents  # noqa: E402
from neox_code.errors import run_command  # noqa: E402


def main(argv: Sequence[str]) -> int:
    """Print the documents; return 0."""
    parser = Parser(__doc__)
    parser.add_argument("run", type=Path, metavar="RUN", help="folder `save` of a run, or a checkpoint in it")
    parser.add_argument("step", type=parse_positive_integer, metavar="STEP", help="number of the step, from 1")
    parser.add_argument("--json", action="store_true", help="print a JSON line for each part of a document")
    arguments = parser.parse_args(argv)
    documents = list_documents(find_order_entry(arguments.run, arguments.step), arguments.step)
    for document in documents:
        place = f"row {document.row} | rank {document.data_rank} | micro batch {document.micro_batch} | {format_document(document)}"
        print(json.dumps(make_row(document), ensure_ascii=False) if arguments.json else place)
    return 0


def make_row(document: BatchDocument) -> dict:
    """Return the values of a document's part for a JSON line."""
    part, origin = document.part, document.origin
    place = {"row": document.row, "data_rank": document.data_rank, "micro_batch": document.micro_batch, "position": part.place}
    source = {name: getattr(origin, name, None) for name in ("repository", "path", "license", "language")}
    return (
        place
        | source
        | {
            "token_file": part.prefix,
            "document": part.document,
            "offset": part.offset,
            "length": part.length,
        }
    )


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:]))
