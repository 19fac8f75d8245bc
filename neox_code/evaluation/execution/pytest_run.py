"""Run the tests of the repository in the working folder: this file's text and a call make a program that runs in the sandbox.

It prints `ok NAME` for each test that passes in MOST_SECONDS; if names are given, the program fails unless all of these pass.
"""

import os
import sys

OPTIONS = ["-p", "no:terminal", "-p", "no:cacheprovider", "-p", "no:faulthandler", "-o", "addopts="]
"""The repository's own options may need plug-ins that are not installed, such as one that measures coverage."""
MOST_SECONDS = 1.0
PHASES = 3
"""Each test is set up, called and torn down; a test without all three reports has not passed."""


def run_tests(names: list[str]) -> None:
    """Run the tests `names`, or all tests if there are none. Raise AssertionError if a test of `names` does not pass."""
    folder = os.getcwd()  # noqa: PTH109
    sys.path[:0] = [folder, f"{folder}/src"]
    import pytest

    passed: dict[str, int] = {}

    class Recorder:
        def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
            is_passed = report.outcome == "passed" and (report.duration <= MOST_SECONDS or bool(names))
            passed[report.nodeid] = passed.get(report.nodeid, 0) + is_passed

    pytest.main([*OPTIONS, "--continue-on-collection-errors", f"--rootdir={folder}", *names], plugins=[Recorder()])
    found = [name for name, phases in passed.items() if phases == PHASES]
    os.write(1, "".join(f"ok {name}\n" for name in found).encode(errors="replace"))
    assert set(names) <= set(found), f"{len(set(names) - set(found))} of {len(names)} tests fail"
