"""The page that compares runs, against rows that are written here."""

import json
import re
from html.parser import HTMLParser

import pytest

from neox_code.commands.report import main
from neox_code.errors import DataError
from neox_code.training.run_report import read_runs


def write_rows(path, run, starts, loss):
    """Rows of 10 steps of 36 s each per start; between two starts are two hours."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        for number in range(starts):
            for step in range(1, 11):
                iteration, start = 10 * number + step, 10_000.0 * number
                row = {"run": run, "iteration": iteration, "start": start, "time": start + 36 * step}
                row |= {"train/lm_loss": loss / iteration, "train/consumed_tokens": iteration * 500_000}
                row |= {"runtime/tokens_per_sec": 1000.0, "runtime/memory_gib": 2.5, "train/skipped_steps": 1}
                file.write(json.dumps(row) + "\n")
            row = {"run": run, "iteration": iteration, "start": start, "time": start + 400}
            file.write(
                json.dumps(
                    row | {"validation/lm_loss": 3.25, "validation/Python/bits_per_byte": 0.75, "validation/Python/lm_loss": 2.0}
                )
                + "\n"
            )


class Page(HTMLParser):
    """The elements of a page, and that each is closed."""

    def __init__(self, text):
        super().__init__()
        self.found, self.open = [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))
        if tag not in ("meta", "link", "line", "circle", "polyline", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        if tag in self.open:
            assert self.open.pop() == tag


def test_a_page_has_a_curve_for_each_run_and_a_mark_for_each_restart(tmp_path, capsys):
    write_rows(tmp_path / "a/metrics.jsonl", "first <b>", 1, 8.0)
    write_rows(tmp_path / "b/metrics.jsonl", "second", 3, 12.0)
    page = tmp_path / "page.html"
    assert main([str(tmp_path / "a"), str(tmp_path / "b/metrics.jsonl"), "--output", str(page)]) == 0
    assert "2 runs" in capsys.readouterr().out
    text = page.read_text()
    assert "first &lt;b&gt;" in text and "first <b>" not in text
    assert not re.search(r"<script|src=|href=", text)
    found = Page(text).found
    titles = re.findall(r"<h2>(.*?)</h2>", text)
    assert titles == [
        "Training loss over tokens",
        "Training loss over hours",
        "Throughput, tokens/s",
        "Validation bits per byte: Python",
        "Validation loss",
    ]
    lines = [attributes["class"] for tag, attributes in found if tag == "polyline"]
    assert lines == ["line run0", "line run1"] * 5
    assert [attributes["class"] for tag, attributes in found if tag == "circle"] == ["restart run1"] * 10
    cells = re.findall(r"<td>(.*?)</td>", text)
    assert cells[:10] == ["10", "5.0", "0.11", "1", "0.8000", "3.2500", "1,000", "-", "2.50", "1"]
    assert cells[10:14] == ["30", "15.0", "0.33", "3"]
    (run,) = read_runs(tmp_path / "b")
    assert run.hours[10] == pytest.approx(400 / 3600) and run.hours[11] == pytest.approx(436 / 3600)


def test_what_is_no_run_is_refused_and_nothing_is_written(tmp_path):
    (tmp_path / "metrics.jsonl").write_text("")
    (tmp_path / "other.jsonl").write_text('{"loss": 1}\n')
    for path, message in [
        (tmp_path / "none", "none does not exist. Name the folder `save`"),
        (tmp_path, "has no rows yet"),
        (tmp_path / "other.jsonl", "a row without an iteration"),
    ]:
        with pytest.raises(DataError, match=message):
            main([str(path), "--output", str(tmp_path / "page.html")])
    assert not (tmp_path / "page.html").exists()
