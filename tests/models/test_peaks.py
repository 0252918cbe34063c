"""Peaks of a probability: one step at a time, in any chunks, with lengths and resets, and by their definition."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from clew.cells import LSTM
from clew.models.detector import Detector
from clew.models.heads.events import EventHead
from clew.models.peaks import Peaks

WAITS = (0, 1, 3)


def made(wait: int, threshold: float = 0.4) -> Peaks:
    peaks = Peaks(wait)
    peaks.threshold.fill_(threshold)
    return peaks


def some(B: int = 3, T: int = 40) -> Tensor:
    """With equal neighbours among them."""
    return (torch.rand(B, T, 1, generator=torch.Generator().manual_seed(0)) * 8).round() / 8


def by_definition(p: np.ndarray, wait: int, threshold: float) -> list[int]:
    found = []
    for t, height in enumerate(p):
        before, after = p[max(0, t - wait) : t], p[t + 1 : t + 1 + wait]
        if height >= threshold and (before < height).all() and (after <= height).all():
            found.append(t)
    return found


@pytest.mark.parametrize("wait", WAITS)
def test_whole_sequences(wait: int) -> None:
    for p in some()[..., 0]:
        expected = by_definition(p.numpy(), wait, 0.4)
        assert np.flatnonzero(made(wait).whole(p)).tolist() == expected
        assert expected
        assert min(np.diff(expected), default=99) > wait


@pytest.mark.parametrize("wait", WAITS)
def test_a_stream_says_it_later(wait: int) -> None:
    p, peaks = some(), made(wait)
    y, state = peaks(p)
    whole = torch.stack([peaks.whole(row) for row in p[..., 0]])
    assert torch.equal(y[:, wait:, 0] > 0, whole[:, : p.shape[1] - wait])
    assert not y[:, :wait].any()
    s, steps = peaks.init_state(3), []
    for t in range(p.shape[1]):
        out, s = peaks.step(p[:, t], s)
        steps.append(out)
    assert torch.equal(torch.stack(steps, 1), y)
    assert torch.equal(s, state)
    s, chunks = None, []
    for chunk in p.split([1, 0, 2, 30, 7], 1):
        out, s = peaks(chunk, s)
        chunks.append(out)
    assert torch.equal(torch.cat(chunks, 1), y)
    assert torch.equal(s, state)


@pytest.mark.parametrize("wait", WAITS)
def test_lengths_and_resets(wait: int) -> None:
    p, peaks, lengths = some(), made(wait), torch.tensor([40, 17, 1])
    hidden = torch.where(torch.arange(40)[None, :, None] < lengths[:, None, None], p, torch.nan)
    y, state = peaks(hidden, lengths=lengths)
    for b, n in enumerate(lengths.tolist()):
        alone, s = peaks(p[b : b + 1, :n])
        assert torch.equal(y[b, :n], alone[0])
        assert torch.equal(state[b], s[0])
        assert not y[b, n:].any()
    reset = torch.zeros(3, 40, dtype=torch.bool)
    reset[:, 20] = True
    parts = torch.cat([peaks(p[:, :20])[0], peaks(p[:, 20:])[0]], 1)
    assert torch.equal(peaks(p, reset=reset)[0], parts)


def test_a_detector_steps_as_it_reads() -> None:
    torch.manual_seed(0)
    model = Detector(LSTM(2, 5), EventHead(5, 0.5), made(2, 0.5)).eval()
    x = torch.randn(2, 30, 2) * 3
    y, _ = model(x)
    state, steps = model.init_state(2), []
    for t in range(30):
        out, state = model.step(x[:, t], state)
        steps.append(out)
    torch.testing.assert_close(torch.stack(steps, 1), y)
    assert y[..., 1].any()


def test_the_loss() -> None:
    """Cross-entropy at focal 0; what is right counts less above; the weight is that of events."""
    y, target = torch.tensor([[2.0], [-1.0], [0.5]]), torch.tensor([[1.0], [0.0], [0.3]])

    def head(weight: float = 1.0, focal: float = 0.0) -> EventHead:
        made = EventHead(1, 0.5, weight, focal)
        torch.nn.init.ones_(made.readout.weight)
        return made

    p = head().predict(y)
    of_events, of_others = -target * p.log(), -(1 - target) * (1 - p).log()
    torch.testing.assert_close(head().loss(y, target), (of_events + of_others).mean())
    torch.testing.assert_close(head(3.0).loss(y, target), (3 * of_events + of_others).mean())
    focal = ((target - p).abs() ** 2 * (of_events + of_others)).mean()
    torch.testing.assert_close(head(focal=2.0).loss(y, target), focal)
    assert float(EventHead(1, 0.01).readout.bias.detach().sigmoid()) == pytest.approx(0.01)
