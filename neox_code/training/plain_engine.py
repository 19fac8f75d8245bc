"""The engine of a run without pipeline: one rank, or data and tensor ranks, with the optimizer's state divided over the data ranks.

    engine = PlainEngine(module, optimizer, config, sizes, grid)
    loss = engine(batch)
    engine.backward(loss)                  # for each micro batch
    figures = engine.step(total)           # mean loss, gradient norm, 1.0 if the step was skipped

It makes the updates of DeepSpeed's engine with ZeRO stage 1 and writes the same files (`checkpoint.plain_files`), without its
copies of gradients and weights. Skipping, clipping and loss scale are decided on the device: the host does not wait.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from neox_code.checkpoint.plain_files import PlainLayout, write_plain_files
from neox_code.checkpoint.universal import AVERAGE
from neox_code.config.deepspeed_settings import is_default
from neox_code.config.derive import BatchSizes
from neox_code.config.neox import NeoXConfig
from neox_code.parallel.collectives import all_reduce
from neox_code.parallel.grid import ParallelGrid
from neox_code.parallel.native_kernels import AdamWStep, load_kernels, update_adamw
from neox_code.training.flat_group import FlatGroup, MasterShare
from neox_code.training.gradient_buckets import GradientBuckets
from neox_code.training.gradient_norm import compute_sum_of_squares
from neox_code.training.loss_scale import LossScale
from neox_code.training.optimizer import make_moments

BUCKET_ELEMENTS = 1 << 24
"""Maximum number of gradients that are reduced together over the data ranks (64 MiB in fp32)."""


class PlainEngine:
    """The model with its optimizer. `is_whole` selects the few large operations of a GPU instead of the small ones of a CPU."""

    def __init__(
        self,
        module: nn.Module,
        optimizer: torch.optim.Optimizer,
        config: NeoXConfig,
        sizes: BatchSizes,
        grid: ParallelGrid,
        is_whole: bool | None = None,
    ):
        self.module, self.optimizer, self.config, self.sizes, self.grid = module.to(grid.device), optimizer, config, sizes, grid
        self.is_whole = grid.device.type == "cuda" if is_whole is None else is_whole
        self.groups = [FlatGroup(group["params"], grid.data_rank, grid.data_size) for group in optimizer.param_groups]
        needs_matrices = [settings.get("kind") in ("muon", "adafactor") for settings in optimizer.param_groups]
        self.shares = [group.make_shares(self.is_whole or each) for group, each in zip(self.groups, needs_matrices, strict=True)]
        for settings, group, shares in zip(optimizer.param_groups, self.groups, self.shares, strict=True):
            settings["params"] = [share.master for together in shares for share in together]
            group.moments = make_moments(optimizer, settings, group.master)
            if config.optimizer.average_decay is not None:
                group.moments[AVERAGE] = group.master.clone()
        self.loss_scale = LossScale(config.optimizer.fp16, grid.device) if config.model.precision == "fp16" else None
        is_summed = sizes.accumulation_steps > 1 and config.model.precision != "fp32"
        self.buckets: GradientBuckets | None = None
        """None if the gradients that autograd keeps are the sums: no data ranks, no 16-bit micro batches to add, and no optimizer
        that needs whole matrices."""
        if self.is_whole or is_summed or grid.data_size > 1 or any(needs_matrices):
            given = config.optimizer.zero_optimization.get("reduce_bucket_size")
            elements = BUCKET_ELEMENTS if given is None or is_default(given) else min(int(given), BUCKET_ELEMENTS)
            self.buckets = GradientBuckets(self.groups, grid.data_group, elements, self.is_whole)
        self.before_update: list[Callable[[], None]] = []
        """Functions to call once before weights or moments change."""
        self.micro_step = 0
        self.global_steps = self.global_samples = 0
        self.skipped = torch.zeros((), device=grid.device)
        self.is_skipped = torch.zeros((), device=grid.device)
        """1.0 if the last step was skipped, on the device."""

    def __call__(self, batch: Any) -> torch.Tensor:
        return self.module(batch)

    def train(self) -> None:
        self.module.train()

    def eval(self) -> None:
        self.module.eval()

    def gradient_accumulation_steps(self) -> int:
        return self.sizes.accumulation_steps

    def train_micro_batch_size_per_gpu(self) -> int:
        return self.sizes.micro_batch_size

    def zero_optimization_stage(self) -> int:
        return 1

    @property
    def skipped_steps(self) -> int:
        return int(self.skipped)

    @skipped_steps.setter
    def skipped_steps(self, count: int) -> None:
        self.skipped.fill_(count)

    def backward(self, loss: torch.Tensor) -> None:
        """Compute the gradients of a micro batch and add them to those of the step. The last one reduces them over data ranks."""
        if self.buckets is not None:
            self.buckets.begin(self.micro_step == 0, self.micro_step == self.sizes.accumulation_steps - 1)
        (loss if self.loss_scale is None else loss * self.loss_scale.scale).backward()
        if self.buckets is not None:
            self.buckets.finish()
        self.micro_step += 1

    def step(self, total: torch.Tensor) -> torch.Tensor:
        """Update the weights. `total` is the sum of the losses of this rank's micro batches.

        Return the mean loss over all ranks, the gradient norm, and 1.0 if the gradient was not finite, so that no weight changed:
        fp64 [3], on the device.
        """
        parts = self.sizes.accumulation_steps * self.grid.data_size
        figures = torch.stack([total.double() / self.grid.tensor_size, self.sum_squares()])
        if self.grid.world_size > 1:
            all_reduce(figures, dist.group.WORLD)
        loss, squares = figures
        factor = parts if self.loss_scale is None else parts * self.loss_scale.scale.double()
        norm = squares.sqrt() / factor
        self.is_skipped = (~norm.isfinite()).float()
        clip = self.config.optimizer.gradient_clipping
        scale = factor * ((norm + 1e-6) / clip).clamp_min(1.0) if clip else torch.ones_like(norm) * factor
        self.update_weights(scale.float(), self.is_skipped)
        self.skipped += self.is_skipped
        if self.loss_scale is not None:
            self.loss_scale.update(self.is_skipped)
        self.micro_step = 0
        self.global_steps += 1
        self.global_samples += self.sizes.train_batch_size
        return torch.stack([loss / parts, norm, self.is_skipped.double()])

    def set_rate(self, rate: float, rate_after_skip: float) -> None:
        """Set the learning rate of the next step: `rate_after_skip` if the last step was skipped, which the host may not know."""
        on_device = torch.where(self.is_skipped > 0, rate_after_skip, rate) if self.is_whole else rate
        for settings in self.optimizer.param_groups:
            settings["lr"] = on_device * settings.get("lr_ratio", 1.0)

    def sum_squares(self) -> torch.Tensor:
        """Return the sum of the squared gradients of this rank's part: an fp64 scalar. Over all ranks, each parameter counts once.

        Tensor ranks other than 0 leave out parameters that every tensor rank has.
        """
        parts = [
            self.read_gradient(index, parameter, source, count, target)
            for index, group in enumerate(self.groups)
            for parameter, source, count, target in group.list_fragments()
            if self.grid.tensor_rank == 0 or getattr(parameter, "tensor_model_parallel", False)
        ]
        if self.is_whole:  # one group of launches
            return torch.stack(torch._foreach_norm(parts)).double().square().sum() if parts else self.skipped.double() * 0
        return sum((compute_sum_of_squares(part) for part in parts), torch.zeros((), dtype=torch.float64, device=self.grid.device))

    def read_gradient(self, index: int, parameter: nn.Parameter, source: int, count: int, target: int) -> torch.Tensor:
        """Return the flat gradient of a part of a parameter: `source` is its position in it, `target` in this rank's part."""
        if self.buckets is not None:
            return self.buckets.flats[index][self.groups[index].begin + target :][:count]
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        return parameter.grad.view(-1)[source : source + count]

    def read_share_gradient(self, index: int, share: MasterShare) -> torch.Tensor:
        """Return the flat gradient of a share."""
        count = share.master.numel()
        if self.buckets is None:
            assert share.parameter is not None and share.parameter.grad is not None
            return share.parameter.grad.view(-1)[share.begin :][:count]
        offset = 0 if share.parameter is None else self.groups[index].offsets[share.parameter]
        return self.buckets.flats[index][offset + share.begin :][:count]

    @torch.no_grad()
    def update_weights(self, scale: torch.Tensor, is_skipped: torch.Tensor) -> None:
        """Let the optimizer update this rank's weights by gradients / `scale`, unless `is_skipped` is 1; exchange the weights."""
        while self.before_update:
            self.before_update.pop()()
        self.optimizer.grad_scale, self.optimizer.found_inf = scale, is_skipped  # type: ignore[attr-defined]
        is_compiled = not self.is_whole and type(self.optimizer) is torch.optim.AdamW and load_kernels() is not None
        all_settings = self.optimizer.param_groups
        masters = [settings["params"] for settings in all_settings]
        for settings in all_settings:
            settings["params"] = []
        for index, (group, settings) in enumerate(zip(self.groups, all_settings, strict=True)):
            for together in self.shares[index]:
                if is_compiled and not group.is_fp32:
                    if not is_skipped:
                        self.update_in_one_pass(index, together, settings, float(scale))
                    continue
                for share in together:
                    share.master.grad = self.read_share_gradient(index, share).float()
                settings["params"] = [share.master for share in together]
                self.optimizer.step()
                for share in together:
                    share.master.grad = None
                    if not group.is_fp32:
                        share.weights.copy_(share.master)
            settings["params"] = []
            if self.buckets is None:
                for parameter in group.parameters:
                    parameter.grad = None
            if self.grid.data_size > 1:
                dist.all_gather_into_tensor(group.weights, group.own_weights, group=self.grid.data_group)
        for settings, own in zip(all_settings, masters, strict=True):
            settings["params"] = own

    def update_in_one_pass(self, index: int, shares: Sequence[MasterShare], settings: Mapping[str, Any], scale: float) -> None:
        """Make AdamW's update of some shares, and their 16-bit weights, by compiled code. Gradients are divided by `scale`."""
        beta1, beta2 = settings["betas"]
        for share in shares:
            state = self.optimizer.state[share.master]
            state["step"] += 1
            corrections = (1 - beta ** float(state["step"]) for beta in (beta1, beta2))
            step = AdamWStep(settings["lr"], beta1, beta2, settings["eps"], settings["weight_decay"], scale, *corrections)
            gradient = self.read_share_gradient(index, share)
            update_adamw(step, share.master, state["exp_avg"], state["exp_avg_sq"], gradient, share.weights)

    def refresh_fp32_params(self) -> None:
        """Copy the module's weights to the master weights and their average, after weights alone were loaded."""
        for group in self.groups:
            if not group.is_fp32:
                group.master.copy_(group.own_weights)
            if AVERAGE in group.moments:
                group.moments[AVERAGE].copy_(group.master)

    def update_lp_params(self) -> None:
        """Copy the master weights to the module's weights, on every rank. The name is that of DeepSpeed's method."""
        for group in self.groups:
            if not group.is_fp32:
                group.own_weights.copy_(group.master)
            if self.grid.data_size > 1:
                dist.all_gather_into_tensor(group.weights, group.own_weights, group=self.grid.data_group)

    def set_updates(self, index: int, count: int) -> None:
        """Set the number of updates that the optimizer has counted for a group."""
        for share in (share for together in self.shares[index] for share in together):
            self.optimizer.state[share.master]["step"].fill_(count)

    def read_updates(self, index: int) -> torch.Tensor | None:
        """Return the optimizer's number of updates of a group; None if the optimizer does not count them."""
        shares = [share for together in self.shares[index] for share in together]
        return self.optimizer.state[shares[0].master].get("step") if shares else torch.tensor(float(self.global_steps))

    def save_checkpoint(self, save_dir: str, tag: str, client_state: Mapping[str, Any], save_latest: bool = False) -> None:
        """Write this rank's files into the folder `save_dir/tag`, under the names and with the content of DeepSpeed's engine."""
        assert not save_latest
        write_plain_files(self, Path(save_dir) / tag, client_state, PlainLayout.from_config(self.config, self.grid))
