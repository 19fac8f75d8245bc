"""Documents rearranged for infilling: bytes, order, shares, samples and errors."""

import ast
import textwrap
from pathlib import Path

import numpy as np
import pytest
from infilling_vocabularies import BUILDERS, merged

from neox_code.config.data import DataConfig
from neox_code.data.fill_in_the_middle import MiddleTransform, build_middle_transform
from neox_code.data.indexed_dataset import IndexedDatasetWriter
from neox_code.data.megatron_datasets import build_datasets
from neox_code.data.origins import Origin, write_origins
from neox_code.errors import DataError
from neox_code.generation.infilling import build_infilling_prompt
from neox_code.generation.token_healing import TokenHealing
from neox_code.tokenizer.char_level import CharLevelTokenizer
from neox_code.tokenizer.infilling import encode_next

AWKWARD = (
    "def f(x):\n\treturn x\n",
    "a = 1\r\n\r\nb = 2\r\n",
    "\ufeff# BOM\nprint(1)\n\n\n",
    "x = '\U0001f468\u200d\U0001f469\u200d\U0001f467 e\u0301 \u0645\u0631\u062d\u0628\u0627'\n",
    "\x0c\x0b\x1b[0m\x7f\x02 trailing   \t ",
    "<|fim_prefix|>print(print):\n\n<fim_middle> <|endoftext|>",
    "x",
    " ",
)
SOURCE = """import os


def walk(folder, depth=3):
    if depth > 0 and os.path.exists(folder):
        for name in sorted(os.listdir(folder)):
            walk(os.path.join(folder, name), depth - 1)
        print(folder, depth)
    return None


while walk("a", 2):
    walk("b")
    break
"""


def transform(tokenizer, rate=1.0, spm=0.5, syntax=0.0, cuts_tokens=False) -> MiddleTransform:
    return MiddleTransform(tokenizer, rate, spm, syntax, cuts_tokens)


def join(tokenizer, ids) -> str:
    bytes_of_id = tokenizer.read_token_bytes()
    return b"".join(bytes_of_id[token] for token in ids).decode("utf-8", "surrogateescape")


def read_prompt(tokenizer, ids: list[int], order: str) -> tuple[str, str]:
    """Return prefix and suffix, by the places of the markers."""
    before, after, middle = (ids.index(tokenizer.infilling_ids[f"fim_{part}"]) for part in ("prefix", "suffix", "middle"))
    assert before == 0 and len(set(ids) & set(tokenizer.infilling_ids.values())) == 3
    if order == "psm":
        assert middle == len(ids) - 1
        return join(tokenizer, ids[1:after]), join(tokenizer, ids[after + 1 : middle])
    assert after == 1
    return join(tokenizer, ids[middle + 1 :]), join(tokenizer, ids[2:middle])


@pytest.mark.parametrize("name", [*BUILDERS, "merged"])
def test_awkward_texts_are_divided_byte_for_byte_as_generation_asks_for_their_middles(name):
    tokenizer = merged() if name == "merged" else BUILDERS[name]()
    healing, found = TokenHealing(tokenizer), set()
    space = " " if name == "code llama" else ""  # its vocabulary adds a space before a text
    for number, text in enumerate(AWKWARD):
        if name == "code llama" and "<fim" in text:
            continue
        for seed in range(24):
            generator = np.random.default_rng([number, seed])
            divided = transform(tokenizer, cuts_tokens=seed % 2 == 0).divide_ids(tokenizer.encode(text), None, generator)
            found.add((divided.order, divided.cut))
            prefix, suffix = read_prompt(tokenizer, divided.prompt, divided.order)
            middle = join(tokenizer, divided.middle)
            assert (prefix + middle + suffix).encode("utf-8", "surrogateescape") == (space + text).encode()
            if divided.cut == "character" and prefix.removeprefix(space):
                prompt = build_infilling_prompt(healing, prefix.removeprefix(space), suffix, 4000, order=divided.order, heals=False)
                assert prompt.ids == divided.prompt and encode_next(tokenizer, middle) == divided.middle
    assert found == {(order, cut) for order in ("psm", "spm") for cut in ("character", "token")}


