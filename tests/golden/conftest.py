"""Every test begins with the same seed, and runs with our compiled kernels and without them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext

import pytest
import torch

from clew import ops


@pytest.fixture(autouse=True, params=["kernels on", "kernels off"])
def _seeded(request: pytest.FixtureRequest) -> Iterator[None]:
    torch.manual_seed(0)
    with ops.only("torch") if request.param == "kernels off" else nullcontext():
        yield
