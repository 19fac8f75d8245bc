"""The dry run's table names every value, its origin and what is ignored."""

from pathlib import Path

from neox_code.config.fields import FIELDS
from neox_code.config.neox import NeoXConfig
from neox_code.launch.dry_run import described

CONFIGS = Path(__file__).parents[2] / "configs"


def test_every_key_has_a_line_with_value_state_and_origin():
    small = CONFIGS / "small.yml"
    overrides = {"seed": 7, "seq_length": None, "wall_clock_breakdown": True, "extra_save_iters": [1, 2]}
    config = NeoXConfig.load([small], overrides)
    lines = described(config, ["python", "-m", "a module"]).splitlines()
    rows = {line.split()[0]: line.split() for line in lines if line and not line.startswith("#")}
    assert rows.keys() >= FIELDS.keys()
    assert rows["hidden_size"] == ["hidden_size", "768", "changed", config.origins["hidden_size"]]
    assert rows["seed"] == ["seed", "7", "changed", "--set"]
    assert rows["master_port"] == ["master_port", "29500", "default"]
    assert rows["rotary_pct"] == ["rotary_pct", "1.0", "default", config.origins["rotary_pct"]]
    assert rows["extra_save_iters"] == ["extra_save_iters", "[1,", "2]", "changed", "--set"]
    assert rows["wall_clock_breakdown"][:4] == ["wall_clock_breakdown", "true", "--set", "DeepSpeed's"]
    assert lines[-2:] == ["# command", "python -m 'a module'"]
