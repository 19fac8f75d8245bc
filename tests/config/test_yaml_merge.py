"""Files into settings: spelling, numbers, duplicates, places, and files that cannot be read."""

import json
import math
from itertools import pairwise
from pathlib import Path

import pytest
import yaml

from neox_code.config.yaml_merge import find_config_path, parse_value, read_settings
from neox_code.errors import ConfigError


@pytest.mark.parametrize(
    "text", ["1e-4", "6e-4", "1.5e3", "1E5", "-2e-3", "+3e+2", ".5e-1", "2.e4", "1.0e-8", "0.1", "-.5", ".inf", "7"]
)
def test_numbers_are_those_of_python(text):
    assert parse_value(text) == float(text.replace(".inf", "inf"))


@pytest.mark.parametrize(
    "text", ["1e", "e-4", "1.0e_8", "v1e4", "2026-13-45", "969, 30, 1", "90:5:5", "1:30.5", "010", "-07", "1:30"]
)
def test_text_that_resembles_a_number_or_a_date_stays_text(text):
    assert parse_value(text) == text


def test_other_values_are_those_of_plain_yaml():
    text = "{a: [1, 2.5, null, true], b: {c: 'x y', d: 1_000}, e: ~, f: -.inf, g: 0x10}"
    more = "{h: 0b11, i: -7, j: 0, k: +1.5e+3, l: 1., n: 1_0.5, o: .INF}"
    assert parse_value(text) == yaml.safe_load(text)
    assert parse_value(more) == yaml.safe_load(more)
    assert math.isnan(parse_value(".nan"))


def test_top_level_keys_are_spelled_with_underscores_and_inner_keys_stay(write):
    path = write("a.yml", "train-iters: 10\nzero_optimization: {some-key: 1}\n")
    settings, problems = read_settings([path])
    assert problems == []
    assert {setting.key: setting.value for setting in settings} == {"train_iters": 10, "zero_optimization": {"some-key": 1}}


def test_every_key_has_its_line(write):
    path = write("a.yml", "# comment\n\nlr: 1\noptimizer:\n  type: adam\n  params:\n    lr: 2\n")
    settings, _ = read_settings([path])
    assert settings[0].place == f"{path}:3"
    assert settings[1].place == f"{path}:4"
    assert settings[1].inner_places == {"type": f"{path}:5", "params": f"{path}:6", "params.lr": f"{path}:7"}


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("train_iters", "train_iters"),
        ("train-iters", "train-iters"),
        ("train-iters", "train_iters"),
        ("train_iters", "train-iters"),
    ],
)
def test_a_key_in_two_files_is_a_problem_in_every_spelling_and_even_if_equal(write, first, second):
    one, two = write("one.yml", f"{first}: 1\n"), write("two.yml", f"\n{second}: 1\n")
    settings, problems = read_settings([one, two])
    assert len(settings) == 1
    assert len(problems) == 1
    assert problems[0].startswith(f"train_iters occurs twice, at {one}:1 and at {two}:2. Remove one")


def test_a_key_twice_in_one_file_is_a_problem(write):
    path = write("a.yml", "seed: 1\nfp16: {enabled: true, enabled: false}\nseed: 2\n")
    _, problems = read_settings([path])
    assert [problem.partition(",")[0] for problem in problems] == ["fp16.enabled occurs twice", "seed occurs twice"]
    assert f"at {path}:1 and at {path}:3" in problems[1]


def test_two_files_of_one_name_are_a_problem(tmp_path, write):
    (tmp_path / "other").mkdir()
    one = write("a.yml", "seed: 1\n")
    two = write("other/a.yml", "lr: 1\n")
    _, problems = read_settings([one, two])
    assert problems == [f"{one} and {two} have the same name, under which checkpoints keep them. Rename one, or give it once."]


def test_json_with_tabs_is_read(write):
    value = {"num-layers": 2, "optimizer": {"type": "Adam", "params": {"lr": 1e-05}}, "name": 'a\\b"c/ä'}
    path = write("a.json", json.dumps(value, indent="\t"))
    settings, problems = read_settings([path])
    assert problems == []
    assert {setting.key: setting.value for setting in settings} == {
        "num_layers": 2,
        **{key: value[key] for key in ("optimizer", "name")},
    }


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("- a\n- b\n", ":1 begins a list. Write `key: value` lines."),
        ("\nhello\n", ":2 begins a single value. Write `key: value` lines."),
        ("a: 1\nb: [1, 2\nc: 3\n", ":3 is not valid YAML: "),
        ("a: 1\n---\nb: 2\n", ":2 is not valid YAML: "),
        ("a: !!python/object:os.system {}\n", ":1 is not valid YAML: "),
        ("a: \x07\n", " is not valid YAML: "),
    ],
)
def test_a_file_that_is_no_mapping_is_named_with_its_line(write, text, sentence):
    path = write("a.yml", text)
    settings, problems = read_settings([path])
    assert settings == []
    assert len(problems) == 1
    assert problems[0].startswith(f"{path}{sentence}")
    assert "\n" not in problems[0]


