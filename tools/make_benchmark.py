"""Make a benchmark from your own repositories: infilling, next-line and function-completion problems by syntax.

    python tools/make_benchmark.py data/corpus --output data/benchmark                     the held-out repositories of a corpus
    python tools/make_benchmark.py ~/projects --corpus data/corpus --output data/benchmark any folder, repository or archive
    python tools/make_benchmark.py ~/projects --tests --output data/benchmark              functions checked by tests
    ./deepy.py evaluate CONFIG... --tasks infilling --problem-file data/benchmark/infilling.jsonl --corpus data/corpus
    ./deepy.py evaluate CONFIG... --tasks repository_tests --problem-file data/benchmark/repository_tests.jsonl

Of a corpus, the repositories of one split are taken, without those that the manifest lists in the training split. Copies of
training files are no part of the split. Each row has `overlap`, the share of its file's text that the training split of the
corpus contains, and `evaluate --corpus` prints the scores of the problems without overlap beside the others. benchmark.json has
the settings, the number of problems by kind and language, and the repositories that were left out.

With `--tests` the tests of each repository (pytest, unittest, go test, cargo test, node --test) run in the sandbox, many
times. A corpus does not have all files that tests need: `--repositories` then names the repositories themselves.
"""

import argparse
import math
import sys
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

import set_up  # noqa: F401

from neox_code.config.command_line import Parser, parse_positive_integer
from neox_code.corpus.overlap.contamination import measure_contamination
from neox_code.corpus.shards import Document, is_corpus, read_manifest
from neox_code.errors import ConfigError, DataError, run_command
from neox_code.evaluation.heldout import select_heldout_documents
from neox_code.evaluation.infilling_problems import INFILLING_KINDS, get_file, make_problems, save_problems
from neox_code.evaluation.repository_problems import TestedRepository, make_test_problems, read_trees
from neox_code.evaluation.tasks.repository_tests import REPOSITORIES, REPOSITORY_TESTS
from neox_code.files import write_json
from neox_code.processes.sandbox import require_sandbox

FILES = {"infilling": INFILLING_KINDS, "next_line": ("next line",), "function_completion": ("function",)}
"""Name of a file of problems -> kinds of its problems."""


def main(argv: Sequence[str]) -> int:
    """Write the files of problems and benchmark.json; return 0."""
    parser = Parser(__doc__)
    parser.add_argument("source", metavar="CORPUS|FOLDER", help="corpus, folder, repository or archive")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder for the files of problems")
    parser.add_argument("--corpus", metavar="DIR", help="training corpus for the overlap; default: the source, if it is a corpus")
    parser.add_argument("--split", choices=("valid", "test"), default="test", help="split of a corpus (default %(default)s)")
    parser.add_argument(
        "--count", type=parse_positive_integer, default=100, metavar="N", help="problems of a kind (default %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=1234, metavar="N", help="seed of the selection (default %(default)s)")
    parser.add_argument("--tests", action="store_true", help="make functions that the repositories' own tests check")
    parser.add_argument(
        "--repositories", nargs="+", metavar="PATH", help="the repositories of a corpus, for --tests: folders or archives"
    )
    parser.add_argument("--allow-weak-sandbox", action="store_true", help="run tests even if the sandbox lacks a part")
    arguments = parser.parse_args(argv)
    if arguments.tests and is_corpus(arguments.source) and not arguments.repositories:
        raise ConfigError("--tests needs all files of the repositories, which a corpus lacks. Name them by --repositories.")
    by_language, _ = select_heldout_documents(arguments.source, arguments.split, None, arguments.seed)
    documents = [document for files in by_language.values() for document in files]
    corpus = arguments.corpus or (arguments.source if is_corpus(arguments.source) else None)
    trained = find_training_repositories(corpus) if corpus else set()
    left_out = {document.repository for document in documents} & trained
    documents = [document for document in documents if document.repository not in left_out]
    made = {name: make_problems(documents, kinds, arguments.count, arguments.seed) for name, kinds in FILES.items()}
    tested = make_tested(arguments, documents) if arguments.tests else {}
    made |= {REPOSITORY_TESTS.name: [problem for each in tested.values() for problem in each.problems]} if tested else {}
    problems = [problem for each in made.values() for problem in each]
    if not problems:
        raise DataError(
            f"no problem can be made from {arguments.source}: {len(left_out)} repositories are in the training split, and the "
            "others have no code in a language with a grammar. Name other repositories, or another --split."
        )
    texts = {get_file(problem): [problem.prompt + problem.fields["middle"] + problem.fields["suffix"]] for problem in problems}
    overlaps = measure_contamination(corpus, texts) if corpus else {}
    arguments.output.mkdir(parents=True, exist_ok=True)
    for name, each in made.items():
        save_problems(arguments.output / f"{name}.jsonl", each, overlaps)
    kinds = Counter(f"{problem.fields['source']['language']}, {problem.fields['source']['kind']}" for problem in problems)
    summary = {name: getattr(arguments, name) for name in ("source", "split", "count", "seed")} | {
        "corpus": corpus,
        "problems": dict(sorted(kinds.items())),
        "problems_with_overlap": sum(overlaps[get_file(problem)].is_contaminated for problem in problems) if overlaps else None,
        "repositories": sorted({problem.fields["source"]["repository"] for problem in problems}),
        "repositories_in_training": sorted(left_out),
        "tests": {name: each.runs for name, each in tested.items()},
    }
    write_json(arguments.output / "benchmark.json", summary)
    print(f"{len(problems):,} problems in {arguments.output}; repositories left out as training data: {len(left_out)}")
    return 0


def make_tested(arguments: argparse.Namespace, documents: Sequence[Document]) -> dict[str, TestedRepository]:
    """Return the problems of each repository whose tests run; log what became of the tests of each."""
    require_sandbox(arguments.allow_weak_sandbox)
    trees = read_trees(arguments.repositories or [arguments.source])
    usable: dict[str, list[Document]] = defaultdict(list)
    for document in documents:
        if trees.get(document.repository, {}).get(document.path) == document.text.encode("utf-8", "replace"):
            usable[document.repository].append(document)
    tested, left = {}, arguments.count
    for number, (name, own) in enumerate(sorted(usable.items())):
        count = math.ceil(left / (len(usable) - number))
        folder = arguments.output / REPOSITORIES
        tested[name] = make_test_problems(name, trees[name], own, folder, count, arguments.seed, arguments.allow_weak_sandbox)
        left -= len(tested[name].problems)
        for runner, found in tested[name].runs.items():
            print(f"{name}: {runner}: {found}")
    return tested


def find_training_repositories(corpus: str) -> set[str]:
    """Return the repositories that have a file in the training split, by the manifest."""
    manifest = read_manifest(corpus).select(["repository", "split"])
    return {
        row["repository"] for row in manifest.group_by(["repository", "split"]).aggregate([]).to_pylist() if row["split"] == "train"
    }


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:]))