def test_what_is_not_text_or_has_special_tokens_is_cut_between_tokens():
    tokenizer = merged()
    half = tokenizer.encode("x = '\U0001f468'")[:-2]
    special = [*tokenizer.encode("a"), tokenizer.infilling_ids["file_sep"], *tokenizer.encode("b")]
    for ids in (half, special):
        for seed in range(9):
            divided = transform(tokenizer, syntax=1).divide_ids(ids, "Python", np.random.default_rng(seed))
            markers = [tokenizer.infilling_ids[f"fim_{part}"] for part in ("prefix", "suffix", "middle")]
            assert divided.cut == "token"
            assert sorted([*divided.prompt, *divided.middle]) == sorted([*ids, *markers])


def test_middles_by_syntax_are_what_pythons_own_parser_finds_and_else_random():
    tokenizer, kinds = merged(), {}
    by_syntax = transform(tokenizer, syntax=1.0, cuts_tokens=True)
    for seed in range(200):
        divided = by_syntax.divide_ids(tokenizer.encode(SOURCE), "Python", np.random.default_rng(seed))
        kinds.setdefault(divided.cut, set()).add(join(tokenizer, divided.middle))
    tree = ast.parse(SOURCE)
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    text = lambda node: ast.get_source_segment(SOURCE, node)  # noqa: E731
    assert kinds.pop("call") == {text(call) for call in calls}
    assert kinds.pop("argument") == {text(argument) for call in calls for argument in call.args}
    assert kinds.pop("condition") == {text(node.test) for node in ast.walk(tree) if isinstance(node, ast.If | ast.While)}
    bodies = {textwrap.dedent("\n".join(map(text, node.body))) for node in ast.walk(tree) if isinstance(node, ast.For)}
    blocks = kinds.pop("block")
    assert bodies <= {textwrap.dedent(block) for block in blocks} and len(blocks) == 4
    assert not kinds
    for language, source in (("Python", "def f(:\n(((("), ("Text", SOURCE), (None, SOURCE)):
        ids = tokenizer.encode(source)
        assert {by_syntax.divide_ids(ids, language, np.random.default_rng(seed)).cut for seed in range(9)} == {"token"}


def write(prefix: Path, documents: list[list[int]], eod: int) -> str:
    with IndexedDatasetWriter(prefix, np.uint16) as writer:
        for ids in documents:
            writer.add_document([*ids, eod])
    return str(prefix)


def restore(tokenizer, ids: list[int]) -> tuple[str, bool]:
    """Return the text of a document, and True if it was rearranged, by the markers alone."""
    before, after, middle = (tokenizer.infilling_ids[f"fim_{part}"] for part in ("prefix", "suffix", "middle"))
    if not ids or ids[0] != before:
        return join(tokenizer, ids), False
    first, second = ids.index(after), ids.index(middle)
    if first > 1:
        return "".join(join(tokenizer, part) for part in (ids[1:first], ids[second + 1 :], ids[first + 1 : second])), True
    whole, suffix = join(tokenizer, ids[second + 1 :]), join(tokenizer, ids[first + 1 : second])
    return whole + suffix, True  # of psm with an empty prefix too


def split(ids: list[int], eod: int) -> list[list[int]]:
    places = [place for place, token in enumerate(ids) if token == eod]
    return [ids[begin + 1 : end] for begin, end in zip([-1, *places], [*places, len(ids)], strict=True)]


