"""What cannot be decoded is refused, and says how to mend it; what can go nowhere ends."""

from __future__ import annotations

import math

import pytest
import torch
from toys import END, Table

from clew.decode import Hypothesis, beam, greedy, teacher_forced
from clew.errors import ConfigError, ShapeError

SOUND = {"end": END, "most": 4, "width": 3}


def search(**options):
    model = Table(5, 0)
    logp, state = model.begin(2)
    return beam(model, logp, state, **{**SOUND, **options})


WRONG = {
    "no width": ({"width": 0}, ConfigError, "width must be a whole number of at least 1"),
    "a width that is no number": ({"width": 2.5}, ConfigError, "width must be a whole number"),
    "no results": ({"nbest": 0}, ConfigError, "nbest must be a whole number of at least 1"),
    "least under 0": ({"least": -1}, ConfigError, "least must be a whole number of at least 0"),
    "no_repeat under 0": ({"no_repeat": -2}, ConfigError, "no_repeat must be"),
    "end outside": ({"end": 5}, ConfigError, "end must be one of the 5 units"),
    "end under 0": ({"end": -1}, ConfigError, "end must be one of the 5 units"),
    "no steps": ({"most": 0}, ConfigError, "most must be at least 1"),
    "no steps for a row": ({"most": torch.tensor([3, 0])}, ConfigError, "most must be at least 1"),
    "half a step": ({"most": 1.5}, ShapeError, "most must be a whole number"),
    "limits of other rows": ({"most": torch.tensor([3, 4, 5])}, ShapeError, r"whole numbers \(2,\)"),
    "most under least": ({"least": 5}, ConfigError, "raise most"),
    "a row's most under least": ({"least": 3, "most": torch.tensor([4, 2])}, ConfigError, "raise most"),
    "never outside": ({"never": torch.tensor([5])}, ConfigError, "never has a unit outside the vocabulary"),
    "never of another shape": ({"never": torch.zeros(2, 4, dtype=torch.bool)}, ShapeError, r"must be \(2, 5\)"),
    "never of numbers": ({"never": torch.zeros(2)}, ShapeError, "never must be units"),
    "a prefix outside": ({"prefix": torch.tensor([[1], [9]])}, ConfigError, "prefix has a unit outside"),
    "a prefix that ends": ({"prefix": torch.tensor([[1], [END]])}, ConfigError, "which is the end"),
    "a prefix of one row": ({"prefix": torch.tensor([[1]])}, ShapeError, "-1 behind a shorter one"),
    "a prefix without rows": ({"prefix": torch.tensor([1, 2])}, ShapeError, "whole numbers"),
    "a prefix of floats": ({"prefix": torch.ones(2, 1)}, ShapeError, "whole numbers"),
    "a prefix over most": ({"prefix": torch.ones(2, 5, dtype=torch.int64)}, ConfigError, "raise most"),
    "alpha of nan": ({"length_penalty": math.nan}, ConfigError, "alpha must be finite"),
    "a divisor of 0": ({"length_penalty": lambda n: n - 1}, ConfigError, "a positive number for each length"),
    "a divisor for all": ({"length_penalty": lambda n: n.sum()}, ConfigError, "a positive number for each length"),
    "coverage over 0": ({"coverage": lambda s: s.seen[:, 0] + 1}, ConfigError, "subtract the largest"),
    "coverage of nan": ({"coverage": lambda s: s.seen[:, 0] * math.nan}, ConfigError, "coverage is NaN"),
    "coverage of places": ({"coverage": lambda s: -s.seen}, ShapeError, "coverage must give"),
    "allow of numbers": ({"allow": lambda u, r: torch.ones(len(u), 5)}, ShapeError, "a bool mask of shape"),
    "allow of rows": ({"allow": lambda u, r: torch.ones(9, 5, dtype=torch.bool)}, ShapeError, "a bool mask of shape"),
}


@pytest.mark.parametrize("name", WRONG)
def test_an_impossible_option_is_refused(name: str) -> None:
    search()
    options, kind, says = WRONG[name]
    with pytest.raises(kind, match=says):
        search(**options)


