"""What a beam search finds is what its definition finds, whichever model it searches."""

from __future__ import annotations

import itertools
import math
import random

import pytest
import torch
from toys import CELLS, END, Table, begun, every, ranked, single, slow_beam

from clew import tree
from clew.decode import Hypothesis, beam, covered, greedy, per_unit, teacher_forced


def padded(hypotheses: list[Hypothesis]) -> tuple[torch.Tensor, torch.Tensor]:
    """Units (N, T) and lengths (N,)."""
    units = [torch.tensor(h.units, dtype=torch.int64) for h in hypotheses]
    return torch.nn.utils.rnn.pad_sequence(units, batch_first=True), torch.tensor([len(u) for u in units])


def same(found: list[Hypothesis], expected: list[Hypothesis], tolerance: float) -> None:
    assert [(h.units, h.finished) for h in found] == [(h.units, h.finished) for h in expected]
    for a, b in zip(found, expected, strict=True):
        assert a.score == pytest.approx(b.score, abs=tolerance)
        assert a.logp == pytest.approx(b.logp, abs=tolerance)


@pytest.mark.parametrize("cell", CELLS)
def test_a_score_is_the_teacher_forced_one(cell: str) -> None:
    model = single(cell, 9, seed=1)
    logp, state = begun(model, 4)
    found = beam(model, logp, state, end=END, most=12, width=4, nbest=4)
    counted = 0
    for finished in (True, False):
        rows = [row for row, best in enumerate(found) for h in best if h.finished == finished]
        if not rows:
            continue
        hypotheses = [h for best in found for h in best if h.finished == finished]
        units, lengths = padded(hypotheses)
        index = torch.tensor(rows)
        with torch.no_grad():
            total = teacher_forced(
                model, logp[index], tree.take(state, index), None, units, lengths, END if finished else None
            )
        assert [h.logp for h in hypotheses] == pytest.approx(total.tolist(), abs=1e-5)
        assert [h.score for h in hypotheses] == [h.logp for h in hypotheses]
        counted += len(rows)
    assert counted == 16


@pytest.mark.parametrize("cell", CELLS)
def test_teacher_forcing_is_the_forward_pass(cell: str) -> None:
    model = single(cell, 7, seed=2, dtype=torch.float64)
    logp, state = begun(model, 3)
    units, lengths = torch.randint(7, (3, 5)), torch.tensor([5, 0, 3])
    with torch.no_grad():
        later, _ = model(units[..., None], state)
        predicted = torch.cat([logp[:, None], later], 1)
    for end in (END, None):
        expected = []
        for row, n in enumerate(lengths.tolist()):
            chosen = units[row, :n].tolist() + ([] if end is None else [end])
            expected.append(sum(float(predicted[row, t, unit]) for t, unit in enumerate(chosen)))
        behind = units.masked_fill(torch.arange(5) >= lengths[:, None], -9)
        total = teacher_forced(model, logp, state, None, behind, lengths, end)
        assert total.tolist() == pytest.approx(expected, abs=1e-9)
    total.sum().backward()
    assert model.head.readout.weight.grad is not None


@pytest.mark.parametrize("cell", CELLS)
def test_a_beam_of_one_is_greedy(cell: str) -> None:
    model = single(cell, 9, seed=3, dtype=torch.float64)
    logp, state = begun(model, 5)
    never = torch.tensor([4, 5])
    stream = torch.stack([unit for _, unit in zip(range(10), greedy(model, logp, state, never=never), strict=False)], 1)
    found = beam(model, logp, state, end=END, most=10, width=1, never=never)
    for units, (best,) in zip(stream.tolist(), found, strict=True):
        finished = END in units
        assert best.finished == finished
        assert list(best.units) == (units[: units.index(END)] if finished else units)


