"""One step of a trained model in microseconds: packed weights, buffers bound once, no torch call.

    B rows (streams that move together), I input features, O output features

Weights are copied at construction: build another Stepper after the model has learned on. `weights` says how they are
kept: "float32"; "bfloat16", half the bytes; "int8", a quarter, with one scale to a row of W. What is computed is
float32 in any case. `error` measures what a choice costs on data.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from clew import tree
from clew.cells import GRU, LSTM, Elman, Encoder, Pointwise, Recurrence, Residual, Stack
from clew.errors import ClewError, NotCausalError, ShapeError
from clew.models import Single
from clew.models.embed import Units
from clew.models.heads.classes import ClassHead
from clew.models.heads.forecast import ForecastHead
from clew.models.heads.numbers import NumberHead
from clew.ops import native
from clew.tree import State

KEPT = {"float32": 0, "bfloat16": 1, "int8": 2}  # csrc/step.h
LINEAR, TANH, RELU, GRU_, LSTM_, LOOKUP, ADD, LAYER_NORM, RMS_NORM, LOG_SOFTMAX = range(10)


class Stepper:
    """A recurrence or a model, one step at a time.

    Args:
        model: an Elman, GRU or LSTM cell, a Stack or Residual of them with linear maps, norms and embeddings, or a
            Single model of such a body.
        batch_size: B.
        weights: how they are kept.

    Raises:
        ClewError: a part of the model that this has no operation for; `step` of the model itself runs it.
        NotCausalError: the model needs the future.

    Example:
        >>> stepper = Stepper(GRU(64, 64))
        >>> y = stepper.step(x)             # x (1, 64), numpy or torch; y (1, 64)
    """

    x: np.ndarray
    """(B, I) the input of `run`; whole numbers (B, 1) where the model reads units of text."""
    y: np.ndarray
    """(B, O) the output of the latest step, overwritten by the next one."""

    def __init__(
        self,
        model: Recurrence | Single,
        batch_size: int = 1,
        weights: Literal["float32", "bfloat16", "int8"] = "float32",
    ) -> None:
        if native._native is None:
            raise ClewError("a Stepper needs the compiled part of Clew", hint="`clew doctor` says what is missing")
        if weights not in KEPT:
            raise ClewError(f"unknown weights '{weights}'", hint=f"known: {', '.join(KEPT)}")
        self._model = model
        body = model.body if isinstance(model, Single) else model
        if isinstance(body, Encoder):
            raise NotCausalError("this model needs the future, so it has no step")
        self._state: list[np.ndarray] = []
        build = _Builder(batch_size, weights, self._state)
        with torch.no_grad():
            self._initial = model.init_state(batch_size)
            self.x, y = build.input(body)
            y = build.layer(body, y)
            self.y = build.head(model.head, y) if isinstance(model, Single) else y[:, : body.output_size]
        self._kept = build.kept
        self.run: Callable[[], None] = build.program.run
        """One step from `x` to `y`."""
        self.reset()

    def step(self, x: np.ndarray | Tensor) -> np.ndarray:
        """The output (B, O) for an input (B, I), and the state moved on."""
        self.x[...] = x
        self.run()
        return self.y.copy()

    @property
    def state(self) -> State:
        """The state as the model's own `step` has it: a copy, of tensors."""
        return tree.rebuild(self._initial, iter([torch.from_numpy(leaf.copy()) for leaf in self._state]))

    @state.setter
    def state(self, state: State) -> None:
        leaves = list(tree.leaves(state))
        if [leaf.shape for leaf in leaves] != [leaf.shape for leaf in self._state]:
            raise ShapeError(f"the state must be {tree.describe(self._initial)}, got {tree.describe(state)}")
        for ours, leaf in zip(self._state, leaves, strict=True):
            ours[...] = leaf.detach().cpu().numpy()

    def reset(self, rows: Sequence[int] | slice = slice(None)) -> None:
        """Give these rows the state before the first step."""
        for ours, leaf in zip(self._state, tree.leaves(self._initial), strict=True):
            ours[rows] = leaf.detach().cpu().numpy()[rows]

    @torch.no_grad()
    def error(self, x_BTI: Tensor) -> float:
        """The largest difference from the model's own outputs over sequences, as a part of their spread.

        The state is as before afterwards.
        """
        before = self.state
        self.reset()
        theirs = self._model.eval()(x_BTI)[0].flatten(2)
        ours = torch.stack([torch.from_numpy(self.step(x).reshape(len(x), -1)) for x in x_BTI.unbind(1)], 1)
        self.state = before
        return float((ours - theirs).abs().max() / theirs.std().clamp_min(1e-12))


