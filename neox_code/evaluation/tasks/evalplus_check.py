"""The check of HumanEval+ and MBPP+: this file's text and one call make a program that runs in the sandbox.

A sample is called with each input and compared with the reference solution as evalplus compares: by type and value, floats within
`atol`, with the exceptions of some problems. The limit of CPU time for an input is 4 times that of the reference, at least 1 s; the
limit of elapsed time is a minute longer, so that other work on the machine changes no result.
The program imports the standard library only.
"""

import io
import json
import math
import signal
import sys
import time
from copy import deepcopy
from typing import Any

MIN_SECONDS, REFERENCE_FACTOR, MOST_SECONDS, WAITING_SECONDS = 1.0, 4.0, 60.0, 60.0

TUPLES_IN_ARGUMENTS = {2, 116, 132, 143, 222, 261, 273, 394, 399, 421, 424, 429, 470, 560, 579, 596, 616, 630, 726, 740, 744, 809}
TUPLES_IN_LISTS = {63, 64, 70, 94, 120, 237, 272, 299, 400, 409, 417, 438, 473, 614, 780}
TUPLES_IN_FIRST = {75, 413, 444, 753}
SECOND_IS_TUPLE = {106, 750}
FIRST_IS_TUPLE = {250, 307, 405, 446, 617, 720, 763, 808}
TUPLES_IN_TUPLES = {259, 401, 445}
ALL_TUPLES = {580, 615, 791}

SETS = {"similar_elements", "find_char_long", "common_in_nested_lists", "extract_singly", "larg_nnum"}
SETS |= {"intersection_array", "find_dissimilar", "Diff"}
"""Functions of MBPP+ whose results are compared as sets."""
NOT_NONE = {"check_str", "text_match_three", "text_starta_endb"}
"""Functions of MBPP+ of whose result only the presence is compared."""


class InputTimeout(Exception):
    """The time limit for one input has passed."""


def to_tuples(value: Any) -> Any:
    return tuple(map(to_tuples, value)) if isinstance(value, list) else value


def restore_types(number: int, inputs: list[Any]) -> list[Any]:
    """Return the inputs of MBPP+'s problem `number` with the types that JSON lacks: tuples, sets and complex numbers."""
    if number in TUPLES_IN_ARGUMENTS:
        return [[tuple(item) for item in one] for one in inputs]
    if number in TUPLES_IN_LISTS:
        return [[[tuple(item) for item in items] for items in one] for one in inputs]
    if number in TUPLES_IN_FIRST:
        return [[[tuple(item) for item in one[0]], one[1]] for one in inputs]
    if number in SECOND_IS_TUPLE:
        return [[one[0], tuple(one[1])] for one in inputs]
    if number in FIRST_IS_TUPLE:
        return [[tuple(one[0]), *one[1:]] for one in inputs]
    if number in TUPLES_IN_TUPLES:
        return [[tuple(tuple(item) for item in items) for items in one] for one in inputs]
    if number in ALL_TUPLES:
        return [to_tuples(one) for one in inputs]
    if number == 115:
        return [[[set(item) if isinstance(item, list) and item else {} for item in one[0]]] for one in inputs]
    if number == 124:
        return [(float(one[0]), complex(one[1])) for one in inputs]
    if number == 252:
        return [[complex(one[0])] for one in inputs]
    if number == 278:
        return [[tuple(tuple(item) if isinstance(item, list) else item for item in one[0])] for one in inputs]
    if number == 722:
        return [[{key: tuple(value) for key, value in one[0].items()}, *one[1:]] for one in inputs]
    return inputs


def is_float(value: Any) -> bool:
    """Return True for a float, and for a list or tuple of floats."""
    many = isinstance(value, (list, tuple)) and bool(value)
    return isinstance(value, float) or (many and all(isinstance(item, float) for item in value))


