"""What a page shows beside the answers: the state, the gates, and how long a chosen input is felt."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from clew import tree
from clew.cells import Recurrence
from clew.diagnose.flow import layers_of, parts_of, watched
from clew.errors import ClewError, DataError
from clew.models import Single
from clew.models.detector import Detector
from clew.stream.server.hub import Hub

UNITS = 64  # of a layer's state that are shown
SHOWN, MARKED = 1 << 12, 1 << 16  # bytes of a line whose gates are shown, and that is marked: the loop waits for them
CHANGES = (lambda v: v + (abs(v) or 1.0), lambda v: v / 2 or 0.5, lambda v: v - 1, lambda v: v + 1)


class Watch:
    """Over one stream.

    A line {"watch": true} asks for the state behind each answer from here on; {"mark": VALUE} is read as VALUE, and
    beside it another stream reads a changed one, so that each later answer tells how far the two are apart still.
    """

    def __init__(self, hub: Hub, stream: int) -> None:
        self._hub, self._batcher, self._stream, self._on = hub, hub.batcher, stream, False
        self._twin: int | None = None
        self._apart = 0.0

    async def answer(self, line: Any, length: int) -> dict[str, Any]:
        """What to say to a line of so many bytes. Raises DataError where it is not what the model reads."""
        if not isinstance(line, dict) and not self._on and self._twin is None:  # nearly always
            answer = await self._hub.push(self._stream, line, length)
            return {"step": self._batcher.steps(self._stream), **answer}
        if line == {"reset": True}:
            self.close()
            self._batcher.reset(self._stream)
            return {"step": 0}
        if isinstance(line, dict) and set(line) == {"watch"}:
            self._on = bool(line["watch"])
            return {"step": self._batcher.steps(self._stream), **self._seen()}
        marked = isinstance(line, dict) and set(line) == {"mark"}
        value = line["mark"] if marked else line
        if marked:
            await self._mark(value, length)
        gates = self._gates(value) if self._on and length <= SHOWN else {}
        answer = await self._hub.push(self._stream, value, length)
        if self._twin is not None and not marked:
            await self._hub.push(self._twin, value, length)
        return {"step": self._batcher.steps(self._stream), **answer, **self._felt(marked), **self._seen(), **gates}

    def close(self) -> None:
        """Let the second stream leave."""
        if self._twin is not None:
            self._hub.leave(self._twin)
            self._twin = None

    async def _mark(self, value: Any, length: int) -> None:
        """A second stream that reads something else."""
        self.close()
        if length > MARKED:
            raise DataError(f"a mark is a line of at most {MARKED:,} bytes", hint="mark a shorter one")
        self._batcher.peek(self._stream, value)  # refuses what it does not read, as it was said
        self._twin = self._batcher.join(self._batcher.snapshot(self._stream))
        for change in CHANGES:
            try:
                await self._hub.push(self._twin, _changed(value, change), length)
                return
            except ClewError as error:  # the model does not read everything: a louder sound, a key beyond the last
                if change is CHANGES[-1] or not isinstance(error, DataError):
                    self.close()
                    raise

    def _felt(self, marked: bool) -> dict[str, Any]:
        if self._twin is None:
            return {}
        pairs = zip(
            tree.leaves(self._batcher.state(self._stream)), tree.leaves(self._batcher.state(self._twin)), strict=True
        )
        apart = sum(float((a.double() - b.double()).square().sum()) for a, b in pairs if a.is_floating_point()) ** 0.5
        if marked:
            self._apart = apart
        return {"felt": apart / self._apart if self._apart else 0.0}

    @torch.no_grad()
    def _gates(self, value: Any) -> dict[str, Any]:
        """What the gates of each layer say at the last step of a line, from 0 to 1."""
        model, state = self._batcher.trained.model, self._batcher.state(self._stream)
        x_TI = self._batcher.peek(self._stream, value)
        if not isinstance(model, Single) or not isinstance(model.body, Recurrence) or not len(x_TI):
            return {}
        state = state[0] if isinstance(model, Detector) else state
        with watched(model.body) as given:
            model.body(torch.from_numpy(x_TI)[None], state)
        found = {}
        for (name, layer), part in zip(layers_of(model.body), parts_of(model.body, state), strict=True):
            if isinstance(layer, Recurrence):
                for gate, share_BTN in layer.gate_values(given[name], part).items():
                    found[f"{name}: {gate}"] = [round(v, 3) for v in share_BTN[0, -1].flatten()[:UNITS].tolist()]
        return {"gates": found}

    @torch.no_grad()
    def _seen(self) -> dict[str, Any]:
        if not self._on:
            return {}
        leaves = tree.to_named(self._batcher.state(self._stream))
        shown = {
            name: [round(v, 3) for v in leaf.flatten()[:UNITS].tolist()]
            for name, leaf in leaves.items()
            if leaf.is_floating_point() and leaf.numel()
        }
        return {"state": shown}


def _changed(value: Any, change: Callable[[float], float]) -> Any:
    """The same line, but for what a person would call something else."""
    if isinstance(value, bool) or value is None:
        raise ClewError("a mark is a line that the model reads")
    if isinstance(value, int | float):
        return change(value)
    if isinstance(value, str):
        return "".join(chr(ord(c) + 1) if c.isalnum() else c for c in value) or "x"
    if isinstance(value, list):
        return [_changed(part, change) for part in value]
    if isinstance(value, dict):
        return {name: _changed(part, change) for name, part in value.items()}
    raise ClewError("a mark is a line that the model reads")
