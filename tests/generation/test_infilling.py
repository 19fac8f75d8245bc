"""Prompts for the text between a prefix and a suffix, with the infilling tokens of several vocabularies and without."""

import itertools
import re

import pytest
from infilling_vocabularies import BUILDERS, DEEPSEEK, QWEN, STARCODER, byte_level, code_llama, merged, write_out

from neox_code.errors import ConfigError, DataError
from neox_code.generation.infilling import ContextFile, build_infilling_prompt
from neox_code.generation.token_healing import TokenHealing
from neox_code.tokenizer.char_level import CharLevelTokenizer

PREFIX, SUFFIX = "def f(x):\n    return ", " + 1\n\nprint(f(2))\n"
FILES = (ContextFile("a.py", "A = 1\n"), ContextFile("lib/b.py", "B = 2"))


WITH_FILES = "{R}mine\n{F}a.py\nA = 1\n{F}lib/b.py\nB = 2\n{F}c.py\n"


@pytest.mark.parametrize("name", BUILDERS)
def test_the_parts_are_in_both_orders_with_the_tokens_of_the_vocabulary(name):
    tokenizer = BUILDERS[name]()
    keys = {"budget": 400, "files": FILES, "repository": "mine", "path": "c.py", "heals": False}
    others = WITH_FILES if "file_sep" in tokenizer.infilling_ids else "A = 1\nB = 2\n"
    space = " " if name == "code llama" else ""
    psm = build_infilling_prompt(TokenHealing(tokenizer), PREFIX, SUFFIX, **keys)
    assert write_out(tokenizer, psm.ids) == f"{others}{{P}}{space}{PREFIX}{{S}}{SUFFIX}{{M}}"
    spm = build_infilling_prompt(TokenHealing(tokenizer), PREFIX, SUFFIX, order="spm", **keys)
    assert write_out(tokenizer, spm.ids) == f"{others}{{P}}{{S}}{SUFFIX}{{M}}{space}{PREFIX}"
    for prompt in (psm, spm):
        assert prompt.reads_suffix and not any(prompt.left_out.values()) and prompt.repeat_bytes == b""


def test_the_end_of_the_prefix_is_healed_in_both_orders():
    tokenizer = byte_level(QWEN)
    healing = TokenHealing(tokenizer)
    psm = build_infilling_prompt(healing, "x = pri", "nt()\n", 100)
    assert (write_out(tokenizer, psm.ids), psm.repeat_bytes) == ("{P}x ={S}nt()\n{M}", b" pri")
    spm = build_infilling_prompt(healing, "x = pri", "nt()\n", 100, order="spm")
    assert (write_out(tokenizer, spm.ids), spm.repeat_bytes) == ("{P}{S}nt()\n{M}x =", b" pri")
    empty = build_infilling_prompt(healing, "", "x", 100)
    assert (write_out(tokenizer, empty.ids), empty.repeat_bytes) == ("{P}{S}x{M}", b"")


def test_prompts_are_those_of_training_with_holes_that_are_cut_at_any_character():
    tokenizer = merged()
    healing, special = TokenHealing(tokenizer), tokenizer.infilling_ids
    text = "if x:\n  print(print)\n\n  é = sprint(x):\n"

    def train(begin: int, end: int) -> list[int]:
        prefix, suffix = tokenizer.encode(text[:begin]), tokenizer.encode(text[end:])
        return [special["fim_prefix"], *prefix, special["fim_suffix"], *suffix, special["fim_middle"]]

    for begin, end in itertools.combinations_with_replacement(range(len(text) + 1), 2):
        assert build_infilling_prompt(healing, text[:begin], text[end:], 400, heals=False).ids == train(begin, end)
        healed = build_infilling_prompt(healing, text[:begin], text[end:], 400)
        border = begin - len(healed.repeat_bytes.decode())
        assert healed.ids == train(border, end) and text[border:begin] == healed.repeat_bytes.decode()
        expected = tokenizer.find_last_stable_boundary(text[:begin])
        assert border == expected, "a hole of training too, from the border before the prefix's end"


