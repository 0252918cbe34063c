"""Recurrences with the random inputs of a case, for every way to compute them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from clew import ops
from clew.ops.definition import Weights

Scan = Callable[..., tuple[Tensor, Tensor]]
CELLS = {"tanh": 1, "relu": 1, "gru": 3, "lstm": 4}  # gates


def _matrix(*inputs: Tensor, **options) -> tuple[Tensor, Tensor]:
    q, k, v, w, S, initial, *erase = inputs
    return ops.matrix_scan(q, k, v, w, S, initial=initial, erase=tuple(erase) or None, **options)


def _constant(a: Tensor, b: Tensor, h: Tensor, initial: Tensor, **options) -> tuple[Tensor, Tensor]:
    return ops.linear_scan(a.expand_as(b), b, h, initial=initial, **options)


class Problem:
    """Random tensors of a recurrence that is linear in its state, and a pass over them."""

    def __init__(self, name: str, B: int, T: int, dtype: torch.dtype = torch.float64) -> None:
        self.generator = torch.Generator().manual_seed(B + T)
        self.dtype, self.sizes = dtype, (B, T)
        self.inputs, self.scan = getattr(self, name.split()[0])(*map(int, name.split()[1:]))
        self.inputs = [t.requires_grad_() for t in self.inputs]
        self.lengths = torch.randint(0, T + 1, (B,), generator=self.generator)
        self.lengths[:1] = T
        self.state = {"selective": 5, "matrix": 4, "delta": 4, "conv": 1}.get(
            name.split()[0], 2
        )  # among the inputs; then initial
        self.reset = torch.rand(B, T, generator=self.generator) < 0.2

    def draw(self, *shape: int, low: float = -1.0, high: float = 1.0) -> Tensor:
        drawn = torch.rand(*shape, generator=self.generator, dtype=torch.float64)
        return (low + (high - low) * drawn).to(self.dtype)

    def linear(self, N: int) -> tuple[list[Tensor], Scan]:
        (B, T), draw = self.sizes, self.draw
        inputs = [draw(B, T, N), draw(B, T, N), draw(B, N), draw(B, N)]
        return inputs, lambda a, b, h, initial, **how: ops.linear_scan(a, b, h, initial=initial, **how)

    def complex(self, N: int) -> tuple[list[Tensor], Scan]:
        (B, T), draw = self.sizes, self.draw
        inputs = [draw(B, T, N, 2, low=-0.7, high=0.7), draw(B, T, N, 2), draw(B, N, 2), draw(B, N, 2)]
        return inputs, lambda a, b, h, initial, **how: ops.linear_scan(a, b, h, initial=initial, **how)

    def constant(self, N: int) -> tuple[list[Tensor], Scan]:
        return [self.draw(N, 2, low=-0.7, high=0.7), *self.complex(N)[0][1:]], _constant

    def maximum(self, N: int) -> tuple[list[Tensor], Scan]:
        inputs, _ = self.linear(N)
        return inputs, lambda a, b, m, initial, **how: ops.max_scan(a, b, m, initial=initial, **how)

    def selective(self, D: int, N: int) -> tuple[list[Tensor], Scan]:
        (B, T), draw = self.sizes, self.draw
        inputs = [draw(B, T, D), draw(B, T, D, low=0), draw(D, N, low=-3, high=0), draw(B, T, N), draw(B, T, N)]
        return [*inputs, draw(B, D, N), draw(B, D, N)], lambda *t, **how: ops.selective_scan(
            *t[:6], initial=t[6], **how
        )

    def matrix(self, K: int, V: int, W: int, H: int = 2, G: int = 0) -> tuple[list[Tensor], Scan]:
        (B, T), draw, G = self.sizes, self.draw, G or H
        inputs = [draw(B, T, G, K), draw(B, T, G, K), draw(B, T, H, V), draw(B, T, H, W, low=0)]
        return [*inputs, draw(B, H, K, V), draw(B, H, K, V)], _matrix

    def delta(self, K: int, V: int, W: int, H: int = 2, G: int = 0) -> tuple[list[Tensor], Scan]:
        inputs, _ = self.matrix(K, V, W, H, G)
        key = torch.nn.functional.normalize(inputs[1], dim=-1)
        return [inputs[0], key, *inputs[2:], -0.9 * key, key.clone()], _matrix

    def conv(self, D: int, W: int, bias: int, silu: int) -> tuple[list[Tensor], Scan]:
        (B, T), draw = self.sizes, self.draw
        inputs = [draw(B, T, D), draw(B, W - 1, D), draw(D, W), *([draw(D)] if bias else [])]
        return inputs, lambda *t, **how: ops.short_conv(*t, silu=bool(silu), **how)

    def run(self, ragged: bool = False, resets: bool = False) -> list[Tensor]:
        how = {"lengths": self.lengths if ragged else None, "reset": self.reset if resets else None}
        return list(self.scan(*self.inputs, **how))

    def gradients(self, outputs: list[Tensor], **options) -> list[Tensor]:
        along = [torch.sin(torch.arange(t.numel(), dtype=t.dtype)).view(t.shape) for t in outputs]
        found = torch.autograd.grad(outputs, self.inputs, along, allow_unused=True, **options)
        return [torch.zeros_like(t) if g is None else g for g, t in zip(found, self.inputs, strict=True)]


class Classical:
    """Random tensors of Elman, GRU or LSTM, and a pass over them."""

    def __init__(
        self, cell: str, sizes: tuple[int, int, int, int], dtype=torch.float64, *, bias=True, strided=False, heads=0
    ):
        B, T, I, H = sizes
        G, generator = CELLS[cell], torch.Generator().manual_seed(B * T + H)

        def draw(*shape: int) -> Tensor:
            t = torch.randn(*shape[::-1] if strided else shape, generator=generator, dtype=dtype)
            return (t.permute(*range(t.ndim)[::-1]) if strided else t).requires_grad_()

        self.cell, self.x = cell, draw(B, T, I)
        leaves = 2 if cell == "lstm" else 1
        self.state, self.initial = (tuple(draw(B, H) for _ in range(leaves)) for _ in range(2))
        shape = (heads, G * H // heads, H // heads) if heads else (G * H, H)
        hh = (draw(*shape).detach() * shape[-1] ** -0.5).requires_grad_()
        self.w = Weights(draw(G * H, I), hh, *((draw(G * H), draw(G * H)) if bias else ()))
        self.lengths = torch.randint(0, T + 1, (B,), generator=generator)
        self.reset = torch.rand(B, T, generator=generator) < 0.3

    @property
    def inputs(self) -> list[Tensor]:
        return [self.x, *self.state, *self.initial, *(t for t in self.w if isinstance(t, Tensor))]

    def run(self, ragged=False, resets=False, backwards=False) -> list[Tensor]:
        lengths, reset = self.lengths if ragged else None, self.reset if resets else None
        arguments = (self.x, (*self.state, ()), self.w, *([self.cell] if CELLS[self.cell] == 1 else []))
        scan = {1: ops.elman_scan, 3: ops.gru_scan, 4: ops.lstm_scan}[CELLS[self.cell]]
        y, (*after, _) = scan(
            *arguments, initial=(*self.initial, ()), lengths=lengths, reset=reset, backwards=backwards
        )
        return [y, *after]

    def gradients(self, outputs: list[Tensor], **options) -> list[Tensor]:
        along = [torch.sin(torch.arange(t.numel(), dtype=t.dtype)).view(t.shape) for t in outputs]
        found = torch.autograd.grad(outputs, self.inputs, along, allow_unused=True, **options)
        return [torch.zeros_like(t) if g is None else g for g, t in zip(found, self.inputs, strict=True)]


def assert_near(ours: list[Tensor], theirs: list[Tensor], tolerance: float) -> None:
    for a, b in zip(ours, theirs, strict=True):
        assert a.shape == b.shape
        assert not a.numel() or (a - b).abs().max() <= tolerance * (1 + b.abs().max()), (a - b).abs().max()
