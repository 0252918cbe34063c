"""Pointer networks: the laws, who may be pointed at, and that what they say does not hang on how it is asked."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import pytest
import torch
from torch import Tensor

import clew
from clew.cells import RECURRENCES, Recurrence
from clew.data.pair_batch import PairBatch
from clew.data.vocabulary import END
from clew.decode import beam, greedy, sample, teacher_forced
from clew.errors import NotCausalError, ShapeError
from clew.models.pointer import PointerNet
from clew.models.pointer_build import pointer_net
from clew.models.pointer_decoder import Pointer
from clew.ops import definition as ref
from clew.tree import State

S, I, WIDTH = 4, 2, 5
CELLS = ["elman", "lstm", "gru", "mingru", "mamba", "rwkv7", "mlstm", "deltanet", "attention"]
LENGTHS = torch.tensor([S, 2, 0])  # of three rows one is shorter than the others, one is empty
RULES: dict[str, dict[str, Any]] = {
    "each once": {},
    "again": {"no_repeat": False},
    "at least 2": {"least": 2},
    "again, at least 2": {"no_repeat": False, "least": 2},
    "all": {"whole": True},
}
FORMS: dict[str, dict[str, Any]] = {
    "plain": {},
    "dot": {"score": "dot", "bidirectional": False},
    "bilinear": {"score": "bilinear", "layers": 2},
    "clipped": {"score": "scaled_dot", "clip": 10.0},
    "glimpse": {"glimpse": "additive"},
    "glimpse that looks back": {"glimpse": "coverage"},
    "glimpse of several heads": {"glimpse": "multi_head", "width": 8},
    "items": {"reads": "item"},
}


def net(cell: str = "gru", **settings: Any) -> PointerNet:
    torch.manual_seed(0)
    options = {"window": 3} if cell == "attention" else {"state": 4} if cell == "mamba" else {}
    return pointer_net(cell, I, settings.pop("width", WIDTH), options=options, **settings).eval()


def drawn(rows: int = 3, seed: int = 0) -> Tensor:
    return torch.randn(rows, S, I, generator=torch.Generator().manual_seed(seed))


def begun(model: PointerNet, items: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, State, State]:
    """The first prediction, the state after it, and the context."""
    context = model.encode(items, lengths)
    begin = torch.full((len(items), 1), END)
    return *model.step(begin, model.init_state(len(items), context), context), context


class AnyNumber(Recurrence):
    """A pointer that takes any number for a place and says of places that are not free something finite: the laws try
    a recurrence on real inputs, whose gradient they ask for, and compare real outputs."""

    def __init__(self, pointer: Pointer) -> None:
        super().__init__(1, S + 1)
        self.pointer = pointer

    def init_state(self, batch_size: int, context: State | None = None) -> State:
        return self.pointer.init_state(batch_size, context)

    def step(self, x_BI: Tensor, state: State, context: State | None = None) -> tuple[Tensor, State]:
        y, state = self.pointer.step(place(x_BI), state, context)
        return torch.where(y > -torch.inf, y, -1.0) + x_BI, state

    def forward(
        self, x_BTI: Tensor, state: Any = None, context: Any = None, *, lengths: Any = None, reset: Any = None
    ) -> tuple[Tensor, State]:
        y, state = self.pointer(place(x_BTI), state, context, lengths=lengths, reset=reset)
        y, real = torch.where(y > -torch.inf, y, -1.0), ref.valid_steps(x_BTI, lengths)
        return y + (x_BTI if real is None else ref.hide_padding(x_BTI, real)), state


def place(x: Tensor) -> Tensor:
    return torch.nan_to_num(10 * x.detach(), S).long() % (S + 1)


def broken(model: PointerNet) -> list[str]:
    model.double()
    with torch.no_grad():
        context = model.encode(drawn().double(), LENGTHS)
    return [str(law) for law in clew.check(AnyNumber(model.pointer), context=context) if not law.holds]


@pytest.mark.parametrize("cell", CELLS)
def test_laws_over_recurrences(cell: str) -> None:
    assert not broken(net(cell))


@pytest.mark.parametrize("form", FORMS)
def test_laws_of_all_forms(form: str) -> None:
    assert not broken(net(**FORMS[form]))


@pytest.mark.parametrize("rule", RULES)
def test_laws_under_all_rules(rule: str) -> None:
    assert not broken(net(**RULES[rule]))


def test_a_pointer_that_forgets_where_it_pointed_breaks_the_laws() -> None:
    """So these laws can fail."""

    class Forgetful(Pointer):
        def step(self, x_BI: Tensor, state: Any, context: State | None = None) -> tuple[Tensor, Any]:
            return super().step(x_BI, state._replace(used=torch.zeros_like(state.used)), context)

    model = net()
    model.pointer.__class__ = Forgetful
    assert {law.split()[0] for law in broken(model)} >= {"fold"}


@pytest.mark.parametrize("rule", RULES)
def test_every_sequence_has_the_probability_that_the_rules_leave_it(rule: str) -> None:
    """Over all orders that the rules allow, probabilities sum to 1, and none other has any."""
    settings = {"no_repeat": True, "least": 0, "whole": False, **RULES[rule]}
    model = net(**RULES[rule]).double()
    logp, state, context = begun(model, drawn(1)[:, :3].double())
    if settings["no_repeat"]:
        least = 3 if settings["whole"] else settings["least"]
        orders = [order for n in range(least, 4) for order in permutations((1, 2, 3), n)]
        total = 0.0
        for order in orders:
            units, lengths = torch.tensor([order], dtype=torch.int64).view(1, -1), torch.tensor([len(order)])
            with torch.no_grad():
                total += float(teacher_forced(model, logp, state, context, units, lengths, END).exp())
        assert total == pytest.approx(1, abs=1e-12)
    else:
        with torch.no_grad():
            _, state = model.step(torch.tensor([[2]]), state, context)
            again, _ = model.step(torch.tensor([[2]]), state, context)
        assert float(again.exp().sum()) == pytest.approx(1, abs=1e-12)
        assert again[0, 2] > -torch.inf
        assert (again[0, END] == -torch.inf) == (settings["least"] == 2)  # one and the same item is one item


@pytest.mark.parametrize("form", FORMS)
def test_the_end_may_stand_anywhere_in_a_batch(form: str) -> None:
    """A row's predictions and gradients are those that it has alone, whatever stands behind its items and its order."""
    model = net(**FORMS[form]).double()
    items, lengths = drawn().double(), torch.tensor([4, 3, 1])
    orders = [[2, 1, 4, 3], [3, 1], []]
    batch = batched(items, lengths, orders)
    poisoned = batch._replace(
        source=torch.where(torch.arange(S)[:, None] < lengths[:, None, None], items, torch.nan),
        x=torch.where(batch.supervised[..., None], batch.x, 77),
    )
    alone = [batched(items[i : i + 1, :n], lengths[i : i + 1], orders[i : i + 1]) for i, n in enumerate([4, 3, 1])]
    steps = batch.lengths.double()
    expected = sum(w * model.loss(one) for w, one in zip(steps / steps.sum(), alone, strict=True))
    expected.backward()  # pyright: ignore[reportAttributeAccessIssue]
    wanted = [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in model.parameters()]
    for given in (batch, poisoned):
        model.zero_grad()
        loss = model.loss(given)
        loss.backward()
        torch.testing.assert_close(loss, expected)
        found = [torch.zeros_like(p) if p.grad is None else p.grad for p in model.parameters()]
        torch.testing.assert_close(found, wanted)


