"""The largest of many, equal ones in the order of their places."""

from __future__ import annotations

import math

import pytest
import torch
from toys import END, Table

from clew.decode import beam
from clew.decode.select import best, monotone, top


@pytest.mark.parametrize("seed", range(20))
def test_top_is_a_stable_sort(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    V = int(torch.randint(1, 200 if seed % 2 else 2000, (1,), generator=generator))
    x = torch.randint(0, 2 + 4 ** (seed // 2), (9, V), generator=generator).float()
    x = x.masked_fill(torch.rand(9, V, generator=generator) < 0.3, -math.inf)
    value, place = x.sort(dim=1, descending=True, stable=True)
    for k in (1, 2, 5, V, V + 3):
        found, there = top(x, k)
        assert torch.equal(found, value[:, :k])
        real = found > -math.inf
        assert torch.equal(there[real], place[:, :k][real])
        assert torch.equal(x.gather(1, there), found)
        assert all(len(set(row)) == len(row) for row in there.tolist())


def test_top_has_nan_first() -> None:
    x = torch.tensor([[1.0, 1.0, math.nan, 1.0], [2.0, 2.0, 2.0, 0.0]])
    for k in (1, 2, 3):
        assert bool(top(x, k)[0][0, 0].isnan())
        assert top(x, k)[1][1].tolist() == [0, 1, 2][:k]


def test_a_monotone_slot_sees_the_parents_up_to_its_own() -> None:
    candidates = torch.tensor([[[-3.0, -5.0], [-1.0, -2.0], [-0.5, -4.0]]])
    assert best(candidates, 3)[1].tolist() == [[4, 2, 3]]
    assert monotone(candidates, 3)[1].tolist() == [[0, 2, 4]]
    assert monotone(candidates, 2)[1].tolist() == [[0, 2]]


@pytest.mark.parametrize("monotonic", [False, True])
def test_equal_hypotheses_come_in_the_same_order(monotonic: bool) -> None:
    class Even:
        def step(self, x_B1, state, context=None):
            return torch.full((len(x_B1), 40), -math.log(40.0)), state

    logp, _ = Even().step(torch.zeros(3, 1), ())
    for found in beam(Even(), logp, (), end=39, most=3, width=4, nbest=4, monotonic=monotonic):
        assert [h.units for h in found] == [(0, 0, 0), (0, 0, 1), (0, 0, 2), (0, 0, 3)]


def test_low_precision_has_many_equals_and_one_order() -> None:
    """Sixteen bits tell few log-probabilities apart; alone and in a batch the same ones are taken."""
    model = Table(300, 3)
    model.logp = model.logp.bfloat16()
    logp, state = model.begin(4)
    together = beam(model, logp, state, end=END, most=6, width=8, nbest=8)
    for row in range(4):
        alone = beam(
            model,
            logp[row : row + 1],
            type(state)(*(leaf[row : row + 1] for leaf in state)),
            end=END,
            most=6,
            width=8,
            nbest=8,
        )
        assert together[row] == alone[0]
