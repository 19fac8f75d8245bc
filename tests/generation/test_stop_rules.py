r"""Stop rules on code of several languages. `|` marks the cursor and `^` the place where the completion ends (none: it goes on).

Every text is also given character by character: the end is the same, and characters once settled are never cut off.
"""

import ast
import io
import random
import re
import tokenize
from collections.abc import Iterator

import pytest
from real_code import real_files

from neox_code.errors import ConfigError
from neox_code.generation.stop_rules import StopRule, StopStrings, SuffixOverlap, build_stop_rules

DEDENT = {
    "python body": "def f(x):\n    |y = x\n\n    return y^\n\ndef g():\n",
    "python header": "def f(x):|\n    return x^\n\n\n@cached\ndef g():\n",
    "python unfinished header": "def f(a, b|, c=(1,\n     2)):\n    return a^\nprint()\n",
    "python without a line's end": "class A:\n    def f(self):\n|        pass^\n\n    def g(self):\n",
    "python inner block": "def f(x):\n    if x|:\n        return 1^\n    return 2\n",
    "python statement goes on in its block": "def f(x):\n    y = |[\n1,\n    ]\n    return y^\nz\n",
    "python docstring at column 0": 'def f():\n    """|Text.\n\nMore (text:\n    """\n    return 1^\nx = 1\n',
    "python comment at column 0 inside": "def f():\n    |x = 1\n# old\n    return x^\n# new\ny = 1\n",
    "python division is no comment": "def f(x):\n    |y = (x // 2)\n    return y^\nz\n",
    "tabs": "def f():\n\tif x:\n\t\t|a\n\t\tb^\n\tc\n",
    "spaces below tabs": "def f():\n\t|a\n        b^\n    c\n",
    "line ends with CR": "def f():\r\n    |a\r\n    b^\r\nc\r\n",
    "top level": "import os\n|import sys\n\ndef f():\n    pass\nx = 1\n",
    "new block after an empty line": "def f():\n    return 1\n\n|def g():\n    return 2\n\ndef h():\n    pass\n",
    "indentation that is begun": "def f():\n    x = 1\n  |  y = 2^\n\ndef g():\n",
    "indented line without typed indentation": "def f():\n    x = 1\n|    y = 2^\nz\n",
    "block is over at once": "def f():\n    return 1\n    |^\n\ndef g():\n",
    "c": "int f(int x) {\n    |if (x)\n        g();\n#ifdef A\n    h();\n#endif\n    return 1;^\n}\n",
    "c header": "int f(int x) {|\n    return 1;^\n}\n\nint g(",
    "ruby": "def f(x)\n  |x + 1^\nend\n\ndef g",
}
BLOCK = {
    "c": "int f(int x) {\n    |if (x) { g(); }\n    return 1;\n}^\n\nint g(void) {}\n",
    "c inner block": "int f(int x) {\n    if (x) {\n        |g('}', \"}\"); // }\n    }^\n    return 1;\n}\n",
    "c header": "#include <a.h>\n\nint f(|int x) {\n    if (x) { g(); }\n    return 1;\n}^\n\nint g(",
    "c comment over several lines": "void f() {\n  /* a { brace\n |} */ g();\n}^\n",
    "javascript callback": "const a = 1;\nlist.map((x) => {\n  |return `${x} }`;\n});^\nb();\n",
    "javascript object": "const a = {|\n  b: 1,\n};^\nconst c = 2;\n",
    "rust": "fn f<'a, 'b>(x: &'a str) -> &'a str {\n    |match x { 'a' => '{', _ => x }\n}^\n",
    "go": "func f() error {\n\t|if err != nil {\n\t\treturn err\n\t}\n\treturn nil\n}^\n\nfunc g",
    "perl": "sub f {\n    my $x = shift; # it's {\n    |return $x;\n}^\nsub g",
    "python": "def f(x):\n    |return {\n        'a': x,\n    }^\n\nend_of = 1\n",
    "ruby": "def f(x)\n  |if x\n    1\n  end\nend^\n\ndef g\n",
    "ruby header": "def f(x)|\n  x.each do |y|\n    puts '('\n  end\nend^\nf 1\n",
    "lua": "local M = {}\nfunction M.f(x)\n  |if x then\n    return 1\n  end -- end\n  return 2\nend^\nreturn M\n",
    "lua inner block": "function f(x)\n  if x then|\n    return 1\n  end^\n  return 2\nend\n",
    "shell": "# a\nif [ $# -gt 1 ]; then\n  |echo 'fi'\nfi^\necho\n",
}
BRACKET = {
    "arguments": "x = f(|a, g(b, ')'), [1])^ + 2\n",
    "arguments on lines": "x = f(\n    a,  # it's (\n    |b,\n)^\ny",
    "list": "x = [1, |2, (3), 4]^\n",
    "list in parentheses": "x = [1, (|2, 3)^, 4]\n",
    "inside a string": 'x = f("(|a)", b)^\n',
    "none is open": "x = f|(a, (b))^\ny = g()\n",
    "brace": "int a[] = {1, |2, 3}^;\n",
    "a comment in c": "f(a, // it's )\n  |b);^ // )\n".replace(";^", "^;"),
}
SUFFIX = {
    "inside a word": ("in^t(x)\nmore\n", "t(x)\n"),
    "inside a word, with spaces at the line's end": ("in^t(x)  \nmore\n", "t(x)\n"),
    "inside a word that does not end the line": ("int(x) + 1\nprint(2)\n", "t(x)\n"),
    "closing bracket": ("g(b), c^)\nd()\n", ")\n"),
    "closing brackets": ("a, b=(1, 2)^):\n    pass\n", "):\n    return 1\n"),
    "rest of the line": ("y^ + 1\nz\n", " + 1\n"),
    "a quote": ('hello (world^")\n', '")\n'),
    "semicolon": ("[1, 2]^;\nb;\n", ";\n"),
    "whole line at column 0": ("    y = 1\n^    return y\n", "    return y\n"),
    "next line": ("y = 1^\n\n    return y\nz\n", "\n\n    return y\n"),
    "next line at once": ("^return y\n    z\n", "\n    return y\n"),
    "closing brace by its indentation": ("g();\n        }\n        h();^\n    }\n    i();\n", "\n    }\n}\n"),
    "another line": ("return y + 1\n    return yes\n", "\n    return y\n"),
    "empty": ("a\n\nb\n", "\n\n"),
}
STRINGS = {
    "first": (["\n\n", "def"], "a^\n\n\ndef"),
    "complete first": (["abcd", "c"], "ab^cd"),
    "longest of one end": (["cd", "bcd"], "a^bcd"),
    "repeated beginning": (["aab"], "xa^aab"),
    "none": (["zz", "y"], "abcz"),
}