def test_missing_unreadable_and_empty_files_are_reported(tmp_path, write):
    (tmp_path / "folder.yml").mkdir()
    binary = tmp_path / "binary.yml"
    binary.write_bytes(b"a: \xff\n")
    paths = [tmp_path / "none.yml", tmp_path / "folder.yml", binary, binary / "in_a_file.yml"]
    _, problems = read_settings([*paths, write("empty.yml", "# nothing\n"), write("deep.yml", "a: " + 3000 * "[")])
    assert [problem.split(" ")[1:4] for problem in problems] == [
        ["does", "not", "exist."],
        ["is", "a", "folder."],
        ["is", "not", "UTF-8"],
        ["cannot", "be", "read:"],
        ["is", "not", "valid"],
    ]
    assert problems[-1].endswith(
        "deep.yml:1 is not valid YAML: it is nested more than 50 deep. Correct that line or the one before it."
    )


def test_the_top_level_merges_as_yaml_does(write):
    text = "a: &a {x: 1, y: 2}\nb: &b {y: 3, some-key: 4}\n<<: [*a, *b]\nsome_key: 5\nc: {<<: *a, x: 6}\n"
    path = write("a.yml", text)
    settings, problems = read_settings([path])
    assert problems == []
    plain = {key.replace("-", "_"): value for key, value in yaml.safe_load(text).items()}
    assert {setting.key: setting.value for setting in settings} == plain
    assert {setting.key: setting.place for setting in settings}["some_key"] == f"{path}:4"
    assert {setting.key: setting.place for setting in settings}["y"] == f"{path}:1"


def test_a_key_that_occurs_twice_beside_a_merge_is_a_problem(write):
    path = write("a.yml", "a: &a {x: 1}\n<<: *a\nx: 2\nx: 3\nb: {<<: *a, x: 4, x: 5}\n")
    _, problems = read_settings([path])
    assert [problem.partition(",")[0] for problem in problems] == ["b.x occurs twice", "x occurs twice"]
    assert f"at {path}:3 and at {path}:4" in problems[1]


ALIASES = "[&a [x, x], " + ", ".join(f"&{new} [*{old}, *{old}]" for old, new in pairwise("abcdefghijklmnopqrstuvwxyz")) + "]"
"""26 lists of two, each of which has the former one twice: 67 million words."""


@pytest.mark.parametrize(
    "value",
    ["9" * 5000, "0x" + "f" * 5000, "0x_", "!!int x", "!!bool maybe", "&a [*a]", "&a {b: *a}", ALIASES, 3000 * "["],
    ids=lambda value: value[:9],
)
def test_a_value_that_yaml_cannot_read_is_named_with_its_line(write, value):
    settings, problems = read_settings([write("a.yml", f"seed: 1\nlr: {value}\n")])
    assert settings == []
    assert len(problems) == 1
    assert ":2 is not valid YAML: " in problems[0]
    with pytest.raises(yaml.YAMLError):
        parse_value(value)


@pytest.mark.parametrize(
    ("name", "folder", "path"),
    [
        ("mine", None, "mine.yml"),
        ("small.yml", "configs", "configs/small.yml"),
        ("1.3B", "configs", "configs/1.3B.yml"),
        ("a.json", None, "a.json"),
        ("/x/a.yaml", "configs", "/x/a.yaml"),
    ],
)
def test_names_without_a_suffix_are_yml_files(name, folder, path):
    assert str(find_config_path(name, folder)) == path


def test_a_file_is_found_under_its_own_name_too_and_no_pipe_is_read(tmp_path):
    (tmp_path / "mine").write_text("seed: 1\n")
    assert find_config_path("mine", str(tmp_path)) == tmp_path / "mine"
    (tmp_path / "mine.yml").write_text("seed: 2\n")
    assert find_config_path("mine", str(tmp_path)) == tmp_path / "mine.yml"
    for name, sentence in {"/dev/null": "/dev/null is a pipe or a device", "": "the name of a configuration file is empty"}.items():
        with pytest.raises(ConfigError, match=sentence):
            find_config_path(name)


def test_the_projects_own_files_are_found_from_every_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    own = Path(__file__).parents[2] / "configs" / "small.yml"
    assert find_config_path("small") == find_config_path("configs/small.yml") == find_config_path("small.yml", "configs") == own
    assert str(find_config_path("elsewhere/small.yml")) == "elsewhere/small.yml"
    (tmp_path / "small.yml").touch()
    assert str(find_config_path("small")) == "small.yml"
