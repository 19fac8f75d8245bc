import contextlib
import hashlib
import io
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from identify.vendor.licenses import LICENSES
from real_code import PACKAGES, real_file
from rich.console import Console

from neox_code.corpus.description.summary_table import (
    count_other_files,
    format_corpus_notes,
    print_corpus_table,
    summarize_languages,
    summarize_total,
)
from neox_code.corpus.pipeline.build import build_corpus
from neox_code.corpus.pipeline.empty_corpus import make_empty_corpus_error
from neox_code.corpus.recipes.mixed import RECIPE
from neox_code.corpus.recipes.registry import find_recipe
from neox_code.corpus.shards import SPLITS, CorpusSummary, Count, Document, iter_documents, load_summary, read_manifest
from neox_code.errors import DataError

SHARES = (80.0, 10.0, 10.0)


def build(output: Path, *sources: Path | str, workers: int = 1, **settings) -> CorpusSummary:
    settings = {"seed": 1, "shares": SHARES, "workers": workers} | settings
    return build_corpus(list(map(str, sources)), output, RECIPE, **settings)


def all_documents(folder: Path) -> list[Document]:
    return [document for split in SPLITS for document in iter_documents(folder, split)]


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def in_order(documents: list[Document]) -> list[Document]:
    return sorted(documents, key=lambda document: (document.repository, document.path))


