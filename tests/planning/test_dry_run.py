"""The dry run's table has every value, its origin and the ignored keys; its figures equal those of other modules and papers."""

from pathlib import Path

import pytest

from neox_code.config.fields import FIELDS
from neox_code.config.neox import NeoXConfig
from neox_code.planning.dry_run import make_dry_run
from neox_code.planning.planned_world import plan_world

CONFIGS = Path(__file__).parents[2] / "configs"
COMMAND = ["python", "-m", "a module"]


def dry_run(*files, gpu_memory_gib=None, all_keys=False, **keys):
    """Return configuration, lines, and first word -> further words of the lines with columns."""
    config = NeoXConfig.load([CONFIGS / file for file in files], keys)
    lines = make_dry_run(config, "train", COMMAND, plan_world(config), gpu_memory_gib, all_keys)[0].splitlines()
    return config, lines, {line.split("  ")[0]: line.split("  ", 1)[1].split() for line in lines if "  " in line}


def gib(row):
    assert row[1] == "GiB"
    return float(row[0])


def test_every_key_has_a_line_with_value_state_and_origin():
    overrides = {"seed": 7, "seq_length": None, "wall_clock_breakdown": True, "extra_save_iters": [1, 2]}
    config, lines, rows = dry_run("small.yml", all_keys=True, **overrides)
    assert rows.keys() >= FIELDS.keys()
    assert rows["hidden_size"] == ["768", "changed", config.origins["hidden_size"]]
    assert rows["seed"] == ["7", "changed", "--set"]
    assert rows["master_port"] == ["29500", "default"]
    assert rows["rotary_pct"] == ["1.0", "default", config.origins["rotary_pct"]]
    assert rows["extra_save_iters"] == ["[1,", "2]", "changed", "--set"]
    assert rows["wall_clock_breakdown"][:3] == ["true", "--set", "DeepSpeed's"]
    assert lines[-2:] == ["# command", "python -m 'a module'"]


def test_size_layout_and_memory_come_before_the_changed_keys():
    config, lines, rows = dry_run("small.yml", "local_setup.yml", seed=7, hidden_dropout=0)
    headings = [line for line in lines if line.startswith("# ")]
    assert headings[:3] == ["# size", "# layout", "# memory per GPU"]
    assert headings[3:7] == ["# model", "# parallelism", "# optimizer", "# data"]
    missing = [index for index, line in enumerate(lines) if line.startswith("missing: ")]
    assert missing and missing[-1] < lines.index("# model")
    changed = {name for name, known in FIELDS.items() if known.required or config.values()[name] != known.default}
    assert rows.keys() & FIELDS.keys() == changed
    assert {"seed", "train_iters"} <= changed and "hidden_dropout" not in changed
    assert "# generation" not in headings and "--all lists them" in "".join(headings)


def test_a_vocabulary_without_a_file_is_described_by_its_type():
    _, _, rows = dry_run("small.yml", tokenizer_type="CharLevelTokenizer")
    assert " ".join(rows["vocabulary"]) == "512 512 entries of CharLevelTokenizer, and padding"


def test_the_work_of_a_step_and_of_a_run_is_computed():
    _, _, rows = dry_run("small.yml", global_num_gpus=4)
    assert rows["parameters"][0] == "162,322,944"
    assert float(rows["FLOPs per token"][0]) == pytest.approx(6 * (162.3e6 - 38.6e6) + 12 * 12 * 768 * 2048, rel=0.01)
    assert rows["tokens per step"][0] == "262,144"
    assert rows["tokens in all"][0] == f"{262_144 * 160_000:,}"
    assert rows["ranks"][:6] == ["4", "1", "*", "1", "*", "4"]


def test_the_parts_of_memory_add_up():
    _, _, rows = dry_run("2-7B.yml")
    parts = [gib(rows[part]) for part in ("weights", "gradients", "optimizer", "activations", "buffers", "libraries")]
    assert gib(rows["all"]) == pytest.approx(sum(parts), abs=0.03)
    assert parts[:3] == pytest.approx([2 * 2.775e9 / 2**30, 4 * 2.775e9 / 2**30, 12 * 2.775e9 / 2**30], rel=0.001)


def test_a_layout_that_fits_is_proposed_if_the_given_one_does_not():
    _, lines, rows = dry_run("2-7B.yml", gpu_memory_gib=24)
    assert rows["does not fit"][:2] == ["24", "GiB"]
    assert gib(rows["proposal"]) <= 24
    settings = [word.removeprefix("--set=") for line in lines if line.startswith("proposal") for word in line.split()]
    changes = dict(word.split("=") for word in settings if "=" in word)
    _, _, again = dry_run("2-7B.yml", gpu_memory_gib=24, **{key: int(value) for key, value in changes.items()})
    assert gib(again["all"]) == gib(rows["proposal"])
    assert "fits" in again


def test_the_smallest_world_is_reported_if_no_key_sets_the_ranks():
    _, lines, rows = dry_run("small.yml", pipe_parallel_size=2, model_parallel_size=2)
    assert rows["ranks"][0] == "4"
    (line,) = (line for line in lines if line.startswith("ranks "))
    assert "the smallest world of this layout, as there is no global_num_gpus, num_gpus or readable hostfile" in line
