"""Optimizer states in another layout, against DeepSpeed's own readers, and training on from them against the first layout."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from deepspeed.utils import safe_get_full_fp32_param, safe_get_full_optimizer_state
from distributed_runs import losses_of, run_ranks

from neox_code.checkpoint.merge_ranks import get_name_in_whole_model
from neox_code.checkpoint.optimizer_files import read_optimizer_state
from neox_code.commands.convert import main
from neox_code.config.neox import NeoXConfig
from neox_code.data.loaders import Loaders
from neox_code.errors import CheckpointError
from neox_code.parallel.grid import ParallelGrid
from neox_code.training.checkpoints import Checkpoints
from neox_code.training.engine import Engine
from neox_code.training.loop import Run
from neox_code.training.plain_engine import PlainEngine
from neox_code.training.pretrain import pretrain
from neox_code.training.state import TrainingState
from neox_code.training.trackers import read_metrics

RESIDUALS = {"token_smear": True, "embedding_skip": True, "value_residual": True}
GROUPED: dict[str, Any] = {
    "num_kv_heads": 2,
    "activation": "swiglu",
    "mlp_multiple_of": 4,
    "norm": "rmsnorm",
    "qk_norm": True,
} | RESIDUALS
BF16: dict[str, Any] = {"precision": "bfloat16"}
ZERO_2: dict[str, Any] = {"zero_optimization": {"stage": 2}}
PLAIN: dict[str, Any] = {"pipe_parallel_size": 0}
State = dict[str, torch.Tensor]


def norms_of(save: Path) -> list[tuple[float, float]]:
    rows = read_metrics(save / "metrics.jsonl")
    return [(row["train/lm_loss"], row["train/grad_norm"]) for row in rows if "train/lm_loss" in row]


def read_state(engine: Engine, grid: ParallelGrid) -> State:
    """Return the optimizer state: the whole tensors of a tensor rank's part, by `tensor rank/name/key`. That of DeepSpeed's engine
    is read by DeepSpeed's functions."""
    found: State = {}
    if isinstance(engine, PlainEngine):
        names = {parameter: get_name_in_whole_model(name) for name, parameter in engine.module.named_parameters()}
        for index, group in enumerate(engine.groups):
            assert float(engine.read_updates(index)) == 3
            for key, own in {"fp32": group.master, **group.moments}.items():
                parts = [torch.empty_like(own) for _ in range(grid.data_size)]
                dist.all_gather(parts, own, group=grid.data_group)
                for parameter, offset in group.offsets.items():
                    values = torch.cat(parts)[offset:][: parameter.numel()].view(parameter.shape)
                    assert key != "fp32" or torch.equal(values.to(parameter.dtype), parameter)
                    found[f"{grid.tensor_rank}/{names[parameter]}/{key}"] = values
        return found
    engine.optimizer._lazy_init_hp_params_optimizer_state()
    for name, parameter in engine.module.named_parameters():
        key = f"{grid.tensor_rank}/{get_name_in_whole_model(name)}"
        found[f"{key}/fp32"] = safe_get_full_fp32_param(parameter)
        assert torch.equal(found[f"{key}/fp32"].to(parameter.dtype), parameter)
        for moment in ("exp_avg", "exp_avg_sq"):
            found[f"{key}/{moment}"] = safe_get_full_optimizer_state(parameter, moment)
    assert {float(state["step"]) for state in engine.optimizer.state.values()} == {3.0}
    return found


def copy_and_train(files: list[str], overrides: dict[str, Any]) -> State:
    """Load the checkpoint on this rank and save it in another folder before training; return the optimizer state as loaded."""
    found: State = {}
    train = Run.run_to_the_end

    def save_and_train(self: Run) -> None:
        found.update(read_state(self.engine, self.grid))
        assert self.engine.global_steps == 3
        self.checkpoints.save(self.engine, self.state)
        train(self)

    Run.run_to_the_end = save_and_train
    pretrain(NeoXConfig.load(files, overrides))
    return found


def resume(world_size: int, file: Path, load: Path, save: Path) -> State:
    """Resume at iteration 3, and save it in the new folder `save` too; return the state of all ranks."""
    return join(run_ranks(world_size, copy_and_train, [str(file)], {"load": str(load), "save": str(save), "iteration": 3}))


def join(ranks: list[State]) -> State:
    """Return the state of all ranks; of a tied embedding on two stages the first: the last one's positions are not trained."""
    return {name: value for state in reversed(ranks) for name, value in state.items()}


def require_equal(before: State, after: State, tensor_size: int) -> None:
    assert before.keys() == after.keys()
    for name, value in before.items():
        rows = 640 // tensor_size if "word_embeddings" in name or "final_linear" in name else None
        assert torch.equal(value[:rows], after[name][:rows]), name