def children(process: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


@pytest.fixture(scope="module")
def corpus(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("built") / "corpus"
    build(output, tree)
    return output


def test_the_corpus_has_the_same_bytes_for_any_number_of_workers(tree, corpus, tmp_path):
    build(tmp_path / "two", tree, workers=2)
    build(tmp_path / "five", tree, workers=5)
    assert bytes_of(corpus) == bytes_of(tmp_path / "two") == bytes_of(tmp_path / "five")
    assert set(bytes_of(corpus)) >= {"corpus.json", "manifest.parquet", "train/shard-00000.parquet"}


def test_kept_texts_have_the_bytes_of_the_files(tree, corpus):
    documents = all_documents(corpus)
    for document in documents:
        path = tree.parent / document.repository / document.path
        content = (path if path.exists() else path.parent.parent / path.name).read_bytes()
        assert document.sha256 == hashlib.sha256(content).hexdigest()
        assert document.text.encode() == content.decode("latin-1" if path.name == "latin.c" else "utf-8").encode()
        assert document.num_bytes == len(document.text.encode())
    windows = next(document for document in documents if document.path == "windows.c")
    assert windows.text.count("\r\n") == windows.text.count("\n") > 40


def test_the_manifest_has_every_file_of_the_tree_once(tree, corpus):
    rows = read_manifest(corpus).to_pylist()
    found = sorted(path.name for path in tree.rglob("*") if path.is_file())
    assert sorted(Path(row["path"]).name for row in rows) == found
    assert len({(row["repository"], row["path"]) for row in rows}) == len(rows)
    kept = {(row["repository"], row["path"], row["sha256"], row["split"]) for row in rows if row["verdict"] == "kept"}
    assert kept == {(document.repository, document.path, document.sha256, document.split) for document in all_documents(corpus)}


def test_every_dropped_file_has_its_reason(corpus):
    verdicts = {Path(row["path"]).name: row["verdict"] for row in read_manifest(corpus).to_pylist() if "main" not in row["path"]}
    assert verdicts["empty.c"] == "empty"
    assert verdicts["short.c"] == "under 100 tokens"
    assert verdicts["huge.c"] == "over 1 MiB"
    assert verdicts["copy.c"] == "exact duplicate"
    assert verdicts["README"] == "no known language"
    assert verdicts["windows.c"] == "kept"


def test_bytes_that_are_not_utf8_are_decoded_or_left_out_and_counted(tree, corpus, tmp_path):
    latin = next(document for document in all_documents(corpus) if document.path == "latin.c")
    assert latin.text.endswith("/* café */\n")
    assert [row["path"] for row in read_manifest(corpus).to_pylist() if row["encoding"] == "latin-1"] == ["latin.c"]
    recipe = replace(RECIPE, decoding="utf-8 ignoring errors")
    build_corpus([str(tree)], tmp_path / "ignoring", recipe, seed=1, shares=SHARES, workers=1)
    latin = next(document for document in all_documents(tmp_path / "ignoring") if document.path == "latin.c")
    assert latin.text.endswith("/* caf */\n")
    rows = [row for row in read_manifest(tmp_path / "ignoring").to_pylist() if row["encoding"] == "utf-8 with errors"]
    assert [row["path"] for row in rows] == ["latin.c"]
    assert rows[0]["bytes"] == latin.num_bytes + 1
    assert any("1 file has bytes that are not UTF-8" in note for note in format_corpus_notes(load_summary(tmp_path / "ignoring")))


def test_every_encoding_is_decoded_or_counted(tmp_path):
    text = "# é\n" + "".join(f"def name_{number}(first):\n    return first + {number}\n\n" for number in range(20))
    files = {
        "plain.py": text.encode(),
        "utf16.py": ("#16\n" + text).encode("utf-16"),
        "be.py": ("#be\n" + text).encode("utf-16-be"),
        "mark.py": ("\ufeff#mark\n" + text).encode(),
        "latin.py": ("#latin\n" + text).encode("latin-1"),
        "blank.py": b" \n\t" * 2_000,
        "nul.py": text.encode() * 20 + b"\0",
        "two.py": ("# ö ü à\n" + text).encode() + b"# caf\xe9\n",
    }
    for name, content in files.items():
        (tmp_path / "code" / "project").mkdir(parents=True, exist_ok=True)
        (tmp_path / "code" / "project" / name).write_bytes(content)
    build(tmp_path / "corpus", tmp_path / "code")
    rows = {row["path"]: row for row in read_manifest(tmp_path / "corpus").to_pylist()}
    texts = {document.path: document.text for document in all_documents(tmp_path / "corpus")}
    assert {name: rows[name]["verdict"] for name in ("blank.py", "nul.py", "two.py")} == {
        "blank.py": "blank",
        "nul.py": "not text",
        "two.py": "not text",
    }
    marked = ("utf16.py", "#16\n"), ("be.py", "#be\n"), ("mark.py", "#mark\n"), ("latin.py", "#latin\n")
    assert texts == {"plain.py": text} | {name: start + text for name, start in marked}
    assert [name for name, row in rows.items() if row["edits"]] == ["mark.py", "utf16.py"]


def test_no_project_and_no_content_is_in_two_splits(corpus):
    documents = all_documents(corpus)
    assert len({document.sha256 for document in documents}) == len(documents)
    splits = {}
    for document in documents:
        assert splits.setdefault(document.repository, document.split) == document.split
    for split in SPLITS:
        assert {document.language for document in iter_documents(corpus, split)} == {"C", "Python"}


def test_the_kept_copy_does_not_depend_on_the_order_of_the_sources(tree, tmp_path):
    for name in ("zebra", "aardvark"):
        shutil.copytree(tree / "monitor", tmp_path / name / "monitor")
    build(tmp_path / "one", tmp_path / "zebra", tmp_path / "aardvark")
    build(tmp_path / "two", tmp_path / "aardvark", tmp_path / "zebra")
    assert all_documents(tmp_path / "one") == all_documents(tmp_path / "two")
    assert {document.repository for document in all_documents(tmp_path / "one")} == {"aardvark/monitor"}


def test_the_form_of_a_source_does_not_matter(tree, tmp_path):
    shutil.copytree(tree, tmp_path / "code")
    git = ["git", "-c", "user.name=Test", "-c", "user.email=test@example.org"]
    archive = shutil.make_archive(str(tmp_path / "code"), "gztar", tree)
    zipped = shutil.make_archive(str(tmp_path / "code"), "zip", tree)
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "all"]):
        subprocess.run([*git, "-C", tmp_path / "code", *command], check=True)
    for name, source in (("git", tmp_path / "code"), ("tar", archive), ("zip", zipped)):
        build(tmp_path / f"{name}-corpus", source, workers=2)
    tar_documents = in_order(all_documents(tmp_path / "tar-corpus"))
    assert tar_documents == in_order(all_documents(tmp_path / "zip-corpus"))
    committed = in_order(all_documents(tmp_path / "git-corpus"))
    assert {len(document.commit) for document in committed} == {40}
    assert [(document.repository, document.path, document.text) for document in committed] == [
        (document.repository, document.path, document.text) for document in tar_documents
    ]


