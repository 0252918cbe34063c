"""What is found of a model, as pictures that are read in black and white, too."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from clew.diagnose.examine import Examined
from clew.diagnose.flow import FELT, SHARE
from clew.diagnose.looking import Looked

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

STYLES = ("-", "--", ":", "-.")  # lines are told apart without colour, too
MARKS = ("o", "s", "^", "D", "v", "P")


def plot(axes: Axes, curves: dict[str, tuple[Any, Any]], x: str, y: str, *, log: str = "", marks: bool = False) -> None:
    """Draw lines by name, each (x, y), told apart by style as well as by colour.

    Args:
        x, y: what the axes say.
        log: the axes that are logarithmic: "", "x", "y" or "xy".
        marks: whether the points are marked.
    """
    for i, (name, (at, value)) in enumerate(curves.items()):
        mark = MARKS[i % len(MARKS)] if marks else None
        axes.plot(at, value, ls=STYLES[i % len(STYLES)], marker=mark, ms=4, lw=1.6, label=name)
    if "x" in log:
        axes.set_xscale("log")
    if "y" in log:
        axes.set_yscale("log")
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.spines[["top", "right"]].set_visible(False)
    if len(curves) > 1:
        axes.legend(frameon=False, fontsize=9)


def gradients(figure: Figure, found: Examined) -> None:
    """How gradients flow back: of what layers read, before and after training, and of their states."""
    left, right = figure.subplots(1, 2)
    curves = {name: _beside_first(curve) for name, curve in found.gradients.items()}
    curves |= {f"{name}, before training": _beside_first(curve) for name, curve in found.at_start.items()}
    plot(left, curves, "lag, steps", "of what is read, beside lag 0", log="y")
    states = {name: (found.state_lags, curve) for name, curve in found.states.items()}
    plot(right, states, "lag, steps", "of states", log="y", marks=True)
    for axes in (left, right):
        axes.set_ylim(bottom=max(1e-12, axes.get_ylim()[0]))


def memory(figure: Figure, found: Examined) -> None:
    """How long a changed input is felt, and how far back the data reach."""
    curves = {}
    if (most := max(found.felt, default=0.0)) > 0:
        curves["felt by the model"] = (found.lags, [value / most for value in found.felt])
    if (data := found.dependency) is not None and data.nats and max(data.nats) > 0:
        first = max(data.nats)
        shown = [(d, nats / first) for d, nats in enumerate(data.nats, 1) if nats > 0]
        curves["information in the data"] = ([d for d, _ in shown], [value for _, value in shown])
    axes = figure.subplots()
    plot(axes, curves, "lag, steps", "beside the largest", log="y")
    axes.set_ylim(bottom=1e-4)
    for share in (SHARE, FELT):
        axes.axhline(share, color="#999999", lw=0.6)


def layers(figure: Figure, found: Examined, dt: float = 0.0) -> None:
    """Time constants of units, and the size of the states."""
    left, right = figure.subplots(1, 2)
    unit, scale = ("seconds", dt) if dt else ("steps", 1.0)
    constants = {layer.name: [scale * c for c in layer.constants if math.isfinite(c)] for layer in found.layers}
    curves = {
        name: (values, [(i + 1) / len(values) for i in range(len(values))])
        for name, values in constants.items()
        if values
    }
    plot(left, curves, f"time constant, {unit}", "share of units that forget faster", log="x" if curves else "")
    norms = {layer.name: (range(1, len(layer.norms) + 1), layer.norms) for layer in found.layers}
    plot(right, norms, "step", "size of the state")


def alignment(figure: Figure, found: Looked) -> None:
    """Where one text looked at its source."""
    axes = figure.subplots()
    axes.imshow(found.weights, cmap="Greys", vmin=0, vmax=1, aspect="auto", interpolation="nearest")
    axes.set_xlabel("place of the source")
    axes.set_ylabel("unit written")


def places(figure: Figure, found: Looked) -> None:
    """The gradient at each place of the source."""
    curves = {"gradient": (range(len(found.places)), found.places)}
    plot(figure.subplots(), curves, "places before the end of the source", "gradient of the loss", log="y")


def training(figure: Figure, log: list[dict[str, Any]]) -> None:
    """The losses along the way, and, where it was watched, how far gradients reached."""
    watched = [line for line in log if line.get("flow")]
    grid = figure.subplots(1, 3 if watched else 2)
    steps = [line["step"] for line in log]
    plot(grid[0], {"training": (steps, [line["loss"] for line in log])}, "step", "training loss")
    valid = [(line["step"], line["valid"]["loss"]) for line in log if line.get("valid", {}).get("loss") is not None]
    at, losses = zip(*valid, strict=True) if valid else ((), ())
    plot(grid[1], {"validation": (at, losses)}, "step", "what validation lowers")
    if watched:
        at = [line["step"] for line in watched]
        reached = {name: [line["flow"].get(name) for line in watched] for name in watched[-1]["flow"]}
        curves = {name: (at, [math.nan if lag is None else lag for lag in lags]) for name, lags in reached.items()}
        plot(grid[2], curves, "step", "steps that gradients reach")


def _beside_first(curve: list[float]) -> tuple[range, list[float]]:
    return range(len(curve)), [value / curve[0] if curve[0] > 0 else 0.0 for value in curve]
