"""A law that never fails proves nothing: for each, cells broken on purpose, and the law seen to fail on them.

Every entry names exactly which laws its mistake breaks; all others must still hold, so that a failing law also says
what is wrong.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import clew
from clew.cells import GRU, LSTM, Bidirectional, Recurrence, Stack, fold
from clew.diagnose.laws import LAWS, Trial, difference
from clew.ops import definition as ref
from clew.ops import native, torch_own


class Plain(Recurrence):
    """h' = tanh(W x + U h + b) with a learned start, correct: what the broken ones are made from."""

    def __init__(self, input_size: int = 3, hidden_size: int = 4) -> None:
        super().__init__(input_size, hidden_size)
        self.w, self.u = nn.Linear(input_size, hidden_size), nn.Linear(hidden_size, hidden_size, bias=False)
        self.h_0 = nn.Parameter(torch.randn(hidden_size))

    def init_state(self, batch_size, context=None):
        return self.h_0.expand(batch_size, -1)

    def step(self, x_BI, state, context=None):
        h = torch.tanh(self.w(x_BI) + self.u(state))
        return h, h


class IgnoresState(Plain):
    def forward(self, x, state=None, context=None, *, lengths=None, reset=None):
        return super().forward(x, None, lengths=lengths, reset=reset)


class LooksAtT(Plain):
    def forward(self, x, state=None, context=None, *, lengths=None, reset=None):
        y, state = super().forward(x, state, lengths=lengths, reset=reset)
        return y / max(x.shape[1], 1), state


class Scaled(Plain):
    def forward(self, x, state=None, context=None, *, lengths=None, reset=None):
        y, state = super().forward(x, state, lengths=lengths, reset=reset)
        return y * (1 + 1e-8), state


class TwiceTheGradient(torch.autograd.Function):
    """The identity, whose gradient is wrong."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        return 2 * grad


class WrongGradient(Plain):
    def forward(self, x, state=None, context=None, *, lengths=None, reset=None):
        y, state = super().forward(x, state, lengths=lengths, reset=reset)
        return TwiceTheGradient.apply(y), state


class NoGradientIntoState(Plain):
    """A truncation nobody asked for: the numbers agree, what the first state is told does not."""

    def forward(self, x, state=None, context=None, *, lengths=None, reset=None):
        state = self.init_state(x.shape[0]) if state is None else state
        return super().forward(x, state.detach(), lengths=lengths, reset=reset)


class ShortChunks(Plain):
    """A convolution's mistake: a chunk shorter than the kernel starts from nothing."""

    def forward(self, x, state=None, context=None, *, lengths=None, reset=None):
        short = lengths is None and reset is None and x.shape[1] == 2
        return super().forward(x, None if short else state, lengths=lengths, reset=reset)


class EmptyForgets(Plain):
    def forward(self, x, state=None, context=None, *, lengths=None, reset=None):
        y, after = super().forward(x, state, lengths=lengths, reset=reset)
        return y, after if x.shape[1] else self.init_state(x.shape[0])


class DecaysInPadding(Plain):
    """The padded step is run, on zeros."""

    def forward(self, x, state=None, context=None, *, lengths=None, reset=None):
        state, initial = self.begin(x, state, context, lengths, reset)
        real = ref.valid_steps(x, lengths)
        y, after = fold(self, x if real is None else ref.hide_padding(x, real), state, initial, reset=reset)
        return (y if real is None else ref.hide_padding(y, real)), after


class FullOutputInPadding(Plain):
    def forward(self, x, state=None, context=None, *, lengths=None, reset=None):
        y, after = super().forward(x, state, lengths=lengths, reset=reset)
        real = ref.valid_steps(x, lengths)
        return (y if real is None else torch.where(real[:, :, None], y, 1e-3)), after


class MasksByMultiplying(Plain):
    """0 x NaN is NaN."""

    def forward(self, x, state=None, context=None, *, lengths=None, reset=None):
        if lengths is None:
            return super().forward(x, state, reset=reset)
        real, ys = ref.valid_steps(x, lengths)[:, :, None].to(x.dtype), []
        for t in range(x.shape[1]):
            y, after = self.step(x[:, t] * real[:, t], state)
            state = real[:, t] * after + (1 - real[:, t]) * state
            ys.append(y * real[:, t])
        return torch.stack(ys, 1), state


class NaNInGradientsOnly(Plain):
    """Numbers are chosen with `where`, but what is not chosen was computed from NaN, and 0 x NaN comes back."""

    def forward(self, x, state=None, context=None, *, lengths=None, reset=None):
        state, initial = self.begin(x, state, context, lengths, reset)
        real, ys = ref.valid_steps(x, lengths), []
        for t in range(x.shape[1]):
            before = state if reset is None else torch.where(reset[:, t, None], initial, state)
            y, after = self.step(x[:, t], before)
            state = after if real is None else torch.where(real[:, t, None], after, before)
            ys.append(y if real is None else torch.where(real[:, t, None], y, 0.0))
        return (torch.stack(ys, 1) if ys else x.new_zeros(x.shape[0], 0, self.output_size)), state


