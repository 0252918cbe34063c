"""One stream through a trained model: raw values in, forecasts in the same units out.

However the values are cut into pushes, the forecasts are those of the whole pass (the law of split).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from clew import tree
from clew.errors import DataError, did_you_mean
from clew.forecast.rollout import causal
from clew.tasks.forecast import Forecaster
from clew.tree import State

Values = float | Sequence[float] | Mapping[str, float]


class Session:
    """The state of one stream; constant memory, however long it runs.

    Example:
        >>> session = Session(clew.load("runs/co2"))
        >>> forecast = session.push(315.4)            # the next H values of the target, (H,)
    """

    def __init__(self, forecaster: Forecaster) -> None:
        causal(forecaster.model)
        self.forecaster = forecaster
        self.reset()

    def reset(self) -> None:
        """Forget all that was pushed."""
        self._state: State = self.forecaster.model.init_state(1)
        self.steps = 0

    @torch.no_grad()
    def push(self, values: Values, horizon: int | None = None) -> np.ndarray:
        """Read one step and forecast the next `horizon` values of the target, (H,).

        Args:
            values: a number, or one per column in the model's order, or by name.

        Raises:
            DataError: a column is missing, unknown, not a number or not finite; the stream is left as it was.
        """
        row_C = self._row(values)
        prediction, state = self.forecaster.model.step(self.forecaster.scaled(row_C[None]), self._state)
        self._state, self.steps = tree.detach(state), self.steps + 1
        return self.forecaster.ahead(prediction, self._state, horizon or self.forecaster.plan.horizon)[0]

    def _row(self, values: Any) -> np.ndarray:
        columns = self.forecaster.plan.columns
        if isinstance(values, Mapping):
            for name in columns:
                if name not in values:
                    raise DataError("missing", column=name, hint=did_you_mean(name, values) if values else None)
            values = [values[name] for name in columns]
        elif isinstance(values, int | float):
            values = [values]
        if not isinstance(values, Sequence) or isinstance(values, str) or len(values) != len(columns):
            raise DataError(
                f"expected {len(columns)} numbers a step ({', '.join(columns)}), got {values!r}",
                hint=f"one JSON line a step: {{{', '.join(f'{name!r}: 1.0' for name in columns)}}}".replace("'", '"'),
            )
        for name, value in zip(columns, values, strict=True):
            if isinstance(value, bool) or not isinstance(value, int | float) or not np.isfinite(value):
                raise DataError(f"{value!r} is not a finite number", column=name)
        return np.array(values, dtype=np.float64)
