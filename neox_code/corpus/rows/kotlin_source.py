"""The functions of a Kotlin file, by its rules of strings, comments, brackets and ends of lines.

    for function in kotlin_functions(text):
        function.code             from its annotations and modifiers to the end of its body, byte for byte
        function.description      the KDoc or the comments directly above it; "" where there are none
    masked, comments = mask(text)                   without what strings and comments say

Functions are those of the file and of its classes; local ones and lambdas belong to the function around them. A function without a
body (abstract, expected, of an interface) is left out.
"""

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from neox_code.corpus.rows.descriptions import description_of_kdoc, description_of_lines

TOKEN_OF_CODE = re.compile(r'//[^\n]*|/\*|"""|"|\'(?:[^\'\\\n]|\\[^\n]{1,5}?)\'|`[^`\n]+`|[{}]')
LONGEST_HEADER = 5_000
"""Characters between `fun` and a body, what is in brackets not counted."""
MARK_OF_COMMENT = re.compile(r"/\*|\*/")
TOKEN_OF_STRING = {'"': re.compile(r'\\.|\$\{|"|\n', re.DOTALL), '"""': re.compile(r'\$\{|"{3,}')}
DEEPEST = 50
"""Strings within templates within strings; what is deeper is not code that people wrote."""

ARGUMENTS = r"\((?:[^()]|\((?:[^()]|\([^()]*+\))*+\))*+\)"
ANNOTATION = rf"@(?:\w+:)?(?:\[[^\]]*+\]|[\w.]+(?:<[^<>]*+>)?(?:{ARGUMENTS})?)"
MODIFIER = (
    r"\b(?:public|private|protected|internal|override|open|abstract|final|suspend|inline|infix|operator|tailrec|external"
    r"|actual|expect)\b"
)
FUNCTION = re.compile(rf"(?:{ANNOTATION}\s*|{MODIFIER}\s+){{0,40}}+\bfun\b(?!\s+interface\b)")
OPEN = "([{"
BRACKET = re.compile(r"[()\[\]{}]")
BRACKET_OR_LINE_END = re.compile(r"[()\[\]{};\n]")
SIGN_OF_NAME = re.compile(r"[<({}=;]|\bfun\b")
SIGN_OF_ANGLES = re.compile(r"->|[<>{}=;]|\bfun\b")
SIGN_OF_BODY = re.compile(r"[<(\[{=});\n]|\bfun\b")
NAME_BEFORE = re.compile(r"\w\s*\Z")
RECEIVER_AFTER = re.compile(r"\s*\??\s*\.")
HEADER_GOES_ON = re.compile(r"\s*(?:[{=:,]|where\b|->)")
NEXT_LINE = re.compile(r"(?:[ \t\r]*\n)*(?P<indent>[ \t]*)(?=\S)")
GOES_ON = re.compile(r"\.|\?\.|\?:|&&|\|\||(?:else|as|catch|finally)\b")
DECLARES = re.compile(rf"@|{MODIFIER}|\b(?:fun|val|var|class|object|interface|typealias)\b")
ENDS_THAT_GO_ON = ("=", "+", "-", "*", "/", "%", "&&", "||", "?:", ".", "->", "<", "else")
REST_OF_LINE = re.compile(r"[ \t\r]*(?:\n|\Z)")
NOTICE = re.compile(r"copyright|licen[cs]e", re.IGNORECASE)


class KotlinFunction(NamedTuple):
    code: str
    description: str


class Code(NamedTuple):
    masked: str
    closing: Mapping[int, int]
    """The place of the bracket that closes the one at a place."""

    def after_bracket(self, place: int) -> int:
        return self.closing.get(place, len(self.masked) - 1) + 1


