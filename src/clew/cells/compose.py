"""Recurrences out of recurrences: `Stack` and `Residual`, and `Pointwise` for what remembers nothing.

A stack's state is the tuple of its layers' states. A composition that holds an Encoder is an Encoder.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Self, cast

from torch import Tensor, nn

from clew.cells.base import Encoder, Recurrence, check_sequence
from clew.cells.mlp import GatedMLP
from clew.errors import ShapeError
from clew.ops import definition as ref
from clew.ops.dropout import dropout
from clew.tree import State

Layer = Recurrence | Encoder


class Pointwise(Recurrence):
    """Any module that treats each step by itself (a norm, a linear map, an MLP), as a recurrence with the state `()`.

    Args:
        module: maps (..., input_size) to (..., output_size), each row and step by itself. Batch norm mixes rows and
            is refused.

    Example:
        >>> Stack(LSTM(8, 32), Pointwise(nn.LayerNorm(32), 32))
    """

    def __init__(self, module: nn.Module, input_size: int, output_size: int | None = None) -> None:
        super().__init__(input_size, output_size or input_size)
        if any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in module.modules()):
            raise ShapeError("Pointwise: batch normalisation mixes the rows of a batch; use LayerNorm or RMSNorm")
        self.module = module

    def init_state(self, batch_size: int, context: State | None = None) -> State:
        return ()

    def step(self, x_BI: Tensor, state: State, context: State | None = None) -> tuple[Tensor, State]:
        return self.module(x_BI), ()

    def forward(
        self,
        x_BTI: Tensor,
        state: State | None = None,
        context: State | None = None,
        *,
        lengths: Tensor | None = None,
        reset: Tensor | None = None,
    ) -> tuple[Tensor, State]:
        check_sequence(self, x_BTI, lengths, reset)
        real_BT = ref.valid_steps(x_BTI, lengths)
        if real_BT is None:
            return self.module(x_BTI), ()
        return ref.hide_padding(self.module(ref.hide_padding(x_BTI, real_BT)), real_BT), ()


class Stack(Recurrence):
    """Layers one above the other, with dropout between them in training.

    Args:
        layers: recurrences (and encoders; then the result is an `EncoderStack`), each as wide as the next one takes.
        dropout: probability of dropping an output between two layers.

    Example:
        >>> body = Stack(LSTM(32, 128), LSTM(128, 128), dropout=0.2)
    """

    def __new__(cls, *layers: Layer, dropout: float = 0.0) -> Self:
        if any(isinstance(layer, Encoder) for layer in layers):
            return cast("Self", EncoderStack(*layers, dropout=dropout))
        return super().__new__(cls)

    layers: Sequence[Recurrence]

    def __init__(self, *layers: Recurrence, dropout: float = 0.0) -> None:
        check_layers(layers)
        super().__init__(layers[0].input_size, layers[-1].output_size)
        self.layers = cast("Sequence[Recurrence]", nn.ModuleList(layers))
        self.dropout = dropout

    def init_state(self, batch_size: int, context: State | None = None) -> State:
        return tuple(layer.init_state(batch_size, context) for layer in self.layers)

    def step(self, x_BI: Tensor, state: State, context: State | None = None) -> tuple[Tensor, State]:
        after = []
        for i, (layer, before) in enumerate(zip(self.layers, state, strict=True)):
            x_BI, s = layer.step(_dropped(self, i, x_BI), before, context)
            after.append(s)
        return x_BI, tuple(after)

    def forward(
        self,
        x_BTI: Tensor,
        state: State | None = None,
        context: State | None = None,
        *,
        lengths: Tensor | None = None,
        reset: Tensor | None = None,
    ) -> tuple[Tensor, State]:
        befores, _ = self.begin(x_BTI, state, context, lengths, None)
        if not isinstance(befores, tuple) or len(befores) != len(self.layers):
            raise ShapeError(f"Stack: the state must hold one part for each of {len(self.layers)} layers")
        after = []
        for i, (layer, before) in enumerate(zip(self.layers, befores, strict=True)):
            x_BTI, s = layer(_dropped(self, i, x_BTI), before, context, lengths=lengths, reset=reset)
            after.append(s)
        return x_BTI, tuple(after)

    def extra_repr(self) -> str:
        return f"dropout={self.dropout}" if self.dropout else ""


class EncoderStack(Encoder):
    """A `Stack` in which some layer needs the future."""

    def __init__(self, *layers: Layer, dropout: float = 0.0) -> None:
        super().__init__()
        check_layers(layers)
        self.input_size, self.output_size = layers[0].input_size, layers[-1].output_size
        self.layers = nn.ModuleList(layers)
        self.dropout = dropout

    def forward(
        self,
        x_BTI: Tensor,
        context: State | None = None,
        *,
        lengths: Tensor | None = None,
        reset: Tensor | None = None,
    ) -> tuple[Tensor, State]:
        check_sequence(self, x_BTI, lengths, reset)
        finals = []
        for i, layer in enumerate(self.layers):
            x_BTI, final = layer(_dropped(self, i, x_BTI), context=context, lengths=lengths, reset=reset)
            finals.append(final)
        return x_BTI, tuple(finals)


class Residual(Recurrence):
    """y = x + layer(norm(x)), the pre-norm residual block (He et al. 2016; Xiong et al. 2020, arXiv:2002.04745), and
    with an MLP the block of a language model: z = y + mlp(norm(y)).

    Args:
        layer: a recurrence (or an encoder; then the result is an `EncoderResidual`) as wide as its input.
        norm: "none", "layer" or "rms".
        mlp: units of the gated MLP behind, as a multiple of the width; 0 for none.

    Example:
        >>> block = Residual(Mamba(64, 64), "rms")
        >>> body = Stack(*(Residual(GLA(64, 64), "rms", mlp=2.75) for _ in range(4)))
    """

    def __new__(cls, layer: Layer | None = None, norm: str = "none", mlp: float = 0.0) -> Self:
        # Copies are made without arguments.
        encoder = isinstance(layer, Encoder)
        return cast("Self", EncoderResidual(layer, norm, mlp)) if encoder else super().__new__(cls)

    def __init__(self, layer: Recurrence, norm: str = "none", mlp: float = 0.0) -> None:
        super().__init__(layer.input_size, layer.output_size)
        _check_width(layer)
        self.layer, self.norm, self.mlp = layer, make_norm(norm, layer.input_size), make_mlp(norm, layer, mlp)

    def init_state(self, batch_size: int, context: State | None = None) -> State:
        return self.layer.init_state(batch_size, context)

    def gate_values(self, x_BTI: Tensor, state: State | None = None) -> dict[str, Tensor]:
        return self.layer.gate_values(self.norm(x_BTI), state)

    def step(self, x_BI: Tensor, state: State, context: State | None = None) -> tuple[Tensor, State]:
        y_BH, state = self.layer.step(self.norm(x_BI), state, context)
        return _behind(self.mlp, x_BI + y_BH), state

    def forward(
        self,
        x_BTI: Tensor,
        state: State | None = None,
        context: State | None = None,
        *,
        lengths: Tensor | None = None,
        reset: Tensor | None = None,
    ) -> tuple[Tensor, State]:
        check_sequence(self, x_BTI, lengths, reset)
        x_BTI = _without_padding(x_BTI, lengths)
        y_BTH, state = self.layer(self.norm(x_BTI), state, context, lengths=lengths, reset=reset)
        return _without_padding(_behind(self.mlp, x_BTI + y_BTH), lengths), state


class EncoderResidual(Encoder):
    """A `Residual` around a layer that needs the future."""

    def __init__(self, layer: Encoder, norm: str = "none", mlp: float = 0.0) -> None:
        super().__init__()
        _check_width(layer)
        self.input_size, self.output_size = layer.input_size, layer.output_size
        self.layer, self.norm, self.mlp = layer, make_norm(norm, layer.input_size), make_mlp(norm, layer, mlp)

    def forward(
        self,
        x_BTI: Tensor,
        context: State | None = None,
        *,
        lengths: Tensor | None = None,
        reset: Tensor | None = None,
    ) -> tuple[Tensor, State]:
        check_sequence(self, x_BTI, lengths, reset)
        x_BTI = _without_padding(x_BTI, lengths)
        y_BTH, final = self.layer(self.norm(x_BTI), context, lengths=lengths, reset=reset)
        return _without_padding(_behind(self.mlp, x_BTI + y_BTH), lengths), final


def make_mlp(norm: str, layer: Layer, ratio: float) -> nn.Module | None:
    """The second half of a block, behind a norm of its own; None without one.

    Raises:
        ShapeError: the ratio leaves no unit.
    """
    if ratio == 0:
        return None
    width = layer.output_size
    if round(ratio * width) < 1:
        raise ShapeError(f"Residual: an MLP of {ratio} times {width} units has none")
    return nn.Sequential(make_norm(norm, width), GatedMLP(width, round(ratio * width)))


def _behind(mlp: nn.Module | None, y: Tensor) -> Tensor:
    return y if mlp is None else y + mlp(y)


def make_norm(name: str, width: int) -> nn.Module:
    """A norm over the features of each step by itself: "none", "layer" or "rms"."""
    known = {"none": nn.Identity, "layer": nn.LayerNorm, "rms": nn.RMSNorm}
    if name not in known:
        raise ShapeError(f"unknown norm '{name}'", hint=f"known: {', '.join(known)}")
    # torch's own default for RMSNorm hangs on the dtype, and lets single precision's rounding through a thousandfold.
    return nn.Identity() if name == "none" else known[name](width, eps=1e-5)


def check_layers(layers: Sequence[nn.Module]) -> None:
    """Raise ShapeError unless the layers are recurrences or encoders that fit each other."""
    if not layers:
        raise ShapeError("Stack needs at least one layer")
    for layer in layers:
        if not isinstance(layer, Layer):
            raise ShapeError(
                f"Stack takes recurrences and encoders, got {type(layer).__name__}",
                hint="wrap a module that treats each step by itself: cells.Pointwise(module, input_size)",
            )
    for below, above in pairwise(layers):
        if below.output_size != above.input_size:
            raise ShapeError(
                f"Stack: {type(below).__name__} gives {below.output_size} features,"
                f" {type(above).__name__} above it takes {above.input_size}"
            )


def _check_width(layer: Layer) -> None:
    if layer.input_size != layer.output_size:
        raise ShapeError(
            f"Residual: the layer takes {layer.input_size} features and gives {layer.output_size}; they must be equal"
        )


def _dropped(stack: Stack | EncoderStack, i: int, x: Tensor) -> Tensor:
    return dropout(x, stack.dropout, stack.training) if i and stack.dropout else x


def _without_padding(x_BTI: Tensor, lengths: Tensor | None) -> Tensor:
    real_BT = ref.valid_steps(x_BTI, lengths)
    return x_BTI if real_BT is None else ref.hide_padding(x_BTI, real_BT)
