"""The page shows the figures, and names in it are plain text on the page and on a terminal."""

import io
import re
from collections import Counter
from collections.abc import Callable
from html.parser import HTMLParser
from itertools import accumulate
from pathlib import Path

import pytest
from rich.console import Console
from seen_files import HOSTILE, Row, make_dropped_row, make_kept_row, random_rows, write_seen_files

from neox_code.corpus.description.console import print_description
from neox_code.corpus.description.describe import Description, describe
from neox_code.corpus.description.page import render_page, write_page
from neox_code.corpus.description.tables import make_tables

VOID = ("meta", "line", "link", "br")


class Page(HTMLParser):
    """The page's tables (rows of cell texts), list items, tags and attributes; fails if tags do not match."""

    def __init__(self, html: str):
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str | None]] = []
        self.tables: list[list[list[str]]] = []
        self.items: list[str] = []
        self.text = ""
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attributes)
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
        elif tag == "li":
            self.items.append("")

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attributes]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data
        if {"td", "th"}.intersection(self.open):
            self.tables[-1][-1][-1] += data
        if "li" in self.open:
            self.items[-1] += data


def hostile_rows() -> list[Row]:
    more = {"repository": f"{HOSTILE}/b", "license": HOSTILE, "edits": [HOSTILE], "language": HOSTILE}
    return [
        make_kept_row(f"a{HOSTILE}.py", HOSTILE, **more),
        make_dropped_row(f"b{HOSTILE}.py", 5, HOSTILE, **more),
        make_dropped_row("c" * 5000, 9, "exact duplicate", **(more | {"duplicate_of": f"{HOSTILE}/b/a{HOSTILE}.py"})),
        make_kept_row("d.py", "x = 1\n", stars=77),
    ]


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Description:
    folder = tmp_path_factory.mktemp("hostile") / HOSTILE.replace("/", "")
    write_seen_files(folder, hostile_rows())
    return describe(folder)


@pytest.fixture(scope="module")
def ordinary(tmp_path_factory: pytest.TempPathFactory) -> Description:
    folder = tmp_path_factory.mktemp("ordinary") / "mine"
    write_seen_files(folder, random_rows(500))
    return describe(folder)


def test_names_with_markup_are_escaped(hostile: Description) -> None:
    html = render_page(hostile)
    page = Page(html)
    assert "script" not in page.tags
    assert page.text.count("<script>") >= 8
    assert "{{ 7 * 7 }}" in page.text and "49" not in page.items[0]
    assert "\x1b" not in html and "\u202e" not in html
    assert "\\x1b[2J" in page.text and "\\u202e" in page.text


def test_a_path_of_5000_characters_does_not_fill_the_page(hostile: Description) -> None:
    assert max(map(len, Page(render_page(hostile)).items)) < 1000


def test_the_page_loads_nothing_from_elsewhere(hostile: Description) -> None:
    html = render_page(hostile)
    page = Page(html)
    assert not {"script", "link", "img", "iframe", "object", "form"}.intersection(page.tags)
    names = {name for _, name, _ in page.attributes}
    assert not {"src", "srcset", "action"}.intersection(names)
    assert not [name for name in names if name.startswith("on")]
    assert all(value.startswith("#") for _, name, value in page.attributes if name == "href" and value)
    assert "url(" not in html and "@import" not in html and "http" not in html


def test_every_table_is_on_the_page(ordinary: Description) -> None:
    page = Page(render_page(ordinary))
    made = make_tables(ordinary)
    assert len(page.tables) == len(made)
    for shown, table in zip(page.tables, made.values(), strict=True):
        assert shown[0] == [column.heading for column in table.columns]
        assert len(shown) == len(table.rows) + 1
    verdicts = {row[0]: row[1] for row in page.tables[list(made).index("decisions")][1:]}
    assert verdicts == {name: f"{amount.files:,}" for name, amount in ordinary.manifest.files.group_by("verdict").items()}


def test_every_reason_has_three_examples(ordinary: Description) -> None:
    page = Page(render_page(ordinary))
    reasons = [name for name in ordinary.manifest.files.group_by("verdict") if name != "kept"]
    edits = len(ordinary.manifest.edited.groups())
    assert len(page.items) == 3 * (len(reasons) + edits)
    assert sum("kept: " in item for item in page.items) == 3 * sum("duplicate" in reason for reason in reasons)


OUTCOME = {"kept": "kept", "left aside": "left aside", "exact duplicate": "duplicate", "near duplicate": "duplicate"}


