"""Means, moving averages and sums with a difference, against the same sums in fp64; what cannot be combined is refused."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from foreign_checkpoint import SMALL_MODEL, build_peer, write_foreign_checkpoint
from transformers import AutoModelForCausalLM

from neox_code.checkpoint.model_folder import load_config
from neox_code.config.command_line import parse_command_line
from neox_code.conversion.source import open_source
from neox_code.errors import run_command
from neox_code.generation.loading import load_model
from tools.average_checkpoints import main

KEYS = {**SMALL_MODEL, "precision": "bfloat16"}
ITERATION = 150_000


def run(*arguments: object) -> int:
    return run_command(main, list(map(str, arguments)))


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    source = open_source(folder)
    return {name: weight[: source.vocab_rows] if weight.shape[0] >= 640 else weight for name, weight in source.weights.items()}


def copy_vocabulary(job_folder: Path, folder: Path) -> None:
    for name in ("code-vocab.json", "code-merges.txt"):
        shutil.copyfile(job_folder / name, folder / name)


@pytest.fixture(scope="module")
def models(tmp_path_factory, job_folder):
    """Three models in bf16 with one vocabulary, as layer files, files without a pipeline, and at two tensor-parallel ranks."""
    folder = tmp_path_factory.mktemp("models")
    keys = KEYS | {"vocab_file": "code-vocab.json", "merge_file": "code-merges.txt"}
    for number, (form, size) in enumerate((("layers", 1), ("sequential", 1), ("layers", 2))):
        peer = build_peer(KEYS, 640)
        generator = torch.Generator().manual_seed(number)
        with torch.no_grad():
            for parameter in peer.parameters():
                parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
        write_foreign_checkpoint(folder / str(number), peer.bfloat16(), keys, "new", form, size)
        copy_vocabulary(job_folder, folder / str(number))
    return [folder / str(number) for number in range(3)]


COMBINATIONS = {
    "mean": ([], lambda a, b, c: (a + b + c) / 3),
    "ema": (["--ema", "0.75"], lambda a, b, c: 0.75 * (0.75 * a + 0.25 * b) + 0.25 * c),
    "add": (["--add"], lambda a, b, c: a + 0.375 * (b - c)),
}


@pytest.mark.parametrize("kind", COMBINATIONS)
def test_each_combination_is_the_sum_in_fp64_rounded_once(models, tmp_path, kind):
    options, expect = COMBINATIONS[kind]
    arguments = [tmp_path / "out", *options, *models, *(["--scale", "0.375"] if kind == "add" else [])]
    assert run(*arguments) == 0
    found, sources = weights_of(tmp_path / "out"), [weights_of(folder) for folder in models]
    assert sorted(found) == sorted(sources[0])
    for name, weight in found.items():
        exact = expect(*(source[name].double() for source in sources))
        rounded = exact.to(torch.bfloat16)
        assert weight.dtype == torch.bfloat16
        torch.testing.assert_close(weight.float(), rounded.float(), atol=0, rtol=2**-7)  # fp32 may round a tie to the neighbor
        assert (weight != rounded).sum() <= 1 + weight.numel() // 1000
    loaded = load_model(load_config(parse_command_line([str(tmp_path / "out")], None, "generate")), torch.device("cpu"))
    assert loaded.tokenizer.vocab_size == 640 and loaded.checkpoint.name == f"global_step{ITERATION}"


def test_equal_models_give_the_same_model(models, tmp_path):
    for number, options in enumerate(([], ["--ema", "0.9"])):
        assert run(tmp_path / str(number), models[2], models[2], models[2], *options) == 0
    assert run(tmp_path / "2", "--add", models[2], models[0], models[0], "--scale", "3") == 0
    expected = weights_of(models[2])
    for number in range(3):
        found = weights_of(tmp_path / str(number))
        assert found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in found)


def test_checkpoints_of_one_run_are_chosen_by_iteration(models, tmp_path, job_folder):
    save = tmp_path / "save"
    save.mkdir()
    for iteration, model in ((100, models[0]), (200, models[1])):
        (save / f"global_step{iteration}").symlink_to(model / f"global_step{ITERATION}")
    (save / "configs").symlink_to(models[0] / "configs")
    copy_vocabulary(job_folder, save)
    assert run(tmp_path / "by_iteration", save, "--iterations", "100,200") == 0
    assert run(tmp_path / "by_folder", models[0], models[1]) == 0
    one, other = (weights_of(tmp_path / name) for name in ("by_iteration", "by_folder"))
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert (tmp_path / "by_iteration" / "global_step100").is_dir()


def test_what_cannot_be_combined_is_refused(models, tmp_path, job_folder, capfd):
    keys = KEYS | {"vocab_file": "code-vocab.json", "merge_file": "code-merges.txt"}
    vocabulary = json.loads((job_folder / "code-vocab.json").read_text())
    vocabulary["Ġself"], vocabulary["Ġdef"] = vocabulary["Ġdef"], vocabulary["Ġself"]
    write_foreign_checkpoint(tmp_path / "vocabulary", build_peer(KEYS, 640), keys, "new", "layers")
    copy_vocabulary(job_folder, tmp_path / "vocabulary")
    (tmp_path / "vocabulary" / "code-vocab.json").write_text(json.dumps(vocabulary))
    wide = KEYS | {"hidden_size": 96}
    write_foreign_checkpoint(tmp_path / "wide", build_peer(wide, 640), wide, "new", "layers")
    write_foreign_checkpoint(tmp_path / "rotary", build_peer(KEYS, 640), KEYS | {"rotary_pct": 0.5}, "new", "layers")
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "file").touch()
    refusals = {
        "different vocabularies": [models[0], tmp_path / "vocabulary"],
        "hidden_size is 64 in the first and 96": [models[0], tmp_path / "wide"],
        "rotary_pct is 1.0 in the first and 0.5": [models[0], tmp_path / "rotary"],
        "1 models are given": [models[0]],
        "--scale is used only with --add": [models[0], models[1], "--scale", "2"],
        "--iterations chooses checkpoints of one SOURCE": [models[0], models[1], "--iterations", "1,2"],
        "has no checkpoint of iteration 7": [models[0], "--iterations", f"{ITERATION},7"],
        "1.5 is not a number between 0 and 1": [models[0], models[1], "--ema", "1.5"],
    }
    for sentence, arguments in refusals.items():
        assert run(tmp_path / "out", *arguments) == 2
        assert sentence in (printed := capfd.readouterr().err) and "Traceback" not in printed
    assert run(tmp_path / "there", models[0], models[1]) == 2
    assert not list(tmp_path.glob("out*"))


def test_models_of_hugging_face_give_one_of_hugging_face(tmp_path):
    peers = [build_peer(KEYS, 640), build_peer(KEYS, 640)]
    with torch.no_grad():
        for parameter in peers[1].parameters():
            parameter.mul_(3)
    for number, peer in enumerate(peers):
        peer.bfloat16().save_pretrained(tmp_path / str(number))
    assert run(tmp_path / "out", tmp_path / "0", tmp_path / "1") == 0
    found = AutoModelForCausalLM.from_pretrained(tmp_path / "out").state_dict()
    for name, weight in found.items():
        exact = (peers[0].state_dict()[name].double() + peers[1].state_dict()[name].double()) / 2
        assert torch.equal(weight, exact.to(torch.bfloat16))
