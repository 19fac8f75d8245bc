"""Functions of GDScript: difficult syntax, and godot-dodo's rows compared with a direct implementation of its rules."""

import re

import pytest

from neox_code.corpus.rows.gdscript import GDScriptFunctions, read_first_feature, read_godot_version
from neox_code.corpus.shards import Document

SCRIPT = '''@tool
extends Node
# func not_this(): pass
var words = "func neither(): "
var long = """
func nor_this():
	pass
"""
var inline = func(x): return x


## Adds [param a] and [param b],[br]
## slowly.
func add(
	a: int,
	b := "func c(",
) -> int:
	var sum = a + b

	# func inside a comment: "
# a comment at the margin
	for i in range(3):
		sum += i


	return sum # done


#func off():
#	return 3

@warning_ignore("unused_parameter")
@rpc("any_peer", "call_local")
# Sends it.
static func send(what):
	what.call(func():
		print("func ")

		print(what)
	)
	var text = """
no indentation in here
"""
	return text
class Inner extends Reference:
	# The inner one.
	func inner():
		"""Not this."""
		if true: \\
			return 1

		return 2

	remote func second(a, b): return a + b

func one_line(): return {"a": [
1]}
func documented():
    \'\'\'
    Says so.
    \'\'\'
    pass
@abstract func no_body(a: int) -> void
func cut_off():
# nothing
'''

ADD = SCRIPT[SCRIPT.index("func add(\n") : SCRIPT.index("\n\n#func off")]
SEND = SCRIPT[SCRIPT.index("@warning_ignore") : SCRIPT.index("class Inner")]
INNER = SCRIPT[SCRIPT.index("\tfunc inner") : SCRIPT.index("\n\tremote")]
SECOND = "\tremote func second(a, b): return a + b\n"
ONE_LINE = 'func one_line(): return {"a": [\n1]}\n'
DOCUMENTED = SCRIPT[SCRIPT.index("func documented") : SCRIPT.index("@abstract")]


def document(text: str, path: str = "player.gd") -> Document:
    return Document(text, "GDScript", "me/game", path, "0" * 64, len(text.encode()), "train")


def rows(text: str, version: str | None = "4", faithful: bool = False) -> list[dict[str, str]]:
    return list(GDScriptFunctions(faithful).rows(document(text), version))


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_functions_are_extracted_unchanged(newline: str) -> None:
    found = rows(SCRIPT.replace("\n", newline))
    expected = [ADD, SEND, INNER, SECOND, ONE_LINE, DOCUMENTED]
    assert [row["output"] for row in found] == [code.replace("\n", newline) for code in expected]
    assert {row["version"] for row in found} == {"4"}


def test_instructions_are_the_authors_comments_and_docstrings() -> None:
    instructions = ["Adds `a` and `b`,\nslowly.", "Sends it.", "The inner one.", "", "", "Says so."]
    assert [row["instruction"] for row in rows(SCRIPT)] == instructions


@pytest.mark.parametrize(
    ("comments", "instruction"),
    [
        ("# Moves it.\n# Fast.\n", "Moves it.\nFast."),
        ("# Moves it.\n\n", ""),
        ("#speed = 3\n#func g():\n", ""),
        ("#Moves it.\n", "Moves it."),
        ("# -------\n# == Movement ==\n# -------\n", "Movement"),
        ("#region Movement\n# Moves it.\n", "Moves it."),
        ("# TODO: rewrite\n", ""),
        ("# old words\n## Moves it.\n##\n## @tutorial: https://x\n", "Moves it."),
        ("# Called every frame. 'delta' is the elapsed time since the previous frame.\n", ""),
        ("var a = 1 # one\n", ""),
    ],
)
def test_only_comments_that_describe_a_function_are_its_instruction(comments: str, instruction: str) -> None:
    assert [row["instruction"] for row in rows(f"{comments}func f():\n\tpass\n")] == [instruction]


def test_functions_before_an_unclosed_string_or_bracket_are_found() -> None:
    for end in ('var a = "', "var b = (", '"""', "func g(a"):
        assert [row["output"] for row in rows(f"func f():\n\tpass\n{end}\n")] == ["func f():\n\tpass\n"]


def test_functions_after_an_unclosed_bracket_are_found() -> None:
    text = "func f():\n\tg(1, [2\nfunc h():\n\tpass\n"
    assert [row["output"] for row in rows(text)] == ["func f():\n\tg(1, [2\n", "func h():\n\tpass\n"]


def split_by_godot_dodos_rules(text: str) -> list[str]:
    """Return a function for every "func ": the rest of its line and the next lines that begin with white space."""
    found = []
    for place in [match.start() for match in re.finditer("func ", text)]:
        end = text.find("func ", place + 1)
        lines = text[place : end if end >= 0 else len(text)].splitlines()
        taken = 1
        while taken < len(lines) and re.match(r"\s", lines[taken]):
            taken += 1
        found.append("".join(line + "\n" for line in lines[:taken]))
    return found


def test_faithful_rows_equal_those_of_godot_dodo_with_its_bugs() -> None:
    outputs = [row["output"] for row in rows(SCRIPT, faithful=True)]
    assert outputs == split_by_godot_dodos_rules(SCRIPT)
    assert "func not_this(): pass\n" in outputs
    assert 'func neither(): "\n' in outputs
    assert 'func send(what):\n\twhat.call(func():\n\t\tprint("\n' in outputs
    add = outputs[outputs.index('func add(\n\ta: int,\n\tb := "\n') + 1]
    assert add == 'func c(",\n'
    assert {row["instruction"] for row in rows(SCRIPT, faithful=True)} == {""}


@pytest.mark.parametrize("version", [None, "", "2"])
def test_faithful_rows_need_version_3_or_4(version: str | None) -> None:
    assert rows(SCRIPT, version, faithful=True) == []
    assert len(rows(SCRIPT, version)) == 6


@pytest.mark.parametrize(
    ("text", "version", "by_godot_dodo"),
    [
        ('config_version=5\nconfig/features=PackedStringArray("4.2", "Forward Plus")\n', "4", "4"),
        ('config_version=5\nconfig/features=PackedStringArray("C#", "4.2")\n', "4", "C"),
        ('config/features = PackedStringArray(\n"Mobile",\n"4.3"\n)\n', "4", "3"),
        ("config_version=5\n", "4", "3"),
        ("; Engine configuration\nconfig_version=4\n", "3", "3"),
        ("config_version=3\n", "3", "3"),
        ('description="config_version=5"\n', None, "3"),
        ("", None, "3"),
    ],
)
def test_the_godot_version_is_read_from_the_project_file(text: str, version: str | None, by_godot_dodo: str) -> None:
    assert read_godot_version(text) == version
    assert read_first_feature(text) == by_godot_dodo
    assert GDScriptFunctions().read_version(text) == version
    assert GDScriptFunctions(faithful=True).read_version(text) == by_godot_dodo


def test_only_project_files_are_version_files() -> None:
    assert [GDScriptFunctions().is_version_file(path) for path in ("project.godot", "a/project.godot", "my_project.godot")] == [
        True,
        True,
        False,
    ]


def test_many_open_brackets_and_quotes_are_scanned_in_linear_time() -> None:
    assert rows("func f(" * 20_000) == []
    assert rows("func f():\n\tpass # \"'\n" * 5_000)[4_999]["output"] == "func f():\n\tpass # \"'\n"
    assert rows('"' * 50_001 + "func") == []
    assert rows("'''" * 1 + "\\" * 100_000 + "func") == []