@pytest.mark.parametrize("pack", ["packed", "best_fit"])
def test_each_document_of_a_sample_is_rearranged_alone_in_the_configured_shares(tmp_path, pack):
    tokenizer, length = merged(), 512
    texts = [f"def f{number}(x):\n    print({number}, 'é')\n\n" + "    x += 1\n" * (number % 7) for number in range(600)]
    path = write(tmp_path / "train", [tokenizer.encode(text) for text in texts], tokenizer.eod_id)
    data = DataConfig(train_data_paths=(path,), valid_data_paths=(path,), pack_impl=pack, fim_rate=0.6, fim_spm_rate=0.25)
    build = lambda keys: build_datasets(keys, length, (60, 20, 0), tokenizer, 5, None)[:2]  # noqa: E731
    (train, valid), (plain, _) = build(data), build(DataConfig(train_data_paths=(path,), pack_impl=pack))
    plain_valid = build(DataConfig(train_data_paths=(path,), valid_data_paths=(path,), pack_impl=pack))[1]
    whole = spm = rearranged = 0
    for index in range(60):
        sample, before = train[index], plain[index]
        assert sample["tokens"].shape == sample["labels"].shape == (length,)
        assert (sample["tokens"][1:] == sample["labels"][:-1])[sample["loss_mask"][:-1].bool()].all()
        ids, old = ([*each["tokens"].tolist(), int(each["labels"][-1])] for each in (sample, before))
        assert sample["loss_mask"].sum() >= before["loss_mask"].sum()
        for new, one in list(zip(split(ids, tokenizer.eod_id), split(old, tokenizer.eod_id), strict=False))[:-2]:
            text, is_rearranged = restore(tokenizer, new)
            assert text == join(tokenizer, one)
            if one:
                whole, rearranged = whole + 1, rearranged + is_rearranged
                spm += is_rearranged and new[1] == tokenizer.infilling_ids["fim_suffix"]
    assert whole > 300 and abs(rearranged / whole - 0.6) < 0.08 and abs(spm / rearranged - 0.25) < 0.08
    again, _ = build(data)
    for index in (7, 59, 3):  # in any order, as after resuming
        assert all((again[index][key] == train[index][key]).all() for key in ("tokens", "labels", "loss_mask"))
    assert all((valid[index]["tokens"] == plain_valid[index]["tokens"]).all() for index in range(20)), (
        "validation is not rearranged"
    )
    epochs = {tuple(train[index]["tokens"].tolist()) for index in range(60)}
    assert len(epochs) == 60


def test_a_sample_that_becomes_shorter_has_masked_positions_at_its_end(tmp_path):
    tokenizer = merged()
    spelled = [tokenizer.encode(character)[0] for character in "print(x)" * 4]  # which one encodes in fewer tokens
    path = write(tmp_path / "train", [spelled] * 40, tokenizer.eod_id)
    samples = build_datasets(DataConfig(train_data_paths=(path,), fim_rate=1.0), 64, (4, 0, 0), tokenizer, 5, None)[0]
    shortened = 0
    for sample in map(samples.__getitem__, range(4)):
        used = int(sample["loss_mask"].sum())
        assert sample["loss_mask"].tolist() == [1.0] * used + [0.0] * (64 - used)
        assert not sample["labels"][used:].any() and not sample["tokens"][used + 1 :].any()
        shortened += used < 64
    assert shortened


def test_missing_tokens_and_languages_are_reported_before_training(tmp_path):
    with pytest.raises(DataError, match=r"fim_rate \(0.5\).*CharLevelTokenizer lacks.*extend_vocabulary.py --infilling"):
        build_middle_transform(DataConfig(tokenizer_type="CharLevelTokenizer", fim_rate=0.5), CharLevelTokenizer())
    tokenizer = merged()
    path = write(tmp_path / "train", [tokenizer.encode(SOURCE)] * 9, tokenizer.eod_id)
    data = DataConfig(train_data_paths=(path,), fim_rate=1.0, fim_syntax_rate=1.0)
    with pytest.raises(DataError, match="fim_syntax_rate needs it"):
        build_datasets(data, 256, (4, 0, 0), tokenizer, 5, None)
    write_origins(path, [Origin("r", "a.py", None, "Python" if number else "Text", len(SOURCE)) for number in range(9)])
    samples = build_datasets(data, 256, (4, 0, 0), tokenizer, 5, None)[0]
    assert samples[0]["tokens"].shape == (256,)
