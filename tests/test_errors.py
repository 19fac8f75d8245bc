"""How a command ends."""

import errno

import pytest

from neox_code.errors import ConfigError, run_command


def raising(error: BaseException):
    def main(argv):
        raise error

    return main


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (ConfigError("bad value"), "error: bad value"),
        (OSError(errno.ENOSPC, "", "out/x"), "error: No space left on device at out/x. Free some space"),
        (NotADirectoryError(errno.ENOTDIR, "", "a/b"), "error: Not a directory at a/b. A part of the path is a file"),
        (OSError(errno.ELOOP, "", "link"), "error: Too many levels of symbolic links at link. Check the path."),
    ],
)
def test_an_error_of_the_user_is_a_sentence_and_status_2(error, sentence, capsys):
    assert run_command(raising(error), []) == 2
    printed = capsys.readouterr().err
    assert printed.startswith(sentence)
    assert len(printed.splitlines()) == 1


def test_each_problem_has_its_own_error_line(capsys):
    assert run_command(raising(ConfigError("lr is missing.\ntrain_iters is missing.")), []) == 2
    assert capsys.readouterr().err == "error: lr is missing.\nerror: train_iters is missing.\n"


def test_an_interruption_is_status_130():
    assert run_command(raising(KeyboardInterrupt()), []) == 130


def test_a_programming_error_keeps_its_traceback():
    with pytest.raises(AssertionError):
        run_command(raising(AssertionError()), [])
