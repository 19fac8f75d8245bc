"""Every configuration in configs/finetuning/ trains a small model on rows of its form."""

import json
from pathlib import Path

import yaml
from distributed_runs import run_ranks
from example_model import write_job
from finetuning_job import run_finetuning_files, write_rows

RECIPES = sorted(Path("configs/finetuning").glob("*.yml"))
SOLUTIONS = {"question": "Add.", "solutions": json.dumps(["print(1)\n", "print(2)\n"]), "input_output": "{}"}
ROWS = {
    "continued-pretraining": [{"text": "local a = 1\n" * 100}],
    "kotlin": [{"prompt": f"fun f{number}() {{\n", "completion": f"    return {number}\n}}\n"} for number in range(8)],
    "demo": [{"text": "local a = 1\n" * 100}],
    "godot-dodo": [{"instruction": f"Add {number}.", "output": f"func f(a):\n\treturn a + {number}\n"} for number in range(8)],
    "gpt-code-clippy-apps": [SOLUTIONS, {**SOLUTIONS, "solutions": ""}],
    "gpt-code-clippy-adafactor": [SOLUTIONS],
    "gpt-code-clippy": [{"text": "def f(a):\n    return a\n" * 300}],
}


def test_every_recipe_trains(tmp_path):
    assert {path.stem for path in RECIPES} == ROWS.keys()
    job = yaml.safe_load(write_job(tmp_path).read_text()) | {"max_position_embeddings": 2048}
    (tmp_path / "base.yml").write_text(yaml.safe_dump(job))
    small = {
        "train_batch_size": 2,
        "train_micro_batch_size_per_gpu": 1,
        "num_epochs": None,
        "train_iters": 2,
        "precision": "fp32",
    } | {"num_workers": 0}
    for recipe in RECIPES:
        rows = write_rows(tmp_path / f"{recipe.stem}.jsonl", ROWS[recipe.stem])
        files = [str(tmp_path / "base.yml"), str(recipe)]
        assert run_ranks(1, run_finetuning_files, files, small | {"train_rows": rows}) == [2]