def is_close(found: Any, expected: Any, atol: float) -> bool:
    """Return True if numbers, or the numbers of equally nested sequences, differ by at most `atol` and 1e-7 of the expected."""
    if isinstance(expected, (list, tuple)):
        return len(found) == len(expected) and all(is_close(one, other, atol) for one, other in zip(found, expected, strict=True))
    if found == expected:
        return True
    return bool(math.isfinite(expected) and abs(found - expected) <= atol + 1e-7 * abs(expected))


def is_special(name: str, number: int | None, arguments: Any, found: Any, expected: Any, atol: float) -> bool:
    """Return True for a result that evalplus accepts by the rule of its problem; `number` is None in HumanEval+."""
    if number is None:
        return name == "find_zero" and abs(sum(part * math.pow(found, i) for i, part in enumerate(*arguments))) <= atol
    if name == "surface_Area":
        edge, height = arguments
        return abs(found - round(edge**2 + 2 * edge * math.sqrt((edge / 2) ** 2 + height**2))) <= atol
    if name == "digit_distance_nums":
        one, other = (str(value).zfill(max(map(len, map(str, arguments)))) for value in arguments)
        return bool(found == sum(abs(int(a) - int(b)) for a, b in zip(one, other, strict=True)))
    return name == "are_equivalent" or (name == "sum_div" and bool(found == 0))


def is_correct(name: str, number: int | None, arguments: Any, found: Any, expected: Any, atol: float) -> bool:
    """Return True if evalplus accepts a result beside that of the reference."""
    if number is not None and name in NOT_NONE:
        present = expected is not None
        return found == present if isinstance(found, bool) else (found is not None) == present
    if number is not None and name in SETS:
        equal = set(found) == set(expected)
    else:
        equal = is_special(name, number, arguments, found, expected, atol) or bool(found == expected)
    if equal or not (atol or is_float(expected)):
        return equal
    return type(found) is type(expected) and is_close(found, expected, atol or 1e-6)


def stop_input(*_: object) -> None:
    raise InputTimeout


def check_inputs(name: str, number: int | None, reference: str, code: str, inputs: list[tuple[str, str]], atol: float) -> None:
    """Raise AssertionError with the group and the index of the first input for which a sample's result differs.

    `inputs` has groups: a name, and its inputs as JSON.
    """
    clock, settimer, correct = time.process_time, signal.setitimer, is_correct
    timers = {signal.ITIMER_PROF: 0.0, signal.ITIMER_REAL: WAITING_SECONDS}
    for number_of_signal in (signal.SIGPROF, signal.SIGALRM):
        signal.signal(number_of_signal, stop_input)
    known: dict[str, Any] = {}
    exec(reference, known)
    groups = [(group, restore_types(number or 0, json.loads(text) or [])) for group, text in inputs]
    sys.stdout = io.StringIO()
    program: dict[str, Any] = {}
    try:
        exec(code, program)
        function = program[name]
    except BaseException as error:
        raise AssertionError(f"{groups[0][0]}: {type(error).__name__}: {error}") from None
    for group, arguments in groups:
        spent = 0.0
        for index, given in enumerate(arguments):
            begin = clock()
            expected = known[name](*deepcopy(given))
            seconds = max(MIN_SECONDS, REFERENCE_FACTOR * (clock() - begin))
            sys.stdout = io.StringIO()
            begin = clock()
            try:
                for timer, waiting in timers.items():
                    settimer(timer, seconds + waiting)
                found = function(*given)
                holds = correct(name, number, given, found, expected, atol)
            except InputTimeout:
                raise AssertionError(f"{group} test {index}: timed out") from None
            except BaseException as error:
                raise AssertionError(f"{group} test {index}: {type(error).__name__}: {error}") from None
            finally:
                for timer in timers:
                    settimer(timer, 0)
            spent += clock() - begin
            assert holds is True, f"{group} test {index}: wrong result"
            assert spent <= MOST_SECONDS, f"{group} test {index}: timed out"
