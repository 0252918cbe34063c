"""The laws that every recurrence obeys, as measurements: run by the tests over the whole table, by `clew.check(cell)`
on the user's machine, and by `clew doctor`.

A law runs the cell in two ways that must give the same numbers, and returns the largest relative difference over
outputs, final state, and the gradients of both with respect to inputs, initial state and every parameter. Laws hold in
evaluation mode; they run on a copy, in float64 unless asked otherwise.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from clew import ops, tree
from clew.cells import Encoder, Recurrence
from clew.tree import State

B, T = 3, 7
TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5}
Numbers = list[Tensor]
Step = Callable[..., tuple[Tensor, State]]  # x_BI, state, and the context where there is one


@dataclass(frozen=True)
class Measured:
    """One law on one cell: the largest relative difference, and whether it is within the tolerance."""

    law: str
    error: float
    tolerance: float

    @property
    def holds(self) -> bool:
        return self.error <= self.tolerance  # a NaN does not

    def __str__(self) -> str:
        return f"{self.law:8} {'holds' if self.holds else 'BROKEN':6}  {self.error:.1e} (at most {self.tolerance:.0e})"


class Trial:
    """A cell with inputs, a state and cotangents to try it on; the same for both ways of running it.

    `state` is the cell's with its context beside it, so that whatever takes rows of one takes those of the other, and
    the gradient of both is looked at.
    """

    def __init__(
        self, cell: Recurrence | Encoder, dtype: torch.dtype, seed: int, context: State = (), steps: int = T
    ) -> None:
        self.cell: Any = copy.deepcopy(cell).to(dtype).eval()
        self.generator = torch.Generator().manual_seed(seed)
        self.device = next(iter(self.cell.parameters()), torch.empty(0)).device
        self.dtype = dtype
        self.x = self.random(B, steps, cell.input_size)
        context = tree.map(lambda leaf: leaf.to(self.device, dtype if leaf.is_floating_point() else None), context)
        state: State = ()
        if isinstance(self.cell, Recurrence):
            # A state as it might stand in mid-stream: the initial one, moved by a few steps.
            state = self.cell.init_state(B, context)
            with torch.no_grad():
                for x in self.random(3, B, cell.input_size):
                    state = self.cell.step(x, state, context)[1]
        self.state = tree.map(lambda leaf: leaf.detach().clone(), (state, context))

    def random(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self.generator, dtype=torch.float64).to(self.device, self.dtype)

    def measure(self, run: Step, x: Tensor | None = None) -> Numbers:
        """Outputs, final state, and gradients of a random mix of both with respect to all that went in."""
        x = (self.x if x is None else x).detach().clone().requires_grad_()
        state = tree.map(
            lambda leaf: leaf.clone().requires_grad_() if leaf.is_floating_point() else leaf.clone(), self.state
        )
        y, final = run(x, state)
        outputs = [y, *tree.leaves(final)]
        mixer = torch.Generator().manual_seed(1)
        loss = y.new_zeros(())
        for out in outputs:
            if out.is_floating_point():
                weight = torch.randn(out.shape, generator=mixer, dtype=torch.float64).to(out.device, out.dtype)
                loss = loss + (out * weight).sum()
        wanted = [x, *(leaf for leaf in tree.leaves(state) if leaf.requires_grad), *self.parameters()]
        gradients = torch.autograd.grad(loss, wanted, allow_unused=True) if loss.requires_grad else [None] * len(wanted)
        filled = [torch.zeros_like(w) if g is None else g for g, w in zip(gradients, wanted, strict=True)]
        return [*(o.detach() for o in outputs), *filled]

    def parameters(self) -> Iterator[Tensor]:
        return (p for p in self.cell.parameters() if p.requires_grad)

    def whole(self, x: Tensor, state: State, **options: Tensor) -> tuple[Tensor, State]:
        before, context = state
        given = (context,) if isinstance(self.cell, Encoder) else (before, context)
        y, after = self.cell(x, *given, **options)
        return y, (after, context)

    def fresh(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """From the initial state (learned ones, too)."""
        y, after = self.cell(x, context=state[1])
        return y, (after, state[1])


def difference(ours: Numbers, theirs: Numbers) -> float:
    """The largest difference, relative to the size of the tensor it stands in (1 at least)."""
    worst = 0.0
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs, strict=True):
        if a.shape != b.shape:
            return float("inf")
        if a.numel():
            a, b = a.detach().double(), b.detach().double()
            gap = float((a - b).abs().max() / b.abs().max().clamp(min=1.0))
            worst = gap if gap != gap else max(worst, gap)
            if worst != worst:
                return worst
    return worst


def fold(t: Trial) -> float:
    """forward = step folded over time."""
    return difference(t.measure(t.whole), t.measure(lambda x, s: _stepped(t.cell.step, t, x, s)))


def split(t: Trial) -> float:
    """forward(x) = forward(x[:k]) then forward(x[k:], state), for every k, also 0 and T."""

    def in_two(x: Tensor, s: State, k: int) -> tuple[Tensor, State]:
        head, s = t.whole(x[:, :k], s)
        tail, s = t.whole(x[:, k:], s)
        return torch.cat([head, tail], 1), s

    whole = t.measure(t.whole)
    return _worst(difference(t.measure(lambda x, s, k=k: in_two(x, s, k)), whole) for k in range(t.x.shape[1] + 1))


def padding(t: Trial) -> float:
    """`lengths` = each row alone at its own length; NaN in the padding changes nothing. A length may be 0."""
    steps = t.x.shape[1]
    lengths = torch.tensor([steps, 0, (steps + 1) // 2], device=t.device)

    def alone(x: Tensor, s: State) -> tuple[Tensor, State]:
        ys, finals = [], []
        for row, n in enumerate(lengths.tolist()):
            one = tree.map(lambda leaf, row=row: leaf[row : row + 1], s)
            y, final = t.whole(x[row : row + 1, :n], one)
            ys.append(torch.cat([y, y.new_zeros(1, steps - n, y.shape[2])], 1))
            finals.append(final)
        return torch.cat(ys), tree.stack(finals)

    poisoned = t.x.clone()
    for row, n in enumerate(lengths.tolist()):
        poisoned[row, n:] = float("nan")
    one_by_one = t.measure(alone)
    padded = t.measure(lambda x, s: t.whole(x, s, lengths=lengths))
    with_nan = t.measure(lambda x, s: t.whole(x, s, lengths=lengths), poisoned)
    return _worst([difference(padded, one_by_one), difference(with_nan, one_by_one)])


def reset(t: Trial) -> float:
    """`reset` = each piece from the initial state, learned ones too; and a NaN does not pass it."""
    steps = t.x.shape[1]
    flags = torch.zeros(B, steps, dtype=torch.bool, device=t.device)
    flags[0, 0] = flags[1, steps // 2] = flags[2, 1 : steps - 1] = True

    def in_pieces(x: Tensor, s: State) -> tuple[Tensor, State]:
        ys, finals = [], []
        for row in range(B):
            cuts = sorted({0, steps, *flags[row].nonzero().flatten().tolist()})
            state = tree.map(lambda leaf, row=row: leaf[row : row + 1], s)
            pieces = []
            for begin, end in pairwise(cuts):
                piece = x[row : row + 1, begin:end]
                y, state = t.fresh(piece, state) if flags[row, begin] else t.whole(piece, state)
                pieces.append(y)
            ys.append(torch.cat(pieces, 1))
            finals.append(state)
        return torch.cat(ys), () if isinstance(t.cell, Encoder) else tree.stack(finals)

    def at_once(x: Tensor, s: State) -> tuple[Tensor, State]:
        y, final = t.whole(x, s, reset=flags)
        return y, () if isinstance(t.cell, Encoder) else final  # an encoder's pieces each have finals of their own

    error = difference(t.measure(at_once), t.measure(in_pieces))
    poisoned = t.x.clone()
    poisoned[1, : steps // 2] = float("nan")
    with torch.no_grad():
        clean = t.whole(t.x, t.state, reset=flags)[0][1, steps // 2 :]
        after = t.whole(poisoned, t.state, reset=flags)[0][1, steps // 2 :]
    return _worst([error, difference([after], [clean])])


def batch(t: Trial) -> float:
    """Row i does not depend on row j: other neighbours, or NaN in them, change nothing in it, nor its gradients."""
    error = 0.0
    for row in range(B):
        alone = tree.map(lambda leaf, row=row: leaf[row : row + 1], t.state)
        x = t.x[row : row + 1].clone().requires_grad_()
        y, final = t.whole(x, alone)
        (grad,) = torch.autograd.grad(y.sum(), x)
        for other in (t.random(*t.x.shape), torch.full_like(t.x, float("nan"))):
            crowd = other.clone()
            crowd[row] = t.x[row]
            crowd.requires_grad_()
            y_all, final_all = t.whole(crowd, t.state)
            (grad_all,) = torch.autograd.grad(y_all[row].sum(), crowd)
            mine = tree.map(lambda leaf, row=row: leaf[row : row + 1], final_all)
            ours = [y_all[row : row + 1], grad_all[row : row + 1], *tree.leaves(mine)]
            error = _worst([error, difference(ours, [y, grad, *tree.leaves(final)])])
    return error


def causal(t: Trial) -> float:
    """Later inputs never change earlier outputs."""
    with torch.no_grad():
        y, _ = t.whole(t.x, t.state)
        errors = []
        for k in range(t.x.shape[1]):
            other = t.x.clone()
            other[:, k:] = t.random(*other[:, k:].shape)
            errors.append(difference([t.whole(other, t.state)[0][:, :k]], [y[:, :k]]))
    return _worst(errors)


def kernel(t: Trial) -> float:
    """Every kernel = the reference, forward and backward: odd T, T = 1, T = 0, non-contiguous inputs."""

    def by_reference(x: Tensor, s: State) -> tuple[Tensor, State]:
        with ops.reference():
            return t.whole(x, s)

    spread = t.random(B, 2 * t.x.shape[1], t.x.shape[2])[:, ::2]
    inputs = [t.x, t.x[:, :1], t.x[:, :0], spread]
    return _worst(difference(_on(t, t.whole, x), _on(t, by_reference, x)) for x in inputs)


def export(t: Trial, step: Step) -> float:
    """An exported step, given as a callable, = the eager step, over a stream."""
    with torch.no_grad():
        ours, theirs = (_stepped(s, t, t.x, t.state) for s in (step, t.cell.step))
        return difference([ours[0], *tree.leaves(ours[1])], [theirs[0], *tree.leaves(theirs[1])])


LAWS: dict[str, Callable[[Trial], float]] = {
    "fold": fold,
    "split": split,
    "padding": padding,
    "reset": reset,
    "batch": batch,
    "causal": causal,
    "kernel": kernel,
}
ENCODER_LAWS = ("padding", "reset", "batch", "kernel")


def check(
    cell: Recurrence | Encoder,
    dtype: torch.dtype = torch.float64,
    *,
    context: State = (),
    exported: Step | None = None,
    seed: int = 0,
) -> list[Measured]:
    """Measure every law on a copy of the cell, as it stands, on its device.

    Args:
        cell: a recurrence, or an encoder (which has no step, so fewer laws).
        dtype: float64 (tolerance 1e-10) or float32 (1e-5, relative).
        context: what the cell reads beside its input, of three rows.
        exported: a step `(x_BI, state) -> (y_BH, state)` made from the cell, to hold against its own; it takes the
            context too where there is one.

    Example:
        >>> all(law.holds for law in clew.check(clew.cells.LSTM(8, 16)))
        True
    """
    tolerance = TOLERANCE[dtype]
    names = ENCODER_LAWS if isinstance(cell, Encoder) else tuple(LAWS)
    measured = [Measured(name, LAWS[name](Trial(cell, dtype, seed, context)), tolerance) for name in names]
    if exported is not None:
        measured.append(Measured("export", export(Trial(cell, dtype, seed, context), exported), tolerance))
    return measured


def _stepped(step: Step, t: Trial, x: Tensor, state: State) -> tuple[Tensor, State]:
    (state, context), ys = state, []
    beside = () if tree.rows(context) is None else (context,)
    for x_BI in x.unbind(1):
        y, state = step(x_BI, state, *beside)
        ys.append(y)
    return torch.stack(ys, 1), (state, context)


def _on(t: Trial, run: Step, x: Tensor) -> Numbers:
    """`Trial.measure` without the clone, which would make x contiguous."""
    base = x.detach().requires_grad_()
    state = tree.map(lambda leaf: leaf.detach().requires_grad_(leaf.is_floating_point()), t.state)
    y, final = run(base, state)
    total = y.sum() + sum((leaf.square().sum() for leaf in tree.leaves(final) if leaf.is_floating_point()), y.sum())
    wanted = [base, *(leaf for leaf in tree.leaves(state) if leaf.requires_grad), *t.parameters()]
    gradients = torch.autograd.grad(total, wanted, allow_unused=True) if total.requires_grad else [None] * len(wanted)
    filled = [torch.zeros_like(w) if g is None else g for g, w in zip(gradients, wanted, strict=True)]
    return [y.detach(), *(leaf.detach() for leaf in tree.leaves(final)), *filled]


def _worst(errors) -> float:
    """The largest error; a NaN is the worst of all."""
    errors = list(errors)
    return float("nan") if any(e != e for e in errors) else max(errors, default=0.0)
