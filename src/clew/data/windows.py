"""Windows of series as training batches, in an order that is a pure function of seed and epoch.

B windows, W steps of one, K steps ahead, C columns, N columns to forecast (the first N of C)
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from clew.data.batch import Batch
from clew.errors import DataError

MOST_BATCHES = 200  # of an epoch: a long series is sampled, so that validations keep coming


class Windows:
    """Every window of W inputs (B, W, C), with the K values that follow each of its steps (B, W, K, N).

    Args:
        series: arrays (T_i, C), float32. One shorter than a window gives none.
        targets: N; None for all columns.
        warm_up: the first steps of a window, which have no loss.

    Raises:
        DataError: no series is long enough for one window.
    """

    def __init__(
        self,
        series: list[np.ndarray],
        window: int,
        ahead: int,
        batch: int,
        *,
        targets: int | None = None,
        warm_up: int = 0,
    ) -> None:
        self.length, self.ahead, self.batch = window + ahead, ahead, batch
        self.targets, self.warm_up = targets, min(warm_up, window - 1)
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

    def epoch(self, seed: int, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of an epoch from number `start` on."""
        order = np.random.Generator(np.random.PCG64([seed, epoch])).permutation(self.windows)
        for k in range(start, len(self)):
            yield self._batch(torch.stack([self._window(i) for i in order[k * self.batch : (k + 1) * self.batch]]))

    def _batch(self, windows_BLC: Tensor) -> Batch:
        x = windows_BLC[:, : -self.ahead]
        ahead_BWNK = windows_BLC[:, 1:, : self.targets].unfold(1, self.ahead, 1)
        mask = None
        if self.warm_up:
            mask = (torch.arange(x.shape[1]) >= self.warm_up).expand(x.shape[:2])
        return Batch(x, ahead_BWNK.transpose(2, 3), mask=mask)

    def _window(self, index: int) -> Tensor:
        which = int(np.searchsorted(self.ends, index, side="right"))
        first = int(index - (self.ends[which - 1] if which else 0))
        return self.series[which][first : first + self.length]
