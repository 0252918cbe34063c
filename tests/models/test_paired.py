"""What an encoder and a decoder learn from: their own guesses among the true units, and looking twice."""

from __future__ import annotations

import pytest
import torch

from clew import config
from clew.data.pair_batch import PairBatch
from clew.data.vocabulary import fit
from clew.errors import ClewError
from clew.models.build import paired
from clew.models.paired import Paired


def model(**settings: object) -> Paired:
    torch.manual_seed(0)
    recipe = config.build(
        {
            "model": {"width": 6, "embedding": 6, "bidirectional": True, **settings.pop("model", {})},  # pyright: ignore
            "train": settings,
        }
    )
    units = fit("character", ["abcdefg"])
    return paired(recipe, units, units)


def batch() -> PairBatch:
    generator = torch.Generator().manual_seed(1)
    source, target = (torch.randint(2, 8, shape, generator=generator) for shape in ((3, 5, 1), (3, 6)))
    x = torch.cat([torch.zeros(3, 1, dtype=torch.int64), target[:, :-1]], 1)[..., None]
    return PairBatch(source, torch.tensor([5, 3, 1]), x, target, torch.tensor([6, 4, 2]))


def test_scheduled_sampling_reads_the_true_units_or_its_own() -> None:
    """At 0 all that it reads is true; at 1 it is the likeliest unit after what it has read, from the second on; and
    between them as many are its own as are asked for."""
    given, made = batch(), model()
    context = made.encode(given.source, given.source_lengths)
    made.sampling = 0.0
    assert made._own(given, context).equal(given.x)
    made.sampling = 1.0
    own = made._own(given, context)
    assert own[:, 0].equal(given.x[:, 0])
    with torch.no_grad():
        likeliest = made(own, None, context)[0].argmax(-1)
    assert own[:, 1:, 0].equal(likeliest[:, :-1])
    made.sampling, differ = 0.25, own != given.x
    shares = [(made._own(given, context) != given.x)[:, 1][differ[:, 1]].float().mean() for _ in range(200)]
    assert float(torch.stack(shares).mean()) == pytest.approx(0.25, abs=0.07)


def test_scheduled_sampling_is_of_training_alone() -> None:
    given, plain, mixed = batch(), model(), model(scheduled_sampling=0.9)
    assert plain.loss(given).equal(model(scheduled_sampling=0.0).loss(given))
    assert not plain.loss(given).equal(mixed.loss(given))
    assert plain.eval().loss(given).equal(mixed.eval().loss(given))


def test_who_looks_twice_pays() -> None:
    given, made = batch(), model(coverage=2.0)
    context = made.encode(given.source, given.source_lengths)
    weights = made.alignment(given.x, context, given.lengths).detach()
    paid = [
        sum(min(float(weights[b, t, s]), float(weights[b, :t, s].sum())) for s in range(5))
        for b, length in enumerate(given.lengths.tolist())
        for t in range(length)
    ]
    difference = (made.loss(given) - model().loss(given)).item()
    assert difference == pytest.approx(2.0 * sum(paid) / len(paid), rel=1e-5)
    assert difference > 0


@pytest.mark.parametrize(
    ("says", "settings"),
    [
        ("entropy_matching says nothing where words are copied", {"model": {"copying": True}, "entropy_matching": 0.1}),
        ("attention_heads says nothing to 'bilinear'", {"model": {"attention_heads": 2}}),
        ("attention_heads says nothing to 'none'", {"model": {"attention": "none", "attention_heads": 2}}),
        ("5 heads cannot share", {"model": {"attention": "multi_head", "attention_heads": 5}}),
    ],
)
def test_what_would_not_be_done_is_refused(says: str, settings: dict[str, object]) -> None:
    with pytest.raises(ClewError, match=says) as error:
        model(**settings)
    assert error.value.hint