def batched(items: Tensor, lengths: Tensor, orders: list[list[int]]) -> PairBatch:
    T = 1 + max(len(order) for order in orders)
    target = torch.tensor([order + [END] * (T - len(order)) for order in orders])
    x = torch.cat([torch.full_like(target[:, :1], END), target[:, :-1]], 1)
    return PairBatch(items, lengths, x[..., None], target, torch.tensor([len(order) + 1 for order in orders]))


def test_the_loss_is_the_mean_over_places() -> None:
    model = net()
    items, orders = drawn(), [[2, 1, 4, 3], [3, 1], []]
    batch = batched(items, torch.tensor([4, 3, 1]), orders)
    logp, state, context = begun(model, items, torch.tensor([4, 3, 1]))
    units = torch.tensor([order + [END] * (4 - len(order)) for order in orders])
    total = teacher_forced(model, logp, state, context, units, torch.tensor([4, 2, 0]), END)
    torch.testing.assert_close(model.loss(batch).double(), -total.sum() / 9)


def test_searches_agree_and_keep_the_rules() -> None:
    """A beam of one is greedy; a wide one finds the likeliest of all orders; what is drawn is an order."""
    model = net(whole=True).double()
    items, lengths = drawn(8, seed=1).double(), torch.tensor([4, 3, 1, 0, 4, 2, 4, 4])
    logp, state, context = begun(model, items, lengths)
    narrow = beam(model, logp, state, context, end=END, most=lengths + 1, width=1)
    wide = beam(model, logp, state, context, end=END, most=lengths + 1, width=30, nbest=24)
    steps = torch.stack([unit for unit, _ in zip(greedy(model, logp, state, context), range(4), strict=False)], 1)
    draws = torch.stack([u for u, _ in zip(sample(model, logp, state, 3, context=context), range(4), strict=False)], 1)
    for row, n in enumerate(lengths.tolist()):
        assert narrow[row][0].finished
        assert list(narrow[row][0].units) == steps[row, :n].tolist()
        assert sorted(narrow[row][0].units) == sorted(draws[row, :n].tolist()) == list(range(1, n + 1))
        assert sorted(found.units for found in wide[row]) == list(permutations(range(1, n + 1)))
        assert wide[row][0].logp >= narrow[row][0].logp
        assert sum(torch.tensor([found.logp for found in wide[row]]).exp()) == pytest.approx(1)


