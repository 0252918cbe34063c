"""Every recurrence of the table, and a hybrid of two, learns every kind of task and comes back from its run folder."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_runs import FAST, RUNS

import clew
from clew import tree
from clew.cells import RECURRENCES

CLASSICAL = ("elman", "gru", "lstm")  # every other test of tasks has one of them
CELLS = [name for name in RECURRENCES if name not in CLASSICAL]


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("cell", [*CELLS, "rglru+attention"])
def test_a_cell_learns(files, tmp_path: Path, cell: str, run: str) -> None:
    file, own = RUNS[run]
    block = {"mlp": 1.0, "norm": "rms", "layers": 2} if "+" in cell else {}
    fitted = clew.train(files[file], tmp_path / "run", **{**FAST, **own, **block, "steps": 2, "cell": cell})
    assert fitted["cell"] == cell
    assert all(value == value for value in fitted["metrics"].values() if isinstance(value, float))
    model = clew.load(tmp_path / "run").model
    assert all(leaf.isfinite().all() for leaf in tree.leaves(model.init_state(1)))
    assert all(p.isfinite().all() for p in model.parameters())
    assert sum(p.numel() for p in model.parameters()) == fitted["parameters"]
