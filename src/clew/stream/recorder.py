"""Runs a model's own step once and takes down what becomes of the numbers that move: the input and the state.

Whatever a step is made of, torch carries it out by few kinds of operations (its ATen operators). One whose operands
all stand still (parameters, and what is made of them) is carried out here and now; a view costs nothing; the rest is
noted in a Program, by the table in `operators`. The classical cells have operations of their own and are noted as a
whole.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from clew import ops, tree
from clew.cells import GRU, LSTM, Elman, Encoder, Pointwise, Recurrence, Stack
from clew.errors import ClewError, NotCausalError
from clew.models import Single
from clew.models.embed import Units, WordsWithLetters
from clew.ops.definition import joined
from clew.stream.fuse import Op, address
from clew.stream.operators import OPERATORS
from clew.stream.program import OWN_STEP, Program
from clew.tasks.plain import Plain
from clew.tree import State

Steps = Recurrence | Single | Plain
_ALONE = threading.RLock()  # a cell's own step is exchanged while it is noted


class Taken(NamedTuple):
    """What a Program's memory is for."""

    initial: State  # before the first step
    x: Tensor  # (B, I), to be written
    y: Tensor  # (B, ...), to be read
    leaves: list[Tensor]  # the state, in the order of `tree.leaves`


@torch.no_grad()
def take_down(model: Steps, batch_size: int, program: Program) -> Taken:
    """Note one step of a model outside training.

    Raises:
        ClewError: the step has an operation that there is none for.
        NotCausalError: the model needs the future.
    """
    with _ALONE, evaluating(model):
        initial = model.init_state(batch_size)
        x = blank(model, batch_size)
        x = program.hold(x) if x.dtype == torch.int64 else program.rows(x)
        plain = _in_single_precision(model)
        leaves = [leaf.cpu() for leaf in tree.leaves(initial)]
        leaves = [leaf.float() if leaf.is_floating_point() else leaf for leaf in leaves]
        leaves = [program.rows(t) if t.ndim == 2 and t.is_floating_point() else program.hold(t) for t in leaves]
        y = record(plain, x, tree.rebuild(initial, iter(leaves)), program)
    return Taken(initial, x, y, leaves)


@torch.no_grad()
def record(model: Steps, x: Tensor, state: State, program: Program) -> Tensor:
    """Note one step of a model outside training; what it predicts. Input and state are the Program's memory.

    Raises:
        ClewError: the step has an operation that there is none for.
    """
    with ExitStack() as stack:
        for module in model.modules():
            if isinstance(module, Elman | GRU | LSTM) and not _parts(module):
                stack.enter_context(_as_a_whole(module, program))
        stack.enter_context(ops.reference())
        stack.enter_context(Recorder(program))
        y, after = model.step(x, state)
    before = list(tree.leaves(state))
    own = {address(t) for t in (x, *before)}
    # What the state becomes may be a part of what it was: whole copies first, then the state itself.
    y, *after = (t if program.of(t) and address(t) not in own else program.copy(t) for t in (y, *tree.leaves(after)))
    for leaf, new in zip(before, after, strict=True):
        program.view(Op.COPY, leaf, new)
    program.finish([y, *before])
    return y


class Recorder(TorchDispatchMode):
    """While it is in force every operation on a Program's memory is noted there."""

    def __init__(self, program: Program) -> None:
        super().__init__()
        self.program = program

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        p, kwargs = self.program, kwargs or {}
        given = [t for arg in args for t in (arg if isinstance(arg, list | tuple) else [arg])]
        if not any(isinstance(t, Tensor) and p.of(t) for t in given):
            return func(*args, **kwargs)
        name = func._schema.name.removeprefix("aten::")
        try:
            result = func(*args, **kwargs)
        except RuntimeError:
            if name not in ("view", "_unsafe_view"):
                raise
            args = (p.copy(args[0].contiguous(), args[0]), *args[1:])  # rows that do not lie close together
            result = func(*args, **kwargs)
        first = result[0] if isinstance(result, tuple | list) else result
        in_place = name.endswith("_")
        if isinstance(first, Tensor) and p.of(first) and not in_place:
            return result  # a view, or several
        if name == "_local_scalar_dense":
            raise ClewError("a Stepper cannot follow a step that looks at the numbers", hint=OWN_STEP)
        noted = OPERATORS.get(name.removesuffix("_"))
        if noted is None or not isinstance(first, Tensor) or (in_place and not p.of(first)):
            raise ClewError(f"a Stepper has no operation for torch's '{name}'", hint=OWN_STEP)
        to = args[0] if in_place else p.hold(first)
        other = noted(p, to, *args, **kwargs)
        to = to if other is None else other
        return (to, *result[1:]) if isinstance(result, tuple) else to


def _parts(cell: Elman | GRU | LSTM) -> bool:
    """Whether something stands between the products of the cell: a norm, a projection, zoneout or a user's own step."""
    between = (cell.layer_norm, cell.projection, cell.zoneout, cell.zoneout_cell)
    return type(cell) not in (Elman, GRU, LSTM) or any(between)


@contextmanager
def _as_a_whole(cell: Elman | GRU | LSTM, program: Program) -> Iterator[None]:
    """Inside this block the cell's step is one operation."""
    if isinstance(cell, Elman):
        kind = Op.TANH if cell.nonlinearity == "tanh" else Op.RELU
    else:
        kind = Op.LSTM if isinstance(cell, LSTM) else Op.GRU
    w = joined(cell.weights())
    zeros = w.ih.new_zeros(len(w.ih))
    biases = [zeros if b is None else b for b in (w.bias_ih, w.bias_hh)]

    def step(x: Tensor, state: Any, context: State | None = None) -> tuple[Tensor, Any]:
        h, after = program.aligned(state.h), {"h": program.rows(state.h)}
        c = {}
        if isinstance(cell, LSTM):
            after["c"] = program.rows(state.c)
            c = {"c": program.aligned(state.c), "next_c": after["c"]}
        x = program.side_by_side(x)
        program.product(kind, cell.gates, x, h, [w.ih, w.hh], biases, after["h"], **c)
        return after["h"], state._replace(**after)

    cell.step = step  # pyright: ignore[reportAttributeAccessIssue]
    try:
        yield
    finally:
        del cell.step


def blank(model: Steps, batch_size: int) -> Tensor:
    """What a step takes: numbers (B, I), or units of text (B, 1 + letters) where the body begins with their vectors."""
    if isinstance(model, Plain):
        return model.blank(batch_size)
    first = model.body if isinstance(model, Single) else model
    if isinstance(first, Encoder):
        raise NotCausalError("this model needs the future, so it has no step")
    width = first.input_size
    while isinstance(first, Stack):
        first = first.layers[0]
    if isinstance(first, Pointwise) and isinstance(first.module, Units | WordsWithLetters):
        return torch.zeros(batch_size, width, dtype=torch.int64)
    return torch.zeros(batch_size, width)


def _in_single_precision(model: Steps) -> Steps:
    """The model itself where it is in single precision on the CPU, else a copy that is."""
    tensors = (*model.parameters(), *model.buffers())
    if all(t.device.type == "cpu" and (t.dtype == torch.float32 or not t.is_floating_point()) for t in tensors):
        return model
    return copy.deepcopy(model).to("cpu", torch.float32)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)
