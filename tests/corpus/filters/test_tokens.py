"""Counting by joined expressions against Pygments itself."""

import re
from itertools import islice

import pytest
from pygments import lex
from pygments.lexers import find_lexer_class, get_lexer_by_name
from real_code import real_files

from neox_code.corpus.filters.first_characters import find_first_characters
from neox_code.corpus.filters.lexer_states import get_expression, make_alternative
from neox_code.corpus.filters.protocol import Candidate
from neox_code.corpus.filters.token_count import TokenCounter
from neox_code.corpus.filters.tokens import MinTokens, load_token_counter
from neox_code.corpus.languages.polycoder_names import LANGUAGES

FILES = real_files(600, max_bytes=6_000)

SAMPLES = {
    "C": (
        "#if 0\n"
        "int gone;\n"
        "#endif\n"
        "#include <a.h>\n"
        "static int f(const char *s) { /* c */ return s[0] == 'x' ? 0x1fUL : -1.5e3; }\n"
        '"a\\\n'
    ),
    "C#": (
        "#region x\n"
        'namespace A.B { [Attr] class C<T> : D where T : new() { string s = @"v""q"; int P { get; set; } } }\n'
        "#endregion\n"
    ),
    "C++": ('namespace a::b { template <class T> auto f(T&& t) -> decltype(t) { return R"(raw)"; } } // c\nclass X final {};\n'),
    "Go": ('package a\n\nimport "fmt"\n\nfunc (x *T) F(c chan<- int) (err error) { `raw`; x := 0x1p-2 + 1i; go f(); return }\n'),
    "Java": (
        'package a.b;\nimport static c.D.*;\n@Override public <T> List<T> f(int[] a) throws E { return """\n text""" + 1_000L; }\n'
    ),
    "JavaScript": ("const f = async (x) => `a ${x + `b`} c`.replace(/[/]x/gi, ''); /* c */ class A extends B { #p = 0n }\n"),
    "PHP": (
        "<p><?php namespace A; $x = <<<EOT\n"
        "Hello $name {$a['b']}\n"
        "EOT;\n"
        'function f(?int $y = 1): string { return "$x->y"; } ?></p>\n'
    ),
    "Python": (
        "@d\nasync def f(x: int) -> str:\n    '''doc %s'''\n    return rf'{x!r:>{8}}' % (0x1F, 1e5j)  # c\nfrom a import (b as c)\n"
    ),
    "Ruby": (
        "module A\n"
        '  def f(x, *y, &z) = %w[a b].map { |i| "#{i}" }\n'
        "  s = <<~EOS\n"
        "    text #{x}\n"
        "  EOS\n"
        "  /re#{x}/i =~ s\n"
        "end\n"
        "__END__\n"
        "rest\n"
    ),
    "Rust": (
        "#![allow(x)]\nuse a::{b, c};\nfn f<'a, T: X>(s: &'a str) -> Result<u8, ()> { r#\"raw\"#; b'x'; m!{a => 1_u8}; Ok(0) }\n"
    ),
    "Scala": (
        'package a\nimport b._\ncase class C[T](x: Int) extends D with E { def f: String = s"a ${x + 1} $x" /* /* n */ */ }\n'
    ),
    "TypeScript": (
        "import { A } from './a';\n"
        "interface I<T> { readonly x?: T }\n"
        "@D() export abstract class C { private y!: string = `t ${1}` }\n"
    ),
}


@pytest.mark.parametrize("language", LANGUAGES)
def test_token_counts_equal_pygments_in_every_language(language):
    """Whole counts, of code in the language, of pieces of it, and of code in all the others, where lexers yield error tokens."""
    lexer = get_lexer_by_name(language)
    counter = TokenCounter(find_lexer_class(language)())
    own = SAMPLES[language]
    texts = [*SAMPLES.values(), own * 9, own.replace("\n", "\r\n"), own.replace(" ", "\t"), "\ufeff" + own]
    texts += [own[start:] for start in range(1, len(own), 7)] + [own[:end] for end in range(1, len(own), 7)]
    for text in texts:
        whole = sum(1 for _ in lex(text, lexer))
        assert counter.count(text, 10**9) == whole, text
        assert (counter.count(text, 30) >= 30) == (whole >= 30), text


