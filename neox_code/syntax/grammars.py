"""Parse source code with tree-sitter: `parse("Rust", b"fn main() {}")`.

The extra `syntax` installs the compiled grammars, one package a language: nothing is downloaded at run time. Languages have
the names of github-linguist, as in a corpus.
"""

import functools
import importlib
import itertools
import time

from neox_code.errors import ConfigError
from neox_code.languages import list_languages

try:
    import tree_sitter
except ModuleNotFoundError:
    tree_sitter = None  # type: ignore[assignment]

GRAMMARS = {
    "C": "tree_sitter_c:language",
    "C#": "tree_sitter_c_sharp:language",
    "C++": "tree_sitter_cpp:language",
    "Go": "tree_sitter_go:language",
    "Java": "tree_sitter_java:language",
    "JavaScript": "tree_sitter_javascript:language",
    "PHP": "tree_sitter_php:language_php",
    "Python": "tree_sitter_python:language",
    "Ruby": "tree_sitter_ruby:language",
    "Rust": "tree_sitter_rust:language",
    "Scala": "tree_sitter_scala:language",
    "TSX": "tree_sitter_typescript:language_tsx",
    "TypeScript": "tree_sitter_typescript:language_typescript",
}
"""Language -> package and function of its grammar; `list_grammars` adds those of language files."""

PHP_WITHOUT_TAG = "tree_sitter_php:language_php_only"

MAX_BYTES = 2**18
"""Size of the largest text that is parsed. Larger files of source code are mostly generated."""

MAX_CPU_SECONDS = 2.0
BYTES_PER_STEP = 32
"""Limits of a parser's work on one text: CPU time, and steps of about 100 operations. Ordinary code of the largest size needs a
twentieth of a second, and one step for 45 bytes or more. Hostile texts, such as `a<a<a<` in C++, need minutes and gigabytes."""

FREE_STEPS = 1000


def list_grammars() -> dict[str, str]:
    """Return language -> package and function of its grammar, for all languages that have one."""
    return GRAMMARS | {language.name: language.grammar for language in list_languages().values() if language.grammar}


def parse(language: str, source: bytes) -> "tree_sitter.Tree | None":
    """Return the syntax tree of a text; None if the text exceeds the limits of size or work.

    Offsets in the tree are bytes of `source`, which may hold any bytes. PHP without a tag `<?` is read as code. Raise ConfigError
    if there is no grammar of the language, or it is not installed.
    """
    grammars = list_grammars()
    if language not in grammars:
        raise ConfigError(f"there is no grammar of {language!r}. Languages with grammars: {', '.join(grammars)}.")
    grammar = load_grammar(PHP_WITHOUT_TAG if language == "PHP" and b"<?" not in source else grammars[language])
    if len(source) > MAX_BYTES:
        return None
    end, most, steps = time.thread_time() + MAX_CPU_SECONDS, len(source) // BYTES_PER_STEP + FREE_STEPS, itertools.count()
    parser = tree_sitter.Parser(grammar)
    try:
        return parser.parse(
            lambda offset, point: source[offset : offset + 2**16],
            progress_callback=lambda offset, has_error: next(steps) > most or time.thread_time() > end,
        )
    except ValueError:  # the progress callback ended it
        return None


def has_errors(language: str, source: bytes) -> bool:
    """Return True if the grammar does not accept the text as a whole file, or the text exceeds the limits. Raise as `parse`."""
    tree = parse(language, source)
    return tree is None or tree.root_node.has_error


@functools.cache
def load_grammar(place: str) -> "tree_sitter.Language":
    """Return the grammar from `PACKAGE:FUNCTION`; raise ConfigError if it is not installed."""
    package, _, function = place.partition(":")
    try:
        return tree_sitter.Language(getattr(importlib.import_module(package), function)())
    except (ModuleNotFoundError, AttributeError):
        name = package.replace("_", "-")
        raise ConfigError(f"{package} or tree_sitter is not installed. Run: pip install 'neox-code[syntax]' {name}") from None
