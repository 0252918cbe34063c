"""A NaN is found where it begins, and never reaches weights that anybody keeps."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from toy import SETTINGS, Batch, Toy, train

from clew.errors import TrainingError
from clew.training import checkpoint
from clew.training.watch import weights_are_finite

AT = 14
LONG = dataclasses.replace(SETTINGS, patience=0)


def poison_data(step: int, batch: Batch) -> Batch:
    if step == AT:
        batch.y[2, 0] = math.inf
    return batch


class Poisoned(Toy):
    """Goes wrong on purpose at step AT."""

    def __init__(self, where: str) -> None:
        super().__init__()
        self.where, self.calls = where, 0
        self.scale = torch.nn.Parameter(torch.zeros(()))

    def loss(self, batch: Batch) -> torch.Tensor:
        value = super().loss(batch)
        self.calls += self.training
        if self.calls - 1 != AT or not self.training:
            return value
        if self.where == "loss":
            return value + (self.scale.detach() - 1).log()
        if self.where == "gradient":
            return value + (self.scale * 0).sqrt()  # the slope of a root at 0
        if self.where == "overflow":
            return value + self.scale * 1e25  # squares of it are beyond float32
        if self.where == "weights":
            with torch.no_grad():
                self.head.weight[0, 3] = math.nan
        return super().loss(batch)


CAUSES = {
    "data": r"at step 15: the data hold inf in 'y' at index \[2, 0\]",
    "loss": "at step 15: the loss is nan, though data and weights are finite",
    "gradient": r"at step 15: the loss is finite \(.*\), but the gradients hold nan in 'scale'",
    "overflow": "the norm of the gradients overflows; the largest is in 'scale'",
    "weights": r"at step 15: the weights hold nan in 'head.weight' at index \[0, 3\]",
}


@pytest.mark.parametrize("where", CAUSES)
@pytest.mark.parametrize("clip", [0.0, 0.5])
def test_the_cause_is_named_and_good_weights_kept(where: str, clip: float, tmp_path: Path) -> None:
    settings = dataclasses.replace(LONG, clip=clip)
    change: Any = poison_data if where == "data" else None
    model = Poisoned(where)
    with pytest.raises(TrainingError, match=CAUSES[where]) as caught:
        train(tmp_path, change, model=model, settings=settings)
    assert "step 12" in str(caught.value.hint)
    saved, skipped = checkpoint.newest(tmp_path / "checkpoints")
    assert saved is not None
    assert saved.step == 12
    assert not skipped
    assert all(bool(value.isfinite().all()) for value in saved.tensors.values())
    assert weights_are_finite(model)
    assert not model.training


def test_a_huge_step_is_not_saved(tmp_path: Path) -> None:
    """Finite gradients, but a learning rate that throws the weights beyond float32."""
    settings = dataclasses.replace(LONG, lr=3e38, warmup=0.0, validate_every=1, checkpoint_every=1)
    model = Toy()
    with pytest.raises(TrainingError):
        train(tmp_path, model=model, settings=settings)
    saved, _ = checkpoint.newest(tmp_path / "checkpoints")
    assert saved is None or all(bool(value.isfinite().all()) for value in saved.tensors.values())


def test_a_nan_in_the_validation_is_never_the_best() -> None:
    values = iter([math.nan, 2.0, math.nan, 1.0])
    settings = dataclasses.replace(LONG, steps=16)
    _, fitted = train(None, validate=lambda: {"loss": next(values)}, settings=settings)
    assert fitted.best == {"loss": 1.0}
    assert fitted.best_step == 16


def test_a_nan_in_padding_is_nobodys_business() -> None:
    def pad(step: int, batch: Batch) -> Any:
        return (batch, {"padding": torch.full((2,), math.nan)})

    class Careful(Toy):
        def loss(self, batch: Any) -> torch.Tensor:
            return super().loss(batch if isinstance(batch, Batch) else batch[0])

    assert train(None, pad, model=Careful())[1].stopped == "done"
