"""Things that are there together: probabilities that sum up to one, shares and draws that are those of the law."""

from __future__ import annotations

from itertools import product

import pytest
import torch
import torch.nn.functional as F

from clew.models.heads.together import TogetherHead

K, WIDTH = 4, 6
EVERY = torch.tensor(list(product((0.0, 1.0), repeat=K)), dtype=torch.float64)


def head(components: int) -> TogetherHead:
    torch.manual_seed(0)
    made = TogetherHead(WIDTH, torch.full((K,), 0.3), components).double()
    torch.nn.init.normal_(made.readout.weight)
    return made


def law(made: TogetherHead, y: torch.Tensor) -> torch.Tensor:
    """The probability of each of the 2^K sets."""
    with torch.no_grad():
        return (-made.surprise(made.predict(y).expand(len(EVERY), -1), EVERY)).exp()


@pytest.mark.parametrize("components", [1, 5])
def test_the_probabilities_of_all_sets_sum_up_to_one(components: int) -> None:
    made, y = head(components), torch.randn(WIDTH, dtype=torch.float64)
    p = law(made, y)
    assert float(p.sum()) == pytest.approx(1.0, abs=1e-12)
    torch.testing.assert_close(made.shares(made.predict(y)).detach(), p @ EVERY)
    assert float(made.loss(y.expand(len(EVERY), -1), EVERY).detach()) == pytest.approx(-float(p.log().mean()))


def test_one_component_tells_each_by_itself() -> None:
    made, y = head(1), torch.randn(7, WIDTH, dtype=torch.float64)
    target = torch.randint(2, (7, K)).double()
    alone = F.binary_cross_entropy_with_logits(made.predict(y)[:, 1:], target, reduction="none").sum(-1)
    torch.testing.assert_close(made.surprise(made.predict(y), target), alone)


def test_draws_are_as_frequent_as_the_law_says() -> None:
    made, y = head(3), torch.randn(WIDTH, dtype=torch.float64)
    drawn = made.draw(made.predict(y).expand(200_000, -1), torch.Generator().manual_seed(0))
    place = (drawn @ torch.tensor([8.0, 4.0, 2.0, 1.0], dtype=torch.float64)).long()
    counted = torch.bincount(place, minlength=len(EVERY)).double() / len(drawn)
    assert (counted - law(made, y)).abs().max() < 0.005


def test_without_a_temperature_the_likeliest_component_is_said() -> None:
    made, y = head(3), torch.randn(1, WIDTH, dtype=torch.float64)
    predicted = made.predict(y)
    w, odds = predicted[:, :3], predicted[:, 3:].unflatten(-1, (3, K))
    said = made.draw(predicted, torch.Generator(), 0.0)
    assert said.equal((odds[:, int(w.argmax())] > 0).double())
