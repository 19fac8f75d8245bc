"""What progress says of a run that goes on, on a terminal and in a file."""

import io
import re
import time

import pytest
from rich.console import Console

from neox_code import logs
from neox_code.logs import progress


def test_earlier_work_is_included_in_the_share_and_not_in_the_rate(capsys):
    with progress("training", 1000, " steps", done=900) as advance:
        time.sleep(0.2)
        advance(1)
    line = capsys.readouterr().err.splitlines()[-1]
    found = re.fullmatch(r"training: 901 /1 k steps \| ([\d.]+)  steps/s \| 0 s \| (\d+) s left", line)
    assert found, line
    assert 3 < float(found[1]) <= 5
    assert 99 / 5 <= float(found[2]) <= 99 / 3


def test_a_bar_on_a_terminal_begins_where_the_run_does(monkeypatch):
    screen = io.StringIO()
    monkeypatch.setattr(logs, "Console", lambda stderr: Console(file=screen, force_terminal=True, width=100))
    with progress("training", 1000, " steps", done=900) as advance:
        time.sleep(0.2)
        advance(1)
        time.sleep(0.1)
        advance(1)
    shown = re.sub(r"\x1b\[[\d;?]*\w", "", screen.getvalue())
    assert "902 /1 k steps" in shown
    assert float(re.findall(r"([\d.]+)  steps/s", shown)[-1]) == pytest.approx(10, rel=0.7)
