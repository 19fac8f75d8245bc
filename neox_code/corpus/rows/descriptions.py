"""What people say of a function in front of it, as an instruction to write it.

description_of_lines(["## Adds [param a].\\n", "# ------\\n"])       "Adds `a`."
description_of_string('\"\"\"Adds.\"\"\"')                              "Adds."
description_of_kdoc("/** Adds.\\n * @param a a number */")          "Adds."

Lines begin with `#` or `//`. Those that speak to tools (regions, warnings), rules of dashes, and code that is switched off are left
out.
"""

import re
from collections.abc import Iterable, Sequence
from inspect import cleandoc

SPEAKS_TO_TOOLS = re.compile(
    r"(?:end)?region\b|warnings?-(?:ignore|disable)|gd(?:lint|format)\b|TODO\b|FIXME\b|HACK\b|noinspection\b"
)
RULE = re.compile(r"[-=*#~_/+ ]{3,}")
RULES_BESIDE = re.compile(r"^[-=*#~_/+]{2,}\s+|\s+[-=*#~_/+]{2,}$")
LOOKS_LIKE_CODE = re.compile(
    r"(?:(?:static )?func|var|const|if|elif|else|for|while|return|match|pass|print|yield|await|emit_signal|extends)\b"
    r"|@\w|\w+(?:\.\w+)*\s*[-+*/]?=[^=]|[\w.$/]+\(.*\)\s*$|.*:$"
)
DISABLED_CODE = re.compile(r"(?:#|//)(?![#/\s])")
"""Godot's style guide, and what editors do: a comment begins with a space, code that is switched off does not."""

OF_TEMPLATES = re.compile(r"Called when the node enters the scene tree for the first time|Called every frame\b")
"""Comments that Godot's editor puts into every new script."""

NAME_IN_BRACKETS = re.compile(
    r"\[(?:param|member|method|constant|enum|signal|annotation|theme_item|constructor|operator) ([^\]]+)\]"
)
MARKUP = re.compile(r"\[/?(?:b|i|u|s|code|codeblocks?|kbd|center|gdscript|csharp|color(?:=\w+)?|url(?:=[^\]]*)?)\]")
TAGS = re.compile(r"@(?:tutorial|deprecated|experimental)\b.*")
KDOC_TAG = re.compile(r"^\s*@\w+", re.MULTILINE)


def description_of_lines(comments: Sequence[str]) -> str:
    """What lines of comments say; where some begin with `##`, which is Godot's mark of documentation, those alone.

    >>> description_of_lines(["# --- Movement ---\\n", "#speed = 3\\n", "#\\n", "# Moves it.\\n"])
    'Movement\\n\\nMoves it.'
    """
    lines = [comment.strip() for comment in comments]
    if any(line.startswith("##") and line.strip("#").strip() for line in lines):
        lines = [line for line in lines if line.startswith("##")]
    return joined(said for line in lines if (said := said_by(line)) is not None)


def said_by(line: str) -> str | None:
    said = line.lstrip("#/").strip()
    if SPEAKS_TO_TOOLS.match(said) or OF_TEMPLATES.match(said) or (DISABLED_CODE.match(line) and LOOKS_LIKE_CODE.match(said)):
        return None
    said = TAGS.sub("", NAME_IN_BRACKETS.sub(r"`\1`", said).replace("[br]", ""))
    return "" if RULE.fullmatch(said) else RULES_BESIDE.sub("", MARKUP.sub("", said)).strip()


def description_of_string(literal: str) -> str:
    """What a docstring says; a string with one pair of quotes is one as well."""
    for quotes in ('"""', "'''", '"', "'"):
        if literal.startswith(quotes) and literal.endswith(quotes) and len(literal) >= 2 * len(quotes):
            return cleandoc(literal[len(quotes) : -len(quotes)]).strip()
    return ""


def description_of_kdoc(comment: str) -> str:
    """What a documentation comment of Kotlin says before its first tag, such as `@param`.

    >>> description_of_kdoc("/**\\n * Adds\\n * both.\\n *\\n * @return the sum\\n */")
    'Adds\\nboth.'
    """
    lines = comment.removeprefix("/**").removesuffix("*/").splitlines()
    text = "\n".join(re.sub(r"^\s*\* ?", "", line) for line in lines)
    tag = KDOC_TAG.search(text)
    return joined((text if tag is None else text[: tag.start()]).splitlines())


def joined(lines: Iterable[str]) -> str:
    """The lines without blank ones at the ends, and with at most one in a row between."""
    text = "\n".join(line.strip() for line in lines)
    return re.sub(r"\n{3,}", "\n\n", text).strip()
