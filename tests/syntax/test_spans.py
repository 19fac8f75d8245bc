"""Spans by syntactic kind, against expectations written by hand; limits of hostile texts."""

import random

import pytest

from neox_code.errors import ConfigError
from neox_code.syntax.grammars import MAX_BYTES, has_errors, list_grammars, parse
from neox_code.syntax.spans import KINDS, list_spans

PYTHON = b'''# first
def f(a, b=2):
    """doc
    string"""
    if a > 1 and b:
        g(a, "\xc3\xa9", k=h(3))  # last
    return 1 if a else [x for x in y if x]
'''
JAVA = b"class A {\n  int f(int a) {\n    if (a > 1 /*k*/) { g(a); } else { }\n    while (a > 2) { return new B(a); }\n  }\n}\n"
GO = b"package p\nfunc f(a int) {\n\tfor a > 2 {\n\t\ts := `x\ny`\n\t\tg(s)\n\t}\n}\n"
RUBY = b"def f(a)\n  if a && b then\n    puts 'x', a\n  end\n  b.each do |i|\n    p i\n  end\nend\n"
TYPESCRIPT = b"const f = (a: number): number => {\n  return a ? g(a) : 2;\n};\nlet s = `t\n${a}`;\n"
GDSCRIPT = b"func f(a):\n\tfor i in range(3):\n\t\to.m(i)\n\tif a:\n\t\tpass\n"
CPP = b'int A::f() {\n  if (int b = g(1); b) h(R"(q\nr)");\n  return 0;\n}\n'
PHP = b"<?php\nfunction f($a) { if ($a): $o->m(1); endif; }\n"
RUST = b'fn f() -> u8 {\n    if let Some(y) = z { println!("{}", y); }\n    1\n}\n'
LUA = b'local function f(a)\n  if a then print "z" end\nend\n'
KOTLIN = b"fun f(a: Int): Int {\n  // c\n  return g(a)\n}\n"
SCALA = b"object A {\n  def f(a: Int) = {\n    if (a > 1) g(a)\n  }\n}\n"
CSHARP = b"class A { int P() => g(1); void Q() { while (x) { y(); } } }\n"
C = b"#define M(a) \\\n  f(a)\nint f(int a) { return a ? g(a) : 1; }\n"

EXPECTED = {
    ("Python", "call"): [b'g(a, "\xc3\xa9", k=h(3))', b"h(3)"],
    ("Python", "argument"): [b"a", b'"\xc3\xa9"', b"k=h(3)", b"3"],
    ("Python", "condition"): [b"a > 1 and b", b"a", b"x"],
    ("Python", "comment"): [b"# first", b"# last"],
    ("Python", "string"): [b'"""doc\n    string"""', b'"\xc3\xa9"'],
    ("Python", "function"): [PYTHON[8:-1]],
    ("Python", "block"): [PYTHON[PYTHON.index(b'"""') : -1], b'g(a, "\xc3\xa9", k=h(3))  # last'],
    ("Python", "whitespace"): [b"\n", b"\n    ", b"\n    ", b"\n        ", b"\n    "],
    ("Java", "condition"): [b"a > 1 /*k*/", b"a > 2"],
    ("Java", "block"): [JAVA[JAVA.index(b"if") : -7], b"g(a);", b"return new B(a);"],
    ("Java", "call"): [b"g(a)", b"new B(a)"],
    ("Go", "condition"): [b"a > 2"],
    ("Go", "whitespace"): [b"\n", b"\n\t", b"\n\t\t", b"\n\t\t", b"\n\t", b"\n"],
    ("Ruby", "block"): [RUBY[11:-5], b"puts 'x', a", b"p i"],
    ("Ruby", "argument"): [b"'x'", b"a", b"i"],
    ("TypeScript", "function"): [TYPESCRIPT[6 : TYPESCRIPT.index(b";\nlet")]],
    ("TypeScript", "condition"): [b"a"],
    ("TypeScript", "whitespace"): [b"\n  ", b"\n", b"\n"],
    ("GDScript", "condition"): [b"a"],
    ("GDScript", "call"): [b"range(3)", b"m(i)"],
    ("GDScript", "block"): [GDSCRIPT[12:-1], b"o.m(i)", b"pass"],
    ("C++", "condition"): [b"int b = g(1); b"],
    ("C++", "whitespace"): [b"\n  ", b"\n  ", b"\n"],
    ("PHP", "block"): [b"if ($a): $o->m(1); endif;", b"$o->m(1);"],
    ("PHP", "condition"): [b"$a"],
    ("Rust", "condition"): [b"let Some(y) = z"],
    ("Rust", "call"): [b'println!("{}", y)'],
    ("Lua", "call"): [b'print "z"'],
    ("Lua", "block"): [b'if a then print "z" end', b'print "z"'],
    ("Kotlin", "block"): [b"// c\n  return g(a)"],
    ("Scala", "condition"): [b"a > 1"],
    ("C#", "function"): [b"int P() => g(1);", b"void Q() { while (x) { y(); } }"],
    ("C", "condition"): [b"a"],
}
SOURCES = {
    "Python": PYTHON, "Java": JAVA, "Go": GO, "Ruby": RUBY, "TypeScript": TYPESCRIPT, "GDScript": GDSCRIPT, "C++": CPP, "PHP": PHP,
    "Rust": RUST, "Lua": LUA, "Kotlin": KOTLIN, "Scala": SCALA, "C#": CSHARP, "C": C,
    "JavaScript": b"f();\n", "TSX": b"let a = <b>x</b>;\n",
}  # fmt: skip


