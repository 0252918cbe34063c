"""The stack against a list, action by action, and against Joulin & Mikolov's equations slot by slot."""

from __future__ import annotations

from collections import deque

import pytest
import torch
from torch import Tensor, nn

from clew.cells import GRU, LSTM, Bidirectional, Pointwise
from clew.cells.stack_memory import ACTIONS, StackMemory, shown_size
from clew.errors import ConfigError, ShapeError

B, T, DEPTH, WIDTH, STACKS = 3, 60, 4, 2, 2
F64 = torch.float64


def obedient(**options) -> StackMemory:
    """Does what x says: x holds, for each stack, three logits and two values."""
    size = STACKS * (ACTIONS + WIDTH)
    taken = nn.Linear(size + shown_size(DEPTH, WIDTH, STACKS), size, bias=False)
    cell = StackMemory(Pointwise(taken, taken.in_features, size), depth=DEPTH, width=WIDTH, stacks=STACKS, **options)
    with torch.no_grad():
        taken.weight.copy_(torch.eye(size, taken.in_features))
        cell.act.weight.copy_(torch.eye(size))
        cell.act.bias.zero_()
    return cell.to(F64).eval()


def orders(seed: int = 0) -> Tensor:
    torch.manual_seed(seed)
    return 3 * torch.randn(B, T, STACKS, ACTIONS + WIDTH, dtype=F64)


def test_whole_actions_are_those_of_a_list():
    cell, x_BTSA = obedient(hard=True), orders()
    with torch.no_grad():
        y_BTR, state = cell(x_BTSA.flatten(2))
    shown_BTSR = y_BTR[..., cell.hidden_size : -2 * STACKS].unflatten(2, (STACKS, WIDTH + 1))
    signals_BTS2 = y_BTR[..., -2 * STACKS :].unflatten(2, (STACKS, 2))
    lost = cell.lost(state)
    for b in range(B):
        for s in range(STACKS):
            stack, off, under = deque(), 0, 0
            for t in range(T):
                logits, value = x_BTSA[b, t, s].split([ACTIONS, WIDTH])
                action, overflow, underflow = int(logits.argmax()), 0, 0
                if action == 0:
                    overflow = int(len(stack) == DEPTH)
                    stack.append(value.sigmoid())
                    if overflow:
                        stack.popleft()
                elif action == 1:
                    underflow = int(not stack)
                    if stack:
                        stack.pop()
                off, under = off + overflow, under + underflow
                top = torch.cat([stack[-1], torch.ones(1, dtype=F64)]) if stack else torch.zeros(WIDTH + 1, dtype=F64)
                torch.testing.assert_close(shown_BTSR[b, t, s], top)
                assert signals_BTS2[b, t, s].tolist() == [overflow, underflow]
            assert (lost.overflow[b, s], lost.underflow[b, s]) == (off, under)
            slots = torch.stack([*reversed(stack), *[torch.zeros(WIDTH, dtype=F64)] * (DEPTH - len(stack))])
            torch.testing.assert_close(state.slots[b, s, :, :WIDTH], slots)
    assert lost.overflow.sum() > 0, "something was pushed off"
    assert lost.underflow.sum() > 0, "something was popped from nothing"


def test_soft_actions_are_those_of_the_equations():
    cell, x_BTSA = obedient(), orders()
    with torch.no_grad():
        _, state = cell(x_BTSA.flatten(2))
    for b in range(B):
        for s in range(STACKS):
            slots, totals = [torch.zeros(WIDTH + 1, dtype=F64) for _ in range(DEPTH)], torch.zeros(2, dtype=F64)
            for t in range(T):
                logits, value = x_BTSA[b, t, s].split([ACTIONS, WIDTH])
                push, pop, noop = logits.softmax(0)
                totals = totals + torch.stack([push * slots[-1][-1], pop * (1 - slots[0][-1])])
                axis = [torch.cat([value.sigmoid(), torch.ones(1, dtype=F64)]), *slots, torch.zeros_like(slots[0])]
                slots = [push * axis[i] + pop * axis[i + 2] + noop * axis[i + 1] for i in range(DEPTH)]
            torch.testing.assert_close(state.slots[b, s], torch.stack(slots))
            torch.testing.assert_close(torch.stack(cell.lost(state), -1)[b, s], totals)


def test_inner_reads_what_the_stacks_showed():
    torch.manual_seed(0)
    cell = StackMemory.around(LSTM, 3, 5, depth=4, width=2, stacks=2, reads=3).to(F64)
    x_BTI = torch.randn(B, T, 3, dtype=F64)
    y_BTR, state = cell(x_BTI)
    shown_BTR = y_BTR[..., 5:]
    before_BTR = torch.cat([torch.zeros_like(shown_BTR[:, :1]), shown_BTR[:, :-1]], 1)
    y_BTH, inner = cell.inner(torch.cat([x_BTI, before_BTR], 2))
    torch.testing.assert_close(y_BTH, y_BTR[..., :5])
    torch.testing.assert_close(inner.c, state.inner.c)
    assert cell.output_size == y_BTR.shape[2] == 5 + shown_size(4, 2, 2, 3)


def test_around_is_the_cell_in_the_right_size():
    torch.manual_seed(0)
    one = StackMemory.around(GRU, 3, 5, depth=4, width=2, noise=1.0, forget_bias=2.0)
    torch.manual_seed(0)
    other = StackMemory(GRU(3 + shown_size(4, 2), 5, forget_bias=2.0), depth=4, width=2)
    assert (one.input_size, other.input_size) == (3, 3)
    for (name, p), q in zip(one.named_parameters(), other.parameters(), strict=True):
        assert torch.equal(p, q), name


def test_noise_and_softness_are_for_training():
    torch.manual_seed(0)
    cell, x_BTI = StackMemory.around(GRU, 3, 5, depth=4, noise=1.0, hard=True), torch.randn(B, T, 3)
    assert not torch.equal(cell(x_BTI)[0], cell(x_BTI)[0])
    full_BSD = cell(x_BTI)[1].slots[..., -1]
    assert ((full_BSD > 0.01) & (full_BSD < 0.99)).any()
    cell.eval()
    assert torch.equal(cell(x_BTI)[0], cell(x_BTI)[0])
    assert set(cell(x_BTI)[1].slots[..., -1].flatten().tolist()) <= {0.0, 1.0}


@pytest.mark.parametrize(
    ("build", "kind", "says"),
    [
        (lambda: StackMemory(GRU(7, 5), width=4), ShapeError, r"takes 7 features.* show 7\n.*give it 7 more"),
        (lambda: StackMemory(nn.GRU(9, 5)), ShapeError, "takes a recurrence, got GRU"),
        (lambda: StackMemory(Bidirectional(GRU(9, 5), GRU(9, 5))), ShapeError, "takes a recurrence, got Bidirectional"),
        (lambda: StackMemory.around(GRU, 3, 5, depth=0), ShapeError, "depth must be at least 1"),
        (lambda: StackMemory.around(GRU, 3, 5, stacks=0), ShapeError, "stacks must be at least 1"),
        (lambda: StackMemory.around(GRU, 3, 5, depth=2, reads=3), ShapeError, "3 slots cannot be read of 2"),
        (lambda: StackMemory.around(GRU, 3, 5, noise=-1.0), ConfigError, "noise must be at least 0"),
    ],
)
def test_what_does_not_fit_is_refused(build, kind, says):
    with pytest.raises(kind, match=says):
        build()