def test_a_large_project_is_divided_at_its_folders(tree, tmp_path):
    archive = shutil.make_archive(str(tmp_path / "all"), "tar", tree.parent, tree.name)
    build(tmp_path / "corpus", archive)
    repositories = {document.repository for document in all_documents(tmp_path / "corpus")}
    assert {"all/tree/monitor", "all/tree/alpha", "all"} <= repositories


def test_a_size_limit_keeps_whole_projects_and_counts_the_others_as_left_aside(tree, corpus, tmp_path):
    summary = build(tmp_path / "small", tree, max_bytes=200_000)
    assert 100_000 < summary.kept_bytes <= 200_000
    taken = {document.repository for document in all_documents(tmp_path / "small")}
    assert taken < {document.repository for document in all_documents(corpus)}
    rows = [row for row in read_manifest(tmp_path / "small").to_pylist() if row["repository"] in taken]
    assert not [row for row in rows if row["verdict"] == "left aside"]
    assert summarize_total(summary).left_aside.bytes + summary.kept_bytes == load_summary(corpus).kept_bytes
    assert set(summary.languages()) == {"C", "Python"}


def test_chosen_languages_are_kept(tree, tmp_path):
    (tmp_path / "cpp" / "one").mkdir(parents=True)
    source = (tree / "alpha" / "src" / "main.c").read_text()
    for name in ("a.cpp", "b.cpp", "c.c", "d.h"):
        (tmp_path / "cpp" / "one" / name).write_text(f"// {name}\n{source}")
    build(tmp_path / "both", tmp_path / "cpp")
    languages = {document.path: document.language for document in all_documents(tmp_path / "both")}
    assert languages == {"a.cpp": "C++", "b.cpp": "C++", "c.c": "C", "d.h": "C"}
    build(tmp_path / "only", tmp_path / "cpp", languages=["C"])
    assert {document.path for document in all_documents(tmp_path / "only")} == {"c.c", "d.h"}
    verdicts = {row["path"]: row["verdict"] for row in read_manifest(tmp_path / "only").to_pylist()}
    assert verdicts == {"a.cpp": "language not chosen", "b.cpp": "language not chosen", "c.c": "kept", "d.h": "kept"}


def test_a_short_header_is_dropped_as_by_a_whole_count(tmp_path):
    (tmp_path / "src" / "p").mkdir(parents=True)
    (tmp_path / "src" / "p" / "a.h").write_text("int f(void);\n")
    (tmp_path / "src" / "p" / "b.h").write_text("int f(void);\n" * 40)
    build(tmp_path / "corpus", tmp_path / "src")
    verdicts = {row["path"]: row["verdict"] for row in read_manifest(tmp_path / "corpus").to_pylist()}
    assert verdicts == {"a.h": "under 100 tokens", "b.h": "kept"}


def test_the_table_adds_up_to_the_files_of_the_tree(tree, corpus):
    summary = load_summary(corpus)
    rows = summarize_languages(summary)
    for language, suffixes in (("C", (".c", ".h")), ("Python", (".py",))):
        row = next(row for row in rows if row.language == language)
        paths = [path for path in tree.rglob("*") if path.name.endswith(suffixes)]
        assert (row.found.files, row.found.bytes) == (len(paths), sum(path.stat().st_size for path in paths))
        assert row.found.files == sum(amount.files for amount in row.dropped.values()) + row.left_aside.files + row.kept.files
        assert row.kept.bytes == sum(amount.bytes for amount in row.splits.values())
        assert language in summary.evaluated_languages()
    assert count_other_files(summary).files == 4


def test_a_narrow_terminal_cuts_no_figure(corpus):
    summary = load_summary(corpus)
    for width in (40, 80, 200):
        console = Console(width=width, record=True, file=io.StringIO())
        print_corpus_table(console, summary)
        words = set(console.export_text().split())
        for row in (*summarize_languages(summary), summarize_total(summary)):
            for amount in (row.found, row.kept, *row.dropped.values(), *row.splits.values()):
                assert not amount.files or {f"{amount.files:,}", f"{amount.bytes / 1e6:,.2f}"} <= words


