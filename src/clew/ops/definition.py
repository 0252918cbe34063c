"""The definition of every recurrence's arithmetic, in plain torch. Kernels are faster ways to these numbers.

    B batch, T time, I input, H hidden, P projected (the size of h; H without a projection), G gates x hidden

A step takes the input's part of the pre-activations, so that a whole sequence can have it in one matrix product.
`scan` holds the rules of time that all recurrences share: padding, resets, the empty sequence.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from clew import tree
from clew.tree import State

EPSILON = 1e-5  # of layer normalisation, as torch has it


class Norm(NamedTuple):
    """Layer normalisation (Ba et al. 2016, arXiv:1607.06450, eq. 15-18, 20-22): gains of the three places."""

    input: Tensor  # (G,) on W_ih x
    hidden: Tensor  # (G,) on W_hh h
    cell: Tensor | None = None  # (H,) on c, LSTM only


class Weights(NamedTuple):
    """What a classical recurrence multiplies with; names and layout are torch's."""

    ih: Tensor  # (G, I)
    hh: Tensor  # (G, P); or (heads, G D, D), where units see those of their own head, D each
    bias_ih: Tensor | None = None  # (G,)
    bias_hh: Tensor | None = None  # (G,)
    hr: Tensor | None = None  # (P, H) LSTM's projection
    norm: Norm | None = None


class Zoneout(NamedTuple):
    """Probability that a unit keeps its old value (Krueger et al. 2017, arXiv:1606.01305, eq. 3-5).

    In training units are kept at random; else the expectation is taken, which is deterministic.
    """

    h: float = 0.0
    c: float = 0.0
    training: bool = False

    def mix(self, p: float, old: Tensor, new: Tensor) -> Tensor:
        if p == 0.0:
            return new
        if self.training:
            return torch.where(torch.rand_like(new) < p, old, new)
        return p * old + (1 - p) * new


def run(
    cell: str,
    x_BTI: Tensor,
    state: State,
    w: Weights,
    initial: State,
    lengths: Tensor | None = None,
    reset: Tensor | None = None,
    zoneout: Zoneout = Zoneout(),
) -> tuple[Tensor, State]:
    """A classical recurrence over whole sequences; `cell` is "tanh" or "relu" (Elman), "gru" or "lstm"."""
    real_BT = valid_steps(x_BTI, lengths)
    if real_BT is not None:
        x_BTI = hide_padding(x_BTI, real_BT)

    def step(gx_BG: Tensor, s: State) -> tuple[Tensor, State]:
        h, mask = s[0], s[-1]
        if cell == "lstm":
            h, c = lstm_step(gx_BG, h, s[1], seen(h, mask), w, zoneout)
            return h, (h, c, mask)
        if cell == "gru":
            h = gru_step(gx_BG, h, seen(h, mask), w, zoneout)
        else:
            h = elman_step(gx_BG, h, seen(h, mask), w, cell, zoneout)
        return h, (h, mask)

    return scan(step, input_gates(x_BTI, w), state, initial, lengths, reset, output_size=state[0].shape[-1])


def scan(
    step: Callable[[Any, State], tuple[Tensor, State]],
    x_BTI: State,
    state: State,
    initial: State,
    lengths: Tensor | None = None,
    reset: Tensor | None = None,
    output_size: int | tuple[int, ...] = 0,
) -> tuple[Tensor, State]:
    """Fold `step` over time. What it takes may be a tensor (B, T, ...) or a tuple of them.

    A padded step (t >= lengths) leaves the state exactly as it was and gives 0; a reset replaces the row's state by
    `initial` before the step. Padding is cut out with `where`, so a NaN there reaches neither numbers nor gradients.
    """
    first = next(tree.leaves(x_BTI))
    B, T = first.shape[:2]
    real_BT = valid_steps(first, lengths)
    if real_BT is not None:
        x_BTI = tree.map(lambda leaf: hide_padding(leaf, real_BT), x_BTI)
    ys = []
    for t in range(T):
        before = state if reset is None else tree.where(reset[:, t], initial, state)
        y_BH, after = step(tree.map(lambda leaf, t=t: leaf[:, t], x_BTI), before)
        if real_BT is not None:
            after = tree.where(real_BT[:, t], after, state)
            y_BH = tree.where(real_BT[:, t], y_BH, torch.zeros_like(y_BH))
        state = after
        ys.append(y_BH)
    if not ys:
        return first.new_zeros(B, 0, *(output_size if isinstance(output_size, tuple) else (output_size,))), state
    return torch.stack(ys, 1), state