def kotlin_functions(text: str) -> Iterator[KotlinFunction]:
    if "fun" not in text:
        return
    masked, comments = mask(text)
    code = Code(masked, closing_brackets(masked))
    begin_of_comment = {end: start for start, end in comments}
    end = 0
    while header := FUNCTION.search(masked, end):
        end = header.end()
        parameters = end_of_name(code, end)
        body = None if parameters is None else end_of_body(code, header.start(), parameters)
        if body is None:
            continue
        end = body
        start = text.rfind("\n", 0, header.start()) + 1
        start = header.start() if text[start : header.start()].strip() else start
        rest = REST_OF_LINE.match(text, end)
        yield KotlinFunction(text[start : rest.end() if rest else end], description(text, header.start(), begin_of_comment))


def nesting(text: str) -> list[int]:
    """How many brackets are open where each line begins, and one more within a string or a comment.

    >>> nesting("fun f() {\\n    g(\\n        1)\\n}\\n/*\\n */\\nval x = 1\\n")
    [0, 1, 2, 1, 0, 1, 0, 0]
    """
    masked, comments = mask(text)
    within = {place for start, end in comments for place in range(start, end) if text[place] == "\n"}
    within.update(place for place, (was, now) in enumerate(zip(text, masked, strict=True)) if was == "\n" and now != was)
    depths, depth = [0], 0
    for place in sorted(within.union(found.start() for found in BRACKET_OR_LINE_END.finditer(masked))):
        if text[place] == "\n":
            depths.append(depth + (place in within))
        else:
            depth = max(depth + (masked[place] in OPEN) - (masked[place] in ")]}"), 0)
    return depths


def mask(text: str) -> tuple[str, list[tuple[int, int]]]:
    """The text, as long as it is, with strings and quoted names as underscores and comments as white space; the comments' places.

    >>> mask('f("a ${ g("}") } b") // no')
    ('f(_________________)      ', [(21, 26)])
    """
    masked: list[str] = []
    comments: list[tuple[int, int]] = []
    place = 0
    while token := TOKEN_OF_CODE.search(text, place):
        masked.append(text[place : token.start()])
        place = end_of_token(text, token, 0)
        found = text[token.start() : place]
        if found.startswith("/"):
            comments.append((token.start(), place))
            masked.append(re.sub(r"[^\n]", " ", found))
        else:
            masked.append(found if found in "{}" else "_" * len(found))
    return "".join((*masked, text[place:])), comments


def end_of_token(text: str, token: re.Match[str], depth: int) -> int:
    if token[0] == "/*":
        return end_of_comment(text, token.end())
    return end_of_string(text, token.end(), token[0], depth) if token[0] in TOKEN_OF_STRING else token.end()


def end_of_comment(text: str, place: int) -> int:
    """Comments stand within comments."""
    depth = 1
    while mark := MARK_OF_COMMENT.search(text, place):
        place = mark.end()
        depth += 1 if mark[0] == "/*" else -1
        if not depth:
            return place
    return len(text)


def end_of_string(text: str, place: int, quotes: str, depth: int) -> int:
    """A string that is left open ends with its line, or with the file."""
    while token := TOKEN_OF_STRING[quotes].search(text, place):
        if token[0] == "\n":
            return token.start()
        place = token.end()
        if token[0] == "${":
            place = end_of_template(text, place, depth + 1)
        elif token[0].startswith(quotes):
            return place
    return len(text)


def end_of_template(text: str, place: int, depth: int) -> int:
    """After the brace that closes a template in a string, past the strings and braces in it."""
    braces = 0
    while depth < DEEPEST and (token := TOKEN_OF_CODE.search(text, place)):
        place = end_of_token(text, token, depth)
        if token[0] == "}" and not braces:
            return place
        braces += (token[0] == "{") - (token[0] == "}")
    return len(text)


def end_of_name(code: Code, place: int) -> int | None:
    """Where the parameters of a named function begin, after `fun`, its type parameters and its receiver; None if it has no name."""
    masked, begin = code.masked, place
    while sign := SIGN_OF_NAME.search(masked, place, begin + LONGEST_HEADER):
        place = sign.start()
        if sign[0] == "<":
            place = end_of_angles(masked, place)
        elif sign[0] != "(":
            return None
        elif NAME_BEFORE.search(masked[begin:place]):
            return place
        else:
            place = code.after_bracket(place)
            if not RECEIVER_AFTER.match(masked, place):
                return None
    return None