def test_a_language_of_one_project_is_reported_without_held_out_figures(tree, tmp_path):
    (tmp_path / "code" / "only").mkdir(parents=True)
    shutil.copy(tree / "alpha" / "src" / "main.c", tmp_path / "code" / "only" / "main.c")
    shutil.copytree(tree / "monitor", tmp_path / "code" / "monitor")
    shutil.copytree(tree / "linear", tmp_path / "code" / "linear")
    summary = build(tmp_path / "corpus", tmp_path / "code")
    assert "Languages with too few projects or bytes for held-out figures: C." in format_corpus_notes(summary)
    assert [document.split for document in all_documents(tmp_path / "corpus") if document.language == "C"] == ["train"]


def test_an_empty_source_is_an_error_that_lists_the_reasons_and_leaves_no_files(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"nothing in .*empty can be kept; found: no files\. Name folders"):
        build(tmp_path / "corpus", tmp_path / "empty")
    (tmp_path / "empty" / "notes.txt").write_text("x")
    (tmp_path / "empty" / "short.py").write_text("x = 1\n")
    with pytest.raises(DataError, match=r"found: 1 no known language, 1 under 100 tokens\. Name folders"):
        build(tmp_path / "corpus", tmp_path / "empty")
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]


def test_an_empty_corpus_has_the_remedy_for_the_most_frequent_reason(tmp_path):
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "short.py").write_text("x = 1\n")
    with pytest.raises(DataError, match=r"found: 1 under 100 tokens\. Choose another --recipe"):
        build(tmp_path / "corpus", tmp_path / "code")
    with pytest.raises(DataError, match=r"found: 1 language not chosen\. Choose other --languages"):
        build(tmp_path / "corpus", tmp_path / "code", languages=["C"])
    (tmp_path / "list.jsonl").write_text('{"url": "/nowhere"}\n')
    with pytest.raises(DataError, match=r"found: 1 cannot be cloned: .* Check the addresses in the list, and the network\."):
        build(tmp_path / "corpus", tmp_path / "list.jsonl")


def test_many_reasons_of_a_list_that_cannot_be_cloned_give_one_remedy_and_are_not_all_listed():
    counts = [Count(None, f"cannot be cloned: no host {number}", None, 1, 0, 1, 0) for number in range(20)]
    counts.append(Count("C", "under 100 tokens", None, 15, 900, 1, 0))
    message = str(make_empty_corpus_error(["list.jsonl"], counts, None))
    assert message.startswith("nothing in list.jsonl can be kept; found: 15 under 100 tokens, 1 cannot be cloned: no host 0, ")
    assert message.endswith("no host 6, 13 for other reasons. Check the addresses in the list, and the network.")


def test_links_are_not_called_files_of_no_language(tree, tmp_path):
    shutil.copytree(tree / "monitor", tmp_path / "code" / "monitor")
    (tmp_path / "code" / "monitor" / "link").symlink_to("/etc/passwd")
    (tmp_path / "code" / "monitor" / "notes").write_text("notes")
    summary = build(tmp_path / "corpus", tmp_path / "code")
    (note,) = [note for note in format_corpus_notes(summary) if note.startswith("Files without")]
    assert note == "Files without a known language: 1 (0.00 MB) link, 1 (0.00 MB) no known language."


def test_a_limit_below_the_size_of_every_project_is_an_error_with_the_remedy(tree, tmp_path):
    with pytest.raises(DataError, match=r"left aside.*No whole project fits into the limit of 100 bytes: raise it\."):
        build(tmp_path / "corpus", tree, max_bytes=100)


def test_an_unknown_language_is_refused_beside_the_known_ones(tree, tmp_path):
    with pytest.raises(DataError, match=r"does not include the language Cobol\. It includes C, C#, C\+\+"):
        build(tmp_path / "corpus", tree, languages=["C", "Cobol"])