@pytest.mark.parametrize("language", ["Python", "C", "C++", "JavaScript", "Rust"])
def test_stopping_at_the_limit_gives_the_decision_of_a_whole_count(language):
    """On real files, most of them near the limit; in the wrong language too."""
    decisions = set()
    for path in FILES[:: 20 if language == "Python" else 40]:
        text = path.read_bytes().decode("utf-8", "ignore")
        whole = sum(1 for _ in lex(text, get_lexer_by_name(language.lower())))
        for limit in (100, max(1, whole), whole + 1):
            decision = MinTokens(limit).keep(Candidate(path.name, language, len(text), text))
            assert (decision is True) == (whole >= limit), (path, whole, limit)
            decisions.add(decision)
    assert {True, "under 100 tokens"} <= decisions


@pytest.mark.parametrize("text", ["", "\n\n\n", "\ufeffx = 1\n", "\r\n" * 300, "\x00" * 500, "a" * 1000])
def test_unusual_texts_get_the_decision_of_a_whole_count(text):
    whole = sum(1 for _ in lex(text, get_lexer_by_name("c")))
    assert (MinTokens(100).keep(Candidate("x.c", "C", len(text), text)) is True) == (whole >= 100)


def test_a_lexer_with_a_filter_is_left_to_pygments():
    lexer = get_lexer_by_name("python", filters=["whitespace"])
    counter = TokenCounter(lexer)
    assert not counter.states
    text = SAMPLES["Python"]
    assert counter.count(text, 20) == sum(1 for _ in islice(lexer.get_tokens(text), 20))


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_match_begins_with_one_of_the_first_characters(language):
    """Every rule of every state, at every position of code of all languages."""
    text = "".join(SAMPLES.values()) + "".join(map(chr, range(128)))
    found = 0
    for rules in find_lexer_class(language)()._tokens.values():
        for expression in {get_expression(rule) for rule in rules}:
            first = find_first_characters(expression)
            if len(first) < 128:
                begun = {
                    text[match.start()] for match in (expression.match(text, start) for start in range(0, len(text), 3)) if match
                }
                assert begun <= first, expression.pattern
                found += len(begun)
    assert found > 30


@pytest.mark.parametrize(
    ("pattern", "first"),
    [
        (r"(?<!a)\bif\b", "i"),
        (r"(?i:x)|[^\W\d]y", "".join(map(chr, [*range(65, 91), 95, *range(97, 123)]))),
        (r"(a?)(b*)[0-2]", "ab012"),
        (r"(?=a)b", "b"),
        (r"(?>a+)|b++|\d{2}", "ab0123456789"),
        (r"é|[à-ï]", ""),
        (r"(?i)[a-c_][^a]", "abcABC_"),
        (r"(?i)[^a]", "".join(map(chr, range(128)))),
        (r"[^a]", "".join(set(map(chr, range(128))) - {"a"})),
        (r"(?i)[\u017f]", "".join(map(chr, range(128)))),
        (r"(?i)\u212a", "".join(map(chr, range(128)))),
        (r"(a)?(?(1)b|c)", "".join(map(chr, range(128)))),
        (r"x*", "".join(map(chr, range(128)))),
    ],
)
def test_first_characters_of_an_expression(pattern, first):
    assert find_first_characters(re.compile(pattern)) == set(first)


@pytest.mark.parametrize(
    ("pattern", "moved"),
    [
        (r"(['\"])x\1", r"(?:(['\"])x(?:\4))"),
        (r"(a)[\1]\\1(?s:.)", r"(?:(a)[\1]\\1(?s:.))"),
        (r"(?s)a.", r"(?s:a.)"),
        (r"(?P<q>a)(?P=q)", None),
        (r"(a)(?(1)b|c)", None),
        (r"a(?#no)b", "(?:a(?#no)b)"),
    ],
)
def test_patterns_are_rewritten_to_follow_other_groups(pattern, moved):
    assert make_alternative(re.compile(pattern), 0, 3) == moved
    assert make_alternative(re.compile(pattern, re.ASCII), 0, 3) is None


def test_few_rules_are_tried_before_a_character():
    state = load_token_counter("Python").states["root"]
    assert len(state.rules) > 50
    assert sum(len(by_group) for _, by_group in state["+"]) < 20
    assert sum(len(by_group) for _, by_group in state["é"]) == sum(len(by_group) for _, by_group in state[""]) == len(state.rules)
