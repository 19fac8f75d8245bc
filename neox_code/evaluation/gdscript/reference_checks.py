"""Check that GDScript does what a prompt of godot-dodo asks for, and that it is as long as the task needs.

    check = load_checks()[make_key("Return the sum of two integers.")]
    find_missing("func add(a, b):\n    return a + b\n", check)       # []
    has_fitting_length("func add(a, b):\n    return a + b\n", check)  # True

prompt_checks.json has for each prompt the calls and values that its code must contain (`required`, regular expressions that accept
the names of Godot 3 and 4, since the syntax is checked elsewhere), the lines of a solution (`reference_lines`), and for prompts
that need no scene an expression that must be true (`call`) or the text that must be printed (`printed`), for a run without display.
"""

import functools
import json
import re
import secrets
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from neox_code.evaluation.execution.judge import Program
from neox_code.evaluation.gdscript.godot_api import load_api

LONGEST, EXTRA_LINES = 1.5, 3
"""A response may have this many times the lines of the reference, and this many more."""

FUNCTION = re.compile(r"^func\s+(\w+)\s*\(", re.MULTILINE)

SECONDS = 10.0


def make_key(prompt: str) -> str:
    """Return the key of a prompt in prompt_checks.json: the CRC-32 of its words."""
    return f"{zlib.crc32(' '.join(prompt.split()).encode()):08x}"


@functools.cache
def load_checks() -> Mapping[str, Mapping[str, Any]]:
    rows = json.loads((Path(__file__).parent / "prompt_checks.json").read_text())
    return {row["prompt_crc32"]: row for row in rows}


def find_missing(code: str, check: Mapping[str, Any]) -> list[str]:
    """Return the expressions of `required` that the code does not match."""
    return [each for each in check["required"] if re.search(each, code, re.DOTALL) is None]


def has_fitting_length(code: str, check: Mapping[str, Any]) -> bool:
    lines = sum(bool(line.strip()) and not line.strip().startswith("#") for line in code.split("\n"))
    return 0 < lines <= LONGEST * check["reference_lines"] + EXTRA_LINES


def make_program(code: str, check: Mapping[str, Any], marker: str) -> Program | None:
    """Return the program that runs the code in Godot 3; None if the check has no run, or the code has no function to call.

    Classes have their names of Godot 3. Code without functions becomes the main function. The marker stands before the result, so
    that the code cannot print it.
    """
    for old, new in load_api().names["classes"].items():
        code = re.sub(rf"\b{new}\b", old, code) if new.startswith("Packed") else code
    functions = FUNCTION.findall(code)
    indent = "\t" if "\n\t" in code else " "
    if not functions and "printed" in check:
        source = "func main():\n" + "".join(f"{indent}{line}\n" for line in code.split("\n"))
    elif functions and ("printed" in check or "call" in check):
        call = f"print({marker!r}, {check['call'].format(function=functions[0])})" if "call" in check else f"{functions[-1]}()"
        source = f"{code}\nfunc main():\n{indent}{call}\n"
    else:
        return None
    return Program("gdscript", source, timeout_seconds=SECONDS)


def read_result(stdout: str, check: Mapping[str, Any], marker: str) -> bool | None:
    """Return the result of a run; None if it ended before one, as code of Godot 4 does in Godot 3."""
    if "call" in check:
        found = re.search(re.escape(marker) + "(True|False)", stdout)
        return found[1] == "True" if found else None
    words = re.findall(r"[\w-]+", stdout.partition("godotengine.org")[2])
    return words == check["printed"].split() if words else None


def make_marker() -> str:
    return secrets.token_hex(16)


def select_runs(codes: Sequence[str], checks: Sequence[Mapping[str, Any]], marker: str) -> Iterator[tuple[int, Program]]:
    """Yield the index and the program of each code that can run without a scene."""
    for index, (code, check) in enumerate(zip(codes, checks, strict=True)):
        program = make_program(code, check, marker) if code else None
        if program is not None:
            yield index, program
