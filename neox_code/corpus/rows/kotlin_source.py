"""Find the functions of a Kotlin file by the language's rules for strings, comments, brackets and line ends.

    for function in find_kotlin_functions(text):
        function.code             from its annotations and modifiers to the end of its body, byte for byte
        function.description      the KDoc or the comments directly above it; "" if it has neither
    masked, comments = mask_text(text)              the text with strings and comments masked; (start, end) of the comments

Functions of the file and of its classes are found. A local function or a lambda is part of the function around it. A function
without a body (abstract, `expect`, or of an interface) is left out.
"""

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from neox_code.corpus.rows.descriptions import describe_from_comments, describe_from_kdoc

TOKEN_OF_CODE = re.compile(r'//[^\n]*|/\*|"""|"|\'(?:[^\'\\\n]|\\[^\n]{1,5}?)\'|`[^`\n]+`|[{}]')
LONGEST_HEADER = 5_000
"""Maximum number of characters between `fun` and the body. Text in brackets is not counted."""
MARK_OF_COMMENT = re.compile(r"/\*|\*/")
TOKEN_OF_STRING = {'"': re.compile(r'\\.|\$\{|"|\n', re.DOTALL), '"""': re.compile(r'\$\{|"{3,}')}
DEEPEST = 50
"""Maximum nesting of strings in templates of strings. It limits recursion on broken code."""

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
CONTINUES_HEADER = re.compile(r"\s*(?:[{=:,]|where\b|->)")
NEXT_LINE = re.compile(r"(?:[ \t\r]*\n)*(?P<indent>[ \t]*)(?=\S)")
CONTINUES_EXPRESSION = re.compile(r"\.|\?\.|\?:|&&|\|\||(?:else|as|catch|finally)\b")
DECLARES = re.compile(rf"@|{MODIFIER}|\b(?:fun|val|var|class|object|interface|typealias)\b")
OPEN_ENDS = ("=", "+", "-", "*", "/", "%", "&&", "||", "?:", ".", "->", "<", "else")
REST_OF_LINE = re.compile(r"[ \t\r]*(?:\n|\Z)")
NOTICE = re.compile(r"copyright|licen[cs]e", re.IGNORECASE)


class KotlinFunction(NamedTuple):
    code: str
    description: str


class Code(NamedTuple):
    masked: str
    closing: Mapping[int, int]
    """Maps the index of each opening bracket to the index of its closing bracket."""

    def skip_bracket(self, place: int) -> int:
        """Return the index after the bracket that closes the bracket at `place`; the length of the text if there is none."""
        return self.closing.get(place, len(self.masked) - 1) + 1


def find_kotlin_functions(text: str) -> Iterator[KotlinFunction]:
    """Yield the functions of a file in their order."""
    if "fun" not in text:
        return
    masked, comments = mask_text(text)
    code = Code(masked, match_brackets(masked))
    comment_start_by_end = {end: start for start, end in comments}
    end = 0
    while header := FUNCTION.search(masked, end):
        end = header.end()
        parameters = find_parameters(code, end)
        end_of_body = None if parameters is None else find_end_of_body(code, header.start(), parameters)
        if end_of_body is None:
            continue
        end = end_of_body
        start = text.rfind("\n", 0, header.start()) + 1
        start = header.start() if text[start : header.start()].strip() else start
        rest = REST_OF_LINE.match(text, end)
        description = find_description(text, header.start(), comment_start_by_end)
        yield KotlinFunction(text[start : rest.end() if rest else end], description)