CHANGES = {
    "data": (BF16, (1, {}), (2, {})),
    "data, plain, ZeRO 2": (BF16 | PLAIN, (2, ZERO_2), (1, {"zero_optimization": {"stage": 0}})),
    "plain and pipeline": (BF16 | {"no_weight_tying": False}, (2, PLAIN), (2, {"pipe_parallel_size": 2})),
    "tensor, fp32": ({"gpt_j_residual": True}, (2, {"model_parallel_size": 2}), (2, ZERO_2 | PLAIN)),
    "all": (
        BF16 | GROUPED | {"no_weight_tying": False, "pos_emb": "learned"},
        (4, {"model_parallel_size": 2, "pipe_parallel_size": 2}),
        (2, PLAIN),
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_state_goes_to_another_layout_and_back_unchanged_and_training_continues(job, tmp_path, change):
    keys, (ranks, one), (other_ranks, other) = CHANGES[change]
    losses_of(ranks, job(**keys, **one, eval_iters=0), tmp_path / "start", exit_interval=3)
    before = resume(ranks, job(**keys, **one, eval_iters=0), tmp_path / "start", tmp_path / "same")
    resume(other_ranks, job(**keys, **other, eval_iters=0), tmp_path / "start", tmp_path / "there")
    after = resume(ranks, job(**keys, **one, eval_iters=0), tmp_path / "there", tmp_path / "back")
    require_equal(before, after, one.get("model_parallel_size", 1))
    expected = norms_of(tmp_path / "same")
    assert len(expected) == 3
    assert norms_of(tmp_path / "back") == expected
    for (loss, norm), (right_loss, right_norm) in zip(norms_of(tmp_path / "there"), expected, strict=True):
        assert loss == pytest.approx(right_loss, rel=2e-4 if "precision" in keys else 1e-6)
        assert norm == pytest.approx(right_norm, rel=5e-3 if "precision" in keys else 1e-5)


def load_by_deepspeed(files: list[str], overrides: dict[str, Any]) -> State:
    """Return the optimizer state on this rank after DeepSpeed has loaded a universal checkpoint."""
    found: State = {}

    def load(self: Checkpoints, engine: Engine, loaders: Loaders) -> TrainingState:
        engine._config.load_universal_checkpoint = True
        assert self.start.folder is not None
        engine.load_checkpoint(str(self.start.folder.parent), tag=self.start.folder.name)
        found.update(read_state(engine, self.grid))
        return TrainingState(3)

    Checkpoints.resume, Run.run_to_the_end = load, lambda self: None
    pretrain(NeoXConfig.load(files, overrides))
    return found


@pytest.mark.parametrize(
    ("keys", "ranks", "one"),
    [
        (BF16 | GROUPED | {"pipe_parallel_size": 1}, 2, {"model_parallel_size": 2}),
        ({"pipe_parallel_size": 0, "activation": "geglu", "no_weight_tying": False, "pos_emb": "learned"}, 1, {}),
    ],
    ids=["grouped", "tied"],
)
def test_the_universal_format_is_read_by_deepspeed_and_here_at_any_layout(job, tmp_path, keys, ranks, one):
    losses_of(ranks, job(**keys, **one, eval_iters=0), tmp_path / "start", exit_interval=3)
    before = resume(ranks, job(**keys, **one, eval_iters=0), tmp_path / "start", tmp_path / "same")
    names = ["--pipe-parallel-size", str(keys["pipe_parallel_size"])]
    assert main([str(tmp_path / "start"), str(tmp_path / "universal"), "--to", "universal", *names]) == 0
    after = resume(ranks, job(**keys, **one, eval_iters=0), tmp_path / "universal", tmp_path / "back")
    require_equal(before, after, ranks)
    assert norms_of(tmp_path / "back") == norms_of(tmp_path / "same")
    file = str(job(**keys, **one, gradient_predivide_factor=1.0))  # a setting that DeepSpeed's engine alone has
    loaded = run_ranks(ranks, load_by_deepspeed, [file], {"load": str(tmp_path / "universal"), "save": None})
    require_equal(before, join(loaded), ranks)
    assert main([str(tmp_path / "universal"), str(tmp_path / "again"), "--to", "universal", *names]) == 0
    for path in (tmp_path / "universal").rglob("zero/*/*.pt"):
        assert path.read_bytes() == (tmp_path / "again" / path.relative_to(tmp_path / "universal")).read_bytes()


def test_what_has_no_optimizer_state_is_refused_by_name(job, tmp_path):
    losses_of(1, job(train_iters=1, eval_iters=0), tmp_path / "start")
    with pytest.raises(CheckpointError, match=r"holds the optimizer's weights in fp32, not fp16. Remove --dtype"):
        main([str(tmp_path / "start"), str(tmp_path / "universal"), "--to", "universal", "--dtype", "fp16"])
    main([str(tmp_path / "start"), str(tmp_path / "weights"), "--to", "neox"])
    with pytest.raises(CheckpointError, match=r"weights/global_step1 holds no optimizer state .*no_load_optim: true"):
        main([str(tmp_path / "weights"), str(tmp_path / "universal"), "--to", "universal"])
    (path,) = (tmp_path / "start" / "global_step1").glob("*optim_states.pt")
    content = torch.load(path, weights_only=True)
    (path.parent / "run.json").unlink()  # which has the checksums of the files that are changed below
    config = NeoXConfig.load([job()])
    for change, message in (
        (lambda state: state.pop("param_slice_mappings"), "that can be resharded"),
        (
            lambda state: state["param_slice_mappings"][0]["6.final_linear.weight"].update(start=-1),
            "position of 6.final_linear",
        ),
        (lambda state: state["param_slice_mappings"][0].pop("6.final_linear.weight"), r"has 0 values of fp32 for 6.final_linear"),
    ):
        damaged = copy.deepcopy(content)
        change(damaged["optimizer_state_dict"])
        torch.save(damaged, path)
        with pytest.raises(CheckpointError, match=message):
            read_optimizer_state(path.parent, config.model).read("sequential.6.final_linear.weight", "fp32")
    path.unlink()
    with pytest.raises(CheckpointError, match="holds no optimizer state"):
        read_optimizer_state(path.parent, config.model)
    assert not (tmp_path / "universal").exists()