def test_without_infilling_tokens_the_files_and_the_prefix_remain_and_the_caller_is_informed():
    for tokenizer in (byte_level(), byte_level(QWEN[:2]), CharLevelTokenizer()):
        prompt = build_infilling_prompt(TokenHealing(tokenizer), PREFIX, SUFFIX, 400, FILES, "mine", "c.py", heals=False)
        assert not prompt.reads_suffix
        assert write_out(tokenizer, prompt.ids) == f"A = 1\nB = 2\n{PREFIX}"
    prompt = build_infilling_prompt(TokenHealing(byte_level()), "pri", SUFFIX, 400)
    assert (prompt.ids, prompt.repeat_bytes) == ([0], b"pri")


def test_special_names_in_a_text_stay_text():
    for name in ("qwen", "starcoder", "deepseek", "cl100k"):
        tokenizer = BUILDERS[name]()
        text = f"a {(QWEN + STARCODER + DEEPSEEK)} b"
        special = set(tokenizer.infilling_ids.values())
        assert special.isdisjoint(tokenizer.encode(text)) and tokenizer.decode(tokenizer.encode(text)) == text
        files = (ContextFile(text, text),)
        prompt = build_infilling_prompt(TokenHealing(tokenizer), text, text, 4000, files, text, text)
        assert sum(token in special for token in prompt.ids) in (3, 6)
    with pytest.raises(DataError, match="▁<PRE>"):
        code_llama().encode("a <PRE> b")


def test_the_budget_leaves_out_files_then_the_ends_of_prefix_and_suffix_at_lines():
    tokenizer = byte_level(QWEN)
    healing = TokenHealing(tokenizer)
    lines = "".join(f"line {number:2}\n" for number in range(100))
    files = (ContextFile("a", lines), ContextFile("b", lines[:80]))
    for budget in (9, 10, 17, 30, 60, 100, 150, 200, 250, 400, 1000, 3000):
        for order in ("psm", "spm"):
            prompt = build_infilling_prompt(healing, lines[:88], lines[:64], budget, files, "r", "c", order, heals=False)
            assert len(prompt.ids) <= budget
            text = write_out(tokenizer, prompt.ids)
            prefix, suffix = (
                re.search(r"\{P\}(.*)\{S\}(.*)\{M\}$", text, re.S).groups()
                if order == "psm"
                else re.search(r"\{P\}\{S\}(.*)\{M\}(.*)$", text, re.S).groups()[::-1]
            )
            assert lines[:88].endswith(prefix) and lines[:64].startswith(suffix)
            if budget > 60:
                assert re.match(r"line|$", prefix) and suffix.endswith("\n")
                assert len(prefix) >= min(88, 0.75 * (budget - 8) - 8)
            kept = len(text.partition("{P}")[0]) - len(re.findall(r"\{R\}r\n|\{F\}.\n", text)) * 5
            assert prompt.left_out == {"files": 880 - kept, "prefix": 88 - len(prefix), "suffix": 64 - len(suffix)}
            if kept:
                assert not prompt.left_out["prefix"] and not prompt.left_out["suffix"]
                assert re.search(r"\{F\}b\nline.*\{F\}c\n\{P\}", text, re.S)
    assert not any(prompt.left_out.values())


def test_a_long_line_is_cut_inside_and_wrong_settings_are_refused():
    healing = TokenHealing(byte_level(QWEN))
    prompt = build_infilling_prompt(healing, "x" * 10_000_000, "y" * 5000, 108, heals=False)
    assert write_out(healing.tokenizer, prompt.ids) == "{P}" + "x" * 75 + "{S}" + "y" * 25 + "{M}"
    assert prompt.left_out == {"files": 0, "prefix": 10_000_000 - 75, "suffix": 4975}
    with pytest.raises(ConfigError, match=r"'mid'\. Known orders: psm, spm"):
        build_infilling_prompt(healing, "a", "b", 100, order="mid")
    with pytest.raises(ConfigError, match="a prompt of 8 tokens is too small"):
        build_infilling_prompt(healing, "a", "b", 8)