def test_a_first_prediction_that_does_not_fit_is_refused() -> None:
    model = Table(5, 0)
    logp, state = model.begin(2)
    for wrong, says in (
        (logp[0], "floating"),
        (logp.long(), "floating"),
        (logp[:, :0], "the vocabulary is empty"),
        (logp[:1], "the prediction has 1 rows, the state has 2"),
    ):
        with pytest.raises(ShapeError, match=says):
            beam(model, wrong, state, **SOUND)
        with pytest.raises(ShapeError, match=says):
            next(greedy(model, wrong, state))
        with pytest.raises(ShapeError, match=says):
            teacher_forced(model, wrong, state, None, torch.ones(2, 1).long(), torch.ones(2).long(), END)
    with pytest.raises(ShapeError, match="the context has 3"):
        beam(model, logp, state, torch.zeros(3), **SOUND)


class Says:
    """Predicts the same always."""

    def __init__(self, logp: list[float]) -> None:
        self.logp = torch.tensor(logp)

    def step(self, x_B1, state, context=None):
        return self.logp.expand(len(x_B1), -1), state


def test_predictions_that_are_no_log_probabilities_are_refused() -> None:
    good = torch.tensor([[0.25] * 4]).log()
    for model, says, kind in (
        (Says([-1.0, math.nan, -2.0, -3.0]), "NaN", ConfigError),
        (Says([-1.0, 0.5, -2.0, -3.0]), "apply log_softmax", ConfigError),
        (Says([-1.0, -1.0, -2.0]), "4 units", ShapeError),
    ):
        with pytest.raises(kind, match=says):
            beam(model, good, (), never=torch.tensor([0]), **SOUND)
        if kind is ConfigError:
            with pytest.raises(kind, match=says):
                beam(model, model.logp[None], (), **SOUND)
    with pytest.raises(ShapeError, match="4 units"):
        list(zip(range(2), greedy(model, good, ()), strict=False))


def test_sequences_that_do_not_fit_are_refused() -> None:
    model = Table(5, 0)
    logp, state = model.begin(2)
    units, two = torch.ones(2, 3, dtype=torch.int64), torch.tensor([2, 2])
    for wrong, lengths, kind, says in (
        (units.float(), two, ShapeError, "whole numbers"),
        (units[:1], two, ShapeError, "whole numbers"),
        (units, two[:1], ShapeError, "lengths"),
        (units, two + 2, ShapeError, "between 0 and the 3 steps"),
        (units + 4, two, ConfigError, "outside the vocabulary"),
    ):
        with pytest.raises(kind, match=says):
            teacher_forced(model, logp, state, None, wrong, lengths, END)


def test_what_may_go_nowhere_ends_unfinished() -> None:
    (best,), (other,) = search(never=torch.arange(5))
    assert best == other == Hypothesis((), 0.0, 0.0, False)
    for found in search(allow=lambda u, r: torch.full((len(u), 5), u.shape[1] < 2), nbest=3, least=4):
        assert len(found) == 3
        assert all(len(h.units) == 2 and not h.finished for h in found)


def test_a_prefix_stands_above_the_other_rules_but_not_above_the_model() -> None:
    found = search(prefix=torch.tensor([[2, 2], [2, -1]]), never=torch.tensor([2]), no_repeat=1)
    assert found[0][0].units[:2] == (2, 2)
    assert found[1][0].units[0] == 2
    model = Says([-1.0, -math.inf, -0.5])
    ((best,),) = beam(model, model.logp[None], (), prefix=torch.tensor([[2, 1, 2]]), **SOUND)
    assert best == Hypothesis((2,), -0.5, -0.5, False)


def test_minus_infinity_is_never_chosen() -> None:
    model = Says([-math.inf, -0.5, -math.inf, -1.0])
    (found,) = beam(model, model.logp[None], (), end=END, most=3, width=50, nbest=50)
    assert len(found) == 2**3
    assert all(set(h.units) <= {1, 3} and not h.finished for h in found)


def test_a_width_over_the_vocabulary_is_no_matter() -> None:
    for best in search(width=10_000, nbest=10_000, most=2):
        assert len(best) == 1 + 4 + 4 * 4
        assert sum(math.exp(h.logp) for h in best) == pytest.approx(1.0, abs=1e-6)


def test_a_vocabulary_of_the_end_alone() -> None:
    model = Says([0.0])
    assert beam(model, model.logp[None], (), end=0, most=9) == [[Hypothesis((), 0.0, 0.0, True)]]
