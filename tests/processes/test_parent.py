import os
import signal
import subprocess
import sys

CHILD = (
    "import sys; from neox_code.processes.parent import die_with_parent; print(die_with_parent(int(sys.argv[1]), int(sys.argv[2])))"
)


def child(death_signal: int, parent: int) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", CHILD, str(int(death_signal)), str(parent)], capture_output=True, text=True, check=False
    )


def test_a_child_with_a_running_parent_continues():
    done = child(signal.SIGKILL, os.getpid())
    assert (done.returncode, done.stdout) == (0, f"{sys.platform == 'linux'}\n")


def test_a_child_whose_parent_has_already_ended_is_killed_at_once():
    assert child(signal.SIGTERM, os.getpid() + 1).returncode == -signal.SIGTERM
