"""The model card, against the figures of the run and of the corpus from which it is filled."""

import json
import statistics

import pytest
from distributed_runs import losses_of, run_ranks
from finetuning_job import ROWS, run_finetuning, write_finetuning, write_rows
from foreign_checkpoint import build_peer, write_foreign_checkpoint
from huggingface_hub import ModelCard
from seen_files import make_dropped_row, make_kept_row, write_seen_files

from neox_code.conversion.card_facts import load_card_facts
from neox_code.conversion.model_card import make_model_card
from neox_code.conversion.source import open_source
from neox_code.errors import ConfigError, DataError
from neox_code.evaluation.heldout_result import HeldoutResult, LanguageResult, make_result_path, save_heldout
from neox_code.training.trackers import read_metrics

HOSTILE = "MIT|<script>alert(1)</script>\n# [x](http://y.z)"


def test_a_card_has_the_figures_of_the_run(job, tmp_path):
    rows = [
        make_kept_row("a.py", "x = 1\n" * 300, license="MIT"),
        make_kept_row("b.py", "x = 2\n" * 100, license=HOSTILE),
        make_kept_row("c.c", "int x;\n", language="C"),
        make_kept_row("d.py", "x = 3\n", split="test", license="Apache-2.0"),
        make_kept_row("f.py", "#\n", license="ISC"),
        make_dropped_row("e.py", 99, "over 1 MiB"),
    ]
    write_seen_files(tmp_path / "corpus", rows)
    losses_of(1, job(train_iters=3, heldout_path=str(tmp_path / "corpus")), tmp_path / "save")
    folder = tmp_path / "save" / "global_step3"
    bits = {"model": 160.0, "gzip_alone": 200.0, "xz_alone": 210.0}
    language = LanguageResult("C++ *x*", 1234, 0, 0, 80, 40, bits)
    result = HeldoutResult(str(folder), "corpus", "test", 64, (language,), ())
    save_heldout(result, make_result_path(result))

    text = make_model_card(open_source(tmp_path / "save"))
    card = ModelCard(text)
    assert (card.data.language, card.data.library_name, card.data.license) == (["code"], "transformers", None)
    assert f"| tokens seen | {3 * 8 * 64:,} |" in text and "| lr | 0.003 |" in text and "| hidden_size | 64 |" in text
    lines = text.splitlines()
    [python], [c] = ([line for line in lines if line.startswith(f"| {name} |")] for name in ("Python", "C"))
    assert (
        python.startswith("| Python | 3 | 2.4 kB | MIT (75%), MIT\\|\\<script\\>")
        and "ISC (under 1%)" in python
        and "Apache" not in text
    )
    assert c == "| C | 1 | 7 B | none found (100%) |"
    assert "<script>" not in text and not any(line.startswith("# [x]") for line in lines) and "](http://y.z)" not in text
    assert "| C++ \\*x\\* | 1,234 | 2.000 | 2.500 | 2.625 |" in lines
    metrics = read_metrics(tmp_path / "save" / "metrics.jsonl")
    speeds = [row["runtime/tokens_per_sec"] for row in metrics if "runtime/tokens_per_sec" in row]
    assert len(speeds) == 3 and f"| tokens per second, median | {statistics.median(speeds):,.0f} |" in lines
    loss = [row["validation/lm_loss"] for row in metrics if "validation/lm_loss" in row][-1]
    assert f"{loss:.4f}" in text
    (tmp_path / "corpus").rename(tmp_path / "save" / "corpus")
    assert make_model_card(open_source(tmp_path / "save")) == text
    (tmp_path / "save" / "corpus").rename(tmp_path / "elsewhere")
    assert "## Data\n\nNot described" in make_model_card(open_source(tmp_path / "save"))
    hours = sum(row.get("runtime/iteration_time", 0) for row in metrics) / 3600
    assert f"| hours of all ranks together | {hours:.3g} |" in lines