def count_nesting_depths(text: str) -> list[int]:
    """Return the number of open brackets at the start of each line, plus one if the line starts within a string or comment.

    >>> count_nesting_depths("fun f() {\\n    g(\\n        1)\\n}\\n/*\\n */\\nval x = 1\\n")
    [0, 1, 2, 1, 0, 1, 0, 0]
    """
    masked, comments = mask_text(text)
    within = {place for start, end in comments for place in range(start, end) if text[place] == "\n"}
    within.update(place for place, (was, now) in enumerate(zip(text, masked, strict=True)) if was == "\n" and now != was)
    depths, depth = [0], 0
    for place in sorted(within.union(found.start() for found in BRACKET_OR_LINE_END.finditer(masked))):
        if text[place] == "\n":
            depths.append(depth + (place in within))
        else:
            depth = max(depth + (masked[place] in OPEN) - (masked[place] in ")]}"), 0)
    return depths


def mask_text(text: str) -> tuple[str, list[tuple[int, int]]]:
    """Return the text with strings and quoted names masked by underscores and comments by spaces, and (start, end) of each comment.

    The length of the text stays the same.

    >>> mask_text('f("a ${ g("}") } b") // no')
    ('f(_________________)      ', [(21, 26)])
    """
    masked: list[str] = []
    comments: list[tuple[int, int]] = []
    place = 0
    while token := TOKEN_OF_CODE.search(text, place):
        masked.append(text[place : token.start()])
        place = find_end_of_token(text, token, 0)
        found = text[token.start() : place]
        if found.startswith("/"):
            comments.append((token.start(), place))
            masked.append(re.sub(r"[^\n]", " ", found))
        else:
            masked.append(found if found in "{}" else "_" * len(found))
    return "".join((*masked, text[place:])), comments


def find_end_of_token(text: str, token: re.Match[str], depth: int) -> int:
    if token[0] == "/*":
        return find_end_of_comment(text, token.end())
    return find_end_of_string(text, token.end(), token[0], depth) if token[0] in TOKEN_OF_STRING else token.end()


def find_end_of_comment(text: str, place: int) -> int:
    """Return the index after the block comment at `place`. Kotlin's block comments can be nested."""
    depth = 1
    while mark := MARK_OF_COMMENT.search(text, place):
        place = mark.end()
        depth += 1 if mark[0] == "/*" else -1
        if not depth:
            return place
    return len(text)


def find_end_of_string(text: str, place: int, quotes: str, depth: int) -> int:
    """Return the index after the string at `place`. If it is not closed, it ends with its line; a raw string, with the file."""
    while token := TOKEN_OF_STRING[quotes].search(text, place):
        if token[0] == "\n":
            return token.start()
        place = token.end()
        if token[0] == "${":
            place = find_end_of_template(text, place, depth + 1)
        elif token[0].startswith(quotes):
            return place
    return len(text)


def find_end_of_template(text: str, place: int, depth: int) -> int:
    """Return the index after the brace that closes a string's template `${...}`. Strings and braces in the template are skipped."""
    braces = 0
    while depth < DEEPEST and (token := TOKEN_OF_CODE.search(text, place)):
        place = find_end_of_token(text, token, depth)
        if token[0] == "}" and not braces:
            return place
        braces += (token[0] == "{") - (token[0] == "}")
    return len(text)


def find_parameters(code: Code, place: int) -> int | None:
    """Return the index of the parenthesis that opens a function's parameters; None if the function has no name.

    `place` is the index after `fun`. Type parameters and a receiver are skipped.
    """
    masked, begin = code.masked, place
    while sign := SIGN_OF_NAME.search(masked, place, begin + LONGEST_HEADER):
        place = sign.start()
        if sign[0] == "<":
            place = find_end_of_angle_brackets(masked, place)
        elif sign[0] != "(":
            return None
        elif NAME_BEFORE.search(masked[begin:place]):
            return place
        else:
            place = code.skip_bracket(place)
            if not RECEIVER_AFTER.match(masked, place):
                return None
    return None


def find_end_of_angle_brackets(masked: str, place: int) -> int:
    """Return the index after the `>` that closes the `<` at `place`, or the index of the first code that cannot be between them."""
    depth, end = 0, min(len(masked), place + LONGEST_HEADER)
    for sign in SIGN_OF_ANGLES.finditer(masked, place, end):
        depth += {"<": 1, ">": -1}.get(sign[0], 0)
        if sign[0] == "fun":
            return sign.start()
        if not depth or sign[0] in "{}=;":
            return sign.end()
    return end


