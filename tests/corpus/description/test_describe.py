"""The figures of a description are compared with a count of the same rows one by one."""

import math
import statistics
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from seen_files import Row, make_dropped_row, make_kept_row, random_rows, write_seen_files

from neox_code.corpus.description.describe import Description, describe
from neox_code.corpus.description.drops import list_drops, list_edited_files
from neox_code.corpus.description.tables import make_tables
from neox_code.corpus.shards import KEPT
from neox_code.errors import DataError

NUM_ROWS = 3000


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    return random_rows(NUM_ROWS)


@pytest.fixture(scope="module")
def description(rows: list[Row], tmp_path_factory: pytest.TempPathFactory) -> Description:
    folder = tmp_path_factory.mktemp("described") / "corpus"
    write_seen_files(folder, rows, rows_per_group=700)
    return describe(folder)


def count_rows(rows: list[Row], key: Callable[[Row], Any]) -> dict[Any, tuple[int, int]]:
    """Return the number of files and bytes for each key."""
    files, num_bytes = Counter(), Counter()
    for row in rows:
        files[key(row)] += 1
        num_bytes[key(row)] += row["bytes"]
    return {name: (files[name], num_bytes[name]) for name in files}


def read_columns(description: Description, name: str, *headings: str) -> dict[Any, tuple[Any, ...]]:
    """Return the columns with these headings by the value of the first column."""
    table = make_tables(description)[name]
    places = [[column.heading for column in table.columns].index(heading) for heading in headings]
    return {row[0]: tuple(row[place] for place in places) for row in table.rows}


def test_every_file_has_one_decision(rows: list[Row], description: Description) -> None:
    assert read_columns(description, "decisions", "files", "bytes") == count_rows(rows, lambda row: row["verdict"])
    assert sum(share for (share,) in read_columns(description, "decisions", "share of files").values()) == pytest.approx(1)


def test_languages_are_counted_by_the_decisions_on_their_files(rows: list[Row], description: Description) -> None:
    named = [row for row in rows if row["language"]]
    found = count_rows(named, lambda row: row["language"]) | {"total": (len(named), sum(row["bytes"] for row in named))}
    table = read_columns(description, "languages", "found", "bytes found")
    assert table == found
    kept_rows = [row for row in rows if row["verdict"] == KEPT]
    projects = {language: len({row["repository"] for row in kept_rows if row["language"] == language}) for language in ("C", "Go")}
    headings = ("kept", "bytes kept", "bytes of text", "projects", "dropped", "left aside", "tokens")
    text = read_columns(description, "languages", *headings)
    for language, number in projects.items():
        files, num_bytes = count_rows(kept_rows, lambda row: row["language"])[language]
        aside = sum(row["language"] == language and row["verdict"] == "left aside" for row in rows)
        assert text[language] == (files, num_bytes, num_bytes, number, found[language][0] - files - aside, aside, None)
    assert text["total"][3] == len({row["repository"] for row in kept_rows})


def test_duplicates_are_counted_by_reason_and_by_repository_of_the_kept_file(rows: list[Row], description: Description) -> None:
    duplicates = [row for row in rows if row["duplicate_of"]]
    own = Counter(row["verdict"] for row in duplicates if row["duplicate_of"].startswith(row["repository"] + "/"))
    table = read_columns(description, "duplicates", "files", "bytes", "kept file in the same repository", "in another")
    assert table == {
        reason: (files, num_bytes, own[reason], files - own[reason])
        for reason, (files, num_bytes) in count_rows(duplicates, lambda row: row["verdict"]).items()
    }
    passed = sum(bool(row["duplicate_of"]) or row["verdict"] in (KEPT, "left aside") for row in rows)
    assert read_columns(description, "duplicates", "share of files")["near duplicate"] == (table["near duplicate"][0] / passed,)


def test_licenses_edits_encodings_and_line_ends_are_counted(rows: list[Row], description: Description) -> None:
    kept_rows = [row for row in rows if row["verdict"] == KEPT]
    licenses = count_rows(kept_rows, lambda row: row["license"] or "none found")
    assert read_columns(description, "licenses", "files", "bytes") == licenses
    edits = Counter(edit for row in kept_rows for edit in row["edits"] or ())
    everywhere = Counter(edit for row in rows for edit in row["edits"] or ())
    assert read_columns(description, "edits", "kept files", "files with those dropped later") == {
        edit: (edits[edit], everywhere[edit]) for edit in everywhere
    }
    for name, column in (("encodings", "encoding"), ("newlines", "newlines")):
        table = read_columns(description, name, "files", "bytes", "kept")
        kept_files = Counter(row[column] for row in kept_rows)
        assert table == {key: (*amount, kept_files[key]) for key, amount in count_rows(rows, lambda row: row[column]).items()}  # noqa: B023


