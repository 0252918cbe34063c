"""Windows of series as training batches, in an order that is a pure function of seed and epoch."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from clew.errors import DataError

MOST_BATCHES = 200  # of an epoch: a long series is sampled, so that validations keep coming


class Windows:
    """Every window of `window` inputs and the `ahead` steps behind them, as batches (B, window + ahead, C).

    Args:
        series: arrays (T_i, C), float32. One shorter than a window gives none.

    Raises:
        DataError: no series is long enough for one window.
    """

    def __init__(self, series: list[np.ndarray], window: int, ahead: int, batch: int) -> None:
        self.length, self.batch = window + ahead, batch
        self.series = [torch.as_tensor(values) for values in series]
        starts = [max(0, len(values) - self.length + 1) for values in series]
        if not sum(starts):
            longest = max((len(values) for values in series), default=0)
            fits = longest - ahead
            smaller = f"use --set train.window={fits} or less" if fits > 0 else "use a shorter --horizon"
            raise DataError(
                f"a window needs {window} + {ahead} steps, the longest training part has {longest}",
                hint=f"{smaller}, or more data",
            )
        self.ends = np.cumsum(starts)
        self.windows = int(self.ends[-1])

    def __len__(self) -> int:
        return min(MOST_BATCHES, -(-self.windows // self.batch))

    def epoch(self, seed: int, epoch: int, start: int = 0) -> Iterator[Tensor]:
        """The batches of an epoch from number `start` on."""
        order = np.random.Generator(np.random.PCG64([seed, epoch])).permutation(self.windows)
        for k in range(start, len(self)):
            yield torch.stack([self._window(i) for i in order[k * self.batch : (k + 1) * self.batch]])

    def _window(self, index: int) -> Tensor:
        which = int(np.searchsorted(self.ends, index, side="right"))
        first = int(index - (self.ends[which - 1] if which else 0))
        return self.series[which][first : first + self.length]