class _Builder:
    """Turns modules into operations, from the input's buffer to the output's."""

    def __init__(self, batch_size: int, weights: str, state: list[np.ndarray]) -> None:
        self.B, self.weights, self.state = batch_size, weights, state
        self.V = native._native.lanes(False)
        self.program = native._native.Stepper()
        self.kept: list[Any] = []  # what the program's addresses point at

    def buffer(self, width: int) -> np.ndarray:
        return self.hold(np.zeros((self.B, native.padded(width, self.V)), np.float32))

    def hold(self, array: np.ndarray) -> np.ndarray:
        """Keeps it alive, on a vector's boundary."""
        room = np.zeros(array.nbytes + 64, np.uint8)
        offset = -room.ctypes.data % 64
        aligned = room[offset : offset + array.nbytes].view(array.dtype).reshape(array.shape)
        aligned[...] = array
        self.kept.append(aligned)
        return aligned

    def add(
        self, operation: int, x: np.ndarray, y: np.ndarray, wide: int, out: int, epsilon=0.0, **arrays: np.ndarray
    ) -> None:
        kept = KEPT[self.weights]
        held = {name: array.ctypes.data for name, array in {"x": x, "y": y, **arrays}.items()}
        strides = x.strides[0] // x.itemsize, y.strides[0] // y.itemsize
        self.program.add(operation, kept, self.B, wide, out, *strides, epsilon, held)

    def input(self, body: Recurrence) -> tuple[np.ndarray, np.ndarray]:
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
        if isinstance(module, Residual):
            inner = self.layer(module.layer, self.pointwise(module.norm, x, module.input_size))
            y = self.buffer(module.output_size)
            self.add(ADD, x, y, module.input_size, module.output_size, state=inner)
            return y
        if isinstance(module, Pointwise):
            return self.pointwise(module.module, x, module.input_size)
        if isinstance(module, Elman | GRU | LSTM):
            return self.cell(module, x)
        raise ClewError(f"a Stepper has no operation for {type(module).__name__}", hint="the model's own step runs it")

    def pointwise(self, module: nn.Module, x: np.ndarray, width: int) -> np.ndarray:
        if isinstance(module, nn.Identity | nn.Dropout):
            return x
        if isinstance(module, nn.Linear):
            y = self.buffer(module.out_features)
            self.product(LINEAR, 1, x, y, module.weight, None, module.bias, None)
            return y
        if isinstance(module, Units):
            table = module.vectors.weight
            y = self.buffer(table.shape[1])
            self.add(LOOKUP, x, y, *table.shape, units=x, weight=self.hold(_numpy(table)))
            return y
        if isinstance(module, nn.LayerNorm | nn.RMSNorm) and tuple(module.normalized_shape) == (width,):
            y = self.buffer(width)
            has = {"weight": module.weight, "bias": getattr(module, "bias", None)}
            arrays = {name: self.hold(_numpy(t)) for name, t in has.items() if t is not None}
            epsilon = module.eps if module.eps is not None else torch.finfo(torch.float32).eps
            kind = LAYER_NORM if isinstance(module, nn.LayerNorm) else RMS_NORM
            self.add(kind, x, y, width, width, epsilon=epsilon, **arrays)
            return y
        raise ClewError(f"a Stepper has no operation for {type(module).__name__}", hint="the model's own step runs it")

    def cell(self, cell: Elman | GRU | LSTM, x: np.ndarray) -> np.ndarray:
        for name in ("layer_norm", "projection", "zoneout", "zoneout_cell"):
            if getattr(cell, name):
                raise ClewError(f"a Stepper has no {name.replace('_', ' ')}", hint="the model's own step runs it")
        H, h = cell.hidden_size, self.buffer(cell.hidden_size)
        self.state.append(h[:, :H])
        extra = {"next": self.buffer(H)}
        if isinstance(cell, LSTM):
            extra["state"] = self.buffer(H)
            self.state.append(extra["state"][:, :H])
        if cell.recurrent_dropout:  # a mask of ones, as ever outside training
            self.state.append(self.hold(np.ones((self.B, H), np.float32)))
        kind = LSTM_ if isinstance(cell, LSTM) else GRU_ if isinstance(cell, GRU) else None
        if kind is None:
            kind = TANH if cell.nonlinearity == "tanh" else RELU
        w = cell.weights()
        self.product(kind, cell.gates, x, h, w.ih, w.hh, w.bias_ih, w.bias_hh, **extra)
        return h

    def product(self, kind, G, x, y, ih, hh, b_ih, b_hh, **arrays) -> None:
        """y = W x + b, or a cell's step."""
        (rows, wide), H = ih.shape, len(ih) // G
        zeros = ih.new_zeros(rows)
        b_ih, b_hh = (zeros if b is None else b.detach() for b in (b_ih, b_hh))
        bias = b_ih + b_hh
        if kind == GRU_:
            bias[2 * H :] = b_ih[2 * H :]
            arrays["bias_n"] = self.hold(_numpy(native.spread(b_hh[2 * H :], 1, self.V)))
        arrays["bias"] = self.hold(_numpy(native.spread(bias, G, self.V)))
        matrices = [m.detach().float() for m in (ih, hh) if m is not None]
        if self.weights == "int8":
            scale = torch.cat(matrices, 1).abs().amax(1).clamp_min(1e-12) / 127
            arrays["scale"] = self.hold(_numpy(native.spread(scale, G, self.V)))
            matrices = [(m / scale[:, None]).round().to(torch.int8) for m in matrices]
        elif self.weights == "bfloat16":
            matrices = [m.to(torch.bfloat16).view(torch.int16) for m in matrices]
        for name, m in zip(("weight", "recurrent"), matrices, strict=False):
            arrays[name] = self.packed(m.contiguous(), G, H)
        self.add(kind, x, y, wide, H, **({"next": y} if kind == LINEAR else {}), **arrays)

    def packed(self, m: Tensor, G: int, H: int) -> np.ndarray:
        HP, source = native.padded(H, self.V), m.numpy()
        packed = self.hold(np.zeros(HP * G * m.shape[1], source.dtype))
        native._native.pack_step(KEPT[self.weights], G, H, HP, m.shape[1], source.ctypes.data, packed.ctypes.data)
        return packed

    def head(self, head: Any, x: np.ndarray) -> np.ndarray:
        if isinstance(head, ClassHead | NumberHead):
            width = head.readout.out_features
            x = self.pointwise(head.readout, x, head.readout.in_features)
            if isinstance(head, ClassHead):
                y = self.buffer(width)
                self.add(LOG_SOFTMAX, x, y, width, width)
                x = y
            return x[:, :width]
        if isinstance(head, ForecastHead):
            return x[:, : head.ahead * head.targets].reshape(self.B, head.ahead, head.targets)
        raise ClewError(f"a Stepper has no operation for {type(head).__name__}", hint="the model's own step runs it")


def _numpy(t: Tensor) -> np.ndarray:
    return t.detach().float().cpu().contiguous().numpy()
