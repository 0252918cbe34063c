"""What an experiment is: a claim, a run that measures it, and a figure that shows it.

Each is a file of this folder with `CLAIM` (its number in the list of claims), `run(quick)` and `draw(figure, shown)`;
its docstring states the claim, the equation and the source.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Finding(NamedTuple):
    """One number that an experiment gives, beside what the theory says that it is."""

    name: str
    measured: float
    expected: float
    tolerance: float  # how far the one may lie from the other

    @property
    def holds(self) -> bool:
        return abs(self.measured - self.expected) <= self.tolerance  # a NaN does not


class Outcome(NamedTuple):
    findings: tuple[Finding, ...]
    shown: dict[str, Any]  # what the figure is drawn from

    @property
    def holds(self) -> bool:
        return all(finding.holds for finding in self.findings)


class Experiment(Protocol):
    """The module of an experiment."""

    __doc__: str | None
    CLAIM: str

    @staticmethod
    def run(quick: bool = False) -> Outcome:
        """Measure. With `quick` smaller and shorter, in a few seconds; the claim is the same."""
        ...

    @staticmethod
    def draw(figure: Figure, shown: dict[str, Any]) -> None: ...


def within(name: str, measured: float, low: float, high: float) -> Finding:
    """A number that the theory only bounds: it should lie between these two."""
    middle = (low + high) / 2
    return Finding(name, float(measured), middle, max(high - middle, middle - low))


def slope(x: Any, y: Any) -> float:
    """Of the straight line that lies nearest to the points (least squares)."""
    return float(np.polyfit(np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64), 1)[0])