def valid_steps(x: Tensor, lengths: Tensor | None) -> Tensor | None:
    """Which steps of x (B, T, ...) are real, (B, T) bool; None when all are."""
    if lengths is None:
        return None
    return torch.arange(x.shape[1], device=x.device) < lengths.to(x.device)[:, None]


def hide_padding(x_BTI: Tensor, real_BT: Tensor) -> Tensor:
    """Zeros where the padding was, whatever it held."""
    return torch.where(real_BT.view(*real_BT.shape, *[1] * (x_BTI.ndim - 2)), x_BTI, x_BTI.new_zeros(()))


def turn(x_BTI: Tensor, lengths: Tensor | None) -> Tensor:
    """Indices (B, T) that turn each row round within its length; padding stays where it is. Its own inverse."""
    B, T, _ = x_BTI.shape
    t_T = torch.arange(T, device=x_BTI.device)
    if lengths is None:
        return t_T.flip(0).expand(B, T)
    last_B1 = lengths.to(x_BTI.device, torch.int64)[:, None] - 1  # an unsigned 0 has no predecessor
    return torch.where(t_T <= last_B1, last_B1 - t_T, t_T)


def pick_steps(x_BTI: Tensor, index_BN: Tensor) -> Tensor:
    """The steps with these indices (B, N) of each row: (B, N, I)."""
    return x_BTI.gather(1, index_BN[:, :, None].expand(-1, -1, x_BTI.shape[2]))


def seen(h: Tensor, mask: State) -> Tensor:
    """h as the gates see it: dropped out by the sequence's mask, if it has one."""
    return h * mask if isinstance(mask, Tensor) else h


def from_the_end(
    run: Callable[[Tensor, Tensor | None], tuple[Tensor, State]],
    x_BTI: Tensor,
    lengths: Tensor | None,
    reset: Tensor | None,
) -> tuple[Tensor, State]:
    """`run(x, reset)` over rows turned round within their lengths; its outputs are turned back.

    A reset at t begins a piece, and ends the one before it at t - 1: read from the end, that one begins there.
    """
    turned_BT = turn(x_BTI, lengths)
    begins = None if reset is None else piece_ends(reset, lengths).gather(1, turned_BT)
    y_BTH, state = run(pick_steps(x_BTI, turned_BT), begins)
    return pick_steps(y_BTH, turned_BT), state


def piece_ends(reset: Tensor, lengths: Tensor | None) -> Tensor:
    """The steps (B, T) behind which another piece begins."""
    real_BT = valid_steps(reset, lengths)
    begins = reset if real_BT is None else reset & real_BT
    return torch.cat([begins[:, 1:], begins.new_zeros(len(begins), min(1, begins.shape[1]))], 1)


def input_gates(x: Tensor, w: Weights) -> Tensor:
    """The input's part of the pre-activations, for one step (B, I) or all (B, T, I)."""
    if w.norm is None:
        return F.linear(x, w.ih, w.bias_ih)
    gates = F.layer_norm(F.linear(x, w.ih), w.norm.input.shape, w.norm.input, None, EPSILON)
    return gates if w.bias_ih is None else gates + w.bias_ih