def check_rule(rule: StopRule, marked: str) -> None:
    """Check the end at `^`, for the whole text and for every beginning of it."""
    text = marked.replace("^", "")
    end = marked.index("^") if "^" in marked else None
    assert rule.find_end(text) == end, (text, rule.find_end(text))
    settled = 0
    for length in range(len(text) + 1):
        found = rule.find_end(text[:length])
        assert found in (None, end), (text[:length], found)
        if found is not None:
            break
        count = rule.count_unsettled(text[:length])
        assert 0 <= count <= length
        settled = max(settled, length - count)
        assert end is None or settled <= end, f"{text[:length]!r}: {settled} characters are settled"
    else:
        assert end is None
    assert settled >= len(text) // 3 or end is not None, "a stream that goes on is not held back"


@pytest.mark.parametrize(
    ("name", "case"),
    [*(("dedent", case) for case in DEDENT), *(("block", case) for case in BLOCK), *(("bracket", case) for case in BRACKET)],
)
def test_a_completion_ends_with_the_block_or_bracket_at_the_cursor(name, case):
    prompt, completion = {"dedent": DEDENT, "block": BLOCK, "bracket": BRACKET}[name][case].split("|", 1)
    (rule,) = build_stop_rules([name], [], prompt)
    check_rule(rule, completion)


@pytest.mark.parametrize("case", SUFFIX)
def test_a_completion_ends_where_it_meets_the_text_after_the_cursor(case):
    completion, suffix = SUFFIX[case]
    check_rule(SuffixOverlap(suffix), completion)


@pytest.mark.parametrize("case", STRINGS)
def test_a_completion_ends_before_the_stop_string_that_is_complete_first(case):
    strings, completion = STRINGS[case]
    check_rule(StopStrings(strings), completion)


def test_rules_are_built_by_name_and_unknown_ones_are_refused():
    assert len(build_stop_rules(["dedent", "block", "bracket"], ["\n"], "f(")) == 4
    assert build_stop_rules([], [], "f(") == ()
    for message, (names, strings) in {
        "'line'. Known rules: dedent, block, bracket": (["line"], []),
        "empty string": ([], [""]),
    }.items():
        with pytest.raises(ConfigError, match=re.escape(message)):
            build_stop_rules(names, strings, "")


def find_brackets(text: str) -> Iterator[tuple[int, int]]:
    """Yield the places after each opening bracket and after its closing one, by Python's tokenizer."""
    lines = text.splitlines(keepends=True)
    begins = [sum(map(len, lines[:number])) for number in range(len(lines) + 1)]
    stack = []
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.OP and token.string in "([{":
            stack.append(begins[token.start[0] - 1] + token.end[1])
        elif token.type == tokenize.OP and token.string in ")]}":
            yield stack.pop(), begins[token.start[0] - 1] + token.end[1]


def test_brackets_and_functions_of_real_files_end_where_python_ends_them():
    rng, is_right = random.Random(1), {"bracket": [], "dedent": [], "block": []}
    for file in real_files(40, max_bytes=16_384):
        text = file.read_text(encoding="utf-8")
        lines = text.split("\n")
        if not text.isascii() or "\f" in text:
            continue
        pairs = list(find_brackets(text))
        for begin, end in rng.sample(pairs, min(5, len(pairs))):
            (rule,) = build_stop_rules(["bracket"], [], text[:begin])
            is_right["bracket"].append(rule.find_end(text[begin : end + 200]) == end - begin)
        nodes = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef)]
        for node in rng.sample(nodes, min(5, len(nodes))):
            header, body = lines[: node.body[0].lineno - 1], lines[node.body[0].lineno - 1 : node.end_lineno]
            rest = [line for line in lines[node.end_lineno :] if line.strip()]
            if not header[-1].endswith(":") or node.body[0].lineno <= node.lineno or not rest or rest[0].lstrip().startswith("#"):
                continue
            for name in ("dedent", "block"):
                (rule,) = build_stop_rules([name], [], "\n".join(header))
                found = rule.find_end("\n".join(["", *body, "", *rest[:3]]))
                is_right[name].append(found == len("\n".join(["", *body])))
    for name, results in is_right.items():
        assert len(results) > 50 and sum(results) >= 0.98 * len(results), name  # a few files have strings of other languages
