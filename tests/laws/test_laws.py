"""Every law, over every configuration, in float64 (with NaN in uninitialised memory) and float32."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import pytest
import torch
from configurations import CONFIGURATIONS, ENCODERS, OPTIONS, RECURRENT, SINGLE, build

import clew
from clew import cells, ops, tree
from clew.diagnose.laws import ENCODER_LAWS, LAWS, TOLERANCE, Measured

DTYPES = {"float64": torch.float64, "float32": torch.float32}
RULES = {name: (*LAWS, "export") if name in RECURRENT else ENCODER_LAWS for name in CONFIGURATIONS}


@contextmanager
def poisoned_memory() -> Iterator[None]:
    """What `torch.empty` gives is NaN in here, so a buffer read before it is written shows."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = True
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


@cache
def measured(name: str, dtype: torch.dtype) -> dict[str, Measured]:
    """`clew.check` of one configuration."""
    cell = build(name)
    exported = copy.deepcopy(cell).to(dtype).eval().step if name in RECURRENT else None
    if dtype == torch.float64:
        with poisoned_memory():
            laws = clew.check(cell, dtype, exported=exported)
    else:
        laws = clew.check(cell, dtype, exported=exported)
    return {law.law: law for law in laws}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("name", "law"), [(name, law) for name, laws in RULES.items() for law in laws])
def test_law(name: str, law: str, dtype: str) -> None:
    found = measured(name, DTYPES[dtype])[law]
    assert found.holds, str(found)
    assert found.tolerance == TOLERANCE[DTYPES[dtype]]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", [*SINGLE, "bidirectional"])
def test_laws_without_our_kernels(name: str, dtype: str) -> None:
    with ops.only("torch"):
        broken = [str(law) for law in clew.check(build(name), DTYPES[dtype]) if not law.holds]
    assert not broken


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_check_measures_every_law(name: str) -> None:
    assert tuple(measured(name, torch.float64)) == RULES[name]


def test_table_is_complete() -> None:
    assert set(OPTIONS) == set(cells.RECURRENCES)
    assert set(RECURRENT) | set(ENCODERS) == set(CONFIGURATIONS)
    assert len(ENCODERS) >= 7


def test_memory_is_poisoned() -> None:
    with poisoned_memory():
        assert torch.empty(1000).isnan().all()


def test_check_leaves_the_cell_as_it_was() -> None:
    cell = build("stack").train()
    before = {k: v.clone() for k, v in cell.state_dict().items()}
    clew.check(cell)
    assert cell.training
    assert all(torch.equal(v, before[k]) and v.dtype == torch.float32 for k, v in cell.state_dict().items())
    assert all(p.grad is None for p in cell.parameters())


@pytest.mark.parametrize("name", ["lstm: defaults", "gru: everything", "deep"])
def test_export_law_of_a_graph(name: str) -> None:
    """A step captured by torch.export, which is what the exporters start from."""
    cell = build(name).double().eval()
    example = (torch.randn(3, cell.input_size, dtype=torch.float64), tree.detach(cell.init_state(3)))
    program = torch.export.export(_Step(cell), example, strict=False).module()
    law = clew.check(cell, exported=program)[-1]
    assert law.law == "export"
    assert law.holds, str(law)


class _Step(torch.nn.Module):
    def __init__(self, cell: cells.Recurrence) -> None:
        super().__init__()
        self.cell = cell

    def forward(self, x, state):
        return self.cell.step(x, state)
