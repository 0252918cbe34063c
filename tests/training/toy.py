"""A model of a hundred weights, its data and its settings; also what the tests run in processes of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from clew.training import Fitted, Settings, fit

PER_EPOCH = 7
SETTINGS = Settings(steps=40, lr=1e-2, clip=0.5, weight_decay=0.1, patience=4, validate_every=4, checkpoint_every=3)


class Batch(NamedTuple):
    x: Tensor
    y: Tensor


class Toy(nn.Module):
    """Dropout draws from torch's generator, batch norm has buffers: both must come back on resuming."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.body = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Dropout(0.3))
        self.head = nn.Linear(8, 1)

    def loss(self, batch: Batch) -> Tensor:
        return (self.head(self.body(batch.x)) - batch.y).square().mean()


class ToyBatches:
    """`change(step, batch)` may return another batch, or raise."""

    def __init__(self, change: Callable[[int, Batch], Any] | None = None) -> None:
        self.change = change

    def __len__(self) -> int:
        return PER_EPOCH

    def epoch(self, seed: int, epoch: int, start: int = 0) -> Iterator[Any]:
        for number in range(start, PER_EPOCH):
            generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch * 1009 + number)
            x = torch.randn(6, 3, generator=generator)
            batch = Batch(x, x.sum(1, keepdim=True).sin())
            yield self.change(epoch * PER_EPOCH + number, batch) if self.change else batch


def validation(model: Toy) -> Callable[[], dict[str, float]]:
    x = torch.linspace(-1, 1, 30).view(10, 3)
    batch = Batch(x, x.sum(1, keepdim=True).sin())

    def validate() -> dict[str, float]:
        torch.rand(3)  # a validation may draw
        return {"loss": float(model.loss(batch)), "worse": -float(model.loss(batch))}

    return validate


def train(
    folder: Path | None,
    change: Callable[[int, Batch], Any] | None = None,
    *,
    model: Toy | None = None,
    settings: Settings = SETTINGS,
    **options: Any,
) -> tuple[Toy, Fitted]:
    model = Toy() if model is None else model
    options = {"validate": validation(model), "progress": False, "seed": 3, **options}
    return model, fit(model, ToyBatches(change), settings, folder=folder, **options)
