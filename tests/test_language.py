"""What a program can check of CONTRIBUTING.md's section "Language": docstrings, comments, messages and names.

python tests/test_language.py [PATH]      # print what is found below a path
"""

import ast
import io
import re
import sys
import tokenize
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

METAPHORS = re.compile(
    r"\b(says?|said|saying|tells?|told|telling|hears?|heard|knows|houses?|floors?|jury|judges?|judged|verdicts?|utils|helpers?"
    r"|go(ne|ing|es) on with|riddles?)\b",
    re.IGNORECASE,
)
"""Words that name logging, reading, states and decisions by a metaphor; each has a plain technical one."""

OTHER_MEANINGS = re.compile(r"(torch|math|np)\.floor|\bfloor(ed|\()|floor division")
FIRST_WORDS = re.compile(r"^(Whether|What|Who|That which|Of (a|an|the|each|every)|Where|When|Until|Says?|Tells?)\b")
LONG_FUNCTION = 10


def source_files() -> list[Path]:
    return [ROOT / "deepy.py", *sorted(path for folder in ("neox_code", "tools") for path in (ROOT / folder).rglob("*.py"))]


def docstrings(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield line and text of every docstring, those below fields and constants included."""
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        for child in body if isinstance(body, list) else []:
            if isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant) and isinstance(child.value.value, str):
                yield child.lineno, child.value.value


def comments(text: str) -> Iterator[tuple[int, str]]:
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string


def messages(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield line and text of every string of several words, parts of f-strings included."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.count(" ") > 2:
            yield node.lineno, node.value


def function_names(tree: ast.Module) -> Iterator[tuple[int, str]]:
    yield from ((node.lineno, node.name.replace("_", " ")) for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))


def find_metaphors(path: Path) -> Iterator[str]:
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    for line, words in (*messages(tree), *docstrings(tree), *comments(text), *function_names(tree)):
        found = METAPHORS.search(OTHER_MEANINGS.sub("", words))
        if found:
            yield f"{path.relative_to(ROOT)}:{line}: {found.group()!r}. Use the plain technical word."


def find_first_words(path: Path) -> Iterator[str]:
    for line, docstring in docstrings(ast.parse(path.read_text(encoding="utf-8"))):
        found = FIRST_WORDS.match(docstring)
        if found:
            yield f"{path.relative_to(ROOT)}:{line}: a docstring begins with {found.group()!r}. Begin with a verb or a noun."


def find_undocumented(path: Path) -> Iterator[str]:
    """Yield the public functions of more than LONG_FUNCTION lines without a docstring."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    public = [*tree.body, *(child for node in tree.body if isinstance(node, ast.ClassDef) for child in node.body)]
    for node in public:
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_") and ast.get_docstring(node) is None:
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > LONG_FUNCTION:
                yield f"{path.relative_to(ROOT)}:{node.lineno}: {node.name} has {lines} lines and no docstring."


CHECKS = (find_metaphors, find_first_words, find_undocumented)


@pytest.mark.parametrize("find", CHECKS, ids=lambda find: find.__name__)
def test_the_language_is_plain(find):
    assert [sentence for path in source_files() for sentence in find(path)] == []


def test_every_class_has_a_name_of_its_own():
    places = defaultdict(list)
    for path in source_files():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                places[node.name].append(str(path.relative_to(ROOT)))
    assert {name: files for name, files in places.items() if len(files) > 1} == {}


def test_what_is_not_plain_is_found(tmp_path, monkeypatch):
    monkeypatch.setitem(find_metaphors.__globals__, "ROOT", tmp_path)
    body = "".join(f"    x{number} = {number}\n" for number in range(LONG_FUNCTION))
    file = tmp_path / "a.py"
    file.write_text(
        f'"""Whether it heard."""\n\n\ndef long():\n{body}\n\ndef tell():  # heard\n    raise E("the file says it is")\n'
    )
    assert len(list(find_metaphors(file))) == 4
    assert [sentence.partition(":")[0] for sentence in find_first_words(file)] == ["a.py"]
    assert list(find_undocumented(file)) == [f"a.py:4: long has {LONG_FUNCTION + 1} lines and no docstring."]


if __name__ == "__main__":
    below = Path(sys.argv[1] if len(sys.argv) > 1 else ROOT).resolve()
    for file in source_files():
        for check in CHECKS:
            for sentence in check(file) if file.is_relative_to(below) else ():
                print(sentence)