class ResetMultiplies(Plain):
    """(1 - r) h + r h_0 keeps a NaN alive."""

    def forward(self, x, state=None, context=None, *, lengths=None, reset=None):
        state, initial = self.begin(x, state, context, lengths, reset)
        if reset is None:
            return fold(self, x, state, initial, lengths=lengths)
        ys = []
        for t in range(x.shape[1]):
            r = reset[:, t, None].to(x.dtype)
            y, state = self.step(x[:, t], (1 - r) * state + r * initial)
            ys.append(y)
        return torch.stack(ys, 1), state


class ResetsToZero(Plain):
    """The learned start is forgotten."""

    def forward(self, x, state=None, context=None, *, lengths=None, reset=None):
        state, initial = self.begin(x, state, context, lengths, reset)
        return fold(self, x, state, torch.zeros_like(initial), lengths=lengths, reset=reset)


class ResetsOneStepLate(Plain):
    def forward(self, x, state=None, context=None, *, lengths=None, reset=None):
        return super().forward(x, state, lengths=lengths, reset=None if reset is None else reset.roll(1, 1))


class IgnoresReset(Plain):
    def forward(self, x, state=None, context=None, *, lengths=None, reset=None):
        return super().forward(x, state, lengths=lengths)


class BatchMean(Plain):
    def step(self, x_BI, state, context=None):
        h, _ = super().step(x_BI, state)
        return h - h.mean(0), h - h.mean(0)


class LeaksNaN(Plain):
    """The numbers are right until a neighbour breaks."""

    def step(self, x_BI, state, context=None):
        h, _ = super().step(x_BI, state)
        h = h + 0 * h.detach().sum(0)
        return h, h


class Peeks(Plain):
    """y[t] holds x[t + 1]."""

    def forward(self, x, state=None, context=None, *, lengths=None, reset=None):
        y, after = super().forward(x, state, lengths=lengths, reset=reset)
        return y + torch.cat([x[:, 1:, :1], torch.zeros_like(x[:, :1, :1])], 1), after


class NormalisesOverTime(Plain):
    """Each output is measured against the whole sequence."""

    def forward(self, x, state=None, context=None, *, lengths=None, reset=None):
        y, after = super().forward(x, state, lengths=lengths, reset=reset)
        return y - y.sum(1, keepdim=True) / 10, after


BROKEN: dict[type[Plain], set[str]] = {
    IgnoresState: {"fold", "split"},
    LooksAtT: {"fold", "split", "padding", "reset"},
    Scaled: {"fold"},
    WrongGradient: {"fold"},
    NoGradientIntoState: {"fold", "split", "reset"},
    ShortChunks: {"split"},
    EmptyForgets: {"split", "padding"},
    DecaysInPadding: {"padding"},
    FullOutputInPadding: {"padding"},
    MasksByMultiplying: {"padding"},
    NaNInGradientsOnly: {"padding"},
    ResetMultiplies: {"reset"},
    ResetsToZero: {"reset"},
    ResetsOneStepLate: {"reset"},
    IgnoresReset: {"reset"},
    BatchMean: {"batch", "padding", "reset"},
    LeaksNaN: {"batch", "reset"},  # the row takes its own NaN back from its neighbours
    Peeks: {"fold", "split", "padding", "reset", "causal"},
    NormalisesOverTime: {"fold", "split", "padding", "reset", "causal"},
}


def broken_laws(cell: Recurrence, **options) -> set[str]:
    torch.manual_seed(0)
    return {law.law for law in clew.check(cell, **options) if not law.holds}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_what_is_right_passes(dtype: torch.dtype) -> None:
    assert broken_laws(Plain(), dtype=dtype) == set()


@pytest.mark.parametrize("cell", BROKEN, ids=lambda cell: cell.__name__)
def test_the_right_law_fails(cell: type[Plain]) -> None:
    assert broken_laws(cell()) == BROKEN[cell]


@pytest.mark.parametrize(
    "cell", [IgnoresState, LooksAtT, WrongGradient, DecaysInPadding, ResetMultiplies, BatchMean, Peeks]
)
def test_a_broken_layer_breaks_its_stack(cell: type[Plain]) -> None:
    assert broken_laws(Stack(LSTM(3, 4), cell(4, 3))) >= BROKEN[cell] - {"padding"}
    assert BROKEN[cell] <= broken_laws(Stack(cell(3, 4), GRU(4, 3)))


def test_wrong_gradients_alone_are_seen() -> None:
    """Outputs and states of the cell agree bit for bit, so that only the gradients can have given it away."""
    trial = Trial(WrongGradient(), torch.float64, 0)
    y, final = trial.whole(trial.x, trial.state)
    y_plain, final_plain = Plain.forward(trial.cell, trial.x, trial.state[0])
    assert torch.equal(y, y_plain)
    assert torch.equal(final[0], final_plain)


