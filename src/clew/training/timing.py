"""How many updates a time is enough for, found by making some."""

from __future__ import annotations

import copy
import dataclasses
import time
from collections.abc import Callable

import torch
from torch import nn

from clew.training.feed import Batches
from clew.training.loop import Settings, fit

WARM, TRIED = 3, 40  # updates that are thrown away, and that are timed
SHARE = 0.03  # of the time that may be spent on timing, where fewer updates fill it
USED = 0.95  # of the time that is planned for: machines are not always as fast


def steps_within(
    seconds: float,
    model: nn.Module,
    batches: Batches,
    settings: Settings,
    validate: Callable[[], dict[str, float]] | None = None,
    least: int = 0,
    seed: int = 0,
) -> int:
    """Updates, with the validations between them, that take so many seconds here and now; at least one.

    The model stays as it is. Another machine, or the same one when it is busy, finds another number.

    Args:
        settings: as for `fit`; its `steps` say nothing.
        least: validations that there are at any rate.
    """

    def rate(steps: int) -> float:
        trial = dataclasses.replace(settings, steps=steps, validate_every=steps, patience=0)
        fitted = fit(copy.deepcopy(model), batches, trial, seed=seed, progress=False)
        if fitted.stopped == "interrupted":
            raise KeyboardInterrupt
        return fitted.steps_per_second

    fits = SHARE * seconds * rate(WARM)
    a_step, a_validation = 1.0 / rate(max(WARM, min(TRIED, int(fits)))), 0.0
    if validate is not None:
        started = time.perf_counter()
        model.eval()
        with torch.no_grad():  # what it draws at random moves nothing: training begins with a seed
            validate()
        a_validation = time.perf_counter() - started
    often = USED * seconds / (a_step + a_validation / settings.validate_every)
    seldom = (USED * seconds - least * a_validation) / a_step
    return max(1, int(min(often, seldom)))
