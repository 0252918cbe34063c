"""The states of many streams where the model is, on a GPU: a step of some of them is one CUDA graph, replayed.

The same to use as `Slots`. A graph takes states from their slots, moves them on, and puts them back; as it is of a
fixed size, what is left of that goes to a slot of nobody's.

N streams that move, I inputs
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from clew import tree
from clew.stream.recorder import Steps, blank, evaluating

SIZES = (1, 16, 256, 4096)  # of graphs; a larger one that is partly filled costs hardly more than a smaller one
WARM = 3  # steps before one is captured, in which libraries make themselves ready


class DeviceSlots:
    """Args:
    first: the leaves of a state of one row.
    count: how many streams there may be.
    device: where the model is.
    """

    def __init__(self, first: Sequence[np.ndarray], count: int, device: torch.device) -> None:
        self._nobody, self._device = count, device
        self.leaves = [torch.from_numpy(leaf).to(device).new_zeros(count + 1, *leaf.shape[1:]) for leaf in first]
        self._graphs: dict[tuple[int, int], _Graph] = {}

    def write(self, slot: int, leaves: Sequence[np.ndarray]) -> None:
        for leaf, row in zip(self.leaves, leaves, strict=True):
            leaf[slot] = torch.from_numpy(row.copy())[0].to(self._device)

    def read(self, slot: int) -> list[np.ndarray]:
        """A copy of the leaves of one stream."""
        return [leaf[slot][None].cpu().numpy().copy() for leaf in self.leaves]

    def move(self, model: Steps, places: Sequence[int] | np.ndarray, rows_NI: np.ndarray) -> np.ndarray:
        """What a model answers (N, ...) to one step of the streams at these places, which are all different."""
        places, answers = np.asarray(places, dtype=np.int64), []
        for at in range(0, len(places), SIZES[-1]):
            these = places[at : at + SIZES[-1]]
            graph = self._of(model, next(size for size in SIZES if size >= len(these)))
            graph.places.fill_(self._nobody)
            graph.places[: len(these)] = torch.from_numpy(these)
            graph.x[: len(these)] = torch.from_numpy(rows_NI[at : at + len(these)])
            graph.run()
            answers.append(graph.y[: len(these)].cpu().numpy().copy())
        return np.concatenate(answers)

    def _of(self, model: Steps, size: int) -> _Graph:
        key = id(model), size
        if key not in self._graphs:
            self._graphs[key] = _Graph(model, self.leaves, size, self._nobody)
        return self._graphs[key]


class _Graph:
    """A step of so many streams. The model must not be exchanged, as the graph has its weights' places."""

    def __init__(self, model: Steps, leaves: list[Tensor], size: int, nobody: int) -> None:
        self._model, self._leaves = model, leaves
        weight, x = next(model.parameters()), blank(model, size)
        self.x = x.to(weight.device, weight.dtype if x.is_floating_point() else x.dtype)
        self.places = torch.full((size,), nobody, device=weight.device)
        self._like = model.init_state(1)
        self.y = self._moved()
        self._replay = None
        if weight.is_cuda:
            with torch.cuda.device(weight.device):
                self._replay = _captured(self._again)

    def run(self) -> None:
        """The streams at `places` move on from `x`, which leaves `y`."""
        (self._replay or self._again)()

    def _again(self) -> None:
        self.y.copy_(self._moved())

    @torch.no_grad()
    def _moved(self) -> Tensor:
        with evaluating(self._model):
            kinds = [leaf.dtype for leaf in tree.leaves(self._like)]
            rows = (leaf.index_select(0, self.places) for leaf in self._leaves)
            states = iter([row.to(kind) for row, kind in zip(rows, kinds, strict=True)])
            y, after = self._model.step(self.x, tree.rebuild(self._like, states))
        for leaf, moved in zip(self._leaves, tree.leaves(after), strict=True):
            leaf.index_copy_(0, self.places, moved.to(leaf.dtype))
        return y


def _captured(run: Callable[[], None]) -> Callable[[], None] | None:
    """The same kernels in one launch on the current device, or None where a step asks the CPU for something, which no
    graph can. Before it is captured only the slot of nobody's is moved."""
    before, stream, graph = torch.cuda.current_stream(), torch.cuda.Stream(), torch.cuda.CUDAGraph()
    stream.wait_stream(before)
    with torch.cuda.stream(stream):
        for _ in range(WARM):
            run()
    before.wait_stream(stream)
    try:
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):  # other threads may work meanwhile
            run()
    except RuntimeError:
        torch.cuda.set_stream(before)  # which a capture that fails does not
        torch.cuda.synchronize()
        return None
    return graph.replay
