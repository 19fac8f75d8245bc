"""The report page has the figures, and source files in it are plain text."""

from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from neox_code.config.neox import NeoXConfig
from neox_code.corpus.duplicates.exact import ExactDuplicates
from neox_code.corpus.pipeline.index import LEFT_ASIDE
from neox_code.corpus.shards import KEPT, CorpusSummary, Count
from neox_code.evaluation.heldout_result import HeldoutResult, LanguageResult
from neox_code.quickstart.report import Findings, collect_losses, render_report, write_report

HOSTILE = '</span></pre><script>alert("&amp;")</script>\n\tif a < b && c: # {{ 7 * 7 }}\n'

VOID = ("meta", "line", "circle", "polyline", "link", "br")


class ReportPage(HTMLParser):
    """The page's tables (rows of cell texts), preformatted texts, tags and attributes; fails if tags do not match."""

    def __init__(self, html: str):
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.tables: list[list[list[str]]] = []
        self.pres: list[str] = []
        self.text = ""
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attributes
        if tag not in VOID:
            self.open.append(tag)
        {"table": lambda: self.tables.append([]), "tr": lambda: self.tables[-1].append([])}.get(tag, lambda: None)()
        if tag in ("td", "th"):
            self.tables[-1][-1].append("")
        if tag == "pre":
            self.pres.append("")

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attributes

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data
        if "pre" in self.open:
            self.pres[-1] += data
        if "table" in self.open and ("td" in self.open or "th" in self.open):
            self.tables[-1][-1][-1] += data

    def row(self, table: int, first: str) -> list[str]:
        return next(row for row in self.tables[table] if row[0] == first)


def counts() -> Iterator[Count]:
    yield Count("Python", KEPT, "train", 1200, 12_000_000, 30, 2)
    yield Count("Python", KEPT, "test", 60, 600_000, 3, 0)
    yield Count("Python", ExactDuplicates.name, None, 77, 123_000, 9, 0)
    yield Count("C", KEPT, "train", 500, 4_000_000, 1, 0)
    yield Count("C", LEFT_ASIDE, None, 11, 99_000, 1, 0)
    yield Count(None, "no known language", None, 9, 900, 1, 0)


@pytest.fixture
def findings(tmp_path: Path) -> Findings:
    config = tmp_path / "tiny.yml"
    config.write_text("num_layers: 2\nhidden_size: 64\nnum_attention_heads: 4\nmax_position_embeddings: 128\n")
    bits = {
        "model": 3000.0,
        "unigram": 5000.0,
        "gzip_alone": 4000.0,
        "gzip_joined": 3500.0,
        "xz_alone": 4200.0,
        "xz_joined": 3300.0,
    }
    return Findings(
        config=NeoXConfig.load([config]),
        corpus=CorpusSummary("polycoder", {"sources": ["<b>local</b>"]}, tuple(counts()), ()),
        vocab_size=8192,
        train_tokens=5_000_000,
        metrics=[
            {"iteration": 10, "train/lm_loss": 8.5, "train/consumed_tokens": 20480, "runtime/tokens_per_sec": 4000.0},
            {"iteration": 20, "train/lm_loss": 7.25, "train/consumed_tokens": 40960, "runtime/tokens_per_sec": 5000.0},
            {"iteration": 20, "validation/lm_loss": 7.5},
            {"iteration": 20, "validation/unseen/lm_loss": 7.3},
        ],
        heldout=HeldoutResult(
            "global_step20", "corpus", "test", 128, (LanguageResult("Python", 4, 1, 0, 1000, 300, bits),), ("C",)
        ),
        completions=[
            {"language": "Python", "file": "a/<i>.py", "context": HOSTILE, "text": "return <x>\n", "length": 5, "finished": True}
        ],
        seconds={"corpus": 12.34, "training": 150.0},
        next_commands={"Complete <code>.": "./deepy.py generate merged.yml"},
    )