def test_it_learns_to_sort() -> None:
    """Of 4 numbers, in orders that it has not seen."""
    torch.manual_seed(0)
    model = pointer_net("gru", 1, 16, score="scaled_dot", reads="item", whole=True)
    optimiser, draws = torch.optim.Adam(model.parameters(), lr=2e-2), torch.Generator().manual_seed(0)

    def numbers(rows: int) -> tuple[Tensor, Tensor]:
        x = torch.rand(rows, 4, 1, generator=draws)
        return 4 * x - 2, x[..., 0].argsort(1) + 1

    for _ in range(60):
        x, y = numbers(64)
        loss = model.loss(batched(x, torch.full((64,), 4), y.tolist()))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    x, y = numbers(300)
    logp, state, context = begun(model.eval(), x)
    found = beam(model, logp, state, context, end=END, most=5, width=1)
    right = [list(one[0].units) == order for one, order in zip(found, y.tolist(), strict=True)]
    assert sum(right) > 0.7 * len(right)  # by chance: 1 of 24


def test_what_cannot_be() -> None:
    model = net()
    with pytest.raises(ShapeError, match=r"model\.encode"):
        model.pointer.init_state(2)
    with pytest.raises(NotCausalError, match="reads all items"):
        model.init_state(1)
    for score in ("location", "coverage", "multi_head"):
        with pytest.raises(ShapeError, match="cannot point"):
            net(score=score, width=8)
    with pytest.raises(ShapeError, match="places"):
        _ = model.pointer.output_size
    context = model.encode(drawn())
    for place in (S + 1, -1):
        with pytest.raises(ShapeError, match="place"):
            model(torch.full((3, 2, 1), place), None, context)


def test_every_recurrence_can_point() -> None:
    for cell in RECURRENCES:
        model = pointer_net(cell, I, 8, options={"window": 8} if cell == "attention" else {})
        batch = batched(drawn(), torch.tensor([4, 3, 1]), [[2, 1, 4, 3], [3, 1], []])
        model.loss(batch).backward()
        assert model.end.grad is not None
        assert bool(model.end.grad.any())


def test_clipped_scores_lie_within_c() -> None:
    """So no place that is free is more than e^(2 C) times as likely as another, however large the scores are."""
    for clip in (0.0, 0.5):
        model = net(score="dot", bidirectional=False, clip=clip)
        with torch.no_grad():
            model.end.mul_(100)
            logp = begun(model, drawn())[0]
        within = float((logp.amax(1) - logp.amin(1)).max()) <= 1 + 1e-6
        assert within == bool(clip)
