"""The two tools are `./deepy.py convert` with a format."""

import runpy
import sys
from pathlib import Path

import pytest

from neox_code.commands import convert

TOOLS = Path(__file__).parents[2] / "tools"


@pytest.mark.parametrize(("name", "form"), [("convert_to_huggingface", "huggingface"), ("convert_from_huggingface", "neox")])
def test_a_tool_converts_to_its_format_with_the_options_of_the_command(monkeypatch, tmp_path, name, form):
    calls = []
    monkeypatch.setattr(convert, "convert", lambda *arguments: calls.append(arguments))
    monkeypatch.setattr(sys, "argv", [name, "here", "there", "--iteration", "5", "--dtype", "fp16"])
    with pytest.raises(SystemExit, match=r"^0$"):
        runpy.run_path(str(TOOLS / f"{name}.py"), run_name="__main__")
    (source, output, written, options, iteration, overrides) = calls[0]
    assert (source.name, output.name, written, options.dtype, iteration, overrides) == ("here", "there", form, "fp16", 5, {})