@pytest.mark.parametrize("damage", ["metrics.jsonl", "eval_results_150000.json"])
def test_what_is_not_known_is_left_out(tmp_path, damage):
    keys = {"num_layers": 2, "hidden_size": 64, "num_attention_heads": 4, "max_position_embeddings": 32, "pos_emb": "rotary"}
    keys |= {"no_weight_tying": True}
    write_foreign_checkpoint(tmp_path / "pile", build_peer(keys, 640), keys, "new", "layers")
    (tmp_path / "pile" / damage).write_text('{"run": ')
    text = make_model_card(open_source(tmp_path / "pile"))
    assert "## Model" in text and "## Limits" in text
    assert not any(heading in text for heading in ("## Training", "## Data", "## Evaluation", "## Cost", "None", "license:"))


def test_the_card_of_a_finetuned_model_has_base_rows_method_cost_and_figures_before_and_after(tmp_path):
    file = write_finetuning(tmp_path, valid_share=0.2, project_column="repo")
    licenses = ["MIT", HOSTILE, None]
    write_rows(tmp_path / "rows.jsonl", [row | {"license": licenses[number % 3]} for number, row in enumerate(ROWS)])
    run_ranks(1, run_finetuning, str(file), {"save": str(tmp_path / "base"), "train_iters": 1})
    run_ranks(1, run_finetuning, str(file), {"load": str(tmp_path / "base"), "save": str(tmp_path / "tuned")})
    for name, value in (("before", 0.25), ("after", 0.5)):
        (tmp_path / name).mkdir()
        content = {"task": "humaneval", "scores": [{"name": "pass@1", "value": value}, {"name": "pass@9", "value": None}]}
        (tmp_path / name / "humaneval.json").write_text(json.dumps(content))
    (tmp_path / "base" / "README.md").write_text("---\nlicense: bigcode-openrail-m\n---\n# A base\n")
    keys = ["base_model: me/base", "license: mit", "datasets: [me/rows]", f"before: {tmp_path}/before", f"after: {tmp_path}/after"]
    (tmp_path / "card.yml").write_text("\n".join([*keys, "labelling_cost: 12 USD"]))

    source = open_source(tmp_path / "tuned")
    text = make_model_card(source, load_card_facts(tmp_path / "card.yml"))
    data, lines = ModelCard(text).data, text.splitlines()
    assert (data.base_model, data.base_model_relation, data.datasets, data.license) == ("me/base", "finetune", ["me/rows"], "mit")
    assert (data.library_name, data.pipeline_tag) == ("transformers", "text-generation")
    assert "| license of the base model | bigcode-openrail-m |" in lines and "| method | all weights |" in lines
    [rows] = [line for line in lines if "rows.jsonl" in line]
    assert "(train) | 40 | MIT (14), " in rows and "not given (13)" in rows and "\\<script\\>" in rows and "<script>" not in text
    assert "| humaneval, pass\\@1 | 0.25 | 0.5 |" in lines and "| cost of labelling | 12 USD |" in lines
    metrics = read_metrics(tmp_path / "tuned" / "metrics.jsonl")
    [before] = [row for row in metrics if "validation/start/lm_loss" in row]
    first = next(row["train/lm_loss"] for row in metrics if "train/lm_loss" in row)
    after = [row["validation/lm_loss"] for row in metrics if "validation/lm_loss" in row][-1]
    assert before["iteration"] == 0 and before["validation/start/lm_loss"] == pytest.approx(first, abs=0.1)
    assert f"| {before['validation/start/lm_loss']:.4f} | {after:.4f} |" in text
    assert any(line.startswith("| device | ") for line in lines)

    (tmp_path / "base" / "README.md").write_text("---\na: &a [1]\nlicense: [*a, *a]\n---\n")
    assert "license of the base model" not in make_model_card(source)
    plain = make_model_card(source)
    assert "labelling" not in plain and "base_model" not in plain and "| base model | base |" in plain
    (tmp_path / "rows.jsonl").write_text("{}")
    assert "rows.jsonl (train) | not at hand |  |" in make_model_card(source)
    for content, kind, message in (
        ("base: x", ConfigError, "base is no key of a card. Keys: after, base_license"),
        ("license: [mit]", ConfigError, r"license \(\['mit'\]\) must be a text"),
        ("before: x", ConfigError, "before and after belong together"),
        (f"before: {tmp_path}/before\nafter: {tmp_path}/rows.jsonl", DataError, "rows.jsonl has no figures of `evaluate`"),
    ):
        (tmp_path / "card.yml").write_text(content)
        with pytest.raises(kind, match=message):
            load_card_facts(tmp_path / "card.yml")
