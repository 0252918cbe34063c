"""A step as a list of operations on memory that stays where it is, which csrc/step.h has: the inside of a Stepper.

Every tensor here is a view of memory that the list owns.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from clew.errors import ClewError
from clew.ops import native
from clew.stream.fuse import Entry, Op, address, fused, over_views

KEPT = {"float32": 0, "bfloat16": 1, "int8": 2}  # how weights are kept, by the numbers of csrc/step.h
NUMBERS = {torch.float32: 0, torch.int64: 1, torch.bool: 2, torch.float64: 3}
OWN_STEP = "the model's own step runs it"
RANK = 7  # dimensions of a walk, in csrc/step.h
TILE = 512  # numbers that are worked on at once: several such tiles fit into the nearest cache


class Program:
    """Memory, and what is to be done to it."""

    def __init__(self, weights: str) -> None:
        self.weights, self.V = weights, native._native.lanes(False)
        self.steps = native._native.Stepper()
        self.memory: dict[int, Tensor] = {}  # by its address: what the operations point at
        self.entries: list[Entry] = []

    # -------------------------------------------------------------------------------------------------------- memory

    def hold(self, tensor: Tensor) -> Tensor:
        """A copy (dense, whatever its strides) that lives as long as this, on a vector's boundary."""
        if tensor.dtype not in NUMBERS:
            raise ClewError(f"a Stepper has no numbers of {tensor.dtype}", hint=OWN_STEP)
        lie, strides = tensor, tensor.stride()
        if tensor.numel() != 1 + sum((n - 1) * s for n, s in zip(tensor.shape, strides, strict=True)):
            lie, strides = tensor.contiguous(), tensor.contiguous().stride()
        held = self.room(tensor.numel(), tensor.dtype).as_strided(tensor.shape, strides)
        held.numpy()[...] = lie.detach().numpy()  # by numpy, as nothing of this is part of a step
        return held

    def rows(self, tensor: Tensor) -> Tensor:
        """A copy (B, width) whose rows begin at whole vectors."""
        B, width = tensor.shape
        wide = native.padded(width, self.V)
        held = self.room(B * wide, torch.float32).view(B, wide)[:, :width]
        held.numpy()[...] = tensor.detach().numpy()
        return held

    def room(self, count: int, dtype: torch.dtype) -> Tensor:
        array = np.zeros(count * dtype.itemsize + 128, np.uint8)
        offset = -array.ctypes.data % 64
        whole = torch.from_numpy(array[offset : offset + max(1, count) * dtype.itemsize]).view(dtype)
        self.memory[whole.data_ptr()] = whole
        return whole[:count]

    def of(self, tensor: Tensor) -> bool:
        """Whether it is a view of memory that the operations work on."""
        return address(tensor) in self.memory

    def operand(self, value: Tensor | float, beside: Tensor | None = None) -> Tensor:
        """The tensor itself, or a copy of what stands still that is there as long as this; a number is of the kind that
        those have which it stands beside."""
        if isinstance(value, Tensor) and self.of(value):
            return value
        if not isinstance(value, Tensor):
            whole = isinstance(value, int) and (beside is None or not beside.is_floating_point())
            value = torch.tensor(value, dtype=torch.int64 if whole else torch.float32)
        return self.hold(value)

    def copy(self, tensor: Tensor, source: Tensor | None = None) -> Tensor:
        """A copy by an operation: what the tensor will be at each step."""
        to, source = self.hold(tensor), tensor if source is None else source
        if self.of(source):
            self.view(Op.COPY, to, source)
        return to

    def dense(self, tensor: Tensor) -> Tensor:
        return tensor if self.of(tensor) and tensor.is_contiguous() else self.copy(tensor.contiguous(), tensor)

    def side_by_side(self, x: Tensor) -> Tensor:
        """The same rows (B, width), the numbers of each of them one after the other."""
        return x if self.of(x) and (x.stride(1) == 1 or x.shape[1] == 1) else self.dense(x)

    def aligned(self, x: Tensor) -> Tensor:
        """The same rows (B, width) as `rows` places them."""
        if self.of(x) and x.stride() == (native.padded(x.shape[1], self.V), 1) and x.data_ptr() in self.memory:
            return x
        to = self.rows(x)
        self.view(Op.COPY, to, self.operand(x))
        return to

    # ---------------------------------------------------------------------------------------------------- operations

    def view(self, op: Op, to: Tensor, *of: Tensor) -> None:
        """An operation over views; all are expanded to one shape, and a reduction's `to` stands still in the rest."""
        if all(t.numel() for t in (to, *of)):
            self.entries.append(over_views(op, to, *of))

    def over_rows(self, op: Op, to: Tensor, width: int, epsilon: float = 0.0, rows: int = 1, **named: Tensor) -> None:
        """A norm, a softmax or a lookup over rows that lie one after the other."""
        size = [rows, len(named["weight"]) if op == Op.LOOKUP else width, width, width, width]
        self.entries.append(self.entry(op, size, {"next": to}, named, epsilon))

    def product(
        self,
        op: Op,
        gates: int,
        x: Tensor,
        h: Tensor | None,
        weights: Sequence[Tensor],
        biases: Sequence[Tensor],
        next: Tensor,
        **state: Tensor,
    ) -> None:
        """next = W x + b, or a cell's step from h; next (B, H) as `rows` gives it, weights (gates H, width)."""
        H = len(weights[0]) // gates
        bias, arrays = torch.stack(list(biases)).sum(0), {"x": x, "next": next, **state}
        if h is not None:
            arrays["h"] = h
        if op == Op.GRU:
            bias[2 * H :] = biases[0][2 * H :]
            arrays["bias_n"] = self.hold(native.spread(biases[1][2 * H :], 1, self.V))
        arrays["bias"] = self.hold(native.spread(bias, gates, self.V))
        if self.weights == "int8":
            scale = torch.cat(list(weights), 1).abs().amax(1).clamp_min(1e-12) / 127
            arrays["scale"] = self.hold(native.spread(scale, gates, self.V))
            weights = [(m / scale[:, None]).round().to(torch.int8) for m in weights]
        elif self.weights == "bfloat16":
            weights = [m.to(torch.bfloat16).view(torch.int16) for m in weights]
        packed = [self.packed(m.contiguous(), gates, H) for m in weights]
        arrays |= dict(zip(("weight", "recurrent"), packed, strict=False))
        size = [len(x), x.shape[1], H, x.stride(0), next.stride(0)]
        to = {name: arrays.pop(name) for name in ("next", "next_c") if name in arrays}
        self.entries.append(self.entry(op, size, to, arrays))

    def entry(
        self, op: Op, size: list[int], to: Mapping[str, Tensor], of: Mapping[str, Tensor], epsilon: float = 0.0
    ) -> Entry:
        """One that is not over views, its tensors by the names of csrc/step.h."""
        names, kept = (*to, *of), KEPT[self.weights]

        def add(addresses: list[int]) -> None:
            self.steps.add(op, kept, size, epsilon, dict(zip(names, addresses, strict=True)))

        return Entry(op, tuple(to.values()), tuple(of.values()), add)

    def packed(self, m: Tensor, gates: int, H: int) -> Tensor:
        HP, source = native.padded(H, self.V), m.numpy()
        packed = self.room(-(-HP * gates * m.shape[1] * m.element_size() // 8), torch.int64)
        kept, addresses = KEPT[self.weights], (source.ctypes.data, packed.data_ptr())
        native._native.pack_step(kept, gates, H, HP, m.shape[1], *addresses)
        return packed

    def finish(self, ends: Iterable[Tensor]) -> None:
        """Write the operations down that lead to these tensors."""
        for group in fused(self.entries, ends):
            one = group.entries[0]
            if one.add:
                one.add([t.data_ptr() for t in (*one.to, *one.of)])
                continue
            operands = [t for e in group.entries for t in (*e.to, *e.of)]
            sizes, strides = _tiled(*_simplest(tuple(one.to[0].shape), [t.stride() for t in operands]))
            if len(sizes) > RANK:
                raise ClewError(f"a Stepper knows {RANK} dimensions, not {len(sizes)}", hint=OWN_STEP)
            for t, row in zip(operands, strides, strict=True):
                if address(t) in group.between:
                    row[:-2] = [0] * (len(row) - 2)  # one tile of it is enough
            listed = iter(
                [t.data_ptr(), NUMBERS[t.dtype], *(s * t.element_size() for s in row)]
                for t, row in zip(operands, strides, strict=True)
            )
            each = [[next(listed) for _ in (*e.to, *e.of)] for e in group.entries]
            self.steps.views(sizes, [e.op for e in group.entries], each)
        self.entries.clear()


def _simplest(shape: tuple[int, ...], strides: list[tuple[int, ...]]) -> tuple[list[int], list[list[int]]]:
    """The same walk in as few dimensions as can be, the last one along which most operands lie side by side."""

    def apart(d: int) -> int:
        return sum(row[d] not in (0, 1) for row in strides)

    moving = [d for d, n in enumerate(shape) if n > 1]
    moving.sort(key=lambda d: [-row[d] for row in strides])
    if moving:
        last = min(moving, key=lambda d: (apart(d), not strides[0][d], -shape[d]))
        moving = [d for d in moving if d != last] + [last]
    sizes, rows = [], [[] for _ in strides]
    for d in moving:
        if sizes and all(row[-1] == own[d] * shape[d] for row, own in zip(rows, strides, strict=True)):
            sizes[-1] *= shape[d]
            for row, own in zip(rows, strides, strict=True):
                row[-1] = own[d]
        else:
            sizes.append(shape[d])
            for row, own in zip(rows, strides, strict=True):
                row.append(own[d])
    return (sizes, rows) if sizes else ([1], [[0] for _ in strides])


def _tiled(sizes: list[int], strides: list[list[int]]) -> tuple[list[int], list[list[int]]]:
    """The same walk with as many rows as make a tile in the last but one dimension."""
    if len(sizes) == 1:
        return [1, *sizes], [[0, *row] for row in strides]
    rows, n = sizes[-2:]
    within = max(r for r in range(1, rows + 1) if rows % r == 0 and (r == 1 or r * n <= TILE))
    if within == rows:
        return sizes, strides
    return [*sizes[:-2], rows // within, within, n], [[*row[:-2], within * row[-2], *row[-2:]] for row in strides]