def test_a_folder_that_is_no_corpus_is_never_replaced(tree, tmp_path):
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "thesis.tex").write_text("x")
    with pytest.raises(DataError, match=r"precious exists, is not a corpus, and would be replaced"):
        build(tmp_path / "precious", tree)
    assert (tmp_path / "precious" / "thesis.tex").read_text() == "x"


@pytest.mark.parametrize("name", ["corpus.work", "corpus.replaced"])
def test_a_work_folder_of_other_content_is_never_changed(tree, corpus, tmp_path, name):
    shutil.copytree(corpus, tmp_path / "corpus")
    (tmp_path / name).mkdir()
    (tmp_path / name / "key.json").write_text('{"my": "key"}')
    with contextlib.nullcontext() if name == "corpus.replaced" else pytest.raises(DataError, match="holds other files"):
        build(tmp_path / "corpus", tree, seed=2)
    assert [path.name for path in (tmp_path / name).iterdir()] == ["key.json"]
    assert (tmp_path / name / "key.json").read_text() == '{"my": "key"}'


@pytest.mark.parametrize("inside", ["corpus", "corpus/train/shard-00000.parquet", "corpus.work/code"])
def test_a_source_inside_a_replaced_folder_is_refused(tree, corpus, tmp_path, inside):
    shutil.copytree(corpus, tmp_path / "corpus")
    with pytest.raises(DataError, match="which the build replaces"):
        build(tmp_path / "corpus", tree, tmp_path / inside)
    with pytest.raises(DataError, match="which the build replaces"):
        build(tmp_path / "corpus", tree, tokenizer=tmp_path / inside / "tokenizer.json")
    assert bytes_of(tmp_path / "corpus") == bytes_of(corpus)


def test_only_the_interrupted_build_replaces_a_corpus_without_overwrite(tree, corpus, tmp_path):
    shutil.copytree(corpus, tmp_path / "corpus")
    for seed in (2, 3):
        with pytest.raises(DataError, match="already holds a corpus"):
            build(tmp_path / "corpus", tree, seed=seed, overwrite=False)
        with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr("neox_code.corpus.pipeline.build.make_plan", interrupted)
            build(tmp_path / "corpus", tree, seed=seed)
    with pytest.raises(DataError, match="already holds a corpus"):
        build(tmp_path / "corpus", tree, seed=2, overwrite=False)
    assert build(tmp_path / "corpus", tree, seed=3, overwrite=False).settings["seed"] == 3


def interrupted(*_: object) -> None:
    raise KeyboardInterrupt


def test_a_link_to_the_output_stays_a_link(tree, corpus, tmp_path):
    shutil.copytree(corpus, tmp_path / "disk" / "corpus")
    (tmp_path / "link").symlink_to(tmp_path / "disk" / "corpus")
    build(tmp_path / "link", tree)
    assert (tmp_path / "link").is_symlink()
    assert bytes_of(tmp_path / "disk" / "corpus") == bytes_of(corpus)
    assert [path.name for path in (tmp_path / "disk").iterdir()] == ["corpus"]


def test_the_spelling_of_a_source_does_not_matter(tree, corpus, tmp_path, monkeypatch):
    monkeypatch.chdir(tree.parent)
    (tmp_path / "link").symlink_to(tree)
    build(tmp_path / "corpus", f"{tree.name}/", f"../{tree.parent.name}/{tree.name}", tmp_path / "link")
    assert bytes_of(tmp_path / "corpus") == bytes_of(corpus)


def test_a_tokenizer_that_cannot_be_read_is_refused_before_anything_is_read(tree, tmp_path):
    (tmp_path / "vocabulary.txt").write_text("a b")
    for name in ("nowhere", "vocabulary.txt"):
        with pytest.raises(DataError, match=rf"tokenizer .*{name} cannot be read: .*Give the path of a .*tokenizer\.json"):
            build(tmp_path / "corpus", tree, tokenizer=tmp_path / name)
    assert not list(tmp_path.glob("corpus*"))


