"""The laws of what reads a context: attention, and decoders over many recurrences."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from torch import nn

import clew
from clew.cells import RECURRENCES, Pointwise, Recurrence, Stack
from clew.errors import ShapeError
from clew.models.attention import Attend
from clew.models.decoder import Decoder
from clew.models.scores import SCORES, make_score
from clew.models.source import Source

DTYPES = {"float64": torch.float64, "float32": torch.float32}
I, Q, M, S, C, H = 3, 4, 4, 5, 6, 4
CELLS = ["elman", "lstm", "gru", "mingru", "mamba", "rwkv7", "mlstm", "deltanet", "attention"]


def source(score: object = None) -> Source:
    """Three rows; one is shorter than the others, one is empty."""
    generator = torch.Generator().manual_seed(0)
    real = torch.arange(S) < torch.tensor([S, 2, 0])[:, None]
    values = torch.randn(3, S, M, generator=generator) * real[..., None]
    keys = values if score is None else score.keys(values).detach()  # pyright: ignore[reportAttributeAccessIssue]
    return Source(
        values, keys, real, torch.randn(3, C, generator=generator), torch.zeros(3, S).long(), torch.zeros(3).long()
    )


def attend(name: str, query: int = Q, width: int = H) -> Attend:
    return Attend(make_score(name, query, M, heads=2 if name == "multi_head" else 0), query, M, width)


def decoder(cell: str, score: str, fixed: bool = False, feed: bool = False) -> Decoder:
    torch.manual_seed(0)
    options = {"window": 3} if cell == "attention" else {"state": 4} if cell == "mamba" else {}
    body = Stack(RECURRENCES[cell](I + fixed * C + feed * H, Q, **options))
    return Decoder(
        Pointwise(nn.Linear(I, I), I), body, C, attend=attend(score) if score else None, fixed=fixed, feed=feed
    )


def holds(cell: Recurrence, context: Source, dtype: torch.dtype) -> list[str]:
    return [str(law) for law in clew.check(cell, dtype, context=context) if not law.holds]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", SCORES)
def test_attention(name: str, dtype: str) -> None:
    torch.manual_seed(0)
    cell = attend(name)
    assert not holds(cell, source(cell.score), DTYPES[dtype])


@pytest.mark.parametrize("feed", [False, True])
@pytest.mark.parametrize(("cell", "score"), [*product(CELLS, ["bilinear"]), ("gru", "location"), ("gru", "coverage")])
def test_decoder_with_attention(cell: str, score: str, feed: bool) -> None:
    made = decoder(cell, score, feed=feed)
    assert made.attend
    assert not holds(made, source(made.attend.score), torch.float64)


@pytest.mark.parametrize("cell", CELLS)
def test_decoder_of_a_fixed_vector(cell: str) -> None:
    assert not holds(decoder(cell, "", fixed=True), source(), torch.float64)


@pytest.mark.parametrize("name", SCORES)
def test_alignments_are_those_that_were_used(name: str) -> None:
    """Recomputed from outputs and context, they are the states' own; they sum to 1, or to 0 over nothing."""
    torch.manual_seed(0)
    for feed in (False, True):
        made = decoder("gru", name, feed=feed)
        assert made.attend
        context, x = source(made.attend.score), torch.randn(3, 6, I)
        state, looked = made.init_state(3, context), []
        for x_BI in x.unbind(1):
            state = made.step(x_BI, state, context)[1]
            looked.append(state.attend.last)
        expected = torch.stack(looked, 1)
        torch.testing.assert_close(made.traced(x, None, context)[1], expected)
        torch.testing.assert_close(state.attend.seen, expected.sum(1))
        torch.testing.assert_close(expected.sum(-1), torch.tensor([1.0, 1.0, 0.0])[:, None].expand(3, 6))
        assert (expected[1, :, 2:] == 0).all()
        short = made.traced(x, None, context, lengths=torch.tensor([6, 2, 0]))[1]
        torch.testing.assert_close(short[0], expected[0])
        assert (short[1, 2:] == 0).all()


@pytest.mark.parametrize("name", SCORES)
def test_what_is_not_real_is_not_seen(name: str) -> None:
    """Other numbers behind a source change nothing, and have no gradient."""
    torch.manual_seed(0)
    cell = attend(name)
    x, context = torch.randn(3, 4, Q), source(cell.score)
    with torch.no_grad():
        plain = cell(x, None, context)[0]
    hidden = ~context.real[..., None]
    values = torch.where(hidden, 7.0, context.values).requires_grad_()
    keys = torch.where(hidden, 9.0, context.keys).requires_grad_()
    y = cell(x, None, context._replace(values=values, keys=keys))[0]
    torch.testing.assert_close(y, plain)
    y.sum().backward()
    assert values.grad is not None
    assert (values.grad.masked_select(hidden) == 0).all()


def test_no_source() -> None:
    with pytest.raises(ShapeError, match="reads a source"):
        decoder("gru", "dot")(torch.randn(3, 2, I))
