"""Every claim holds when it is run quickly, can be drawn, and does not hold where what it is about is broken."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from clew import ops
from clew.cells import GRU, Elman
from clew.cells.base import Scanned
from clew.cells.hopfield import Hopfield
from clew.decode import beam
from clew.forecast import iterate
from clew.lab import NAMES, experiment
from clew.lab.base import Finding, Outcome, slope, within
from clew.lab.bottleneck import Narrow
from clew.lab.pooling import errors
from clew.lab.rolling import Map
from clew.report import picture

AT_MOST = 30.0  # seconds of the processor for a quick run: 5 on an idle machine, which this one may not be


@pytest.fixture(scope="module")
def outcomes() -> dict[str, Outcome]:
    torch.set_num_threads(1)
    return {}


@pytest.mark.parametrize("name", NAMES)
def test_the_claim_holds(name: str, outcomes: dict[str, Outcome]) -> None:
    each, started = experiment(name), time.process_time()
    outcome = outcomes[name] = each.run(quick=True)
    assert time.process_time() - started < AT_MOST
    broken = [f"{f.name}: {f.measured} is not {f.expected} +- {f.tolerance}" for f in outcome.findings if not f.holds]
    assert not broken
    assert outcome.findings
    svg = picture(lambda figure: each.draw(figure, outcome.shown))
    assert svg.startswith("<svg")
    assert svg.count("<path") > 10


def test_each_claim_has_its_number_and_says_what_it_claims() -> None:
    for number, name in enumerate(NAMES, 1):
        each = experiment(name)
        assert f"L{number}" == each.CLAIM
        assert experiment(each.CLAIM) is each
        assert re.match(r"[A-Z].*\.\n\n", each.__doc__ or "", re.S)


def test_a_finding_holds_within_its_tolerance_alone() -> None:
    assert Finding("a", 1.1, 1.0, 0.11).holds
    assert not Finding("a", 1.1, 1.0, 0.09).holds
    assert not Finding("a", float("nan"), 1.0, 9.0).holds
    assert [within("a", v, 0.0, 1.0).holds for v in (-0.01, 0.0, 0.5, 1.0, 1.01)] == [False, True, True, True, False]
    assert slope([1, 2, 3], [5, 7, 9]) == pytest.approx(2.0)


def _leaky(run: Callable[..., Any]) -> Callable[..., Any]:
    """A scan whose decays are a hundredth too small."""

    def scan(a: Tensor, *rest: Any, **how: Any) -> Any:
        return run(a * 0.99, *rest, **how)

    return scan


def _forgetting(patterns_PN: Tensor, *, gain: float = 0.0) -> Hopfield:
    """A network that was shown half of what it is asked for."""
    net = Hopfield(patterns_PN.shape[1], patterns_PN.shape[1], gain=gain)
    kept_PN = patterns_PN[::2]
    net.W.copy_(kept_PN.T @ kept_PN / patterns_PN.shape[1]).fill_diagonal_(0.0)
    return net


def _unlearned(name: str) -> Callable[[pytest.MonkeyPatch], None]:
    """Nothing is learned."""
    return lambda patch: patch.setattr(f"clew.lab.{name}.descend", lambda *given, **how: [1.0])


def _beyond(a_NT: Tensor, right_NT: Tensor, h_NTW: Tensor) -> tuple[Tensor, Tensor]:
    """Pooling whose weights sum to more than 1."""
    return errors(1.1 * a_NT, right_NT, h_NTW)[0], errors(a_NT, right_NT, h_NTW)[1]


def _unrolled(model: Any, y_BKN: Tensor, state: Any, horizon: int) -> tuple[Tensor, Any]:
    """Forecasts that are fed the truth, so that no error is carried on."""
    whole, state = iterate(Map(model.f, 0.0), y_BKN - model.error, state, horizon)
    return whole + model.error, state


def _greedy(*given: Any, width: int, **how: Any) -> Any:
    """A search that looks at one text, however wide it is asked to be."""
    return beam(*given, width=1, **how)


def _uneven(cell: Scanned, x_BI: Tensor, state: Any, context: Any = None) -> tuple[Tensor, Any]:
    """Steps that are a hundredth larger than those of the whole."""
    y_BTH, state = cell.scan(x_BI[:, None], state, state, None, None)
    return 1.01 * y_BTH[:, 0], state


def _unrounded(model: Narrow, x_BT: Tensor) -> Tensor:
    """A context of as many bits as a number has."""
    return torch.tanh(model.squeeze(model.encoder(x_BT[..., None])[0][:, -1]))


MUTATIONS: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "last_step": lambda patch: patch.setattr(ops, "linear_scan", _leaky(ops.linear_scan)),
    "every_step": lambda patch: patch.setattr(ops, "linear_scan", _leaky(ops.linear_scan)),
    "gradients": lambda patch: patch.setattr(
        "clew.lab.gradients.LSTM", lambda i, h, forget_bias: Elman(i, h, recurrent_init="uniform")
    ),
    "adding": _unlearned("adding"),
    "dependency": lambda patch: patch.setattr("clew.lab.dependency.coin", lambda r, n, seed: np.arange(n) % 2),
    "bottleneck": lambda patch: patch.setattr("clew.lab.bottleneck.Narrow.context", _unrounded),
    "focus": _unlearned("focus"),
    "pooling": lambda patch: patch.setattr("clew.lab.pooling.errors", _beyond),
    "masking": _unlearned("masking"),
    "nesting": _unlearned("nesting"),
    "pointing": _unlearned("pointing"),
    "searching": lambda patch: patch.setattr("clew.lab.searching.beam", _greedy),
    "rolling": lambda patch: patch.setattr("clew.lab.rolling.iterate", _unrolled),
    "supervision": _unlearned("supervision"),
    "integrator": lambda patch: patch.setattr("clew.lab.integrator.KEPT", 0.9),
    "parameters": lambda patch: patch.setattr("clew.lab.parameters.LSTM", GRU),
    "cost": lambda patch: patch.setattr("clew.lab.cost.attend", lambda x, cell: cell.to_qkv(x)),
    "hopfield": lambda patch: patch.setattr("clew.lab.hopfield.Hopfield.storing", _forgetting),
    "streaming": lambda patch: patch.setattr(Scanned, "step", _uneven),
}


def test_each_claim_can_be_broken() -> None:
    assert set(MUTATIONS) == set(NAMES)


@pytest.mark.parametrize("name", MUTATIONS)
def test_it_fails_where_it_should(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    MUTATIONS[name](monkeypatch)
    assert not experiment(name).run(quick=True).holds


def test_the_command(run_clew, tmp_path: Path) -> None:
    listed = run_clew("lab")
    assert listed.code == 0
    assert len(listed.out.splitlines()) == len(NAMES)
    said = run_clew("lab", "L1", "parameters", "--quick", "--json", "--out", tmp_path / "out")
    assert said.code == 0, said.err
    for row in json.loads(said.out)["experiments"]:
        assert row["holds"] == (abs(row["measured"] - row["expected"]) <= row["tolerance"])
    page = (tmp_path / "out" / "index.html").read_text()
    assert page.count("<svg") == 2
    assert not re.search(r"<script|src=|href=\"http", page)
    wrong = run_clew("lab", "last_stp", "--quick")
    assert wrong.code == 2
    assert "last_step" in wrong.err
