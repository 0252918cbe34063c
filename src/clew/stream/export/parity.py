"""Whether what was exported says what the model says: on real steps, and in the task's own metrics.

T steps, I inputs, O outputs
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from clew import tree
from clew.data.table import Table
from clew.errors import ClewError, ConfigError
from clew.metrics import HIGHER_IS_BETTER
from clew.models import Single
from clew.tasks.base import Streamed
from clew.tasks.plain import Plain
from clew.tasks.run import RunFolder
from clew.tasks.train import read_for, sources_of
from clew.tree import State

RECORDS, STEPS = 20, 2000  # at most, that are compared
NEAR = 1e-5  # of what a large difference is
FINE = 1e-2  # of the largest answer: NEAR of it is what float32 can tell apart


class Moves(Protocol):
    """A step of B rows with its state, as a Stepper has it."""

    state: State

    def step(self, x: np.ndarray | Tensor) -> np.ndarray: ...


def tables_of(run: str, source: str | None) -> list[Table]:
    """The source that was named, or those of the run where they are still there."""
    if source:
        return [read_for(run, source)]
    try:
        return [read_for(run, name) for name in sources_of(str(RunFolder(run).recipe().data.train))]
    except ClewError:
        return []


def real_steps(trained: Streamed, plain: Plain, tables: list[Table]) -> list[np.ndarray]:
    """Raw sequences (T, I) of sources, in double precision or whole numbers; where there are none, drawn by chance as
    wide as the data were."""
    found, left = [], STEPS
    for shown in trained.shown(tables, RECORDS) if tables else []:
        x_TI = np.asarray(getattr(shown.example, "x", np.empty(0)))[:left]
        if len(x_TI):
            found.append(_raw(plain, x_TI))
            left -= len(x_TI)
    if found:
        return found
    draws = np.random.default_rng(0)
    if plain.reads_units:
        return [draws.integers(0, plain.units, (200, 1))]
    return [_raw(plain, draws.normal(size=(200, len(plain.inputs))))]


def _raw(plain: Plain, x_TI: np.ndarray) -> np.ndarray:
    if plain.scaler is None:
        return x_TI.astype(np.int64)
    return plain.scaler.invert(x_TI.astype(np.float64))


@torch.no_grad()
def own_answers(plain: Plain, xs: Sequence[np.ndarray]) -> list[np.ndarray]:
    """What the model itself answers, (T, O) each, to raw numbers in double precision."""
    inner = plain.inner().eval()
    return [inner(torch.from_numpy(plain.read(x_TI))[None])[0][0].numpy() for x_TI in xs]


def hardest(plain: Plain) -> str:
    """Of the inputs, the one that single precision tells apart the worst, in words; none where it does so well."""
    if plain.scaler is None:
        return ""
    far = np.abs(plain.scaler.mean) / plain.scaler.std
    worst = int(far.argmax())
    if far[worst] * 2.0**-24 <= NEAR:
        return ""
    mean, std = plain.scaler.mean[worst], plain.scaler.std[worst]
    return f"'{plain.inputs[worst]}' lies around {mean:.6g} and varies by {std:.2g}"


def difference(theirs: Sequence[np.ndarray], ours: Sequence[np.ndarray], sizes: np.ndarray | float = 1.0) -> float:
    """The largest difference of an answer, as a part of its size (see `Plain`), or of a hundredth of the largest that
    was answered, where that is more."""
    a, b = np.concatenate(theirs), np.concatenate(ours)
    if a.shape != b.shape or not np.isfinite(a).all():
        return float("inf")
    return float((np.abs(a - b) / np.maximum(sizes, FINE * np.abs(b).max(0))).max())


@contextmanager
def stepping(model: Single, made: Callable[[int], Moves]) -> Iterator[None]:
    """Inside this block the model is run by other steps, so that a task can score those."""
    steppers: dict[int, Moves] = {}

    def forward(
        x_BTI: Tensor, state: State | None = None, context: State | None = None, *, lengths: Tensor | None = None
    ) -> tuple[Tensor, State]:
        B, T = x_BTI.shape[:2]
        if B not in steppers:
            steppers[B] = made(B)
        moves = steppers[B]
        moves.state = model.init_state(B) if state is None else state
        ys = []
        for t in range(T):
            before = None if lengths is None or t < int(lengths.min()) else moves.state
            ys.append(torch.from_numpy(moves.step(x_BTI[:, t])))
            if before is not None and lengths is not None:
                moves.state = tree.where(lengths > t, moves.state, before)
        return torch.stack(ys, 1), moves.state

    def step(x_BI: Tensor, state: State, context: State | None = None) -> tuple[Tensor, State]:
        y_B1, state = forward(x_BI[:, None], state)
        return y_B1[:, 0], state

    model.forward, model.step = forward, step  # pyright: ignore[reportAttributeAccessIssue]
    try:
        yield
    finally:
        del model.forward, model.step


def measured(trained: Streamed, tables: list[Table], made: Callable[[Single, int], Moves]) -> dict[str, Any]:
    """The metrics of the model and of other steps on the same sources: {"model": ..., "exported": ...}.

    Args:
        made: of the model, so many rows that move together.
    """
    assert isinstance(trained.model, Single)
    own, model = trained.evaluate(tables)[0], copy.deepcopy(trained.model)
    with stepping(trained.model, lambda B: made(model, B)):
        return {"model": own, "exported": trained.evaluate(tables)[0]}


def refuse_worse(found: dict[str, Any], most: float) -> None:
    """Raises ConfigError where a metric got worse by more than this part of itself."""
    for name, own in found["model"].items():
        now = found["exported"][name]
        sign = -1 if name.rpartition(".")[2] in HIGHER_IS_BETTER else 1
        worse = sign * (now - own) / max(abs(own), 1e-9)
        if worse > most:
            by = f"{100 * worse:.3g}% ({own:.4g}, then {now:.4g}), where {100 * most:.3g}% is allowed"
            what = f"int8 makes {name} worse by {by}"
            raise ConfigError(what, hint="allow more with --worse, or export without --int8")
