"""Next-edit rows of repositories that git makes: the edits rebuild each file, and hostile histories are bounded and counted."""

import json
import os
import resource
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from neox_code.corpus.edits import collect
from neox_code.corpus.edits.collect import EditSettings, collect_edits, find_repositories
from neox_code.corpus.edits.history import MANY_FILES, TOO_LARGE, HistoryLimits, read_changes
from neox_code.corpus.edits.next_edits import CURSOR, NextEdit, split_into_edits
from neox_code.corpus.recipes.registry import find_recipe
from neox_code.errors import ConfigError, DataError

SETTINGS = EditSettings(find_recipe("strict"), shares={"train": 50, "valid": 25, "test": 25})


def git(folder: Path, *words: str) -> str:
    identity = {f"GIT_{role}_{part}": f"{part}@example.org" for role in ("AUTHOR", "COMMITTER") for part in ("NAME", "EMAIL")}
    environment = os.environ | identity | {"GIT_CONFIG_GLOBAL": os.devnull}
    done = subprocess.run(["git", "-C", str(folder), *words], check=True, capture_output=True, env=environment)
    return done.stdout.decode()


def commit(folder: Path, **files: str | bytes) -> None:
    for name, content in files.items():
        path = folder / name.replace("__", ".")
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "change")


def make_source(name: str, first: str = "1", last: str = "2") -> str:
    body = "".join(f"    total += weigh(values[{number}], {number})\n" for number in range(30))
    return f"import {name}\n\n\ndef add_{name}(values):\n    total = {first}\n{body}    return total * {last} + {name}.rest\n"


def make_repository(folder: Path, name: str) -> Path:
    (folder / name).mkdir(parents=True)
    git(folder / name, "init", "-q", "-b", "main")
    license = Path(__file__).parents[3].joinpath("LICENSE").read_text()
    commit(folder / name, LICENSE=license, m__py=make_source(name), other__py=make_source(f"other_{name}"))
    return folder / name


