"""A picture of a page: made by a browser where there is one."""

import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest

TOOL = Path(__file__).parents[2] / "tools" / "picture_of_page.py"


def run_tool(*arguments: object) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, TOOL, *map(str, arguments)], capture_output=True, text=True, timeout=600, check=False)


@pytest.mark.skipif(not any(map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), reason="no browser is installed")
def test_a_picture_has_the_size_of_the_window(tmp_path):
    page, picture = tmp_path / "page.html", tmp_path / "page.png"
    page.write_text("<h1>Report</h1>")
    result = run_tool(page, picture, "--width", 640, "--height", 480)
    assert result.returncode == 0, result.stderr
    assert struct.unpack(">II", picture.read_bytes()[16:24]) == (640, 480)


def test_a_missing_page_is_an_error_of_one_line(tmp_path):
    result = run_tool(tmp_path / "none.html", tmp_path / "page.png")
    assert result.returncode == 2
    assert result.stderr.startswith("error: ") and len(result.stderr.splitlines()) == 1
    assert not (tmp_path / "page.png").exists()
