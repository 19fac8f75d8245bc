"""Take the code out of a response: `extract_code("Sure:\n```gdscript\nfunc f():\n\tpass\n```")` is `func f():\n\tpass\n`."""

import re
import textwrap

MAX_LENGTH = 2**18

FENCE = re.compile(r"^[ \t]*```[ \t]*(\w*)[^\n]*\n(.*?)(?:^[ \t]*```|\Z)", re.DOTALL | re.MULTILINE)

FENCE_LABELS = ("", "gdscript", "gd", "godot", "gdscript4", "python", "text")

END_OF_TEXT = re.compile(r"(?:<\|endoftext\|>|<\|end\|>|</s>|<EOT>|\n### ).*", re.DOTALL)

PROSE = re.compile(r"[A-Z][\w'\u2019-]*(?:,? [\w'\u2019\"`.-]+){2,}[.:!?]")

BRACKETS = {"(": ")", "[": "]", "{": "}"}

STRING_OR_COMMENT = re.compile(r"#[^\n]*|\"\"\".*?\"\"\"|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'", re.DOTALL)


def extract_code(response: str) -> str:
    """Return the code of a response with its common indentation removed; "" if there is none.

    The first fenced block counts, if there is one. Otherwise lines of prose before and after the code are removed: sentences of
    three words or more. A last line `...` stands for the rest of a long response: open brackets are closed in its place. A response
    of more than 256 KiB is returned as it is.
    """
    if len(response) > MAX_LENGTH:
        return response
    text = END_OF_TEXT.sub("", response.replace("\r\n", "\n").removeprefix("\ufeff"))
    blocks = [body for label, body in FENCE.findall(text) if label.lower() in FENCE_LABELS]
    if blocks:
        text = blocks[0]
    lines = text.rstrip().split("\n")
    code_lines = [index for index, line in enumerate(lines) if line.strip() and not PROSE.fullmatch(line.strip())]
    if not code_lines:
        return ""
    lines = lines[code_lines[0] : code_lines[-1] + 1]
    if lines[-1].strip() in ("...", "…"):
        lines[-1] = close_brackets("\n".join(lines[:-1]))
    code = textwrap.dedent("\n".join(lines)).strip()  # a first line may begin with a space that the others lack
    return code + "\n" if code else ""


def close_brackets(code: str) -> str:
    """Return the brackets that close those which are open at the end of the code."""
    open_brackets: list[str] = []
    for character in STRING_OR_COMMENT.sub("", code):
        if character in BRACKETS:
            open_brackets.append(BRACKETS[character])
        elif open_brackets and character == open_brackets[-1]:
            open_brackets.pop()
    return "".join(reversed(open_brackets))