def test_source_code_and_names_are_escaped(findings: Findings) -> None:
    page = ReportPage(render_report(findings))
    assert "script" not in page.tags and "i" in page.tags
    assert page.pres == [HOSTILE + "return <x>\n", "./deepy.py generate merged.yml"]
    assert "a/<i>.py" in page.text and "<b>local</b>" in page.text


def test_the_page_loads_nothing_from_elsewhere(findings: Findings) -> None:
    html = render_report(findings)
    page = ReportPage(html)
    assert not {"script", "link", "img", "iframe", "object"}.intersection(page.tags)
    assert not {"src", "href", "onload", "onclick"}.intersection(name for name, _ in page.attributes)
    assert "url(" not in html and "@import" not in html and "http" not in html


def test_the_corpus_table_counts_every_file(findings: Findings) -> None:
    page = ReportPage(render_report(findings))
    heading, *_ = page.tables[0]
    python = dict(zip(heading, page.row(0, "Python"), strict=True))
    assert python["found"] == "1,33712.7 MB"
    assert python["dropped"] == f"{ExactDuplicates.name}: 77, 123.0 kB"
    assert python["kept"] == "1,26012.6 MB"
    assert python["test"] == "60600.0 kB"
    assert dict(zip(heading, page.row(0, "C"), strict=True))[LEFT_ASIDE] == "1199.0 kB"


def test_bits_per_byte_of_model_and_compressors_are_shown(findings: Findings) -> None:
    page = ReportPage(render_report(findings))
    assert page.row(1, "Python")[1:] == ["4", "1.0 kB", "3.000", "4.000", "3.500", "4.200", "3.300", "5.000", "1024.0"]
    assert "25% less than gzip" in page.text
    assert "Languages without held-out files: C." in page.text


def test_a_model_worse_than_its_token_frequencies_has_a_warning(findings: Findings) -> None:
    assert "Warning" not in ReportPage(render_report(findings)).text
    bits = {**findings.heldout.languages[0].bits, "model": 5100.0}
    worse = replace(findings, heldout=replace(findings.heldout, languages=(replace(findings.heldout.languages[0], bits=bits),)))
    text = ReportPage(render_report(worse)).text
    assert "Warning. Python: the model needs 5.100 bits per byte and the frequencies of its tokens alone 5.000." in text
    assert "20 steps in 2 min 30 s were too few" in text


def test_times_and_sizes_of_the_run_are_shown(findings: Findings) -> None:
    page = ReportPage(render_report(findings))
    assert page.row(2, "training") == ["training", "2 min 30 s"]
    assert "20 in 2 min 30 s" in page.text
    assert "40,960 read, of 5,000,000 in the corpus" in page.text
    assert "5,000 tokens/s (median)" in page.text


def test_losses_are_drawn(findings: Findings) -> None:
    page = ReportPage(render_report(findings))
    lines = [value for name, value in page.attributes if name == "points"]
    assert [len(points.split()) for points in lines] == [2, 1, 1]
    assert page.tags.count("circle") == 2
    assert "Of the 0.25 nats between training and validation, 0.20 (80%) lie between unseen files" in page.text
    without = [row for row in findings.metrics if "validation/unseen/lm_loss" not in row]
    assert "nats between" not in ReportPage(render_report(replace(findings, metrics=without))).text


@pytest.mark.parametrize(("last", "drawn"), [(1302, 1300), (1324, 1300), (1325, 1325), (1350, 1350)])
def test_the_training_curve_omits_a_mean_of_few_steps(last: int, drawn: int) -> None:
    metrics = [{"iteration": iteration, "train/lm_loss": 3.0} for iteration in (1250, 1300, last)]
    assert collect_losses(metrics, "train/lm_loss")[-1][0] == drawn
    assert collect_losses([{"iteration": 1250, "validation/lm_loss": 4.0}] * 3, "validation/lm_loss") == [(1250, 4.0)] * 3


def test_a_page_reports_missing_held_out_files(findings: Findings, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    write_report(replace(findings, heldout=None, completions=[]), path)
    page = ReportPage(path.read_text())
    assert "No language is evaluated: none has held-out files" in page.text
    assert page.pres == ["./deepy.py generate merged.yml"]
