"""Contestants that end before they have a result."""

import pytest

from neox_code.benchmarks.contest import Contestant
from neox_code.errors import NeoXError

REFUSED = "import sys\nprint('error: transformers has no such model', file=sys.stderr)\nsys.exit(2)\n"
WAITING = """
import os, signal
os.write(int(os.environ["NEOX_CODE_RESULTS"]), b'{"notes": ""}\\n')
signal.pause()
"""


@pytest.fixture
def started(tmp_path, monkeypatch):
    def start(text: str) -> Contestant:
        (tmp_path / "contestant_of_the_test.py").write_text(text)
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))
        return Contestant("transformers", "contestant_of_the_test", [])

    return start


def test_the_reason_of_a_refused_contestant_is_reported_once(started, capfd):
    with pytest.raises(SystemExit) as caught, started(REFUSED) as contestant:
        contestant.wait_until_ready()
    assert caught.value.code == 2
    assert capfd.readouterr().err == "error: transformers has no such model\n"


def test_a_contestant_that_died_while_it_waited_is_named(started):
    with pytest.raises(NeoXError, match="ended with status -9"), started(WAITING) as contestant:
        contestant.wait_until_ready()
        contestant.process.kill()
        contestant.process.wait()
        contestant.run_round()


def test_a_contestant_that_died_is_named(started):
    sentence = r"^the benchmark of transformers ended with status -9 before it had a result\.$"
    killed = "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n"
    with pytest.raises(NeoXError, match=sentence), started(killed) as contestant:
        contestant.wait_until_ready()