@pytest.mark.parametrize("cell", ["lstm", "mamba", "attention"])
@pytest.mark.parametrize(("units", "most"), [(3, 5), (4, 4)])
@pytest.mark.parametrize("penalty", [0.0, 0.8, -1.5, 3.0, per_unit])
def test_a_wide_beam_is_exhaustive(cell: str, units: int, most: int, penalty) -> None:
    model = single(cell, units, seed=4, dtype=torch.float64)
    logp, state = begun(model, 1)
    hypotheses, choices = every(model, logp, state, most, lambda s, n: tree.take(s, torch.zeros(n, dtype=torch.int64)))
    divide = [float(n) if penalty is per_unit else ((5 + n) / 6) ** penalty for n in choices]
    expected = ranked(h._replace(score=h.logp / d) for h, d in zip(hypotheses, divide, strict=True))
    for nbest in (1, 7, len(expected) + 5):
        for monotonic in (False, True):
            (found,) = beam(
                model,
                logp,
                state,
                end=END,
                most=most,
                width=units**most,
                nbest=nbest,
                length_penalty=penalty,
                monotonic=monotonic,
            )
            same(found, expected[:nbest], 1e-9)


def test_every_option_does_what_it_says_in_a_batch() -> None:
    """A batch with other limits, prefixes and rules in each row, beside one row and one hypothesis at a time."""
    draw, stopped, stuck = random.Random(0), 0, 0
    for seed in range(150):
        torch.manual_seed(seed)
        V, B = draw.randint(2, 6), 3
        model = Table(V, seed, ends=draw.choice([-1.0, 0.0, 1.0]))
        logp, state = model.begin(B, seed)
        context = torch.randint(5, (B,)) if draw.random() < 0.5 else None
        most = [draw.randint(1, 7) for _ in range(B)]
        width, nbest, monotonic = draw.randint(1, 5), draw.randint(1, 4), draw.random() < 0.5
        least, no_repeat = draw.choice([0, 0, 1, 3]), draw.choice([0, 0, 1, 2, 3])
        least = min(least, *most)
        alpha, beta = draw.choice([0.0, 0.0, 0.7, 2.0, -1.0]), draw.choice([0.0, 0.4])
        never = torch.rand(B, V) < draw.choice([0.0, 0.2])
        P = draw.randint(0, 3)
        prefix = torch.tensor(
            [[draw.randint(-1, V - 1) or -1 for _ in range(P)] for _ in range(B)], dtype=torch.int64
        ).view(B, P)
        for row in range(B):
            prefix[row, most[row] :] = -1
        rule = torch.rand(B, V, V) < 0.7 if draw.random() < 0.5 else None  # may the second follow the first in a row?

        def allow(units_NT, row_N, rule=rule):
            last_N = units_NT[:, -1] if units_NT.shape[1] else torch.zeros_like(row_N)
            return rule[row_N, last_N]

        steps = len(model.rows)
        found = beam(
            model,
            logp,
            state,
            context,
            end=END,
            most=torch.tensor(most),
            width=width,
            nbest=nbest,
            least=least,
            length_penalty=alpha,
            coverage=(lambda s, beta=beta: covered(s.seen, beta)) if beta else None,
            no_repeat=no_repeat,
            never=never,
            prefix=prefix,
            allow=None if rule is None else allow,
            monotonic=monotonic,
        )
        stopped += len(model.rows) - steps < max(most) - 1
        for row in range(B):
            index = torch.tensor([row])
            expected = slow_beam(
                model,
                logp[index],
                tree.take(state, index),
                None if context is None else context[index],
                most=most[row],
                width=width,
                nbest=nbest,
                least=least,
                divisor=lambda n, alpha=alpha: ((5 + n) / 6) ** alpha,
                extra=lambda s, beta=beta: float(beta * s.seen[0].clamp(max=1).log().sum()),
                no_repeat=no_repeat,
                never=never[row].nonzero()[:, 0].tolist(),
                prefix=tuple(prefix[row].tolist()),
                allow=None
                if rule is None
                else lambda units, rule=rule[row]: set(rule[units[-1] if units else 0].nonzero()[:, 0].tolist()),
                monotonic=monotonic,
            )
            same(found[row], expected, 1e-6 if beta else 1e-12)
            stuck += any(len(h.units) < most[row] and not h.finished for h in expected)
    assert stopped > 20, "the early stop was hardly tried"
    assert stuck > 20, "dead ends were hardly tried"


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("monotonic", [False, True])
def test_a_batch_is_its_rows(cell: str, monotonic: bool) -> None:
    model = single(cell, 8, seed=5, dtype=torch.float64)
    logp, state = begun(model, 5)
    most = torch.tensor([3, 12, 7, 9, 1])
    prefix = torch.tensor([[1, 2], [-1, -1], [3, -1], [-1, 4], [5, -1]])
    never = torch.zeros(5, 8, dtype=torch.bool)
    never[1, 1:4], never[3, 2] = True, True
    options = {"end": END, "width": 4, "nbest": 3, "length_penalty": 0.6, "no_repeat": 2, "monotonic": monotonic}
    found = beam(model, logp, state, most=most, prefix=prefix, never=never, **options)
    for row in range(5):
        i = torch.tensor([row])
        (alone,) = beam(
            model, logp[i], tree.take(state, i), most=int(most[row]), prefix=prefix[i], never=never[i], **options
        )
        same(found[row], alone, 1e-9)