def test_open_files_in_a_removed_folder_do_not_stop_a_build(tree, tmp_path, monkeypatch):
    """As on NFS: what is removed while a process has it open stays, under another name, in the folder where it was."""
    unlink = os.unlink

    def unlink_or_rename(path, *, dir_fd=None):
        place = Path(path) if dir_fd is None else Path(f"/proc/self/fd/{dir_fd}").readlink() / path
        if place in {descriptor.resolve() for descriptor in Path("/proc/self/fd").iterdir()}:
            place.rename(f"{place}.nfs")
        else:
            unlink(place)

    monkeypatch.setattr(os, "unlink", unlink_or_rename)
    build(tmp_path / "corpus", tree)
    assert {path.name for path in tmp_path.iterdir()} == {"corpus", "corpus.work.lock.nfs"}


def test_a_failed_build_keeps_the_earlier_corpus(tree, corpus, tmp_path):
    shutil.copytree(corpus, tmp_path / "corpus")
    with pytest.raises(DataError, match="nowhere does not exist"):
        build(tmp_path / "corpus", tree, tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="can be kept; found: no files"):
        build(tmp_path / "corpus", tmp_path / "empty")
    assert bytes_of(tmp_path / "corpus") == bytes_of(corpus)
    assert {path.name for path in tmp_path.iterdir()} == {"corpus", "empty"}
    build(tmp_path / "corpus", tree, seed=2)
    assert load_summary(tmp_path / "corpus").settings["seed"] == 2


