"""A low-rank change of one linear layer: y = W x + b becomes y = (W + s B A) x + b (LoRA, Hu et al. 2021, arXiv:2106.09685).

    change = LowRank("sequential.2.attention.query_key_value", row, model, settings, ["q_proj", "v_proj"], sizes, grid, dtype)
    change.attach(linear, selection)         # a forward hook adds it while selection.name is the adapter's name

    rsLoRA   s = alpha / sqrt(rank) and not alpha / rank                         Kalajdzievski 2023, arXiv:2312.03732
    DoRA     each row of W + s B A is scaled to a trained length                 Liu et al. 2024, arXiv:2402.09353

A fused layer of ours is several layers of Hugging Face's model (q_proj, k_proj, v_proj; gate_proj, up_proj). Each part has its
own A and B, so that the adapter is one of that model too. The A's are computed as one matrix, and the B's as one whose blocks
stand where the parts' rows are:

    [ A of q ]          rows of q [ B of q    0    ]
    [ A of v ]   and    rows of k [   0       0    ]   (k has no adapter)
                        rows of v [   0    B of v  ]

Every tensor-parallel rank holds the whole A and B, and uses its part of them.
Shape letters: I inputs and O outputs of the whole layer, R rank times number of parts.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn import functional as F

from neox_code.adapters.quantized_base import QuantizedBase
from neox_code.checkpoint.foreign_names import ForeignRow
from neox_code.checkpoint.merge_ranks import cut_part, merge_parts
from neox_code.config.model import ModelConfig
from neox_code.model.sharding import get_sharding
from neox_code.parallel.collectives import SumOverRanks, all_reduce, sum_gradients
from neox_code.parallel.grid import ParallelGrid
from neox_code.parallel.plain_layers import linear as multiply
from neox_code.parallel.seeds import TensorRankGenerator


@dataclass(frozen=True)
class LowRankSettings:
    rank: int
    alpha: float
    use_rslora: bool = False
    use_dora: bool = False
    dropout: float = 0.0

    @property
    def scale(self) -> float:
        return self.alpha / (math.sqrt(self.rank) if self.use_rslora else self.rank)


@dataclass
class Selection:
    """The adapter that the layers of a model apply; None: the base alone."""

    name: str | None = None


class LowRank(nn.Module):
    """The parameters of one adapter for one layer, and what they add to the layer's output."""

    def __init__(
        self,
        layer: str,
        row: ForeignRow,
        model: ModelConfig,
        settings: LowRankSettings,
        parts: Sequence[str],
        rows: Sequence[int],
        num_inputs: int,
        grid: ParallelGrid,
        dtype: torch.dtype,
    ):
        """`row` lists the parts of the layer in Hugging Face's model and joins them; `rows` has the number of rows of each.

        `parts` are the last names of those that get an adapter.
        """
        super().__init__()
        self.weight_name, self.row, self.model, self.settings, self.grid = f"{layer}.weight", row, model, settings, grid
        self.rows = {name.rpartition(".")[0].rpartition(".")[2]: count for name, count in zip(row.names, rows, strict=True)}
        self.is_row_parallel = get_sharding(self.weight_name).dim == 1
        self.group = grid.tensor_group if grid.tensor_size > 1 else None
        self.generator = TensorRankGenerator(grid)
        chosen = [part for part in self.rows if part in parts]
        self.lora_A, self.lora_B, self.magnitude = nn.ParameterDict(), nn.ParameterDict(), nn.ParameterDict()
        for part in chosen:
            first = torch.empty(settings.rank, num_inputs)
            nn.init.kaiming_uniform_(first, a=math.sqrt(5))  # as PEFT
            self.lora_A[part] = nn.Parameter(first.to(dtype))
            self.lora_B[part] = nn.Parameter(torch.zeros(self.rows[part], settings.rank, dtype=dtype))
            if settings.use_dora:
                self.magnitude[part] = nn.Parameter(torch.ones(self.rows[part], dtype=dtype))
        self.squares: torch.Tensor | None = None
        """Squared lengths of the rows of this rank's weight, which is frozen."""
        self.fixed: tuple[torch.Tensor, torch.Tensor, torch.Tensor | None] | None = None
        """A, B and the gain of DoRA for inference, where they do not change."""

    def join(self, found: dict[str, torch.Tensor], width: int) -> torch.Tensor:
        """Return one matrix [O, width] of the layer's rows from the parts' own [rows, width]; 0 for parts without an adapter."""
        some = next(iter(found.values()))
        whole = [found.get(part, some.new_zeros(count, width)) for part, count in self.rows.items()]
        return self.row.join(whole, self.model) if len(whole) > 1 else whole[0]

    def whole_a(self) -> torch.Tensor:
        """Return [R, I]."""
        parts = list(self.lora_A.values())
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def whole_b(self) -> torch.Tensor:
        """Return [O, R]."""
        rank, count = self.settings.rank, len(self.lora_B)
        padded = {part: F.pad(b, (rank * place, rank * (count - 1 - place))) for place, (part, b) in enumerate(self.lora_B.items())}
        return self.join(padded if count > 1 else dict(self.lora_B.items()), rank * count)

    def cut(self, whole: torch.Tensor) -> torch.Tensor:
        """Return this tensor rank's part of a matrix that is divided as the layer's weight is. Its gradient is summed."""
        if self.group is None:
            return whole
        return cut_part(
            self.weight_name, sum_gradients(whole, self.group), self.grid.tensor_rank, self.grid.tensor_size, self.model
        )

    def own_matrices(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return this rank's parts of A and B."""
        if self.fixed is not None:
            return self.fixed[:2]
        return (self.cut(self.whole_a()), self.whole_b()) if self.is_row_parallel else (self.whole_a(), self.cut(self.whole_b()))

    def add(self, linear: nn.Module, input_: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
        """Return the layer's output with this adapter: `output` is that of the base for `input_`."""
        first, second = self.own_matrices()
        inner = multiply(self.maybe_drop(input_), first)
        if self.group is not None:
            inner = SumOverRanks.apply(inner, self.group) if self.is_row_parallel else sum_gradients(inner, self.group)
        inner = (inner * self.settings.scale).flatten(0, -2)
        if self.settings.use_dora:  # gain (W + s B A) x + bias, with two passes over the output
            gain = self.compute_gain(linear, first, second) if self.fixed is None else self.fixed[2]
            assert gain is not None
            bias = linear.bias.to(output.dtype) if isinstance(linear.bias, torch.Tensor) else None
            output = output * gain if bias is None else torch.addcmul(bias - bias * gain, output, gain)
            second = second * gain[:, None]
        return torch.addmm(output.flatten(0, -2), inner, second.t()).view_as(output)

    def maybe_drop(self, input_: torch.Tensor) -> torch.Tensor:
        share = self.settings.dropout
        if not (share and self.training):
            return input_
        if not self.is_row_parallel:
            return F.dropout(input_, share)
        with self.generator.fork():
            return F.dropout(input_, share)

    def compute_gain(self, linear: nn.Module, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        """Return DoRA's factor of each output of this rank: the trained length divided by that of the row.

        The latter is a constant in the backward pass (section 4.3 of the paper)."""
        whole = self.join_lengths()
        whole = whole if self.is_row_parallel else self.cut(whole)
        return divide_lengths(whole, self.compute_lengths(read_weight(linear), first, second)[:, None])[:, 0].to(second.dtype)

    def join_lengths(self) -> torch.Tensor:
        """Return DoRA's trained lengths of all rows [O, 1], fp32; 0 for the rows of parts without an adapter."""
        return self.join({part: length[:, None].float() for part, length in self.magnitude.items()}, 1)

    @torch.no_grad()
    def compute_lengths(self, weight: torch.Tensor, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        """Return the length of each row of W + s B A for this rank's W, in fp32, without forming B A:

        |w + s b A|^2 = |w|^2 + 2 s b (A w) + s^2 b (A A^T) b
        """
        weight = weight.to(first.device)
        if self.squares is None or self.squares.device != weight.device:
            self.squares = torch.linalg.vector_norm(weight, dim=1, dtype=torch.float32).square()
        crossed = multiply(weight, first).float()
        first, second = first.float(), second.float() * self.settings.scale
        squares = self.squares + (second * (2 * crossed + second @ (first @ first.t()))).sum(1)
        return all_reduce(squares, self.group if self.is_row_parallel else None).clamp_min(0).sqrt()

    @torch.no_grad()
    def set_lengths(self, linear: nn.Module) -> None:
        """Set DoRA's lengths to those of the rows of the base, so that training begins at the base."""
        if not self.settings.use_dora:
            return
        first, second = self.own_matrices()
        lengths = self.compute_lengths(read_weight(linear), first, second)[:, None]
        if self.group is not None and not self.is_row_parallel:
            parts = [torch.empty_like(lengths) for _ in range(self.grid.tensor_size)]
            dist.all_gather(parts, lengths.contiguous(), group=self.group)
            lengths = merge_parts(self.weight_name, parts, self.model)
        for part, length in zip(self.rows, self.row.split(lengths, self.model), strict=True):
            if part in self.magnitude:
                self.magnitude[part].copy_(length[:, 0])

    @torch.no_grad()
    def fix(self, linear: nn.Module) -> None:
        """Keep A, B and DoRA's gain for inference."""
        first, second = (matrix.detach().clone() for matrix in self.own_matrices())
        self.fixed = (first, second, self.compute_gain(linear, first, second) if self.settings.use_dora else None)

    def move(self, device: torch.device) -> None:
        """Move what `fix` has kept to a device."""
        assert self.fixed is not None
        first, second, gain = self.fixed
        self.fixed = (first.to(device), second.to(device), None if gain is None else gain.to(device))

    @torch.no_grad()
    def merge(self, weight: torch.Tensor) -> torch.Tensor:
        """Return the whole weight [O, I] with this adapter, in its type; computed in fp32."""
        first, second = self.whole_a(), self.whole_b()
        merged = weight.float().addmm(second.float(), first.float(), alpha=self.settings.scale)
        if self.settings.use_dora:
            merged *= divide_lengths(self.join_lengths(), torch.linalg.vector_norm(merged, dim=1, keepdim=True))
        return merged.to(weight.dtype)

    def attach(self, linear: nn.Module, name: str, selection: Selection) -> None:
        """Add this adapter to the outputs of `linear` while `selection` has its name."""

        def add(module: nn.Module, inputs: tuple[Any, ...], output: torch.Tensor) -> torch.Tensor:
            return self.add(module, inputs[0], output) if selection.name == name else output

        linear.register_forward_hook(add)


def divide_lengths(trained: torch.Tensor, own: torch.Tensor) -> torch.Tensor:
    """Return the factor of each row; 1 for rows without a trained length, and for rows of zeros."""
    return torch.where((trained == 0) | (own == 0), 1.0, trained / own.clamp_min(torch.finfo(torch.float32).tiny))


def read_weight(linear: nn.Module) -> torch.Tensor:
    """Return this rank's weight of a linear layer, also of one in few bits."""
    weight = linear.dequantize() if isinstance(linear, QuantizedBase) else linear.weight
    assert isinstance(weight, torch.Tensor)
    return weight.detach()