def test_the_histogram_has_a_bar_of_the_right_height_for_every_power_of_two(ordinary: Description) -> None:
    html = render_page(ordinary)
    html = html[html.index("Files by size") :]
    html = html[: html.index("</svg>")]
    axis = {int(label): float(y) - 4 for y, label in re.findall(r'y="([\d.]+)" text-anchor="end">(\d+)<', html)}
    pixels = (axis[0] - axis[max(axis)]) / max(axis)
    drawn: Counter[tuple[str, str]] = Counter()
    segments = re.findall(r'y="([\d.]+)" width="[\d.]+" height="([\d.]+)"><title>(.*): ([\d,]+) ([a-z ]+)</title>', html)
    for top, height, octave, files, outcome in segments:
        assert float(height) == pytest.approx(int(files) * pixels, abs=0.01)
        assert axis[max(axis)] <= float(top) <= float(top) + float(height) <= axis[0] + 0.01
        drawn[octave, outcome] += int(files)
    sizes = {0: "empty", 1: "1 B"} | {octave: f"{2 ** (octave - 1)} B to {2**octave} B" for octave in range(2, 10)}
    sizes |= {10: "512 B to 1 KiB"} | {octave: f"{2 ** (octave - 11)} KiB to {2 ** (octave - 10)} KiB" for octave in range(11, 20)}
    assert drawn == Counter(
        (sizes[row["bytes"].bit_length()], OUTCOME.get(row["verdict"], "dropped")) for row in random_rows(500) if row["language"]
    )


def read_bars(html: str, title: str) -> dict[str, tuple[list[tuple[str, float]], str]]:
    """Return language -> (outcomes with their widths, label); each segment must begin where the one before it ends."""
    html = html[html.index(f"<h3>{title}</h3>") :]
    found = {}
    for bar in re.findall(r"<bdi>.*?</span>", html[: html.index("</div>")], re.DOTALL):
        segments = re.findall(r'x="([\d.]+)" y="0" width="([\d.]+)" height="10"><title>(.*?)</title>', bar)
        assert [float(x) for x, *_ in segments] == pytest.approx(
            [0.0, *accumulate(float(width) for _, width, _ in segments)][:-1], abs=0.01
        )
        found[re.search("<bdi>(.*?)</bdi>", bar)[1]] = (
            [(outcome, float(width)) for _, width, outcome in segments],
            bar[bar.rindex("<span>") + 6 : -7],
        )
    return found


@pytest.mark.parametrize(("title", "amount"), [("files found", lambda row: 1), ("bytes found", lambda row: row["bytes"])])
def test_the_bars_of_the_languages_are_as_wide_as_their_amounts(
    ordinary: Description, title: str, amount: Callable[[Row], int]
) -> None:
    found: Counter[tuple[str, str]] = Counter()
    for row in random_rows(500):
        if row["language"]:
            found[row["language"], OUTCOME.get(row["verdict"], "dropped")] += amount(row)
    languages = {language for language, _ in found}
    totals = {language: sum(found[language, outcome] for outcome in {*OUTCOME.values(), "dropped"}) for language in languages}
    bars = read_bars(render_page(ordinary), title)
    assert set(bars) == languages
    for language, (segments, label) in bars.items():
        assert segments == [
            (outcome, pytest.approx(100 * found[language, outcome] / max(totals.values()), abs=0.01))
            for outcome in ("kept", "left aside", "duplicate", "dropped")
            if found[language, outcome]
        ]
        assert label == (f"{totals[language]:,}" if title == "files found" else f"{totals[language] / 1e3:.1f} kB")


def test_tokens_are_drawn_if_all_are_known(ordinary: Description, tmp_path: Path) -> None:
    rows = [
        make_kept_row("a.py", "abcd", tokens=200),
        make_kept_row("b.py", "ef", tokens=100),
        make_kept_row("c.go", "x", "Go", tokens=30),
        make_dropped_row("d.c", 9, "empty", "C"),
    ]
    write_seen_files(tmp_path / "corpus", rows)
    html = render_page(describe(tmp_path / "corpus"))
    assert read_bars(html, "tokens of kept files") == {
        "C": ([], "0"),
        "Python": ([("kept", 100.0)], "300"),
        "Go": ([("kept", 10.0)], "30"),
    }
    assert "tokens of kept files" not in render_page(ordinary)


def test_the_legend_has_only_outcomes_that_occur(tmp_path: Path) -> None:
    files = [make_kept_row("a.py", "x = 1\n"), make_dropped_row("b.py", 9, "empty"), make_dropped_row("c", 9, "left aside", None)]
    write_seen_files(tmp_path / "corpus", files)
    html = render_page(describe(tmp_path / "corpus"))
    assert re.findall(r'<span><i class="[a-z-]+"></i>(.*?)</span>', html) == ["kept", "dropped"] * 2


def test_the_page_is_the_same_every_time(ordinary: Description, tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_page(ordinary, tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


@pytest.mark.parametrize("width", [30, 80, 200])
def test_the_console_prints_every_table_and_no_control_characters(hostile: Description, ordinary: Description, width: int) -> None:
    for description in (hostile, ordinary):
        file = io.StringIO()
        print_description(Console(file=file, width=width, color_system=None), description)
        output = file.getvalue()
        assert "\x1b" not in output and "\u202e" not in output
        for table in make_tables(description).values():
            assert table.title in output
    assert f"{ordinary.manifest.files.group_by('verdict')['kept'].files:,}" in output
    assert "exact duplicate: " in output


def test_a_corpus_of_one_file_is_described(tmp_path: Path) -> None:
    write_seen_files(tmp_path / "corpus", [make_kept_row("a.py", "")])
    page = Page(render_page(describe(tmp_path / "corpus")))
    assert "stars" not in page.text.lower()