def test_a_truncated_archive_is_counted_and_its_other_files_are_kept(tree, corpus, tmp_path):
    whole = Path(shutil.make_archive(str(tmp_path / "a"), "gztar", tree)).read_bytes()
    (tmp_path / "broken.tar.gz").write_bytes(whole[: len(whole) // 2])
    build(tmp_path / "corpus", tree, tmp_path / "broken.tar.gz")
    rows = [row for row in read_manifest(tmp_path / "corpus").to_pylist() if row["repository"].startswith("broken")]
    assert any(row["path"] == "" and row["verdict"] != "kept" for row in rows)
    assert {document.sha256 for document in all_documents(corpus)} <= {
        document.sha256 for document in all_documents(tmp_path / "corpus")
    }


BUILD = """
import sys
from neox_code.corpus.pipeline.build import build_corpus
from neox_code.corpus.recipes.mixed import RECIPE
from neox_code.corpus.recipes.registry import find_recipe
from neox_code.errors import run_command

def main(arguments):
    build_corpus(arguments[:-1], arguments[-1], RECIPE, seed=1, workers=2)
    return 0

sys.exit(run_command(main, sys.argv[1:]))
"""


@pytest.mark.parametrize(("ending", "status"), [(signal.SIGKILL, -9), (signal.SIGINT, 130)])
def test_a_build_that_is_ended_leaves_no_process_and_no_corpus(tmp_path, ending, status):
    sources = [str(real_file(package)) for package in PACKAGES]
    command = [sys.executable, "-c", BUILD, *sources, tmp_path / "corpus"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ | {"LOGLEVEL": "ERROR"}) as process:
        while len(workers := children(process.pid)) < 2:
            assert process.poll() is None
            time.sleep(0.02)
        time.sleep(0.5)
        process.send_signal(ending)
        assert process.wait(10) == status
        errors = process.stderr.read()
    assert "Traceback" not in errors
    end = time.monotonic() + 10
    while any(Path(f"/proc/{worker}").exists() for worker in workers):
        assert time.monotonic() < end
        time.sleep(0.02)
    assert not (tmp_path / "corpus").exists()
    with pytest.raises(DataError, match="is not a corpus"):
        iter_documents(tmp_path / "corpus.partial", "train")


def test_the_summary_contains_the_settings_of_the_build(corpus, tree):
    summary = json.loads((corpus / "corpus.json").read_text())
    assert summary["recipe"] == "mixed"
    assert summary["settings"]["sources"] == [str(tree)]
    assert summary["settings"]["shares"] == {"train": 80.0, "valid": 10.0, "test": 10.0}
    assert {"name": "maximal size", "limit": 1_048_576} in summary["settings"]["filters"]


def test_odd_names_stay_one_line_of_the_index_and_one_row_of_the_manifest(tree, tmp_path):
    folder = tmp_path / "odd" / "project"
    folder.mkdir(parents=True)
    source = (tree / "alpha" / "src" / "main.c").read_bytes()
    for number, name in enumerate([b"new\nline.c", b"tab\there.c", b"return\r.c", b"latin\xe9.c", "\u2028é.c".encode()]):
        (folder / os.fsdecode(name)).write_bytes(b"// %d\n" % number + source)
    build(tmp_path / "corpus", tmp_path / "odd")
    lines = (tmp_path / "corpus" / "index.tsv").read_bytes().split(b"\n")[:-1]
    assert len(lines) == 5
    assert all(line.count(b"\t") == 1 and b"\r" not in line for line in lines)
    assert {line.split(b"\t")[1].decode() for line in lines} == {document.sha256 for document in all_documents(tmp_path / "corpus")}


def python_source(seed: int) -> str:
    generator = random.Random(seed)

    def word() -> str:
        return "".join(generator.choices("bcdfgklmnprstaeiou", k=7))

    functions = [f"def {word()}({word()}, {word()}):\n    {word()} = {word()}({word()})\n    return {word()}\n" for _ in range(14)]
    return "\n".join(functions)


@pytest.mark.parametrize(("folders", "level"), [(12, "folder (12 of them)"), (2, "file"), (0, "file")])
@pytest.mark.parametrize("recipe", ["mixed", "polycoder", "strict"])
def test_a_corpus_of_one_project_is_split_by_folder_or_file(tmp_path, caplog, recipe, folders, level):
    project = tmp_path / "tool"
    for number in range(36):
        place = project / "src" / (f"part{number % folders}" if folders else "")
        place.mkdir(parents=True, exist_ok=True)
        (place / f"file{number}.py").write_text(python_source(number))
    (project / "LICENSE").write_text(dict(LICENSES)["MIT"])
    (project / "README").write_text("one project")
    for workers in (1, 2):
        output = tmp_path / f"corpus{workers}"
        summary = build_corpus([str(project)], output, find_recipe(recipe), seed=1, shares=SHARES, workers=workers)
    assert bytes_of(tmp_path / "corpus1") == bytes_of(tmp_path / "corpus2")
    documents = all_documents(tmp_path / "corpus1")
    assert summary.kept_files == len(documents) == len({document.path for document in documents})
    assert all(summary.languages(split) == ["Python"] for split in SPLITS)
    if recipe != "mixed" or folders < 3:
        assert f"tool is split by {level}" in caplog.text
        assert {document.repository for document in documents} <= {"tool", "tool/src/part0", "tool/src/part1"}
    if folders == 12:
        splits = {}
        for document in documents:
            folder = f"{document.repository}/{document.path}".rpartition("/")[0]
            assert splits.setdefault(folder, document.split) == document.split


def write_projects(root: Path, number_of_files: int, number_of_projects: int) -> Path:
    for number in range(number_of_files):
        place = root / f"tool{number % number_of_projects}"
        place.mkdir(parents=True, exist_ok=True)
        (place / f"file{number // number_of_projects}.py").write_text(python_source(number))
    return root


@pytest.mark.parametrize("projects", [1, 2, 3])
@pytest.mark.parametrize("files", [12, 40])
def test_train_valid_and_test_are_not_empty_for_one_two_and_three_projects(tmp_path, projects, files):
    source = write_projects(tmp_path / "code", files, projects)
    summary = build_corpus(
        [str(source)], tmp_path / "corpus", find_recipe("polycoder"), seed=1, shares=SHARES, workers=1, layout="project"
    )
    documents = all_documents(tmp_path / "corpus")
    assert all(summary.languages(split) == ["Python"] for split in SPLITS)
    assert len({(document.repository, document.path) for document in documents}) == files
    assert {document.repository for document in documents} == {f"code/tool{number}" for number in range(projects)}
    sides = {(document.repository, document.split) for document in documents}
    assert (len(sides) == projects) == (projects == 3)


def test_a_split_that_too_few_files_leave_empty_is_logged(tmp_path, caplog):
    source = write_projects(tmp_path / "code", 2, 2)
    summary = build_corpus([str(source)], tmp_path / "corpus", find_recipe("polycoder"), seed=1, shares=SHARES, workers=1)
    assert [split for split in SPLITS if summary.languages(split)] == ["train", "test"]
    assert "corpus: no files for valid: there are only 2 projects" in caplog.text
