"""The page of results: every value and error, the best, and what cannot be distinguished from it."""

import json
import re

import pytest

from neox_code.commands.evaluate import main
from neox_code.errors import run_command


@pytest.fixture
def folder(tmp_path):
    for name, value, temperature in (("one", 0.30, 0.2), ("two", 0.27, 0.2), ("three<b>", 0.10, 0.8)):
        (tmp_path / name.strip("<b>")).mkdir()
        score = {"name": "pass@1", "value": value, "standard_error": 0.03, "count": 164, "higher_is_better": True}
        result = {
            "task": "humaneval",
            "scores": [score],
            "protocol": {"temperature": temperature},
            "checkpoint": f"{name}/global_step5",
        }
        (tmp_path / name.strip("<b>") / "humaneval.json").write_text(json.dumps(result))
    (tmp_path / "one" / "other.json").write_text("[1]")
    return tmp_path


def test_the_page_compares_models_by_their_errors(folder):
    page = folder / "page.html"
    assert run_command(main, ["--report", str(folder), "-o", str(page)]) == 0
    text = page.read_text()
    rows = [re.sub(r"<[^>]+>", " ", row).split() for row in re.findall(r"<tr>(.*?)</tr>", text, re.DOTALL)]
    assert rows[1:4] == [
        ["one/global_step5", "0.3", "0.03", "164", "best"],
        ["three&lt;b&gt;/global_step5", "0.1", "0.03", "164"],
        ["two/global_step5", "0.27", "0.03", "164", "close"],
    ]
    assert "The models were asked in different ways" in text
    assert "http" not in text.replace("http://www.w3.org", "")


def test_a_folder_without_results_is_an_error(tmp_path, capsys):
    assert run_command(main, ["--report", str(tmp_path), "-o", str(tmp_path / "page.html")]) == 2
    assert "no TASK.json of evaluate --tasks" in capsys.readouterr().err
    assert not (tmp_path / "page.html").exists()
