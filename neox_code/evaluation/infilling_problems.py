"""Problems of infilling by syntactic kind, made from source code, and the files of such problems.

    problems = make_problems(documents, INFILLING_KINDS, count=20, seed=1234)      # 20 of each kind
    save_problems("infilling.jsonl", problems)

`prompt + middle + suffix` is the whole file, byte for byte; `begin` and `end` are the middle's byte offsets. Files are drawn
evenly: a second span of a file is used only where all files have given one. A draw depends on the seed and the files alone.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from neox_code.corpus.overlap.contamination import Contamination
from neox_code.corpus.shards import Document
from neox_code.evaluation.sample_files import read_rows
from neox_code.evaluation.task import TaskProblem
from neox_code.files import write_json_lines
from neox_code.syntax.grammars import list_grammars
from neox_code.syntax.spans import Span, list_spans

INFILLING_KINDS = ("call", "argument", "condition", "block", "string", "comment", "whitespace")

MAXIMUM_TOKENS = {"block": 96, "comment": 64, "function": 256}
"""Kind -> maximum number of tokens of a completion; 32 for the others. A middle has at most twice as many bytes."""

PREFIX_KINDS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {"next line": (("\n",), ()), "function": ((), ("dedent",))}
"""Kinds whose prompt has no suffix -> texts and rules at which a completion ends."""

FIELDS = {"task_id": str, "prompt": str, "middle": str, "suffix": str, "kind": str, "source": dict}


def make_problems(documents: Iterable[Document], kinds: Sequence[str], count: int, seed: int) -> list[TaskProblem]:
    """Return up to `count` problems of each kind, one of each in turn. Files without a grammar and parts with errors give none.

    Kinds are those of syntax/spans.py, `next line`, and `function`, whose middle is its body. The prompts of both have no suffix.
    """
    drawn: dict[str, list[tuple[int, str, Document, int, int]]] = defaultdict(list)
    for document in documents:
        source = document.text.encode("utf-8", "replace")
        spans: dict[str, list[tuple[str, int, int]]] = defaultdict(list)
        for kind, begin, end in find_middles(document.language, source) if document.language in list_grammars() else ():
            if kind in kinds and begin and end - begin <= 2 * find_maximum_tokens(kind):
                key = hashlib.sha256(f"{seed} {kind} {begin} {document.sha256}".encode()).hexdigest()
                spans[kind].append((key, begin, end))
        for kind, found in spans.items():
            for rank, (key, begin, end) in enumerate(sorted(found)[:count]):
                drawn[kind].append((rank, key, document, begin, end))
    chosen = [sorted(drawn[kind], key=lambda each: each[:2])[:count] for kind in kinds]
    turns = [(kind, *found[row][2:]) for row in range(count) for kind, found in zip(kinds, chosen, strict=True) if row < len(found)]
    return [make_problem(document, kind, begin, end, seed) for kind, document, begin, end in turns]


def find_middles(language: str, source: bytes) -> Iterator[tuple[str, int, int]]:
    """Yield kind, begin and end of each possible middle of a file."""
    spans = list_spans(language, source)
    yield from ((span.kind, span.begin, span.end) for span in spans if span.kind != "function")
    yield from (("function", body.begin, body.end) for body in find_bodies(spans))
    place = 0
    for line in source.splitlines(keepends=True):
        if line.strip():
            yield "next line", place, place + len(line.rstrip())
        place += len(line)


def find_bodies(spans: Sequence[Span]) -> Iterator[Span]:
    """Yield the block of each function that ends last, which is its body and not that of a parameter's default."""
    blocks = [span for span in spans if span.kind == "block"]
    for function in (span for span in spans if span.kind == "function"):
        inside = [block for block in blocks if function.begin < block.begin and block.end <= function.end]
        if inside:
            yield max(inside, key=lambda block: (block.end, -block.begin))


def make_problem(document: Document, kind: str, begin: int, end: int, seed: int) -> TaskProblem:
    """Return the problem whose middle is the bytes from `begin` to `end`."""
    source = document.text.encode("utf-8", "replace")
    prompt, middle, suffix = (part.decode() for part in (source[:begin], source[begin:end], source[end:]))
    place = f"{document.repository}/{document.path}"
    row = {
        "task_id": f"{place}:{begin}-{end} {kind}",
        "prompt": prompt,
        "middle": middle,
        "suffix": suffix,
        "kind": kind,
        "source": {
            "language": document.language,
            "repository": document.repository,
            "path": document.path,
            "sha256": document.sha256,
            "begin": begin,
            "end": end,
            "seed": seed,
        },
    }
    return load_problem(row)


def load_problem(row: dict) -> TaskProblem:
    kind = row["kind"]
    stop, rules = PREFIX_KINDS.get(kind, ((), ()))
    fields = {"middle": row["middle"], "suffix": row["suffix"], "source": {"kind": kind, **row["source"]}}
    if "tests" in row:  # of repository_problems.py
        fields["tests"] = row["tests"]
    suffix = None if kind in PREFIX_KINDS else row["suffix"]
    return TaskProblem(row["task_id"], row["prompt"], suffix, stop, rules, find_maximum_tokens(kind), fields)


def get_file(problem: TaskProblem) -> str:
    """Return the file of a problem as REPOSITORY/PATH."""
    return f"{problem.fields['source']['repository']}/{problem.fields['source']['path']}"


def find_maximum_tokens(kind: str) -> int:
    return MAXIMUM_TOKENS.get(kind, 32)


def read_problems(path: Path) -> list[TaskProblem]:
    """Return the problems of a file of `save_problems`; raise DataError for a damaged one."""
    return [load_problem(row) for row in read_rows(path, FIELDS)]


def save_problems(path: Path, problems: Iterable[TaskProblem], overlaps: Mapping[str, Contamination] | None = None) -> None:
    """Write problems as rows for `read_problems`, each with its file's `overlap` with a training corpus if `overlaps` has any."""
    rows = []
    for problem in problems:
        row = {"task_id": problem.id, "prompt": problem.prompt, "kind": problem.fields["source"]["kind"], **problem.fields}
        if overlaps:
            found = overlaps[get_file(problem)]
            share = max(found.share, found.verbatim_share)
            row["overlap"] = {"is_contaminated": found.is_contaminated, "share": share, "document": found.first_document}
        rows.append(row)
    write_json_lines(path, rows)