def test_a_nan_is_the_largest_difference() -> None:
    assert not difference([torch.tensor([float("nan")])], [torch.zeros(1)]) <= 1.0
    assert difference([torch.zeros(2)], [torch.zeros(3)]) == float("inf")


class DoubledGates(torch.autograd.Function):
    """What follows is right, what goes back is not."""

    @staticmethod
    def forward(ctx, h):
        return h.clone()

    @staticmethod
    def backward(ctx, grad):
        return grad * (1 + 1e-6)


def _slightly_off(kernel: Callable) -> Callable:
    def wrong(x, h, w):
        y, h = kernel(x, h, w)
        return y * (1 + 1e-8), h

    return wrong


def _wrong_gradient_of_state(kernel: Callable) -> Callable:
    return lambda x, h, w: kernel(x, DoubledGates.apply(h), w)


def _wrong_gradient_of_x(kernel: Callable) -> Callable:
    return lambda x, h, w: kernel(DoubledGates.apply(x), h, w)


def _wrong_gradient_of_weights(kernel: Callable) -> Callable:
    return lambda x, h, w: kernel(x, h, w._replace(hh=DoubledGates.apply(w.hh)))


def _wrong_at_one_step(kernel: Callable) -> Callable:
    def wrong(x, h, w):
        y, h = kernel(x, h, w)
        return (y + 1e-3 if x.shape[1] == 1 else y), h

    return wrong


def _takes_strides_for_granted(kernel: Callable) -> Callable:
    def wrong(x, h, w):
        return kernel(x if x.is_contiguous() else x.as_strided(x.shape, torch.empty(x.shape).stride()), h, w)

    return wrong


@pytest.mark.parametrize(
    "fault",
    [
        _slightly_off,
        _wrong_gradient_of_state,
        _wrong_gradient_of_x,
        _wrong_gradient_of_weights,
        _wrong_at_one_step,
        _takes_strides_for_granted,
    ],
)
def test_a_wrong_kernel_breaks_the_law_of_kernels(fault: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    cell = GRU(3, 4)
    assert LAWS["kernel"](Trial(cell, torch.float64, 0)) <= 1e-10
    monkeypatch.setattr(native, "takes", lambda *_: False)  # torch's own kernel is faulty here
    monkeypatch.setattr(torch_own, "gru", fault(torch_own.gru))
    found = broken_laws(cell)
    assert "kernel" in found
    assert not found & {"batch", "causal"}
    assert broken_laws(LSTM(3, 4)) == set()


def test_a_wrong_kernel_is_seen_inside_an_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "takes", lambda *_: False)
    monkeypatch.setattr(torch_own, "gru", _slightly_off(torch_own.gru))
    assert "kernel" in broken_laws(Bidirectional(GRU(3, 4), GRU(3, 4)))


def _forgetful(cell: Recurrence) -> Callable:
    return lambda x, state: (cell.step(x, state)[0], state)


def _rounded(cell: Recurrence) -> Callable:
    def step(x: Tensor, state):
        y, after = cell.step(x, state)
        return y.float().double(), after

    return step


def _stale(cell: Recurrence) -> Callable:
    other = LSTM(3, 4).double()
    other.load_state_dict(cell.state_dict())
    with torch.no_grad():
        other.bias_ih[0] += 1e-6
    return other.step


def _leaves_swapped(cell: Recurrence) -> Callable:
    def step(x: Tensor, state):
        y, after = cell.step(x, state)
        return y, type(after)(after.c, after.h)

    return step


@pytest.mark.parametrize("fault", [_forgetful, _rounded, _stale, _leaves_swapped])
def test_a_wrong_export_breaks_its_law_alone(fault: Callable) -> None:
    cell = LSTM(3, 4).double()
    assert broken_laws(cell, exported=cell.step) == set()
    assert broken_laws(cell, exported=fault(cell)) == {"export"}


class EncoderIgnoresLengths(Bidirectional):
    def forward(self, x, context=None, *, lengths=None, reset=None):
        y, final = super().forward(x if lengths is None else x.nan_to_num(), reset=reset)
        return (y if lengths is None else ref.hide_padding(y, ref.valid_steps(x, lengths))), final


class EncoderCutsOneWayOnly(Bidirectional):
    """The backward pass reads on across the reset."""

    def forward(self, x, context=None, *, lengths=None, reset=None):
        y, final = super().forward(x, lengths=lengths, reset=reset)
        whole, _ = super().forward(x, lengths=lengths)
        F = self.forwards.output_size
        return torch.cat([y[..., :F], whole[..., F:]], -1), final


@pytest.mark.parametrize(("encoder", "law"), [(EncoderIgnoresLengths, "padding"), (EncoderCutsOneWayOnly, "reset")])
def test_broken_encoders(encoder: type[Bidirectional], law: str) -> None:
    assert broken_laws(encoder(GRU(3, 4), GRU(3, 4))) == {law}


def test_every_law_has_been_seen_to_fail() -> None:
    seen = set().union(*BROKEN.values()) | {"kernel", "export"}
    assert seen == set(LAWS) | {"export"}
