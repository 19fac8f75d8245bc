"""The cost of a recipe until the quality of its baseline: plans, interpolated costs, and the command with real runs."""

import json
import math

import pytest
import yaml

from neox_code.benchmarks.quality import (
    COSTS_FILE,
    QualityPlan,
    find_ratio,
    list_runs,
    make_figures,
    make_report,
    prepare_folder,
    read_recipe,
)
from neox_code.commands.benchmark import main
from neox_code.config.neox import NeoXConfig
from neox_code.errors import ConfigError, DataError
from neox_code.files import write_json, write_json_lines

BASELINE = {"num_layers": 2, "qk_norm": False, "train_iters": 200, "optimizer": {"type": "adam", "params": {"lr": 1e-3}}}
RECIPE = {"num_layers": 2, "qk_norm": True, "train_iters": 200, "optimizer": {"type": "lion"}, "gpt_j_residual": True}


def test_parts_are_trained_alone_and_left_out(tmp_path):
    plan = QualityPlan(RECIPE, {"old": BASELINE}, ["optimizer", "qk_norm+gpt_j_residual"], [1.0, 0.25], 2)
    runs = {run.name: run.recipe for run in list_runs(plan, tmp_path) if run.recipe["seed"] == 1235}
    assert list(runs) == [
        *("baseline old", "recipe", "recipe, 0.25 of the steps", "only optimizer", "only qk_norm+gpt_j_residual"),
        *("without optimizer", "without qk_norm+gpt_j_residual"),
    ]
    for name, expected in {
        "recipe, 0.25 of the steps": RECIPE | {"train_iters": 50},
        "only optimizer": BASELINE | {"optimizer": {"type": "lion"}},
        "without qk_norm+gpt_j_residual": {key: value for key, value in RECIPE.items() if key != "gpt_j_residual"}
        | {"qk_norm": False},
    }.items():
        assert runs[name] == expected | {"seed": 1235}
    assert len({run.folder for run in list_runs(plan, tmp_path)}) == 14
    with pytest.raises(ConfigError, match="num_layers has the same value in the recipe and in the baseline"):
        list_runs(QualityPlan(RECIPE, {"old": BASELINE}, ["num_layers"]), tmp_path)


def test_costs_are_those_of_the_first_point_at_the_baselines_end(tmp_path, job):
    """Bits fall linearly with the logarithm of the tokens; the recipe needs a quarter of the baseline's."""
    file = job(train_iters=64, eval_iters=1)
    recipe = read_recipe([file], {})
    runs = list_runs(QualityPlan(recipe | {"num_layers": 3}, {"old": recipe}, num_seeds=2), tmp_path)
    for run in runs:
        prepare_folder(run)
        assert not run.is_finished
        factor = 4 if run.name == "recipe" else 1
        offset = 0.1 if run.recipe["seed"] % 2 else 0.0
        rows = [
            {"run": "a", "iteration": step, "validation/bits_per_byte": 9 + offset - math.log2(step * factor)}
            for step in (4, 16, 64)
        ]
        speeds = [{"run": "a", "iteration": 64, "runtime/tokens_per_sec": speed} for speed in (1000.0, 512.0, 100.0)]
        write_json_lines(run.folder / "metrics.jsonl", rows + speeds)
        write_json(run.folder / COSTS_FILE, {"cpu_seconds_per_step": 2.0})
        assert run.is_finished
    figures = make_figures(runs)
    assert figures["old"]["baseline old"]["bits_per_byte"] == pytest.approx((3.05, 0.05))
    assert figures["old"]["recipe"]["gain"] == pytest.approx(2)
    tokens = [8 * 64 * 16 * 2**shift for shift in (-0.05, 0.05)]  # a step is 8 samples of 64 tokens
    costs = figures["old"]["recipe"]["costs"]
    assert costs["tokens"].mean == pytest.approx(sum(tokens) / 2)
    assert costs["seconds"].mean == pytest.approx(sum(tokens) / 2 / 512)
    assert costs["CPU seconds"].mean == pytest.approx(sum(tokens) / 2 / 512 * 2)
    assert find_ratio(figures) == pytest.approx(0.25, rel=1e-3)
    assert figures["old"]["recipe"]["ratios"]["FLOPs"] > 0.26
    assert "| recipe | 2 | 1.0500 ± 0.0500 | +2.0000 | 0.01 ± 0.00 (0.25) |" in make_report(runs)
    write_json_lines(runs[1].folder / "metrics.jsonl", rows[:1] + speeds)
    assert find_ratio(make_figures(runs)) is None and "| not reached |" in make_report(runs)
    with pytest.raises(DataError, match="is another recipe than that of this command"):
        prepare_folder(list_runs(QualityPlan(recipe, {"old": recipe | {"num_layers": 4}}), tmp_path)[0])


def test_the_command_trains_each_once_and_resumes(job, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    shared = tmp_path / "data.yml"
    keys = yaml.safe_load(job(train_iters=4, eval_interval=2, eval_iters=2, checkpoint_factor=2, log_interval=1).read_text())
    differing = {"norm": "rmsnorm"}
    (tmp_path / "new.yml").write_text(yaml.safe_dump(differing))
    (tmp_path / "old.yml").write_text("norm: layernorm\n")
    shared.write_text(yaml.safe_dump({key: value for key, value in keys.items() if key not in ("norm", "save", "load")}))
    words = ["quality", "new.yml", "old.yml", "--with", "data.yml", "--seeds", "1", "--jobs", "2", "--set", "seed=7", "--json"]
    assert main(words) == 0
    figures = json.loads(capfd.readouterr().out)["old"]
    assert set(figures) == {"baseline old", "recipe"}
    run = tmp_path / "quality/recipe-seed7"
    assert NeoXConfig.load([run / "recipe.yml"]).model.norm == "rmsnorm"
    times = {path: path.stat().st_mtime_ns for path in tmp_path.glob("quality/*/metrics.jsonl")}
    assert len(times) == 2
    assert main(words) == 0
    assert "2 runs, 2 of them finished before" in capfd.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in times} == times
    assert (tmp_path / "quality/report.md").read_text().startswith("Costs (and their ratio) until the ")
