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
    heading, row = (re.sub(r"<[^>]+>", " ", each).split() for each in re.findall(r"<tr>(.*?)</tr>", text, re.DOTALL))
    assert heading == ["Score", "n", "1:", "one/global_step5", "2:", "three&lt;b&gt;/global_step5", "3:", "two/global_step5"]
    assert row[:12] == ["pass@1", "164", "0.3000", "±", "0.03", "0.1000", "±", "0.03", "≈", "0.2700", "±", "0.03"]
    assert re.findall(r'<td class="best">([\d.]+)', text) == ["0.3000"]
    assert "The models were asked in different ways" in text
    assert "http" not in text.replace("http://www.w3.org", "")


def test_a_score_without_result_and_other_problems_are_shown(folder):
    result = json.loads((folder / "one" / "humaneval.json").read_text())
    result["scores"] = [{**result["scores"][0], "count": 10, "chance": 0.01}, {**result["scores"][0], "name": "pass@2"}]
    result["clean_scores"] = result["scores"][:1]
    (folder / "one" / "humaneval.json").write_text(json.dumps(result))
    assert run_command(main, ["--report", str(folder), "-o", str(folder / "page.html")]) == 0
    text = (folder / "page.html").read_text()
    assert "The models have different numbers of problems" in text
    rows = [re.sub(r"<[^>]+>", " ", each).split() for each in re.findall(r"<tr>(.*?)</tr>", text, re.DOTALL)]
    assert [" ".join(row[:4]) for row in rows[1:]] == ["pass@1 10, 164 0.3000", "pass@2 164 0.3000 ±", "pass@1, clean part 10"]
    assert rows[2].count("\N{EN DASH}") == 2 and "0.0100" in rows[1]


def test_a_folder_without_results_is_an_error(tmp_path, capsys):
    assert run_command(main, ["--report", str(tmp_path), "-o", str(tmp_path / "page.html")]) == 2
    assert "no TASK.json of evaluate --tasks" in capsys.readouterr().err
    assert not (tmp_path / "page.html").exists()
