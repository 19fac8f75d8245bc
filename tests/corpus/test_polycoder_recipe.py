"""The recipe polycoder beside an independent restatement of Code-LMs' extract_code.py and deduplicate.py."""

import hashlib
import os
import random
import shutil
import string
from pathlib import Path

import pytest
from pygments import lex
from pygments.lexers import get_lexer_by_name

from neox_code.corpus.pipeline.build import build_corpus
from neox_code.corpus.recipes.registry import find_recipe
from neox_code.corpus.shards import SPLITS, iter_documents, read_manifest

SNIPPETS = {
    "C": ("int f{n}(int a) {{ /* {w} */ return a * {n} + 7; }}\n", (".c", ".h", ".C", ".idc", ".cc")),
    "C++": ("template <class T> T f{n}(T a) {{ return a * {n}; }} // {w}\n", (".c", ".h", ".cpp", ".C", ".hh", ".inl", ".CPP")),
    "Python": ("def f{n}(a):\n    '''{w}'''\n    return a * {n}\n\n", (".py", ".pyi", ".sc", ".PY", "SConstruct", "BUILD")),
    "Ruby": ("def f{n}(a)\n  a * {n} # {w}\nend\n", (".rb", ".rake", "Rakefile", ".gemspec", ".x[bp]m")),
    "TypeScript": ("export const f{n} = (a: number): number => a * {n}; // {w}\n", (".ts", ".tsx", ".js")),
    "Go": ("func f{n}(a int) int {{ return a * {n} }} // {w}\n", (".go", ".GO", ".mod")),
}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """LANGUAGE/organization/project with files around every threshold, copies, broken bytes, links and odd names."""
    root = tmp_path_factory.mktemp("polycoder") / "code"
    rng = random.Random(5)
    contents: list[bytes] = []
    for language, (snippet, suffixes) in SNIPPETS.items():
        for organization in ("acme", "zeta"):
            for project in ("one", "two"):
                for number in range(24):
                    folder = root / language / organization / project / rng.choice(["", "src", "src/deep er", "a__b"])
                    folder.mkdir(parents=True, exist_ok=True)
                    suffix = rng.choice(suffixes)
                    word = "".join(rng.choices(string.ascii_letters + "é ", k=12))
                    text = "".join(snippet.format(n=rng.randrange(99), w=word) for _ in range(rng.randrange(1, 14)))
                    content = text.encode(rng.choice(["utf-8", "latin-1"]))
                    if contents and rng.random() < 0.2:
                        content = rng.choice(contents)
                    if rng.random() < 0.1:
                        content = content.replace(b"\n", b"\r\n")
                    contents.append(content)
                    (folder / f"{f'file{number}' if suffix.startswith('.') else ''}{suffix}").write_bytes(content)
    project = root / "C" / "acme" / "one"
    line = b"int x;\n"
    (project / "mebibyte.c").write_bytes((line * 150_000)[:1_048_576])
    (project / "more.c").write_bytes((line * 150_000)[:1_048_577])
    (project / "empty.c").touch()
    (project / "nul.c").write_bytes(b"\0" * 300)
    (project / "invalid.c").write_bytes(b"\xff" * 4096)
    (root / "C" / "zeta" / "one" / "link.c").symlink_to(project / "mebibyte.c")
    shutil.copy(project / "mebibyte.c", root / "C++" / "zeta" / "two" / "of_another_language.c")
    return root


def code_lms(root: Path) -> dict[Path, str]:
    """Every file that extract_code.py takes but links, with the SHA-256 by which deduplicate.py compares them."""
    taken = {}
    for language in sorted(path.name for path in root.iterdir()):
        lexer = get_lexer_by_name(language)
        suffixes = {pattern.lower()[1:] for pattern in lexer.filenames}
        for folder, _, files in os.walk(root / language):
            for name in files:
                path = Path(folder) / name
                if path.is_symlink() or not any(str(path).endswith(suffix) for suffix in suffixes):
                    continue
                if path.stat().st_size > 1024**2:
                    continue
                text = path.read_bytes().decode("utf-8", "ignore")
                if sum(1 for _ in lex(text, lexer)) < 100:
                    continue
                taken[path] = hashlib.sha256(path.read_bytes()).hexdigest()
    return taken


@pytest.fixture(scope="module")
def corpus(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("polycoder-corpus") / "corpus"
    build_corpus([str(tree)], output, find_recipe("polycoder"), seed=1, workers=2)
    return output


def place(root: Path, path: Path) -> tuple[str, str, str]:
    language, organization, project, *rest = path.relative_to(root).parts
    return language, f"{organization}/{project}", "/".join(rest)


@pytest.fixture(scope="module")
def taken(tree: Path) -> dict[Path, str]:
    return code_lms(tree)


def test_the_kept_files_are_those_of_code_lms(tree, corpus, taken):
    documents = [document for split in SPLITS for document in iter_documents(corpus, split)]
    assert len(taken) > 100 and len(set(taken.values())) < len(taken)
    assert sorted(document.sha256 for document in documents) == sorted(set(taken.values()))
    kept = {(document.language, document.repository, document.path): document for document in documents}
    assert kept.keys() <= {place(tree, path) for path in taken}
    least = {}
    for path, digest in taken.items():
        language, repository, rest = place(tree, path)
        least[digest] = min(least.get(digest, (repository, rest, language)), (repository, rest, language))
    assert {(document.repository, document.path) for document in documents} == {key[:2] for key in least.values()}
    for path, digest in taken.items():
        if (document := kept.get(place(tree, path))) is not None:
            assert document.text == path.read_bytes().decode("utf-8", "ignore")
            assert document.sha256 == digest


def test_the_manifest_has_the_decision_on_every_file(tree, corpus, taken):
    rows = read_manifest(corpus).to_pylist()
    assert len(rows) == sum(1 for path in tree.rglob("*") if not path.is_dir())
    passed = {place(tree, path)[1:] for path in taken}
    found = {(row["repository"], row["path"]) for row in rows if row["verdict"] in ("kept", "exact duplicate")}
    assert found == passed
    names = {f"{row['repository']}/{row['path']}" for row in rows if row["verdict"] == "kept"}
    for row in rows:
        assert (row["duplicate_of"] in names) == (row["verdict"] == "exact duplicate")


def test_the_index_has_polycoders_lines(tree, corpus):
    documents = [document for split in SPLITS for document in iter_documents(corpus, split)]
    expected = {
        "__".join([document.language, *document.repository.split("/"), *document.path.split("/")]) + f"\t{document.sha256}"
        for document in documents
    }
    lines = (corpus / "index.tsv").read_text(encoding="utf-8").splitlines()
    assert len(lines) == len(documents)
    assert set(lines) == expected