@pytest.mark.parametrize(("language", "kind"), EXPECTED)
def test_spans_are_those_written_by_hand(language, kind):
    source = SOURCES[language]
    assert [source[span.begin : span.end] for span in list_spans(language, source) if span.kind == kind] == EXPECTED[language, kind]


def test_every_grammar_is_installed_and_accepts_its_language_only_if_it_is_whole():
    assert SOURCES.keys() == list_grammars().keys()
    for language, source in SOURCES.items():
        assert not has_errors(language, source), language
        assert has_errors(language, source + b")"), language
    assert not has_errors("PHP", b"function f() { return 1; }\n")
    with pytest.raises(ConfigError, match=r"no grammar of 'Cobol'\. Languages with grammars: C, C#"):
        parse("Cobol", b"")


def test_no_span_lies_in_or_around_what_the_grammar_refuses():
    source = b"def f():\n    g(1)\n    h(2\n\ndef k():\n    m(3)\n"
    calls = [source[span.begin : span.end] for span in list_spans("Python", source) if span.kind in ("call", "function")]
    assert calls[:1] == [b"g(1)"] and not any(b"h(2" in call for call in calls)


@pytest.mark.parametrize("language", ["Python", "C++", "Ruby", "PHP", "Kotlin"])
def test_any_bytes_give_spans_inside_the_text(language):
    """NUL, invalid UTF-8, deep nesting, CR line ends and a text without end: nothing is raised, and no span is empty."""
    texts = [
        b"",
        b"\0",
        b"\xff\xfe(a)\r\nb\r",
        b"(" * 20_000,
        b"a(" * 5_000,
        b'"${' * 300,
        random.Random(0).randbytes(3_000),
        b" \n ",
    ]
    for text in (*texts, SOURCES[language].replace(b"\n", b"\r\n")):
        for span in list_spans(language, text):
            assert 0 <= span.begin < span.end <= len(text)
            assert span.kind in KINDS
            assert (span.kind == "whitespace") == (not text[span.begin : span.end].strip())


def test_a_text_beyond_the_limits_is_not_parsed():
    assert parse("C", b" " * MAX_BYTES) is not None
    assert parse("C", b" " * (MAX_BYTES + 1)) is None
    assert list_spans("C++", b"a<" * 20_000) == []
    assert has_errors("C++", b"a<" * 20_000)
