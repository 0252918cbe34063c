"""What was found of a model, in plain words, the most urgent first, with what to try."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from clew.config import Recipe
from clew.diagnose.examine import Examined
from clew.metrics import HIGHER_IS_BETTER

PLAIN, GATED = ("elman", "indrnn"), ("lstm", "gru", "slstm", "mlstm")
STUCK, DEAD, DRIFT, BLURRED = 0.9, 0.1, 0.1, 0.9  # shares from which it is worth a word


class Remark(NamedTuple):
    weight: float  # how urgent it is; 0 for what is only told
    text: str
    changes: tuple[str, ...] = ()  # keys of the recipe to try, as --set takes them


def remarks(
    found: Examined | None, recipe: Recipe, log: Sequence[dict[str, Any]], metrics: dict[str, Any]
) -> list[Remark]:
    """Ranked.

    Args:
        log: the run's validations.
        metrics: what the run's `metrics.json` holds.
    """
    said = [*_learning(recipe, log), *_worth(metrics)]
    if found is not None:
        said += [*_reach(found, recipe), *_memory(found), *_layers(found), *_looking(found, recipe)]
    return sorted(said, key=lambda remark: -remark.weight)


def _reach(found: Examined, recipe: Recipe) -> list[Remark]:
    """Gradients, beside how far the data reach."""
    said = []
    if not found.gradients or found.dependency is None:
        return said
    data, start, end = found.dependency.horizon(), found.reach_at_start, found.reach
    near = 0.5 * min(data, found.steps) if math.isfinite(data) else 0.0  # what never ends needs not be carried on
    if found.at_start and start < near:
        text = f"gradients vanish after {start:.0f} steps before training; the data carry information to {data:.0f}"
        said.append(Remark(3 + min(data, found.steps) / max(1.0, start) / 100, text + " steps", _carrying(recipe)))
    elif end < near:
        text = (
            f"gradients reach {end:.0f} steps; the data carry information to {data:.0f}, which nearer ones may tell too"
        )
        said.append(Remark(0.5, text))
    curve = next(iter(found.gradients.values()))
    if curve[0] > 0 and not max(curve) <= 100 * curve[0]:
        text = f"gradients grow {max(curve) / curve[0]:.3g}-fold on the way back"
        said.append(Remark(2.5, text, ("train.clip=0.5", f"train.lr={recipe.train.lr / 2:g}")))
    window = recipe.train.window
    if found.window is not None and isinstance(window, int) and 0 < window < min(2 * near, found.window.steps):
        text = f"windows of {window} steps cut gradients off; {found.window.why}"
        said.append(Remark(2.8, text, (f"train.window={found.window.steps}",)))
    return said


def _carrying(recipe: Recipe) -> tuple[str, ...]:
    """What carries gradients farther than this cell does."""
    own = recipe.model.cell_options or {}
    anew = ("model.cell_options={}",) if own else ()  # those of a cell say nothing to another
    if recipe.model.cell in PLAIN:
        return (*anew, "model.cell=lstm")
    if recipe.model.cell in ("lstm", "gru") and "forget_bias" not in own:
        return ("model.cell_options.forget_bias=3",)
    return (*anew, "model.cell=mamba") if recipe.model.cell in GATED else ()


def _memory(found: Examined) -> list[Remark]:
    if not found.felt:
        return []
    if math.isinf(found.memory):
        return [Remark(0.1, f"a changed input is felt for more than {found.steps} steps")]
    return [Remark(0.1, f"a changed input is felt for {found.memory:.0f} steps, then by less than a tenth")]


def _layers(found: Examined) -> list[Remark]:
    said = []
    for layer in found.layers:
        for gate in layer.gates:
            shut, open_ = gate.low > STUCK, gate.high > STUCK
            if (shut or open_) and not (gate.name == "keep" and open_):  # to keep nearly all is what memory is
                how = "shut" if shut else "open"
                text = f"layer {layer.name}: gate '{gate.name}' is {how} {max(gate.low, gate.high):.0%} of the time"
                said.append(Remark(1.2, text))
        if layer.dead > DEAD * layer.units:
            text = f"layer {layer.name}: {layer.dead} of {layer.units} units do not move"
            said.append(Remark(1.5, text))
        if layer.spectrum.exponents and layer.spectrum.exponents[0] > 0.01:
            steps = 1 / layer.spectrum.exponents[0]
            text = f"layer {layer.name} is chaotic: a small difference grows e-fold in {steps:.0f} steps"
            said.append(Remark(1.4, text))
        if layer.drift > DRIFT:
            text = f"layer {layer.name}: the state grows by {layer.drift:.0%} in 100 steps, so a long stream leaves"
            said.append(Remark(1.3, f"{text} what was trained on"))
    return said


def _looking(found: Examined, recipe: Recipe) -> list[Remark]:
    seen, said = found.looked, []
    if seen is None:
        return said
    if seen.blur is not None:
        text = f"attention's entropy is {seen.blur:.0%} of that of looking everywhere alike"
        said.append(Remark(1.6 if seen.blur > BLURRED else 0.1, text))
    if (held := seen.capacity) is not None:
        text = f"the context holds {held.held} bits ({held.numbers} numbers of {held.bits}), and {held.needed:.0f}"
        short = held.held < held.needed
        changes = ("model.attention=additive",) if short else ()
        said.append(Remark(2.0 if short else 0.1, f"{text} of the target are read from it", changes))
    return said


def _learning(recipe: Recipe, log: Sequence[dict[str, Any]]) -> list[Remark]:
    """What the validations along the way say."""
    losses = [line["valid"].get("loss") for line in log if line.get("valid")]
    losses = [loss for loss in losses if loss is not None]
    if len(losses) < 4:
        return []
    best, last = min(losses), losses[-1]
    at = losses.index(best)
    if at < len(losses) // 2 and last > best + 0.05 * abs(best):
        text = f"the best validation is number {at + 1} of {len(losses)} ({best:.4g}), the last has {last:.4g}"
        dropout = min(0.6, recipe.model.dropout + 0.2)
        return [Remark(1.1, f"{text}: it learns by heart", (f"model.dropout={dropout:g}",))]
    before = min(losses[: -max(1, len(losses) // 5)])
    if at >= len(losses) - 2 and before > best + 0.01 * abs(best):
        longer = 2 * (recipe.train.steps or recipe.train.epochs)
        key = "steps" if recipe.train.steps else "epochs"
        return [Remark(1.0, "the validation was still getting better at the end", (f"train.{key}={longer}",))]
    return []


def _worth(metrics: dict[str, Any]) -> list[Remark]:
    """Beside what needs no model."""
    ours = metrics.get("metrics", {})
    for name, naive in metrics.get("baseline", {}).items():
        told = [key for key in ours if None not in (ours[key], naive.get(key)) and ours[key] != naive[key]]
        if not told:
            continue
        key = told[0]
        if (ours[key] < naive[key]) == (key.rpartition(".")[2] in HIGHER_IS_BETTER):
            text = f"{key} {ours[key]:.4g} does not beat {name.replace('_', ' ')}, which has {naive[key]:.4g}"
            return [Remark(5.0, text)]
    return []