def match_brackets(masked: str) -> dict[int, int]:
    """Return index of each opening bracket -> index of its closing bracket. The three kinds of brackets are treated alike."""
    closing, open_places = {}, []
    for bracket in BRACKET.finditer(masked):
        if bracket[0] in OPEN:
            open_places.append(bracket.start())
        elif open_places:
            closing[open_places.pop()] = bracket.start()
    return closing


def find_end_of_body(code: Code, start: int, parameters: int) -> int | None:
    """Return the index after a function's body (a block or an expression); None if it has no body."""
    place = find_start_of_body(code, code.skip_bracket(parameters))
    if place is None:
        return None
    if code.masked[place] == "{":
        return code.skip_bracket(place)
    return find_end_of_expression(code, place + 1, measure_indent_at(code.masked, start))


def find_start_of_body(code: Code, place: int) -> int | None:
    """Return the index of the `{` or `=` that begins a function's body; None if it has none. `place` is after the parameters."""
    masked, longest = code.masked, place + LONGEST_HEADER
    while sign := SIGN_OF_BODY.search(masked, place, longest):
        place = sign.start()
        if sign[0] in "{=":
            return place
        if sign[0] in "([":
            place = code.skip_bracket(place)
        elif sign[0] == "<":
            place = find_end_of_angle_brackets(masked, place)
        elif sign[0] == "\n" and is_header_continued(masked, place):
            place += 1
        else:
            return None
    return None


def is_header_continued(masked: str, line_end: int) -> bool:
    return CONTINUES_HEADER.match(masked, line_end) is not None or masked[skip_space_before(masked, line_end) - 1] in ",:"


def find_end_of_expression(code: Code, place: int, indent: int) -> int:
    """Return the index after an expression. An open bracket, an operator or a deeper indentation than `indent` continues a line."""
    masked, last = code.masked, place
    while found := BRACKET_OR_LINE_END.search(masked, place):
        if part := masked[place : found.start()].rstrip():
            last = place + len(part)
        if found[0] in OPEN:
            place = last = code.skip_bracket(found.start())
            continue
        following = NEXT_LINE.match(masked, found.end())
        if found[0] != "\n" or following is None:
            return last
        is_deeper = len(following["indent"]) > indent and not DECLARES.match(masked, following.end())
        is_open = masked[max(last - 4, 0) : last].endswith(OPEN_ENDS)
        if not (is_deeper or is_open or CONTINUES_EXPRESSION.match(masked, following.end())):
            return last
        place = following.end()
    return place + len(masked[place:].rstrip())


def measure_indent_at(masked: str, place: int) -> int:
    line = masked[masked.rfind("\n", 0, place) + 1 : place]
    return len(line) - len(line.lstrip(" \t"))


def find_description(text: str, start: int, comment_start_by_end: Mapping[int, int]) -> str:
    """Return the text of the block comment or comment lines directly above the function that begins at `start`."""
    lines: list[str] = []
    end = skip_space_before(text, start)
    while (begin := comment_start_by_end.get(end)) is not None and text.count("\n", end, start) < 2:
        if text.startswith("/*", begin):
            kdoc = "" if lines or NOTICE.search(text, begin, end) else describe_from_kdoc(text[begin:end])
            return kdoc or describe_from_comments(lines[::-1])
        if text[text.rfind("\n", 0, begin) + 1 : begin].strip():
            break
        lines.append(text[begin:end])
        start, end = begin, skip_space_before(text, begin)
    return describe_from_comments(lines[::-1])


def skip_space_before(text: str, place: int) -> int:
    """Return the index where the white space before `place` starts."""
    while place and text[place - 1].isspace():
        place -= 1
    return place
