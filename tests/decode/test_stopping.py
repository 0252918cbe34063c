"""When a search stops, what it costs, and what models it takes besides those of the table."""

from __future__ import annotations

import math

import pytest
import torch
from toys import END, Node, Table, ranked

from clew import tree
from clew.decode import beam, covered, per_unit, teacher_forced


def test_rows_that_are_done_cost_no_more_steps() -> None:
    model = Table(5, 0, ends=-20.0)
    logp, state = model.begin(6)
    beam(model, logp, state, end=END, most=torch.tensor([2, 9, 2, 4, 9, 1]), width=3)
    assert model.rows == [15, *[9] * 2, *[6] * 5]


def test_a_search_stops_when_nothing_better_can_come() -> None:
    model = Table(5, 1, ends=8.0)
    logp, state = model.begin(4)
    for alpha in (0.0, 1.0, -1.0):
        model.rows.clear()
        found = beam(model, logp, state, end=END, most=500, width=5, length_penalty=alpha)
        assert all(best[0].finished for best in found)
        assert len(model.rows) < 60


@pytest.mark.parametrize("penalty", [1.0, 3.0, per_unit])
def test_a_search_goes_on_where_length_may_still_pay(penalty) -> None:
    """The empty sequence is likelier than the long one, and than the long one's beginnings by any of these scores."""

    class Chain:
        def step(self, x_B1, step_B, context=None):
            step_B = step_B + 1
            p_B = torch.where(step_B == 9, 0.999, 0.001)
            return torch.stack([p_B, 1 - p_B], 1).log(), step_B

    logp = torch.tensor([[0.6, 0.4]]).log()
    ((best,),) = beam(Chain(), logp, torch.zeros(1), end=END, most=20, width=2, length_penalty=penalty)
    assert best.units == (1,) * 9
    ((best,),) = beam(Chain(), logp, torch.zeros(1), end=END, most=20, width=2)
    assert best.units == ()


def test_sums_are_exact_over_many_steps() -> None:
    model = Table(3, 2, ends=-30.0)
    logp, state = model.begin(1)
    ((best,),) = beam(model, logp, state, end=END, most=1500, width=2)
    total = teacher_forced(model, logp, state, None, torch.tensor([best.units]), torch.tensor([1500]), None)
    said, at = [], state
    for unit in best.units:
        said.append(float(logp[0, unit]))
        logp, at = model.step(torch.tensor([[unit]]), at)
    assert best.logp == pytest.approx(math.fsum(said), abs=1e-9)
    assert best.logp == float(total)


class Pointer:
    """Chooses among the places of its context (B, S, W), each once, and then place 0: a user's own recurrence."""

    def step(self, x_B1, state, context):
        h_BW, left_BS = state
        rows = torch.arange(len(x_B1))
        h_BW = torch.tanh(h_BW + context[rows, x_B1[:, 0]])
        left_BS = left_BS.scatter(1, x_B1, False)
        logp = torch.einsum("bw,bsw->bs", h_BW, context).masked_fill(~left_BS, -torch.inf).log_softmax(-1)
        return logp, (h_BW, left_BS)


@pytest.mark.parametrize("places", [2, 4, 6])
def test_a_pointer_network_chooses_among_its_places(places: int) -> None:
    """Its predictions have another width in each call, and after the last place nothing may follow: they are NaN."""
    context = torch.randn(3, places, 4, generator=torch.Generator().manual_seed(places), dtype=torch.float64)
    h, left = torch.ones(3, 4, dtype=torch.float64), torch.ones(3, places, dtype=torch.bool)
    left[:, END] = False
    logp = torch.einsum("bw,bsw->bs", h, context).masked_fill(~left, -torch.inf).log_softmax(-1)

    class Ends(Pointer):
        def step(self, x_B1, state, context):
            logp, (h, left) = super().step(x_B1, state, context)
            over = ~left[:, 1:].any(1)
            ending = torch.full_like(logp, -torch.inf).index_fill(1, torch.tensor([END]), 0.0)
            logp = torch.where(over[:, None], ending, logp)
            gone = x_B1 == END
            return logp.masked_fill(gone, math.nan), (h, left)

    found = beam(Ends(), logp, (h, left), context, end=END, most=places + 3, width=math.factorial(places), nbest=999)
    for best in found:
        assert len(best) == math.factorial(places - 1)
        assert all(h.finished and sorted(h.units) == list(range(1, places)) for h in best)
        assert sum(math.exp(h.logp) for h in best) == pytest.approx(1.0, abs=1e-9)


def test_coverage_ranks_by_what_was_seen() -> None:
    model = Table(4, 5)
    logp, state = model.begin(2)
    options = {"end": END, "most": 4, "width": 4**4, "nbest": 5}
    plain = beam(model, logp, state, **options)
    found = beam(model, logp, state, coverage=lambda s: covered(s.seen, 0.8), **options)
    assert [[h.units for h in best] for best in found] != [[h.units for h in best] for best in plain]
    for row, best in enumerate(found):
        assert best == ranked(best)
        for h in best:
            at = tree.take(state, torch.tensor([row]))
            for unit in h.units if h.finished else h.units[:-1]:  # the end, or the last unit, was chosen here
                _, at = model.step(torch.tensor([[unit]]), at)
            assert h.score - h.logp == pytest.approx(float(covered(at.seen, 0.8)), abs=1e-6)


def test_what_has_ended_needs_no_coverage() -> None:
    """The slot of a hypothesis that has ended is stepped on until it is filled anew, with whatever comes of it."""

    class Last:
        def step(self, x_B1, last_B, context=None):
            return torch.tensor([0.5, 0.3, 0.2]).log().expand(len(x_B1), -1), x_B1[:, 0].float()

    logp, last = Last().step(torch.ones(1, 1).long(), ())
    (found,) = beam(
        Last(), logp, last, end=END, most=3, width=4, nbest=4, coverage=lambda s: torch.where(s == END, math.nan, -0.25)
    )
    assert [h.units for h in found] == [(), (1,), (2,), (1, 1)]
    assert [h.score for h in found] == pytest.approx([h.logp - 0.25 for h in found])


def test_padding_of_a_source_has_no_coverage() -> None:
    seen = torch.tensor([[0.5, 2.0, 0.0], [1.0, 0.25, 0.125]])
    real = torch.tensor([[True, True, False], [True, True, True]])
    expected = [0.2 * math.log(0.5), 0.2 * (math.log(0.25) + math.log(0.125))]
    assert covered(seen, 0.2, real).tolist() == pytest.approx(expected)
    assert covered(seen, 0.0).tolist() == [0.0, 0.0]
    assert -20 < float(covered(seen, 0.2)[0]) < -17, "what was not seen at all is bad, but finite"


def test_a_batch_of_none() -> None:
    model = Table(4, 0)
    assert (
        beam(model, torch.zeros(0, 4), Node(torch.zeros(0, dtype=torch.int64), torch.zeros(0, 3)), end=0, most=3) == []
    )