def falls(monotonic: bool) -> list[int]:
    """How often the best, the second and the third hypothesis are worse with one more slot, of 2,688 times."""
    fallen = [0, 0, 0]
    for seed in range(3):
        model = Table(10, seed, size=4001, ends=-2.0)
        logp, state = model.begin(128, seed)
        options = {"end": END, "most": 20, "nbest": 3, "length_penalty": seed * 0.5, "monotonic": monotonic}
        widths = [beam(model, logp, state, width=width, **options) for width in range(1, 9)]
        for narrow, wide in itertools.pairwise(widths):
            for before, after in zip(narrow, wide, strict=True):
                for i, h in enumerate(before):
                    fallen[i] += len(after) <= i or (after[i].finished, after[i].score) < (h.finished, h.score)
    return fallen


def test_a_wider_monotone_beam_is_never_worse() -> None:
    """Ordinary beam search is: for 104, 112 and 127 of the same 2,688 pairs of neighbouring widths."""
    assert falls(monotonic=True) == [0, 0, 0]
    assert min(falls(monotonic=False)) > 50, "these models cannot tell the two apart"


@pytest.mark.parametrize("cell", CELLS)
def test_a_wider_monotone_beam_is_never_worse_for_recurrences(cell: str) -> None:
    for seed in range(3):
        model = single(cell, 6, seed=10 + seed, dtype=torch.float64)
        logp, state = begun(model, 4, seed)
        before = [(False, -math.inf)] * 4
        for width in (1, 2, 3, 5, 8):
            found = beam(model, logp, state, end=END, most=8, width=width, monotonic=True)
            after = [(best[0].finished, best[0].score + 1e-9) for best in found]
            assert all(b < a for b, a in zip(before, after, strict=True))
            before = [(finished, score - 1e-9) for finished, score in after]


@pytest.mark.parametrize("cell", CELLS)
def test_nbest_are_distinct_and_sorted_and_keep_the_rules(cell: str) -> None:
    model = single(cell, 7, seed=6)
    logp, state = begun(model, 6)
    prefix = torch.tensor([[1, 2, 3], [4, -1, -1], [-1, -1, -1], [5, 5, 5], [6, 1, -1], [2, -1, 2]])
    options = {"end": END, "most": 14, "width": 6, "nbest": 6, "prefix": prefix, "least": 4, "never": torch.tensor([3])}
    repeats = 0
    for n in (0, 2, 3):
        for forced, best in zip(prefix.tolist(), beam(model, logp, state, no_repeat=n, **options), strict=True):
            assert len({h.units for h in best}) == len(best) == 6
            assert best == ranked(best)
            for h in best:
                assert all(f in (-1, u) for f, u in zip(forced, h.units, strict=False))
                assert len(h.units) >= 4
                assert END not in h.units
                assert 3 not in h.units[3:]
                free = h.units[sum(f >= 0 for f in forced) :] if n else ()
                grams = [free[i : i + n] for i in range(len(free) - n + 1)] if n else []
                assert len(set(grams)) == len(grams)
                whole = [h.units[i : i + 2] for i in range(len(h.units) - 1)]
                repeats += n == 0 and len(set(whole)) < len(whole)
    assert repeats, "these models never repeat themselves, so nothing was forbidden"