def read(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_edits_in_their_order_rebuild_the_new_file():
    old = "".join(f"line {number}\n" for number in range(80))
    new = old.replace("line 3\n", "").replace("line 40\n", "line 40\nmore\n").replace("line 79\n", "end")
    edits = list(split_into_edits(old, new, "a.txt"))
    assert len(edits) == 3
    text = old
    for edit in edits:
        assert isinstance(edit, NextEdit) and text.count(edit.before) == 1
        assert edit.before[: edit.cursor] == edit.after[: edit.cursor]
        assert edit.before[edit.cursor : edit.cursor + 1] != edit.after[edit.cursor : edit.cursor + 1]
        assert edit.before[: edit.cursor] + CURSOR + edit.before[edit.cursor :] in edit.prompt
        text = text.replace(edit.before, edit.after)
    assert text == new
    assert edits[2].prompt.startswith("@@\n-line 3\n@@\n+more\n--- a.txt\n")


def test_rows_have_one_split_a_repository_and_everything_left_out_is_counted(tmp_path):
    pytest.importorskip("dulwich")
    for name in ("a", "b", "c", "d"):
        folder = make_repository(tmp_path / "all", name)
        commit(folder, m__py=make_source(name, first="10", last="20"))
        commit(folder, new__py=make_source("new"))
        commit(folder, **{f"many{number}__py": make_source(str(number)) for number in range(30)})
    git(folder, "checkout", "-qb", "side", "HEAD~1")
    commit(folder, other__py=make_source("other_d", first="7"))
    git(folder, "checkout", "-q", "main")
    git(folder, "merge", "-q", "--no-ff", "-m", "merged", "side")
    unlicensed = make_repository(tmp_path / "all", "e")
    git(unlicensed, "rm", "-q", "LICENSE")
    commit(unlicensed, m__py=make_source("e", first="5"))
    summary = collect_edits(find_repositories([tmp_path / "all"]), tmp_path / "out", SETTINGS, workers=2)
    rows = {split: read(tmp_path / "out" / f"{split}.jsonl") for split in ("train", "valid", "test")}
    every = [row for part in rows.values() for row in part]
    assert Counter(row["repository"].rpartition("/")[2] for row in every) == {"a": 2, "b": 2, "c": 2, "d": 3}
    owners = [{row["repository"] for row in part} for part in rows.values()]
    assert all(owners) and sum(map(len, owners)) == 4
    assert {(row["language"], row["license"]) for row in every} == {("Python", "Apache-2.0")}
    assert all(row["after"] != row["before"] and len(row["commit"]) == 40 for row in every)
    left_out = summary["left_out"]
    assert left_out[MANY_FILES] == 4 and left_out["merge"] == 1 and left_out["commit without a parent"] == 5
    assert left_out["no license"] == 1 and sum(summary["rows"].values()) == 9
    assert json.loads((tmp_path / "out" / "edits.json").read_text()) == summary
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["edits.json", "test.jsonl", "train.jsonl", "valid.jsonl"]
    assert not (tmp_path / "out.work").exists()
    with pytest.raises(ConfigError, match="exists already"):
        collect_edits(find_repositories([tmp_path / "all"]), tmp_path / "out", SETTINGS)


def test_finished_repositories_are_not_read_again_and_equal_rows_are_dropped(tmp_path, monkeypatch):
    pytest.importorskip("dulwich")
    for name in ("a", "b"):
        commit(make_repository(tmp_path / "all", name), m__py=make_source(name, last="3"))
    git(tmp_path, "clone", "-q", "--bare", str(tmp_path / "all" / "a"), str(tmp_path / "all" / "copy.git"))
    repositories = find_repositories([tmp_path / "all"])
    whole = collect_edits(repositories, tmp_path / "whole", SETTINGS)
    assert whole["left_out"]["duplicate row"] == 1
    with monkeypatch.context() as patch:
        patch.setattr(collect, "write_splits", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            collect_edits(repositories, tmp_path / "part", SETTINGS)
    (tmp_path / "part.work" / "0.jsonl").write_text("")  # were it read again, it would have rows
    with pytest.raises(ConfigError, match="other options"):
        collect_edits(repositories, tmp_path / "part", EditSettings(find_recipe("strict"), seed=5))
    rest = collect_edits(repositories, tmp_path / "part", SETTINGS)
    assert sum(whole["rows"].values()) == 2 and sum(rest["rows"].values()) == 2 and "duplicate row" not in rest["left_out"]
    with pytest.raises(DataError, match="has no git repository"):
        find_repositories([tmp_path / "whole"])


def test_a_hostile_repository_is_bounded_and_counted(tmp_path):
    pytest.importorskip("dulwich")
    folder = make_repository(tmp_path, "h")
    commit(folder, m__py=make_source("h", first="3"), big__txt=b"\0" * 5_000_000)
    (folder / "odd\n\x1b\u202e.py").write_text("x = 1\n")
    commit(folder, big__txt=b"\1" * 5_000_000)
    (folder / "m.py").unlink()
    (folder / "m.py").symlink_to("/etc/passwd")
    commit(folder)
    (folder / "m.py").unlink()
    commit(folder, m__py=make_source("h", first="4"))
    commit(folder, m__py=make_source("h", first="5"))
    damaged = git(folder, "rev-parse", "HEAD:m.py").strip()
    loose = folder / ".git" / "objects" / damaged[:2] / damaged[2:]
    loose.chmod(0o600)
    loose.write_bytes(b"\x78\x9cdamaged")
    limit = resource.getrlimit(resource.RLIMIT_AS)
    found = list(read_changes(folder, lambda path: None, HistoryLimits()))
    assert resource.getrlimit(resource.RLIMIT_AS) == limit
    assert [change.path for change in found if not isinstance(change, str)] == ["m.py"]
    assert Counter(change for change in found if isinstance(change, str)) == {
        "file cannot be read": 2,  # the damaged one, and the blob beyond the size of a loose object
        "file added, deleted or moved": 6,
        "commit without a parent": 1,
    }
    assert TOO_LARGE in list(read_changes(folder, lambda path: None, HistoryLimits(file_bytes=800)))
    parent = git(folder, "rev-parse", "HEAD~2").strip()
    (folder / ".git" / "objects" / parent[:2] / parent[2:]).unlink()
    assert "commit cannot be read" in list(read_changes(folder, lambda path: None, HistoryLimits()))
