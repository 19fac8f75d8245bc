"""Extract the description of a function from its comments, to be used as the instruction to write it.

describe_from_comments(["## Adds [param a].\\n", "# ------\\n"])     "Adds `a`."
describe_from_docstring('\"\"\"Adds.\"\"\"')                            "Adds."
describe_from_kdoc("/** Adds.\\n * @param a a number */")           "Adds."

Comment lines begin with `#` or `//`. Directives for tools (regions, warnings), horizontal rules and disabled code are left out.
"""

import re
from collections.abc import Iterable, Sequence
from inspect import cleandoc

TOOL_DIRECTIVE = re.compile(
    r"(?:end)?region\b|warnings?-(?:ignore|disable)|gd(?:lint|format)\b|TODO\b|FIXME\b|HACK\b|noinspection\b"
)
RULE = re.compile(r"[-=*#~_/+ ]{3,}")
RULES_BESIDE = re.compile(r"^[-=*#~_/+]{2,}\s+|\s+[-=*#~_/+]{2,}$")
LOOKS_LIKE_CODE = re.compile(
    r"(?:(?:static )?func|var|const|if|elif|else|for|while|return|match|pass|print|yield|await|emit_signal|extends)\b"
    r"|@\w|\w+(?:\.\w+)*\s*[-+*/]?=[^=]|[\w.$/]+\(.*\)\s*$|.*:$"
)
DISABLED_CODE = re.compile(r"(?:#|//)(?![#/\s])")
"""A comment without a space after its mark is disabled code, by Godot's style guide and the editors' command to toggle comments."""

TEMPLATE_COMMENT = re.compile(r"Called when the node enters the scene tree for the first time|Called every frame\b")
"""Comments that Godot's editor writes into every new script."""

NAME_IN_BRACKETS = re.compile(
    r"\[(?:param|member|method|constant|enum|signal|annotation|theme_item|constructor|operator) ([^\]]+)\]"
)
MARKUP = re.compile(r"\[/?(?:b|i|u|s|code|codeblocks?|kbd|center|gdscript|csharp|color(?:=\w+)?|url(?:=[^\]]*)?)\]")
TAGS = re.compile(r"@(?:tutorial|deprecated|experimental)\b.*")
KDOC_TAG = re.compile(r"^\s*@\w+", re.MULTILINE)


def describe_from_comments(comments: Sequence[str]) -> str:
    """Return the text of comment lines. If some begin with `##`, Godot's mark for documentation, use only these lines.

    >>> describe_from_comments(["# --- Movement ---\\n", "#speed = 3\\n", "#\\n", "# Moves it.\\n"])
    'Movement\\n\\nMoves it.'
    """
    lines = [comment.strip() for comment in comments]
    if any(line.startswith("##") and line.strip("#").strip() for line in lines):
        lines = [line for line in lines if line.startswith("##")]
    return join_lines(text for line in lines if (text := clean_comment(line)) is not None)


def clean_comment(line: str) -> str | None:
    """Return the text of a comment line without markup; "" for a horizontal rule, None for a directive or disabled code."""
    text = line.lstrip("#/").strip()
    if TOOL_DIRECTIVE.match(text) or TEMPLATE_COMMENT.match(text) or (DISABLED_CODE.match(line) and LOOKS_LIKE_CODE.match(text)):
        return None
    text = TAGS.sub("", NAME_IN_BRACKETS.sub(r"`\1`", text).replace("[br]", ""))
    return "" if RULE.fullmatch(text) else RULES_BESIDE.sub("", MARKUP.sub("", text)).strip()


def describe_from_docstring(literal: str) -> str:
    """Return the text of a docstring, given as a string literal with single or triple quotes."""
    for quotes in ('"""', "'''", '"', "'"):
        if literal.startswith(quotes) and literal.endswith(quotes) and len(literal) >= 2 * len(quotes):
            return cleandoc(literal[len(quotes) : -len(quotes)]).strip()
    return ""


def describe_from_kdoc(comment: str) -> str:
    """Return the text of a Kotlin documentation comment before its first tag, such as `@param`.

    >>> describe_from_kdoc("/**\\n * Adds\\n * both.\\n *\\n * @return the sum\\n */")
    'Adds\\nboth.'
    """
    lines = comment.removeprefix("/**").removesuffix("*/").splitlines()
    text = "\n".join(re.sub(r"^\s*\* ?", "", line) for line in lines)
    tag = KDOC_TAG.search(text)
    return join_lines((text if tag is None else text[: tag.start()]).splitlines())


def join_lines(lines: Iterable[str]) -> str:
    """Join lines. Remove blank lines at both ends, and keep one of several blank lines in a row."""
    text = "\n".join(line.strip() for line in lines)
    return re.sub(r"\n{3,}", "\n\n", text).strip()
