import json
import subprocess
import sys
from pathlib import Path

import pytest

TOOL = Path(__file__).parents[2] / "tools" / "label_rows.py"
ROW = json.dumps({"instruction": "", "output": "func f():\n\tpass\n"}) + "\n"


@pytest.mark.parametrize(
    ("rows", "options", "word"),
    [
        (ROW, ["--timeout", "0"], "--timeout: 0 is not a number above 0"),
        (ROW, ["--timeout", "nan"], "--timeout: nan is not a number above 0"),
        (ROW, ["--price-in", "-1"], "at least 0"),
        (ROW, ["--price-in", "1", "--max-cost", "nan"], "at least 0"),
        (ROW, ["--max-cost", "1"], "Add --price-in"),
        (ROW, ["--concurrency", "0"], "is not a whole number above 0"),
        (ROW, ["--endpoint", "ftp://localhost"], "https://"),
        ("[1]\n", [], "rows.jsonl has a row without"),
        ("no\n", [], "rows.jsonl:1 is not valid JSON"),
        (None, [], "rows.jsonl. Check the path"),
    ],
)
def test_unusable_arguments_are_refused_before_any_request(tmp_path: Path, rows: str | None, options: list[str], word: str) -> None:
    if rows is not None:
        (tmp_path / "rows.jsonl").write_text(rows)
    command = [sys.executable, TOOL, tmp_path / "rows.jsonl", "--endpoint", "http://localhost:1/v1", "--model", "m", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ") and word in done.stderr