def end_of_angles(masked: str, place: int) -> int:
    depth, end = 0, min(len(masked), place + LONGEST_HEADER)
    for sign in SIGN_OF_ANGLES.finditer(masked, place, end):
        depth += {"<": 1, ">": -1}.get(sign[0], 0)
        if sign[0] == "fun":
            return sign.start()
        if not depth or sign[0] in "{}=;":
            return sign.end()
    return end


def closing_brackets(masked: str) -> dict[int, int]:
    """Brackets of the three kinds are counted alike: in code that is whole it is the same."""
    closing, open_places = {}, []
    for bracket in BRACKET.finditer(masked):
        if bracket[0] in OPEN:
            open_places.append(bracket.start())
        elif open_places:
            closing[open_places.pop()] = bracket.start()
    return closing


def end_of_body(code: Code, start: int, parameters: int) -> int | None:
    """The end of a function's block or expression; None if it has neither."""
    place = sign_of_body(code, code.after_bracket(parameters))
    if place is None:
        return None
    if code.masked[place] == "{":
        return code.after_bracket(place)
    return end_of_expression(code, place + 1, indent_at(code.masked, start))


def sign_of_body(code: Code, place: int) -> int | None:
    """Where the `{` or `=` is that begins a body, past the type and the constraints."""
    masked, longest = code.masked, place + LONGEST_HEADER
    while sign := SIGN_OF_BODY.search(masked, place, longest):
        place = sign.start()
        if sign[0] in "{=":
            return place
        if sign[0] in "([":
            place = code.after_bracket(place)
        elif sign[0] == "<":
            place = end_of_angles(masked, place)
        elif sign[0] == "\n" and header_goes_on(masked, place):
            place += 1
        else:
            return None
    return None


def header_goes_on(masked: str, line_end: int) -> bool:
    return HEADER_GOES_ON.match(masked, line_end) is not None or masked[end_of_text(masked, line_end) - 1] in ",:"


def end_of_expression(code: Code, place: int, indent: int) -> int:
    """The end of the last line that the expression goes on to: by open brackets, signs, or indentation deeper than `indent`."""
    masked, last = code.masked, place
    while found := BRACKET_OR_LINE_END.search(masked, place):
        if said := masked[place : found.start()].rstrip():
            last = place + len(said)
        if found[0] in OPEN:
            place = last = code.after_bracket(found.start())
            continue
        following = NEXT_LINE.match(masked, found.end())
        if found[0] != "\n" or following is None:
            return last
        is_deeper = len(following["indent"]) > indent and not DECLARES.match(masked, following.end())
        is_open = masked[max(last - 4, 0) : last].endswith(ENDS_THAT_GO_ON)
        if not (is_deeper or is_open or GOES_ON.match(masked, following.end())):
            return last
        place = following.end()
    return place + len(masked[place:].rstrip())


def indent_at(masked: str, place: int) -> int:
    line = masked[masked.rfind("\n", 0, place) + 1 : place]
    return len(line) - len(line.lstrip(" \t"))


def description(text: str, start: int, begin_of_comment: Mapping[int, int]) -> str:
    """What the comment or the lines of comments directly above a function say."""
    lines: list[str] = []
    end = end_of_text(text, start)
    while (begin := begin_of_comment.get(end)) is not None and text.count("\n", end, start) < 2:
        if text.startswith("/*", begin):
            said = "" if lines or NOTICE.search(text, begin, end) else description_of_kdoc(text[begin:end])
            return said or description_of_lines(lines[::-1])
        if text[text.rfind("\n", 0, begin) + 1 : begin].strip():
            break
        lines.append(text[begin:end])
        start, end = begin, end_of_text(text, begin)
    return description_of_lines(lines[::-1])


def end_of_text(text: str, place: int) -> int:
    """Before the white space that ends at `place`."""
    while place and text[place - 1].isspace():
        place -= 1
    return place