def test_splits_repositories_and_stars_are_counted(rows: list[Row], description: Description) -> None:
    kept_rows = [row for row in rows if row["verdict"] == KEPT]
    members = defaultdict(set)
    for row in kept_rows:
        members[row["split"]].add(row["repository"])
    assert read_columns(description, "splits", "files", "bytes", "repositories") == {
        split: (*amount, len(members[split])) for split, amount in count_rows(kept_rows, lambda row: row["split"]).items()
    }
    by_repository = count_rows(kept_rows, lambda row: row["repository"])
    largest = sorted(by_repository, key=lambda name: -by_repository[name][1])[:20]
    table = read_columns(description, "repositories", "kept files", "bytes")
    assert list(table) == largest
    assert all(table[name] == by_repository[name] for name in largest)
    stars = {row["repository"]: row["stars"] for row in kept_rows}
    some = [name for name, number in stars.items() if number is not None and 10 <= number < 50]
    assert read_columns(description, "stars", "repositories", "bytes")["10 to 49"] == (
        len(some),
        sum(by_repository[name][1] for name in some),
    )
    assert read_columns(description, "stars", "repositories")["not known"] == (sum(number is None for number in stars.values()),)


def test_sizes_are_right_within_two_percent(rows: list[Row], description: Description) -> None:
    sizes = [row["bytes"] for row in rows if row["verdict"] == KEPT and row["language"] == "Python"]
    tenths = statistics.quantiles(sizes, n=10, method="inclusive")
    files, smallest, median, largest_tenth, largest = read_columns(
        description, "sizes", "files", "10% up to", "50% up to", "90% up to", "largest"
    )["Python"]
    assert (files, largest) == (len(sizes), max(sizes))
    for found, expected in ((smallest, tenths[0]), (median, tenths[4]), (largest_tenth, tenths[8])):
        assert found == pytest.approx(expected, rel=0.03)
    octaves = Counter(math.floor(math.log2(row["bytes"])) + 1 if row["bytes"] else 0 for row in rows)
    counts = description.manifest.sizes.count_size_ranges(description.manifest.sizes.groups())
    assert {octave: files for octave, files in enumerate(counts) if files} == octaves


def test_examples_of_a_rule_are_files_that_it_dropped(rows: list[Row], description: Description) -> None:
    by_place = {f"{row['repository']}/{row['path']}": row for row in rows}
    dropped = list_drops(description)
    assert {drop.reason for drop in dropped} == {row["verdict"] for row in rows} - {KEPT}
    for drop in dropped:
        assert len({example.place for example in drop.examples}) == 3
        for example in drop.examples:
            row = by_place[example.place]
            assert (row["verdict"], row["bytes"], row["duplicate_of"]) == (drop.reason, example.num_bytes, example.survivor)
        assert sum(amount.files for amount in drop.languages.values()) == drop.amount.files
    for edit, examples in list_edited_files(description).items():
        assert all(edit in by_place[example.place]["edits"] for example in examples)


def test_examples_do_not_depend_on_row_groups(rows: list[Row], description: Description, tmp_path: Path) -> None:
    write_seen_files(tmp_path / "corpus", rows, rows_per_group=97)
    assert list_drops(describe(tmp_path / "corpus")) == list_drops(description)


def test_all_files_of_a_rare_reason_are_examples(tmp_path: Path) -> None:
    files = [make_kept_row("a.py", "x = 1\n"), make_dropped_row("b.py", 7, "empty"), make_dropped_row("c.py", 9, "empty")]
    write_seen_files(tmp_path / "corpus", files)
    (drop,) = list_drops(describe(tmp_path / "corpus"))
    assert sorted(example.place for example in drop.examples) == ["a/b/b.py", "a/b/c.py"]


def test_a_manifest_of_another_corpus_is_refused(tmp_path: Path) -> None:
    for name, number in (("one", 40), ("two", 60)):
        write_seen_files(tmp_path / name, random_rows(number))
    (tmp_path / "two" / "manifest.parquet").replace(tmp_path / "one" / "manifest.parquet")
    with pytest.raises(DataError, match=r"one is inconsistent: its summary .* Copy the whole folder"):
        describe(tmp_path / "one")


def test_a_repository_in_two_splits_is_reported(tmp_path: Path) -> None:
    write_seen_files(tmp_path / "whole", [make_kept_row("a.py", "x"), make_kept_row("b.py", "y", repository="c/d", split="test")])
    assert make_tables(describe(tmp_path / "whole"))["splits"].note == "No repository is in more than one split."
    write_seen_files(tmp_path / "divided", [make_kept_row("a.py", "x"), make_kept_row("b.py", "y", split="test")])
    assert make_tables(describe(tmp_path / "divided"))["splits"].note == "Repositories in more than one split: 1."


def test_a_missing_or_damaged_manifest_is_reported(tmp_path: Path) -> None:
    write_seen_files(tmp_path / "corpus", random_rows(20))
    manifest = tmp_path / "corpus" / "manifest.parquet"
    manifest.write_bytes(manifest.read_bytes()[:-9])
    with pytest.raises(DataError, match=r"manifest\.parquet is damaged"):
        describe(tmp_path / "corpus")
    (tmp_path / "corpus" / "train" / "shard-00000.parquet").replace(manifest)
    with pytest.raises(DataError, match=r"manifest\.parquet is damaged or not part of a corpus: it has no column duplicate_of"):
        describe(tmp_path / "corpus")
    manifest.unlink()
    with pytest.raises(DataError, match=r"manifest\.parquet is missing"):
        describe(tmp_path / "corpus")
