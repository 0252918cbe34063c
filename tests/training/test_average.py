"""The mean of the weights: what it is, that it is what is validated and kept, and that training does not feel it."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor
from toy import SETTINGS, Toy, train, validation

KEEP = 0.8
PLAIN = dataclasses.replace(SETTINGS, patience=0, validate_every=SETTINGS.steps)
MEAN = dataclasses.replace(PLAIN, average=KEEP)


def passed(settings: Any) -> tuple[list[list[Tensor]], Toy]:
    """The weights before each update, and the model in the end."""
    model, seen = Toy(), []

    def change(step: int, batch: Any) -> Any:
        seen.append(weights(model))
        return batch

    train(None, change, model=model, settings=settings)
    return seen, model


def weights(model: Toy) -> list[Tensor]:
    return [p.detach().clone() for p in model.parameters()]


@pytest.mark.parametrize("validates", [True, False])
def test_it_is_the_running_mean_of_what_training_passes_through(validates: bool) -> None:
    seen, last = passed(PLAIN)
    after = [*seen[1:], weights(last)]
    mean = after[0]
    for step, now in enumerate(after[1:], 1):
        keep = min(KEEP, (1 + step) / (10 + step))
        mean = [keep * old + (1 - keep) * new for old, new in zip(mean, now, strict=True)]
    options = {} if validates else {"validate": None}
    averaged, _ = train(None, settings=MEAN, **options)
    torch.testing.assert_close(weights(averaged), mean, rtol=1e-4, atol=1e-6)


def test_training_does_not_feel_it() -> None:
    settings = dataclasses.replace(MEAN, validate_every=4)
    for ours, plain in zip(passed(settings)[0], passed(PLAIN)[0], strict=True):
        assert all(a.equal(b) for a, b in zip(ours, plain, strict=True))


def test_it_is_what_is_validated() -> None:
    model, fitted = train(None, settings=MEAN)
    with torch.no_grad(), torch.random.fork_rng():
        assert validation(model)()["loss"] == pytest.approx(fitted.best["loss"], rel=1e-6)
