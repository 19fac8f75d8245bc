"""Rotary positions (Su et al. 2021, RoFormer) in GPT-NeoX's half-split form, and sinusoidal positions. ALiBi is in alibi.py.

The first `rotary_pct` of a head's dimensions are rotated. Of these r dimensions, i is rotated together with i + r/2:

    x'[i]       = x[i]       cos(p w_i) - x[i + r/2] sin(p w_i)      w_i = base^(-2i/r)
    x'[i + r/2] = x[i + r/2] cos(p w_i) + x[i]       sin(p w_i)

Angles are computed in fp32 and rounded once: bf16 angles would be wrong by half a radian at position 1000.
Shape letters: S sequence, B batch, N heads, D head dimensions, R = r/2.
"""

from typing import Any

import torch


def compute_frequencies(width: int, base: float = 10000.0, device: torch.device | None = None) -> torch.Tensor:
    """Return base^(-2i/width) for each pair i of dimensions: fp32 [width / 2]."""
    return base ** -(torch.arange(0, width, 2, dtype=torch.float32, device=device) / width)


def count_rotary_dims(head_dim: int, rotary_pct: float) -> int:
    """Return the number of a head's dimensions that are rotated, always even."""
    return int(head_dim * rotary_pct) // 2 * 2


class RotaryTable:
    """cos and sin for positions 0 to max_positions - 1, computed once for each device and type. It has no parameters."""

    def __init__(self, head_dim: int, rotary_pct: float, base: float, max_positions: int):
        self.rotary_dim = count_rotary_dims(head_dim, rotary_pct)
        self.base = base
        self.max_positions = max_positions
        self.cache: dict[tuple[torch.device, torch.dtype], tuple[torch.Tensor, torch.Tensor]] = {}

    def frequencies(self) -> torch.Tensor:
        """Return the angles (radians) of the R dimension pairs at position 1: [R]."""
        return compute_frequencies(self.rotary_dim, self.base)

    def lookup(self, device: torch.device, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
        """Return cos and sin, each [max_positions, R]."""
        key = (device, dtype)
        if key not in self.cache:
            angles = torch.outer(torch.arange(self.max_positions, dtype=torch.float32), self.frequencies())
            self.cache[key] = (angles.cos().to(device, dtype), angles.sin().to(device, dtype))
        return self.cache[key]

    def at(
        self, positions_S: torch.Tensor, dtype: torch.dtype, computed: dict[object, tuple[torch.Tensor, torch.Tensor]]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return cos and sin at these positions, each [S, 1, R]. `computed` stores them for the other layers of the pass."""
        key = (self.rotary_dim, self.base, dtype)
        if key not in computed:
            cos, sin = self.lookup(positions_S.device, dtype)
            computed[key] = (cos[positions_S, None], sin[positions_S, None])
        return computed[key]

    def of_rows(
        self, length: int, starts_BS: torch.Tensor | None, device: torch.device, dtype: torch.dtype
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return cos and sin of whole rows, each [S, 1, R]; with the starts of documents each [B, S, 1, R]."""
        cos, sin = self.lookup(device, dtype)
        if starts_BS is None:
            return cos[:length, None], sin[:length, None]
        positions_BS = count_from_starts(starts_BS)
        return cos[positions_BS][:, :, None], sin[positions_BS][:, :, None]


class Rotate(torch.autograd.Function):
    """Rotate x_BSND by the angles of cos and sin [S, 1, R] or [B, S, 1, R]; the backward pass rotates by the negative angles."""

    @staticmethod
    def forward(ctx: Any, x_BSND: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(cos, sin)
        return apply_rotation(x_BSND, cos, sin)

    @staticmethod
    def backward(ctx: Any, gradient_BSND: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        cos, sin = ctx.saved_tensors
        return apply_rotation(gradient_BSND, cos, -sin), None, None


def apply_rotation(x_BSND: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    half = cos.shape[-1]
    out = torch.empty(x_BSND.shape, dtype=x_BSND.dtype, device=x_BSND.device)
    first, second = x_BSND[..., :half], x_BSND[..., half : 2 * half]
    torch.mul(first, cos, out=out[..., :half]).addcmul_(second, sin, value=-1)
    torch.mul(second, cos, out=out[..., half : 2 * half]).addcmul_(first, sin)
    out[..., 2 * half :] = x_BSND[..., 2 * half :]
    return out


def rotate_in_place(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> None:
    """Rotate x [S, ..., D] by the angles of cos and sin [S, ..., R], with the same rounding as `rotate`."""
    half = cos.shape[-1]
    first, second = x[..., :half], x[..., half : 2 * half]
    rotated = torch.mul(first, cos).addcmul_(second, sin, value=-1)
    second.mul_(cos).addcmul_(first, sin)
    first.copy_(rotated)


def rotate(x_BSND: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Return x with its first 2R dimensions rotated and the others unchanged.

    The compiler fuses the plain formula and cannot compile the one that writes into slices, which is the faster one without it.
    """
    if not torch.compiler.is_compiling():
        return Rotate.apply(x_BSND, cos, sin)
    half = cos.shape[-1]
    first, second, rest = x_BSND.split([half, half, x_BSND.shape[-1] - 2 * half], -1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin, rest], -1)


def find_document_starts(tokens_BS: torch.Tensor, eod_id: int) -> torch.Tensor:
    """Return for each position the index at which its document begins: int32 [B, S].

    A document begins with its end-of-document token; the tokens before a row's first one are a document too.

    >>> find_document_starts(torch.tensor([[0, 5, 6, 0, 7]]), 0).tolist()
    [[0, 0, 0, 3, 3]]
    """
    index = torch.arange(tokens_BS.shape[1], dtype=torch.int32, device=tokens_BS.device)
    return torch.where(tokens_BS == eod_id, index, 0).cummax(1).values


def count_from_starts(starts_BS: torch.Tensor) -> torch.Tensor:
    """Return the position of each token in its document, from the starts of the documents: [B, S]."""
    return torch.arange(starts_BS.shape[1], device=starts_BS.device) - starts_BS


def compute_sinusoidal_vectors(positions: torch.Tensor, width: int, dtype: torch.dtype) -> torch.Tensor:
    """Return the vectors [..., width] of these positions (Vaswani et al. 2017), all sines before all cosines.

    sin(p w_i), cos(p w_i)      w_i = 10000^(-2i/width)
    """
    angles = positions[..., None] * compute_frequencies(width, device=positions.device)
    return torch.cat([angles.sin(), angles.cos()], -1)[..., :width].to(dtype)
