"""A run as a page: what its training was, how far it remembers, what its layers do, where it errs, and what to try."""

from __future__ import annotations

import json
import math
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from clew import ops, tree
from clew.cells import Encoder, Recurrence
from clew.config import Recipe, dump
from clew.diagnose import draw, gates
from clew.diagnose.examine import Examined, examine
from clew.diagnose.flow import layers_of
from clew.diagnose.probe import STEPS
from clew.diagnose.remarks import Remark, remarks
from clew.report.page import Section, page, picture
from clew.tasks.base import Cells, Shown, Trained
from clew.tasks.run import RunFolder
from clew.tasks.train import load, read_for, sources_of, untrained
from clew.training.files import plain

RECORDS, WORST, LETTERS = 100, 8, 160  # records looked into; errors shown; letters of a text
SHOWN = 101  # time constants of a layer, in JSON


class Report(NamedTuple):
    """What was found of a run."""

    recipe: Recipe
    metrics: dict[str, Any]
    log: list[dict[str, Any]]
    trained: Trained
    shown: list[Shown]
    found: Examined | None
    remarks: list[Remark]
    dt: float
    source: str  # what was looked into

    def to_json(self) -> dict[str, Any]:
        """The numbers; what is infinite, or unknown, is null."""
        found = self.found
        said: dict[str, Any] = {"task": self.recipe.task, "cell": self.recipe.model.cell}
        said["remarks"] = [{"text": r.text, "try": list(r.changes)} for r in self.remarks]
        if found is None:
            return said
        if found.gradients:
            data = found.dependency.horizon() if found.dependency else math.nan
            said |= {"steps": found.steps, "gradient_horizon": found.reach, "data_horizon": data}
            memory = found.memory if found.felt else math.nan
            said |= {"gradient_horizon_at_start": found.reach_at_start, "memory_horizon": memory}
            said["states"] = {"lags": found.state_lags, "gradients": found.states}
            said["gradients"], said["felt"] = found.gradients, dict(zip(map(str, found.lags), found.felt, strict=True))
        if found.window is not None:
            said["window"] = {"steps": found.window.steps, "why": found.window.why}
        said["layers"] = [_layer(layer, self.dt) for layer in found.layers]
        if found.looked is not None:
            held = found.looked.capacity
            said["attention_entropy"] = found.looked.blur
            said["capacity"] = held and {"bits": held.held, "needed": held.needed}
        return plain(said)

    def html(self) -> str:
        """One file, with its pictures inside."""
        m, recipe = self.metrics, self.recipe
        text = f"{recipe.task} with {recipe.model.cell}, {m.get('parameters', 0):,} parameters, seed {recipe.seed}"
        sections = [self._said(), self._scores(), *self._memory(), *self._layers(), *self._looked(), self._errors()]
        return page(f"A run of clew: {recipe.task}", text, [*sections, self._model(), *self._facts()])

    def _said(self) -> Section:
        said = [(r.text, " ".join(f"--set {change}" for change in r.changes)) for r in self.remarks]
        return Section("What was found", "The most urgent first." if said else "Nothing to remark.", items=said)

    def _scores(self) -> Section:
        scores = {"model": self.metrics.get("metrics", {}), **self.metrics.get("baseline", {})}
        names = list(next(iter(scores.values())))[:8]
        rows = [(who, *(_number(found.get(name)) for name in names)) for who, found in scores.items()]
        svg = picture(lambda figure: draw.training(figure, self.log)) if self.log else ""
        text = f"On {self.metrics.get('n', 'the')} held-out records, beside what needs no model."
        return Section("How well it does", text, ("", *names), rows, svg)

    def _memory(self) -> list[Section]:
        found = self.found
        if found is None or not found.gradients:
            return []
        data = found.dependency.horizon() if found.dependency else math.nan
        rows = [
            ("gradients reach, before training", self._far(found.reach_at_start)),
            ("gradients reach, after it", self._far(found.reach)),
            ("the data carry information to", self._far(data)),
        ]
        if found.felt:
            rows.insert(2, ("a changed input is felt for", self._far(found.memory)))
        if found.window is not None:
            rows.append(("a window to train with", f"{found.window.steps} steps: {found.window.why}"))
        text = (
            "Each is the last lag with a hundredth of the most that there is, or, of a changed input, with a tenth;"
            f" looked for up to {found.steps} steps."
        )
        sections = [Section("How far it remembers", text, ("", ""), rows, picture(lambda f: draw.memory(f, found)))]
        text = "The loss at the last step, by what each layer read so many steps before."
        return [*sections, Section("How gradients flow", text, svg=picture(lambda f: draw.gradients(f, found)))]

    def _layers(self) -> list[Section]:
        found = self.found
        if found is None or not found.layers:
            return []
        rows = []
        for layer in found.layers:
            middle = layer.constants[len(layer.constants) // 2] if layer.constants else math.nan
            gates = "; ".join(f"{g.name} {g.mean:.2f} (stuck {g.low + g.high:.0%})" for g in layer.gates)
            top = layer.spectrum.exponents[0] if layer.spectrum.exponents else math.nan
            constant = "" if math.isnan(middle) else self._far(middle)
            dead, drift = f"{layer.dead} of {layer.units}", f"{layer.drift:+.1%}"
            rows.append((layer.name, constant, gates, dead, drift, _number(top), _number(layer.spectrum.radius)))
        head = ("layer", "median time constant", "gates", "dead", "drift in 100 steps", "Lyapunov", "spectral radius")
        text = (
            "A gate is stuck where it is under 0.05 or over 0.95. A Lyapunov exponent under 0 forgets, over 0 is chaos."
        )
        return [Section("What the layers do", text, head, rows, picture(lambda f: draw.layers(f, found, self.dt)))]

    def _looked(self) -> list[Section]:
        seen = self.found.looked if self.found else None
        if seen is None:
            return []
        sections = []
        if seen.weights:
            text = f"Entropy beside that of looking everywhere alike: {seen.blur or 0:.2f}."
            sections.append(Section("Where it looks", text, svg=picture(lambda f: draw.alignment(f, seen))))
        if seen.places:
            svg = picture(lambda f: draw.places(f, seen))
            sections.append(Section("What of the source moves the loss", svg=svg))
        return sections

    def _errors(self) -> Section:
        worst = sorted(self.shown, key=lambda one: -_known(one.wrong))[:WORST]
        usual = self.shown[: max(0, WORST // 2)]
        rows = [("worst", *_said(one)) for one in worst] + [("as they come", *_said(one)) for one in usual]
        text = f"Of {len(self.shown)} records that were looked into, from {self.source}."
        return Section("What it says, beside the truth", text, ("", "where", "true", "said", "wrong by"), rows)

    def _model(self) -> Section:
        rows = _table(self.trained.model)
        head = ("layer", "parameters", "bytes of state", "operations a step")
        return Section("The model", "Operations are those of matrix products.", head, rows)

    def _facts(self) -> list[Section]:
        data = self.metrics.get("data", {})
        rows = [("source", self.recipe.data.train), ("rows", data.get("rows", "")), ("sha256", data.get("sha256", ""))]
        rows += [(name, json.dumps(self.metrics[name])) for name in ("parts", "seconds") if name in self.metrics]
        rows += [("seed", str(self.recipe.seed)), ("python", platform.python_version()), ("torch", torch.__version__)]
        return [
            Section("The data, and what it ran on", head=("", ""), rows=rows),
            Section("The recipe", code=dump(self.recipe)),
        ]

    def _far(self, lag: float) -> str:
        if math.isnan(lag):
            return ""
        if math.isinf(lag):
            return f"more than {self.found.steps if self.found else 0} steps"
        return f"{lag:.3g} steps" + (f", {lag * self.dt:.3g} s" if self.dt else "")


def report(
    run: str | Path,
    sources: Sequence[str | Path] = (),
    *,
    steps: int = STEPS,
    dt: float = 0.0,
    cells: Cells | None = None,
) -> Report:
    """Look into a run.

    Args:
        run: its folder.
        sources: with the answers; those that it was trained on when there are none.
        steps: how far back to look at most.
        dt: seconds between two steps, for what is said in seconds; 0 = unknown.

    Raises:
        RunError: the folder is no finished run.
        DataError: a source that cannot be read.
    """
    folder, trained = RunFolder(run), load(run, cells)
    recipe = folder.recipe()
    names = list(sources) or sources_of(recipe.data.train)
    shown = trained.shown([read_for(run, name) for name in names], RECORDS)
    examples = [one.example for one in shown]
    found = examine(trained.model, examples, _before(trained.model, run, cells), steps) if examples else None
    metrics = folder.metrics() if (folder.path / "metrics.json").exists() else {}
    log = _log(folder.path / "log.jsonl")
    said = ", ".join(map(str, names)) + ("" if sources else ", most of which the run was trained on")
    return Report(recipe, metrics, log, trained, shown, found, remarks(found, recipe, log, metrics), dt, said)


def _before(model: nn.Module, run: str | Path, cells: Cells | None) -> nn.Module:
    """The model as its seed draws it; what is measured and not learned is as it is now."""
    fresh: nn.Module = untrained(run, cells).model
    fresh.load_state_dict(dict(model.named_buffers()), strict=False)
    return fresh


def _log(file: Path) -> list[dict[str, Any]]:
    if not file.exists():
        return []
    lines = []
    for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            lines.append(json.loads(line))
        except ValueError:  # cut short
            break
    return [line for line in lines if isinstance(line, dict) and "step" in line and "loss" in line]


def _table(model: nn.Module) -> list[tuple[object, ...]]:
    """Parameters, bytes of state and operations a step, by layer."""
    rows: list[tuple[object, ...]] = []
    for name, part in model.named_children():
        layers = layers_of(part) if isinstance(part, Recurrence | Encoder) else [("", part)]
        for layer, module in layers:
            parameters = sum(p.numel() for p in module.parameters())
            rows.append((f"{name} {layer}".strip(), parameters, *_cost(module)))
    rows.append(("together", sum(p.numel() for p in model.parameters()), "", ""))
    return rows


@torch.no_grad()
def _cost(module: nn.Module) -> tuple[object, object]:
    """Bytes of state, and operations of a step on numbers, of what is a recurrence."""
    if not isinstance(module, Recurrence):
        return "", ""
    try:
        state = module.init_state(1)
        held = tree.size(state)
        with FlopCounterMode(display=False) as counted, ops.reference():
            module.step(torch.zeros(1, module.input_size), state)
        return held, counted.get_total_flops()
    except (RuntimeError, ValueError):  # what reads units, or a context
        return "", ""


def _layer(layer: gates.Layer, dt: float) -> dict[str, Any]:
    said = {"name": layer.name, "gates": {g.name: g._asdict() for g in layer.gates}}
    constants = layer.constants
    if len(constants) > SHOWN:  # evenly, from the shortest to the longest
        constants = [constants[i * (len(constants) - 1) // (SHOWN - 1)] for i in range(SHOWN)]
    said["time_constants"] = constants
    if dt:
        said["seconds"] = [c * dt for c in constants]
    exponents, radius = layer.spectrum.exponents, layer.spectrum.radius
    rest = {"dead": layer.dead, "units": layer.units, "drift": layer.drift}
    return {**said, **rest, "lyapunov": exponents, "radius": radius}


def _known(value: float) -> float:
    return -math.inf if math.isnan(value) else value


def _number(value: object) -> object:
    return "" if value is None or (isinstance(value, float) and math.isnan(value)) else value


def _said(one: Shown) -> tuple[object, ...]:
    return one.place, _short(one.truth), _short(one.said), _number(one.wrong)


def _short(text: str) -> str:
    return text if len(text) <= LETTERS else text[:LETTERS] + "..."