def hidden_gates(h_BP: Tensor, w: Weights) -> Tensor:
    """The state's part of the pre-activations, (B, G)."""
    w = joined(w)
    if w.norm is None:
        return F.linear(h_BP, w.hh, w.bias_hh)
    gates = F.layer_norm(F.linear(h_BP, w.hh), w.norm.hidden.shape, w.norm.hidden, None, EPSILON)
    return gates if w.bias_hh is None else gates + w.bias_hh


def joined(w: Weights) -> Weights:
    """The same with W_hh in one piece, 0 between heads."""
    if w.hh.ndim == 2:
        return w
    heads, GD, D = w.hh.shape
    apart = torch.eye(heads, dtype=w.hh.dtype, device=w.hh.device)
    hh = torch.einsum("ngij,nm->gnimj", w.hh.unflatten(1, (GD // D, D)), apart)
    return w._replace(hh=hh.flatten(3).flatten(0, 2))


def elman_step(gx_BH: Tensor, h_BH: Tensor, seen_BH: Tensor, w: Weights, nonlinearity: str, z: Zoneout) -> Tensor:
    """h' = f(W_ih x + b_ih + W_hh h + b_hh), f = tanh or ReLU (Elman 1990). `seen` is h as the gates see it."""
    pre_BH = gx_BH + hidden_gates(seen_BH, w)
    return z.mix(z.h, h_BH, torch.tanh(pre_BH) if nonlinearity == "tanh" else torch.relu(pre_BH))


def gru_step(gx_BG: Tensor, h_BH: Tensor, seen_BH: Tensor, w: Weights, z: Zoneout) -> Tensor:
    """Gated recurrent unit (Cho et al. 2014) in torch's form: the reset gate acts after the matrix product."""
    rx, ux, nx = gx_BG.chunk(3, -1)
    rh, uh, nh = hidden_gates(seen_BH, w).chunk(3, -1)
    r, u = torch.sigmoid(rx + rh), torch.sigmoid(ux + uh)
    n = torch.tanh(nx + r * nh)
    return z.mix(z.h, h_BH, n + u * (h_BH - n))


def slstm_step(gx_BHG: Tensor, state: State, hh_HDG: Tensor, exponential: bool) -> tuple[Tensor, State]:
    """sLSTM (Beck et al. 2024, arXiv:2405.04517, eq. 8-18), gates in the order i, f, z, o of each head; state (c, n, h,
    m), each (B, heads, D). `exponential` is the forget gate's activation, else a sigmoid."""
    c, n, h, m = state
    gates = gx_BHG + torch.bmm(h.transpose(0, 1), hh_HDG).transpose(0, 1)
    i, f, z, o = gates.chunk(4, -1)
    f = m + (f if exponential else F.logsigmoid(f))
    m = torch.maximum(f, i)
    kept, written = torch.exp(f - m), torch.exp(i - m)
    c, n = kept * c + written * torch.tanh(z), kept * n + written
    h = torch.sigmoid(o) * c / n
    return h, (c, n, h, m)


def lstm_step(
    gx_BG: Tensor, h_BP: Tensor, c_BH: Tensor, seen_BP: Tensor, w: Weights, z: Zoneout
) -> tuple[Tensor, Tensor]:
    """Long short-term memory with a forget gate (Gers et al. 2000), gates in torch's order i, f, g, o."""
    i, f, g, o = (gx_BG + hidden_gates(seen_BP, w)).chunk(4, -1)
    c = torch.sigmoid(f) * c_BH + torch.sigmoid(i) * torch.tanh(g)
    c = z.mix(z.c, c_BH, c)
    read = c if w.norm is None or w.norm.cell is None else F.layer_norm(c, c.shape[-1:], w.norm.cell, None, EPSILON)
    h = torch.sigmoid(o) * torch.tanh(read)
    if w.hr is not None:
        h = F.linear(h, w.hr)
    return z.mix(z.h, h_BP, h), c
