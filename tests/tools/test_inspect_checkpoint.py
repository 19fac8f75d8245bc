"""What a checkpoint holds, against the tensors in its files; every kind of damage is named and the rest is shown."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from distributed_runs import losses_of
from foreign_checkpoint import SMALL_MODEL, STEP, build_peer, write_foreign_checkpoint
from safetensors.torch import load_file, save_file

from neox_code.checkpoint.layout import get_layer_path
from neox_code.errors import run_command
from tools.inspect_checkpoint import main

DENSE = "sequential.2.attention.dense.weight"


def inspect(capfd: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, dict, str]:
    """Return the exit status, the figures, and what is printed for people."""
    capfd.readouterr()
    status = run_command(main, [*map(str, arguments), "--json"])
    out, err = capfd.readouterr()
    assert "Traceback" not in err
    return status, json.loads(out) if out else {}, err


def parameters_of(figures: dict) -> dict[str, dict]:
    return {row["name"]: row for row in figures["parameters"]}


@pytest.fixture(scope="module")
def foreign(tmp_path_factory):
    """Folders with the same model in bf16 as GPT-NeoX's and Hugging Face's files."""
    folder = tmp_path_factory.mktemp("foreign")
    peer = build_peer(SMALL_MODEL, 512, torch.bfloat16)
    peer.save_pretrained(folder / "hf", max_shard_size="100KB")
    write_foreign_checkpoint(folder / "layers", peer, SMALL_MODEL, "new", "layers", 2)
    write_foreign_checkpoint(folder / "sequential", peer, SMALL_MODEL, "legacy", "sequential", 2)
    return folder


def test_a_checkpoint_of_a_run_is_described(job, tmp_path, capfd):
    losses_of(1, job(train_iters=2, eval_iters=0, precision="bfloat16"), tmp_path / "save")
    status, figures, printed = inspect(capfd, tmp_path / "save")
    assert (status, figures["damage"], figures["iteration"], figures["tokens"]) == (0, [], 2, 2 * 8 * 64)
    assert figures["entries"] == 640 and figures["layout"]["model_parallel_size"] == 1
    folder = tmp_path / "save" / "global_step2"
    assert figures["bytes"] == sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    weight = torch.load(get_layer_path(folder, 2, 0), weights_only=True)["attention.dense.weight"]
    row = parameters_of(figures)[DENSE]
    assert row["norm"] == pytest.approx(weight.double().norm().item(), rel=1e-12) and row["dtype"] == "bfloat16"
    assert DENSE in printed and "64 x 64" in printed and "no damage found" in printed
    status, figures, printed = inspect(capfd, tmp_path / "save", "--compare", tmp_path / "save")
    assert (status, figures["comparison"]["parameters"], figures["comparison"]["keys"]) == (0, [], {})
    assert inspect(capfd, tmp_path / "nothing")[0] == 2


def test_all_formats_of_a_model_have_equal_parameters(foreign, capfd):
    for form in ("hf", "layers", "sequential"):
        status, figures, _ = inspect(capfd, foreign / form, "--compare", foreign / "hf")
        assert (status, figures["damage"], figures["comparison"]["parameters"]) == (0, [], [])
        assert [remark[:30] for remark in figures["remarks"]] == ["safetensors files have no chec"] * (form == "hf")
        assert figures["num_parameters"] == sum(weight.numel() for weight in build_peer(SMALL_MODEL, 512).state_dict().values())
    assert figures["iteration"] == 150_000


def test_a_difference_has_its_norm(foreign, tmp_path, capfd):
    shutil.copytree(foreign / "layers", tmp_path / "other")
    path = get_layer_path(tmp_path / "other" / STEP, 3, 1)
    state = torch.load(path, weights_only=True)
    state["attention.dense.weight"] = state["attention.dense.weight"] + 0.5
    before = torch.load(get_layer_path(foreign / "layers" / STEP, 3, 1), weights_only=True)["attention.dense.weight"]
    torch.save(state, path)
    (tmp_path / "other" / "configs" / "more.yml").write_text("rotary_pct: 0.5\n")
    comparison = inspect(capfd, foreign / "layers", "--compare", tmp_path / "other")[1]["comparison"]
    [row] = comparison["parameters"]
    expected = (state["attention.dense.weight"].double() - before.double()).norm().item()
    assert row["name"] == "sequential.3.attention.dense.weight" and row["norm"] == pytest.approx(expected, rel=1e-12)
    assert comparison["keys"]["rotary_pct"] == [1.0, 0.5]


def test_a_vocabulary_outside_of_the_folder_is_no_damage(tmp_path, job_folder, capfd):
    keys = SMALL_MODEL | {"vocab_file": str(job_folder / "code-vocab.json"), "merge_file": str(job_folder / "code-merges.txt")}
    write_foreign_checkpoint(tmp_path / "model", build_peer(SMALL_MODEL, 640), keys, "new", "layers")
    status, figures, printed = inspect(capfd, tmp_path / "model")
    assert (status, figures["damage"], figures["entries"]) == (0, [], None)
    assert "refers to a vocabulary outside of it" in printed and DENSE in printed


def remove_layer(folder: Path) -> None:
    for rank in range(2):
        get_layer_path(folder / STEP, 3, rank).unlink()


def remove_rank(folder: Path) -> None:
    get_layer_path(folder / STEP, 3, 1).unlink()


def truncate(folder: Path) -> None:
    for rank in range(2):
        path = get_layer_path(folder / STEP, 2 + rank, rank)
        path.write_bytes(path.read_bytes()[:-1000])


def change_a_byte(folder: Path) -> None:
    path = get_layer_path(folder / STEP, 3, 0)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def make_infinite(folder: Path) -> None:
    for layer in (2, 3):
        path = get_layer_path(folder / STEP, layer, 0)
        state = torch.load(path, weights_only=True)
        state["attention.dense.weight"][0, :layer] = float("nan")
        torch.save(state, path)


def break_the_configuration(folder: Path) -> None:
    (folder / "configs" / "model.yml").write_text("num_layers: [")


def remove_shard(folder: Path) -> None:
    sorted(folder.glob("*.safetensors"))[1].unlink()


def truncate_shard(folder: Path) -> None:
    path = sorted(folder.glob("*.safetensors"))[1]
    path.write_bytes(path.read_bytes()[:-10])


def spoil_a_shard(folder: Path) -> None:
    path = sorted(folder.glob("*.safetensors"))[1]
    tensors = load_file(path)
    name = next(iter(tensors))
    tensors[name].view(-1)[3] = float("inf")
    save_file(tensors, path, {"format": "pt"})


DAMAGE = [
    ("layers", remove_layer, ["sequential.3.attention.dense.weight is missing"], DENSE),
    ("layers", remove_rank, ["lacks layer 03 of tensor rank 1"], "layer_02-model_00-model_states.pt: attention.dense.weight"),
    ("layers", truncate, ["layer_02-model_00", "layer_03-model_01"], "layer_02-model_01-model_states.pt: attention.dense.weight"),
    ("layers", change_a_byte, ["layer_03-model_00", "checksum"], "layer_02-model_01-model_states.pt: attention.dense.weight"),
    ("layers", make_infinite, [f"{DENSE} has 2 values that are not finite", "sequential.3.attention.dense.weight has 3"], DENSE),
    ("layers", break_the_configuration, ["model.yml"], "layer_02-model_00-model_states.pt: attention.dense.weight"),
    ("hf", remove_shard, ["is missing"], "model-00001-of-"),
    ("hf", truncate_shard, ["is damaged"], "model-00001-of-"),
    ("hf", spoil_a_shard, ["has 1 values that are not finite"], DENSE),
]


@pytest.mark.parametrize("form, harm, sentences, shown", DAMAGE, ids=lambda value: getattr(value, "__name__", None))
def test_damage_is_listed_and_the_rest_is_shown(foreign, tmp_path, capfd, form, harm, sentences, shown):
    shutil.copytree(foreign / form, tmp_path / "model")
    harm(tmp_path / "model")
    status, figures, printed = inspect(capfd, tmp_path / "model")
    assert status == 2
    for sentence in sentences:
        assert any(sentence in problem for problem in figures["damage"]), figures["damage"]
        assert sentence in printed
    assert any(name.startswith(shown) for name in parameters_of(figures))
