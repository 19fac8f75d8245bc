"""No process of a run outlives the others; exit status and last line report why the run ended."""

import os
import signal
import subprocess
import sys

import pytest

from neox_code.launch.rank_process import exit_with_launcher
from neox_code.launch.supervise import convert_exit_status, report_failure
from neox_code.processes.error_report import read_report, report_error, write_report
from neox_code.processes.procfs import read_start_time


@pytest.mark.parametrize("killed", ["supervisor", "launcher", "rank0", "rank1"])
def test_after_kill_9_of_any_process_all_others_end(chain, left_over, killed):
    run = chain.start("stay")
    processes = chain.processes()
    os.kill(processes[killed], signal.SIGKILL)
    assert left_over(processes, seconds=5) == []
    assert run.wait(30) == (-9 if killed == "supervisor" else 137)


def test_ranks_that_are_still_starting_end_with_their_launcher(chain, left_over):
    run = chain.start("deaf")
    processes = chain.processes()
    os.kill(processes["launcher"], signal.SIGKILL)
    assert left_over(processes, seconds=5) == []
    assert run.wait(30) == 137


PLAIN = """
import sys
from neox_code.launch.supervise import run
sys.exit(run([sys.executable, "-c", "import time; print('begun', flush=True); time.sleep(60)"]))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_command_other_than_training_ends_with_the_signal_as_its_status(number):
    run = subprocess.Popen([sys.executable, "-c", PLAIN], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert run.stdout.readline() == "begun\n"
    run.send_signal(number)
    errors = run.communicate(timeout=600)[1]
    assert (run.returncode, errors.splitlines()[-1]) == (
        128 + number,
        f"stopped by {number.name}: all processes of the run have ended",
    )


def test_a_successful_run_has_status_0_and_gets_the_environment(chain):
    run = chain.start("environment")
    output, errors = run.communicate(timeout=600)
    assert (run.returncode, output, errors) == (0, "by the test\n", "")


@pytest.mark.parametrize(
    ("behavior", "status", "last_line"),
    [
        ("user-error", 2, "error: the width is wrong. Set another."),
        ("full-disk", 2, "error: No space left on device at /out/file. Free some space"),
        ("bug", 1, "error: rank 1: ValueError: three is not four (at "),
        ("crash", 139, "error: a process was ended by SIGSEGV."),
    ],
)
def test_a_rank_that_fails_ends_the_run_with_its_own_error_as_the_last_line(chain, left_over, behavior, status, last_line):
    run = chain.start(behavior, "stay")
    errors = run.communicate(timeout=600)[1]
    assert run.returncode == status
    assert errors.splitlines()[-1].startswith(last_line)
    assert errors.count("the width is wrong") <= 1
    assert ("Traceback" in errors) == (behavior == "bug")
    assert left_over(chain.begun(), seconds=0) == []


def test_a_rank_that_is_stopped_ends_the_run(chain, left_over):
    run = chain.start("stay")
    processes = chain.processes()
    os.kill(processes["rank1"], signal.SIGSTOP)
    errors = run.communicate(timeout=600)[1]
    assert run.returncode == 137
    assert errors.splitlines()[-1].startswith(f"error: rank 1 hangs: its process {processes['rank1']} on ")
    assert left_over(processes, seconds=0) == []


def test_a_rank_that_outlasts_the_error_of_another_is_killed(chain, left_over):
    run = chain.start("user-error", "hang")
    processes = chain.processes()
    errors = run.communicate(timeout=600)[1]
    assert (run.returncode, errors.splitlines()[-1]) == (2, "error: the width is wrong. Set another.")
    assert left_over(processes, seconds=0) == []


@pytest.mark.parametrize(("words", "expected"), [("Connection closed by peer", "SIGKILL"), ("three is not four", "three")])
def test_a_consequence_of_another_ranks_end_is_not_reported(capsys, tmp_path, words, expected):
    write_report(tmp_path / "error.json", words)
    assert report_failure(137, read_report(tmp_path / "error.json")) == 137
    assert expected in capsys.readouterr().err


def test_only_the_first_error_is_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("NEOX_CODE_ERROR_FILE", str(tmp_path / "error.json"))
    assert report_error(ValueError("first"))
    assert not report_error(ValueError("second"))
    assert "first" in (tmp_path / "error.json").read_text()


def test_without_a_supervisor_nothing_is_reported_or_followed(monkeypatch):
    for name in ("NEOX_CODE_ERROR_FILE", "NEOX_CODE_LAUNCHER", "CROSS_RANK", "TORCHELASTIC_RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    assert not report_error(ValueError("unheard"))
    code = "import threading, neox_code.launch.rank_process as s; s.exit_with_launcher(); print(threading.active_count())"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout == "1\n"
    assert exit_with_launcher() is None


EXIT = """
import atexit
from neox_code.launch.rank_process import run_and_exit

class Left:
    def __del__(self):
        print("torn down")

def main(argv):
    if argv[0] == "bug":
        raise ValueError("three is not four")
    return int(argv[0])

left = Left()
atexit.register(print, "exit function")
run_and_exit(main, ["{word}"])
"""


@pytest.mark.parametrize(("word", "status", "output"), [("0", 0, "exit function\n"), ("2", 2, ""), ("bug", 1, "")])
def test_exit_rank_ends_the_process_at_once(word, status, output):
    ended = subprocess.run([sys.executable, "-c", EXIT.replace("{word}", word)], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (status, output)
    assert ended.stderr.endswith("ValueError: three is not four\n" if word == "bug" else "")


def test_a_process_is_identified_by_its_start_time():
    sleeper = subprocess.Popen(["sleep", "60"])
    started = read_start_time(sleeper.pid)
    assert int(started) >= int(read_start_time(os.getpid()))
    assert read_start_time(sleeper.pid) == started
    sleeper.kill()
    os.waitid(os.P_PID, sleeper.pid, os.WEXITED | os.WNOWAIT)
    assert read_start_time(sleeper.pid) is None
    sleeper.wait()
    assert read_start_time(sleeper.pid) is None


@pytest.mark.parametrize(("code", "status"), [(0, 0), (2, 2), (139, 139), (-9, 137), (-15, 143), (255, 255)])
def test_the_status_of_a_signal_is_128_plus_its_number(code, status):
    assert convert_exit_status(code) == status
