"""A trained model looked into: how far its gradients reach, how far back it feels, what its layers do, and how far
back its data reach. What it all means stands in `remarks`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from torch import nn

from clew.cells import Recurrence
from clew.data.batch import Example
from clew.data.pair_batch import PairExample
from clew.diagnose import flow, gates
from clew.diagnose.information import Dependency, dependency
from clew.diagnose.looking import Looked, looked
from clew.diagnose.probe import STEPS, Probe, pieces, probe
from clew.diagnose.window import Window, suggested
from clew.models.paired import Paired
from clew.models.pointer import PointerNet
from clew.models.unaligned import Unaligned

FELT = 16  # rows by which it is told what is felt
FEW = 16  # lags of gradients of states
SEQUENCES, CHANNELS = 1000, 4  # of which the data's own dependency is measured


class Examined(NamedTuple):
    """What is known of a model; a part is empty, or None, where it does not apply."""

    steps: int  # of the pieces that were looked into
    gradients: dict[str, list[float]] = {}  # by layer, at lags 0, 1, ...
    at_start: dict[str, list[float]] = {}  # the same before training
    state_lags: list[int] = []
    states: dict[str, list[float]] = {}  # gradients of states, by layer, at these lags
    lags: list[int] = []
    felt: list[float] = []  # at these lags
    layers: list[gates.Layer] = []
    dependency: Dependency | None = None
    looked: Looked | None = None

    @property
    def memory(self) -> float:
        """Steps for which a changed input is felt; infinite where that is more than was looked at."""
        return flow.horizon(self.lags, self.felt, flow.FELT)

    @property
    def reach(self) -> float:
        """Steps that gradients reach back to the lowest layer that has any."""
        return _horizon(self.gradients)

    @property
    def reach_at_start(self) -> float:
        return _horizon(self.at_start)

    @property
    def window(self) -> Window | None:
        """How far back to train."""
        if self.dependency is None or not self.gradients:
            return None
        return suggested(self.dependency.horizon(), max(self.reach, self.reach_at_start), self.steps)


def examine(
    model: nn.Module, examples: Sequence[Any], fresh: nn.Module | None = None, steps: int = STEPS
) -> Examined | None:
    """Look into a model.

    Args:
        examples: sequences as the model is trained on them.
        fresh: the same model before training.
        steps: how far back to look at most.

    Returns:
        None where the examples are too few or too short, or the model is of no kind that is known.
    """
    if isinstance(model, Paired | PointerNet):
        return Examined(0, looked=looked(model, examples)) if examples else None
    found = probe(model, examples, steps)
    if found is None:
        return None
    T = found.x.shape[1]
    known = Examined(
        T,
        gradients=reach(found),
        at_start=reach(start) if fresh is not None and (start := probe(fresh, examples, steps)) else {},
        layers=gates.layers(found.body, found.x),
        dependency=of_data(examples, T, model.front.stride if isinstance(model, Unaligned) else 1),
    )
    body = flow.unpooled(found.body)
    if not isinstance(found.body, Recurrence) or not isinstance(body, Recurrence):
        return known
    lags, few = flow.lags_up_to(T - 1), sorted({1 + round((T - 1) * (k / FEW) ** 2) for k in range(FEW + 1)})
    return known._replace(
        lags=lags,
        felt=flow.felt(found.body, found.predict, found.x[:FELT], lags),
        state_lags=few,
        states=flow.of_states(body, found.x, few, found.loss if body is found.body else None),
    )


def reach(found: Probe) -> dict[str, list[float]]:
    """Gradients by lag, through the recurrences alone where a pool stands behind them."""
    body = flow.unpooled(found.body)
    return flow.of_inputs(body, found.x, found.loss if body is found.body else None)


def of_data(examples: Sequence[Any], steps: int, stride: int = 1) -> Dependency | None:
    """How far back the sequences reach: of their symbols, or of that of a few channels which reaches farthest; towards
    the answers, where these change along a sequence.

    Args:
        stride: inputs that make a step.
    """
    if isinstance(examples[0], PairExample):
        sources = [example.source[::stride] for example in examples]
        examples = [Example(source, source[:, :0]) for source in sources if len(source)]
    cut = pieces(examples, 2 * steps, SEQUENCES)
    x = np.stack([piece.x for piece in cut])
    target = np.stack([np.asarray(piece.target).reshape(len(piece.target), -1) for piece in cut])
    answers = target[..., 0] if target.shape[-1] else None
    if answers is not None and (not np.isfinite(answers).all() or (answers == answers[:, :1]).all()):
        answers = None
    spread = [int(i) for i in np.argsort(-x.reshape(-1, x.shape[-1]).std(0), kind="stable")[:CHANNELS]]
    channels = [0] if x.dtype.kind in "iub" else spread
    found = [dependency(x[..., i], min(steps, x.shape[1] // 2), answers) for i in channels]
    return max(found, key=lambda known: known.horizon())


def _horizon(curves: dict[str, list[float]]) -> float:
    curve = next(iter(curves.values()), [])
    return flow.horizon(range(len(curve)), curve)
