"""The page holds the figures, and nothing of a name acts in it, or on a terminal."""

import io
from html.parser import HTMLParser
from pathlib import Path

import pytest
from rich.console import Console
from seen_files import HOSTILE, Row, kept, random_rows, seen, write_seen_files

from neox_code.corpus.description.console import show_description
from neox_code.corpus.description.describe import Description, describe
from neox_code.corpus.description.page import render, write_page
from neox_code.corpus.description.tables import tables

VOID = ("meta", "line", "link", "br")


class Page(HTMLParser):
    """The page's tables (rows of cell texts), list items, tags and attributes; fails where tags do not match."""

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
        kept(f"a{HOSTILE}.py", HOSTILE, **more),
        seen(f"b{HOSTILE}.py", 5, HOSTILE, **more),
        seen("c" * 5000, 9, "exact duplicate", **(more | {"duplicate_of": f"{HOSTILE}/b/a{HOSTILE}.py"})),
        kept("d.py", "x = 1\n", stars=77),
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


def test_names_are_text_and_nothing_else(hostile: Description) -> None:
    html = render(hostile)
    page = Page(html)
    assert "script" not in page.tags
    assert page.text.count("<script>") >= 8
    assert "{{ 7 * 7 }}" in page.text and "49" not in page.items[0]
    assert "\x1b" not in html and "\u202e" not in html
    assert "\\x1b[2J" in page.text and "\\u202e" in page.text


def test_a_path_of_5000_characters_does_not_fill_the_page(hostile: Description) -> None:
    assert max(map(len, Page(render(hostile)).items)) < 1000


def test_the_page_needs_nothing_from_elsewhere(hostile: Description) -> None:
    html = render(hostile)
    page = Page(html)
    assert not {"script", "link", "img", "iframe", "object", "form"}.intersection(page.tags)
    names = {name for _, name, _ in page.attributes}
    assert not {"src", "srcset", "action"}.intersection(names)
    assert not [name for name in names if name.startswith("on")]
    assert all(value.startswith("#") for _, name, value in page.attributes if name == "href" and value)
    assert "url(" not in html and "@import" not in html and "http" not in html


def test_every_table_is_on_the_page(ordinary: Description) -> None:
    page = Page(render(ordinary))
    made = tables(ordinary)
    assert len(page.tables) == len(made)
    for shown, table in zip(page.tables, made.values(), strict=True):
        assert shown[0] == [column.heading for column in table.columns]
        assert len(shown) == len(table.rows) + 1
    verdicts = {row[0]: row[1] for row in page.tables[list(made).index("verdicts")][1:]}
    assert verdicts == {name: f"{amount.files:,}" for name, amount in ordinary.manifest.files.by("verdict").items()}


def test_three_examples_stand_beside_every_reason(ordinary: Description) -> None:
    page = Page(render(ordinary))
    reasons = [name for name in ordinary.manifest.files.by("verdict") if name != "kept"]
    edits = len(ordinary.manifest.edited.groups())
    assert len(page.items) == 3 * (len(reasons) + edits)
    assert sum("kept: " in item for item in page.items) == 3 * sum("duplicate" in reason for reason in reasons)


def test_the_histogram_has_a_bar_of_the_right_height_for_every_power_of_two(ordinary: Description) -> None:
    page = Page(render(ordinary))
    rects = page.attributes
    heights = [float(value) for tag, name, value in rects if (tag, name) == ("rect", "height") and value != "10"]
    groups = ordinary.manifest.sizes.groups()
    files = [
        count
        for fate in ("kept", "left aside", "duplicate", "dropped")
        for count in ordinary.manifest.sizes.octaves(group for group in groups if group[1] == fate)
        if count
    ]
    assert sum(heights) / max(heights) == pytest.approx(sum(files) / max(files), rel=0.01)


def test_the_page_is_the_same_every_time(ordinary: Description, tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_page(ordinary, tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


@pytest.mark.parametrize("width", [30, 80, 200])
def test_the_console_shows_every_figure_and_obeys_no_name(hostile: Description, ordinary: Description, width: int) -> None:
    for description in (hostile, ordinary):
        file = io.StringIO()
        show_description(Console(file=file, width=width, color_system=None), description)
        said = file.getvalue()
        assert "\x1b" not in said and "\u202e" not in said
        for table in tables(description).values():
            assert table.title in said
    assert f"{ordinary.manifest.files.by('verdict')['kept'].files:,}" in said
    assert "exact duplicate: " in said


def test_a_corpus_of_one_file_is_described(tmp_path: Path) -> None:
    write_seen_files(tmp_path / "corpus", [kept("a.py", "")])
    page = Page(render(describe(tmp_path / "corpus")))
    assert "stars" not in page.text.lower()
