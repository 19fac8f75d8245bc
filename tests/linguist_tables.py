"""Write the data files of neox_code/corpus/linguist from an installed linguist: `python tests/linguist_tables.py GEM/lib/linguist`.

It copies names, types, groups, extensions, file names, interpreters and aliases of languages.yml; the popular languages and
the generic extensions; the path patterns of vendor.yml and documentation.yml; and the rules of heuristics.yml, their regular
expressions rewritten for Python's `re`.
"""

import argparse
import json
import re
from pathlib import Path
from typing import Any

import yaml

from neox_code.corpus.linguist import content

FOLDER = Path(content.__file__).parent

REWRITTEN = (
    # Ruby syntax that Python writes differently.
    (r"[\s&&[^\n]]", r"[^\S\n]"),
    (r"[\s&&[^\r\n]]", r"[^\S\r\n]"),
    ("(?-m)", ""),
    (r"\R", r"(?:\r\n|[\n\v\f\r])"),
    (r"\z", r"\Z"),
    ("(?m:", "(?s:"),
    # Same matches, without scanning all blank lines that follow each line.
    (r"^\s*", r"^[^\S\n]*"),
    (r"^(\s*)", r"^([^\S\n]*)"),
    (r"^\s+", r"^(?:[^\S\n]+|[^\S\n]*\n)"),
    (r"|\s*)function", "|)function"),
    (r"^(\s*namespace", r"^([^\S\n]*namespace"),
    (r"|\s*\/\/)", r"|[^\S\n]*//)"),
    # Assembly of .inc: a run over several lines reaches back to the start of its last one, too.
    (r'^(?i)[^"m]*mov', r'^(?i)[^"m\n]*mov'),
    # INI of .service: the same; MiniYAML of .yml, cubic: the first letter before a colon is enough.
    (r"^[#\s]*\[", r"^(?:#|[^\S\n])*\["),
    (r"^\t+.*?[^\s:].*?:", r"^\t(?:[^\S\n]|:)*+[^\s:][^:\n]*+:"),
    # LoomScript: cubic; the middle part matches white space, too.
    (r"package\s*[\w\.\/\*\s]*\s*{", r"package[\w\.\/\*\s]*{"),
    # Makefile of .d: cubic; here only the first slash and the first colon of a line are tried.
    (r"[\/\\].*:\s+.*\s\\$", r"^[^/\\\n]*+[/\\](?>.*?:\s+).*\s\\$"),
    (r"^[\w\s\/\\.]+\w+\.\w+\s*:\s+[\w\s\/\\.]+\w+\.\w+", r"^[\w \t/\\.]+\w\.\w+[^\S\n]*:\s+[\w\s/\\.]+\w\.\w"),
)


OUR_RULES: dict[str, list[tuple[list[str], list[tuple[str, bool]]]]] = {
    ".cfg": [(["HAProxy"], [(r"^(?:frontend|backend|listen|defaults|global)\b(?![^\S\n]*=)", True)]), (["INI"], [])],
    ".jq": [(["JSONiq"], [(r"^[^\S\n]*(?:for|let) \$|\(:", True)]), (["jq"], [])],
}
"""Rules for extensions that linguist resolves with its classifier; without them the rarer language would be chosen."""


def convert_pattern(ruby: str | list[str]) -> str:
    """Return the pattern for `re.compile(..., re.MULTILINE | re.ASCII)`.

    >>> convert_pattern("(?im)^\\\\s*btst\\\\b")
    '(?is:^[^\\\\S\\\\n]*btst\\\\b)'
    """
    if isinstance(ruby, list):
        return "|".join(f"(?:{convert_pattern(one)})" for one in ruby)
    if "ft|syntax" in ruby:
        return content.VIM_HELP
    for old, new in REWRITTEN:
        ruby = ruby.replace(old, new)
    ruby = ruby.removeprefix(r"\s*")
    for name, body in re.findall(r"\(\?<(\w+)>((?:[^()]|\((?:[^()]|\([^()]*\))*\))*)\)", ruby):
        ruby = ruby.replace(rf"\g<{name}>", f"(?:{body})").replace(f"(?<{name}>", "(?:")
    flags = re.search(r"\(\?([imx]+)\)", ruby)  # holds to the end; Python has such flags at the start only, and for all
    if flags:
        end = "\n)" if "x" in flags[1] else ")"
        ruby = f"{ruby[: flags.start()]}(?{flags[1].replace('m', 's')}:{ruby[flags.end() :]}{end}"
    return ruby


def read_tests(rule: dict[str, Any], named: dict[str, str]) -> list[tuple[str, bool]]:
    """Return (pattern, True if it must match or False if it must not) for each pattern of a rule."""
    if "and" in rule:
        return [test for part in rule["and"] for test in read_tests(part, named)]
    if "pattern" in rule:
        return [(convert_pattern(rule["pattern"]), True)]
    if "negative_pattern" in rule:
        return [(convert_pattern(rule["negative_pattern"]), False)]
    return [(named[rule["named_pattern"]], True)] if "named_pattern" in rule else []


def heuristics(config: dict[str, Any]) -> dict[str, list[tuple[list[str], list[tuple[str, bool]]]]]:
    """Return extension -> rules: languages and the tests that must all be true for them."""
    named = {name: convert_pattern(pattern) for name, pattern in config["named_patterns"].items()}
    table: dict[str, list[tuple[list[str], list[tuple[str, bool]]]]] = {}
    for block in config["disambiguations"]:
        rules = []
        for rule in block["rules"]:
            languages = rule["language"] if isinstance(rule["language"], list) else [rule["language"]]
            rules.append((languages, read_tests(rule, named)))
        for extension in block["extensions"]:
            table.setdefault(extension, rules)
    return table | {extension: rules for extension, rules in OUR_RULES.items() if extension not in table}


def languages(config: dict[str, Any], popular: list[str]) -> dict[str, dict[str, Any]]:
    """Return the table of languages with the keys that are used here."""
    table = {}
    for name, entry in config.items():
        kept = {"type": entry["type"]}
        if name in popular:
            kept["popular"] = True
        for key in ("group", "extensions", "filenames", "interpreters", "aliases"):
            if key in entry:
                kept[key] = entry[key]
        table[name] = kept
    return table


def write(path: Path, table: dict[str, Any]) -> None:
    """Write JSON with one line per entry, so that a new version gives a readable diff."""
    lines = (f"{json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}" for key, value in table.items())
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def write_tables(linguist: Path, folder: Path = FOLDER) -> None:
    """Write the tables of a checkout of linguist into a folder."""

    def config(name: str) -> Any:
        return yaml.safe_load((linguist / name).read_text(encoding="utf-8"))

    write(folder / "languages.json", languages(config("languages.yml"), config("popular.yml")))
    write(folder / "heuristics.json", heuristics(config("heuristics.yml")))
    write(
        folder / "paths.json",
        {
            "version": (linguist / "VERSION").read_text().strip(),
            "vendored": config("vendor.yml"),
            "documentation": config("documentation.yml"),
            "generic_extensions": config("generic.yml")["extensions"],
        },
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("linguist", type=Path, help="the folder lib/linguist of the gem")
    write_tables(parser.parse_args().linguist)
