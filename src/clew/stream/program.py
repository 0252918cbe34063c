"""A model as a list of operations on buffers that stay where they are, which csrc/step.h has: the inside of a Stepper.

B rows, every buffer (B, width) with a row's numbers at a stride of whole vectors
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from clew.cells import GRU, LSTM, Elman, Pointwise, Recurrence, Residual, Stack
from clew.cells.pool import BOUND, AttentionPool, MaxPool, MeanPool, Pool, SumPool
from clew.errors import ClewError
from clew.models.anchored import Anchored
from clew.models.embed import Units
from clew.models.heads.classes import ClassHead
from clew.models.heads.forecast import ForecastHead
from clew.models.heads.numbers import NumberHead
from clew.ops import native
from clew.ops.definition import EPSILON

KEPT = {"float32": 0, "bfloat16": 1, "int8": 2}  # how weights are kept, by the numbers of csrc/step.h
Op = IntEnum(
    "Op",
    "LINEAR TANH RELU GRU LSTM LOOKUP ADD LAYER_NORM RMS_NORM LOG_SOFTMAX SQUASH GATES_TANH GATES_RELU GATES_GRU"
    " GATES_LSTM MIX SUM_POOL MAX_POOL MEAN_POOL ANCHOR RAISE",
    start=0,
)


class Program:
    """Turns modules into operations, from the input's buffer to the output's."""

    def __init__(self, batch_size: int, weights: str) -> None:
        self.B, self.weights = batch_size, weights
        self.V = native._native.lanes(False)
        self.steps = native._native.Stepper()
        self.state: list[np.ndarray] = []  # in the order of the leaves of the model's own
        self.kept: list[Any] = []  # what the operations' addresses point at

    def input(self, body: Recurrence) -> tuple[np.ndarray, np.ndarray]:
        """What the user fills, and the buffer that it is part of."""
        first = body
        while isinstance(first, Stack):
            first = first.layers[0]
        if isinstance(first, Pointwise) and isinstance(first.module, Units):
            units = self.hold(np.zeros((self.B, 1), np.int64))
            return units, units
        x = self.buffer(body.input_size)
        return x[:, : body.input_size], x

    def layer(self, module: nn.Module, x: np.ndarray) -> np.ndarray:
        """The buffer in which the module's output stands."""
        if isinstance(module, Stack):
            for layer in module.layers:
                x = self.layer(layer, x)
            return x
        if isinstance(module, Residual) and module.mlp is None:
            inner = self.layer(module.layer, self.pointwise(module.norm, x, module.input_size))
            y = self.buffer(module.output_size)
            self.add(Op.ADD, x, y, module.input_size, module.output_size, {"other": inner})
            return y
        if isinstance(module, Pointwise):
            return self.pointwise(module.module, x, module.input_size)
        if isinstance(module, Elman | GRU | LSTM):
            options = (module.layer_norm, module.projection, module.zoneout, module.zoneout_cell)
            return self.cell_by_parts(module, x) if any(options) else self.cell(module, x)
        if isinstance(module, Pool):
            return self.pool(module, x)
        if isinstance(module, Anchored):
            return self.anchored(module, x)
        raise _unknown(module)

    def head(self, head: Any, x: np.ndarray) -> np.ndarray:
        """What the head predicts, a view of a buffer."""
        if isinstance(head, ClassHead | NumberHead):
            width = head.readout.out_features
            x = self.linear(x, head.readout.weight, head.readout.bias)
            if isinstance(head, ClassHead):
                y = self.buffer(width)
                self.add(Op.LOG_SOFTMAX, x, y, width, width, {})
                x = y
            return x[:, :width]
        if isinstance(head, ForecastHead):
            return x[:, : head.ahead * head.targets].reshape(self.B, head.ahead, head.targets)
        raise _unknown(head)

    # ------------------------------------------------------------------------------------------------------- layers

    def pointwise(self, module: nn.Module, x: np.ndarray, width: int) -> np.ndarray:
        if isinstance(module, nn.Identity | nn.Dropout):
            return x
        if isinstance(module, nn.Linear):
            return self.linear(x, module.weight, module.bias)
        if isinstance(module, Units):
            table = module.vectors.weight
            y = self.buffer(table.shape[1])
            arrays = {"units": x, "weight": self.hold(_numpy(table))}
            self.add(Op.LOOKUP, x, y, len(table), table.shape[1], arrays)
            return y
        if isinstance(module, nn.LayerNorm | nn.RMSNorm) and tuple(module.normalized_shape) == (width,):
            epsilon = module.eps if module.eps is not None else torch.finfo(torch.float32).eps
            kind = Op.LAYER_NORM if isinstance(module, nn.LayerNorm) else Op.RMS_NORM
            return self.norm(x, width, module.weight, getattr(module, "bias", None), epsilon, kind)
        raise _unknown(module)

    def linear(self, x: np.ndarray, weight: Tensor, bias: Tensor | None) -> np.ndarray:
        y = self.buffer(len(weight))
        self.product(Op.LINEAR, 1, x, y, weight, None, bias, None)
        return y

    def norm(self, x, width: int, gain: Tensor | None, bias: Tensor | None, epsilon=EPSILON, kind=Op.LAYER_NORM):
        y, has = self.buffer(width), {"weight": gain, "bias": bias}
        self.add(kind, x, y, width, width, self.vectors(has), epsilon=epsilon)
        return y

    def squash(self, x: np.ndarray, width: int, limit: float) -> np.ndarray:
        y = self.buffer(width)
        self.add(Op.SQUASH, x, y, width, width, {}, limit=limit)
        return y

    def pool(self, pool: Pool, x: np.ndarray) -> np.ndarray:
        kinds = {SumPool: Op.SUM_POOL, MaxPool: Op.MAX_POOL, MeanPool: Op.MEAN_POOL, AttentionPool: Op.MEAN_POOL}
        if type(pool) not in kinds:
            raise _unknown(pool)
        H, y, total = pool.input_size, self.buffer(pool.input_size), self.buffer(pool.state_size)
        self.state.append(total[:, : pool.state_size])
        arrays = {"state": total}
        if isinstance(pool, AttentionPool):
            key = self.squash(self.linear(x, pool.key.weight, pool.key.bias), H, 1.0)
            arrays["other"] = self.squash(self.linear(key, pool.score.weight, None), 1, BOUND)
        self.add(kinds[type(pool)], x, y, H, H, arrays)
        return y

    def anchored(self, model: Anchored, x: np.ndarray) -> np.ndarray:
        C, L, outputs = model.input_size, model.lag, model.output_size
        past, begun = self.hold(np.zeros((self.B, L * C), np.float32)), self.hold(np.zeros(self.B, np.bool_))
        self.state += [past.reshape(self.B, L, C), begun]
        features, y = self.buffer(model.inner.input_size), self.buffer(outputs)
        arrays = {"state": past, "begun": begun, "scale": self.hold(_numpy(model.scale))}
        self.add(Op.ANCHOR, x, features, C, model.inner.input_size, arrays, lag=L)
        inner = self.layer(model.inner, features)
        arrays = {"state": past, "scale": self.hold(_numpy(model.scale[: model.targets].repeat(model.ahead)))}
        self.add(Op.RAISE, inner, y, model.targets, outputs, arrays, lag=L, columns=C)
        return y

    # -------------------------------------------------------------------------------------------------------- cells

    def cell(self, cell: Elman | GRU | LSTM, x: np.ndarray) -> np.ndarray:
        H, h = cell.hidden_size, self.buffer(cell.hidden_size)
        extra = {"next": self.buffer(H), **self.cell_state(cell, h)}
        w = cell.weights()
        self.product(_kind(cell), cell.gates, x, h, w.ih, w.hh, w.bias_ih, w.bias_hh, **extra)
        return h

    def cell_by_parts(self, cell: Elman | GRU | LSTM, x: np.ndarray) -> np.ndarray:
        """The same for a cell with a norm, a projection or zoneout, which stand between the products."""
        H, w, h = cell.hidden_size, cell.weights(), self.buffer(cell.output_size)
        state = self.cell_state(cell, h)
        gates = []
        for source, weight, bias, gain in (
            (x, w.ih, w.bias_ih, w.norm and w.norm.input),
            (h, w.hh, w.bias_hh, w.norm and w.norm.hidden),
        ):
            gate = self.linear(source, weight, bias if gain is None else None)
            gates.append(gate if gain is None else self.norm(gate, len(weight), gain, bias))
        new = self.buffer(H)
        kind = Op(_kind(cell) - Op.TANH + Op.GATES_TANH)
        has = self.vectors({"weight": w.norm.cell if w.norm else None})
        arrays = {"other": gates[1], "next": self.buffer(H), **has, **state, **({"old": h} if cell.gates == 3 else {})}
        self.add(kind, gates[0], new, H, H, arrays, epsilon=EPSILON, keep_c=cell.zoneout_cell)
        if w.hr is not None:
            new = self.linear(new, w.hr, None)
        self.add(Op.MIX, new, h, cell.output_size, cell.output_size, {}, keep=cell.zoneout)
        return h

    def cell_state(self, cell: Elman | GRU | LSTM, h: np.ndarray) -> dict[str, np.ndarray]:
        """Takes note of the cell's state; what of it is not h."""
        own, H, seen = {}, cell.hidden_size, cell.output_size
        self.state.append(h[:, :seen])
        if isinstance(cell, LSTM):
            own["state"] = self.buffer(H)
            self.state.append(own["state"][:, :H])
        if cell.recurrent_dropout:  # a mask of ones, as ever outside training
            self.state.append(self.hold(np.ones((self.B, seen), np.float32)))
        return own

    # ---------------------------------------------------------------------------------------------------- operations

    def product(self, kind, G, x, y, ih, hh, b_ih, b_hh, **arrays) -> None:
        """y = W x + b, or a cell's step."""
        (rows, wide), H = ih.shape, len(ih) // G
        zeros = ih.new_zeros(rows)
        b_ih, b_hh = (zeros if b is None else b.detach() for b in (b_ih, b_hh))
        bias = b_ih + b_hh
        if kind == Op.GRU:
            bias[2 * H :] = b_ih[2 * H :]
            arrays["bias_n"] = self.hold(_numpy(native.spread(b_hh[2 * H :], 1, self.V)))
        arrays["bias"] = self.hold(_numpy(native.spread(bias, G, self.V)))
        matrices = [m.detach().float().cpu() for m in (ih, hh) if m is not None]
        if self.weights == "int8":
            scale = torch.cat(matrices, 1).abs().amax(1).clamp_min(1e-12) / 127
            arrays["scale"] = self.hold(_numpy(native.spread(scale, G, self.V)))
            matrices = [(m / scale[:, None]).round().to(torch.int8) for m in matrices]
        elif self.weights == "bfloat16":
            matrices = [m.to(torch.bfloat16).view(torch.int16) for m in matrices]
        for name, m in zip(("weight", "recurrent"), matrices, strict=False):
            arrays[name] = self.packed(m.contiguous(), G, H)
        self.add(kind, x, y, wide, H, {"next": y, **arrays})

    def packed(self, m: Tensor, G: int, H: int) -> np.ndarray:
        HP, source = native.padded(H, self.V), m.numpy()
        packed = self.hold(np.zeros(HP * G * m.shape[1], source.dtype))
        native._native.pack_step(KEPT[self.weights], G, H, HP, m.shape[1], source.ctypes.data, packed.ctypes.data)
        return packed

    def add(
        self,
        operation: Op,
        x: np.ndarray,
        y: np.ndarray,
        wide: int,
        out: int,
        arrays: Mapping[str, np.ndarray],
        *,
        lag: int = 0,
        columns: int = 0,
        epsilon: float = 0.0,
        limit: float = 0.0,
        keep: float = 0.0,
        keep_c: float = 0.0,
    ) -> None:
        """An operation from x (B, wide) to y (B, out), by the names of csrc/step.h."""
        arrays = {"x": x, "y": y, **arrays}
        strides = [
            arrays[n].strides[0] // arrays[n].itemsize if n in arrays else 0 for n in ("x", "y", "other", "state")
        ]
        sizes = [self.B, wide, out, *strides, lag, columns]
        addresses = {name: array.ctypes.data for name, array in arrays.items()}
        self.steps.add(operation, KEPT[self.weights], sizes, [epsilon, limit, keep, keep_c], addresses)

    def buffer(self, width: int) -> np.ndarray:
        return self.hold(np.zeros((self.B, native.padded(width, self.V)), np.float32))

    def vectors(self, named: dict[str, Tensor | None]) -> dict[str, np.ndarray]:
        return {name: self.hold(_numpy(t)) for name, t in named.items() if t is not None}

    def hold(self, array: np.ndarray) -> np.ndarray:
        """Keeps it alive, on a vector's boundary."""
        room = np.zeros(array.nbytes + 64, np.uint8)
        offset = -room.ctypes.data % 64
        aligned = room[offset : offset + array.nbytes].view(array.dtype).reshape(array.shape)
        aligned[...] = array
        self.kept.append(aligned)
        return aligned


def _kind(cell: Elman | GRU | LSTM) -> Op:
    if isinstance(cell, Elman):
        return Op.TANH if cell.nonlinearity == "tanh" else Op.RELU
    return Op.LSTM if isinstance(cell, LSTM) else Op.GRU


def _numpy(t: Tensor) -> np.ndarray:
    return t.detach().float().cpu().contiguous().numpy()


def _unknown(module: object) -> ClewError:
    return ClewError(f"a Stepper has no operation for {type(module).__name__}", hint="the model's own step runs it")
