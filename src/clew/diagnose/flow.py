"""How gradients flow back through time, and how far a change of an input is felt.

of_inputs   norm of d loss / d x_l[T-k], by lag k, of what each layer l reads
of_states   norm of d loss / d s_l[T-k], by lag k, of each layer's state
felt        how much the prediction at T moves where another input stands at T-k: what the model remembers, for inputs
            of any kind, and by differences of their real size
horizon     the last lag at which such a curve has a share of its greatest height

(Pascanu, Mikolov & Bengio 2013, arXiv:1211.5063, section 2.1.) All of it in evaluation mode, of the loss or prediction
at the last step alone. Norms are root mean squares over rows.

B batch, T steps, I input size, W width of an output
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from clew import tree
from clew.cells import Encoder, Recurrence, Stack
from clew.cells.compose import EncoderStack
from clew.cells.pool import BothEnds, Pool
from clew.models.anchored import Anchored
from clew.tree import State

SHARE, FELT = 0.01, 0.1  # of its greatest height, under which a gradient is called gone, and a change of an input
DENSE = 128  # lags that are all looked at

Score = Callable[[Tensor], Tensor]  # outputs (B, W) of the last step to a loss of each row, (B,), or to their sum


def layers_of(body: Recurrence | Encoder) -> list[tuple[str, Recurrence | Encoder]]:
    """The layers of a stack by name, or the one that it is."""
    return [(f"{number} {_name(part)}", part) for number, part in enumerate(_parts(body), 1)]


def _parts(body: Recurrence | Encoder) -> list[Recurrence | Encoder]:
    if isinstance(body, Anchored):
        return _parts(body.inner)
    return [part for layer in _stacked(body) for part in _parts(layer)] or [body]


def _stacked(body: Recurrence | Encoder) -> list[Recurrence | Encoder]:
    """The layers of a stack; none of what is no stack."""
    layers = body.layers if isinstance(body, Stack | EncoderStack) else ()
    return [layer for layer in layers if isinstance(layer, Recurrence | Encoder)]


def parts_of(body: Recurrence, state: State) -> list[State]:
    """The states of `layers_of`, in their order."""
    if isinstance(body, Anchored):
        return parts_of(body.inner, state.inner)
    if isinstance(body, Stack):
        return [part for layer, own in zip(body.layers, state, strict=True) for part in parts_of(layer, own)]
    return [state]


def unpooled(body: Recurrence | Encoder) -> Recurrence | Encoder:
    """The same without a pool at its end, through which every step is one step away."""
    *below, last = _stacked(body) or [body]
    if not below or not isinstance(last, Pool | BothEnds):
        return body
    return Stack(*below)  # pyright: ignore[reportArgumentType]  # of encoders an EncoderStack


@contextmanager
def watched(body: Recurrence | Encoder, *, gradient: bool = False) -> Iterator[dict[str, Tensor]]:
    """Inside this block what each of `layers_of` reads, (B, T, ...), is kept by name; with `gradient` there is one with
    respect to it, but for units of text, which have none."""
    found: dict[str, Tensor] = {}

    def watch(name: str) -> Callable[..., Any]:
        def hook(module: nn.Module, given: tuple[Any, ...]) -> tuple[Any, ...]:
            x = given[0]
            if gradient and x.is_floating_point() and not x.requires_grad:
                x = x.detach().clone().requires_grad_()
            found[name] = x
            return (x, *given[1:])

        return hook

    hooks = [layer.register_forward_pre_hook(watch(name)) for name, layer in layers_of(body)]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


def mixed(width: int) -> Score:
    """A score where there is no loss to take: a random mix of the outputs."""
    mix = torch.randn(width, generator=torch.Generator().manual_seed(0)) / math.sqrt(width)
    return lambda y_BW: y_BW @ mix.to(y_BW)


def of_inputs(body: Recurrence | Encoder, x_BTI: Tensor, score: Score | None = None) -> dict[str, list[float]]:
    """By layer the norm at lags 0, 1, ..., T - 1. A layer that reads units of text is left out: they have no gradient.

    Args:
        score: of the outputs at the last step; a random mix of them when None.
    """
    body.eval()
    with watched(body, gradient=True) as found:
        y_BTW = body(x_BTI)[0]
    wanted = {name: x for name, x in found.items() if x.requires_grad}
    loss = (score or mixed(body.output_size))(y_BTW[:, -1]).sum()
    gradients = torch.autograd.grad(loss, list(wanted.values()))
    return {
        name: [norm(g_BI[:, None]) for g_BI in g_BTI.flip(1).unbind(1)]
        for name, g_BTI in zip(wanted, gradients, strict=True)
    }


def of_states(
    body: Recurrence, x_BTI: Tensor, lags: Sequence[int], score: Score | None = None
) -> dict[str, list[float]]:
    """By layer the norm at these lags, from 1 to T; of layers that have a state."""
    body.eval()
    score = score or mixed(body.output_size)
    found: dict[str, list[float]] = {}
    for lag, state in zip(lags, states_before(body, x_BTI, lags), strict=True):
        leaf = tree.map(lambda s: s.detach().requires_grad_(s.is_floating_point()), state)
        y_BTW, _ = body(x_BTI[:, x_BTI.shape[1] - lag :], leaf)
        parts = parts_of(body, leaf)
        loss = score(y_BTW[:, -1]).sum()
        for (name, _), part in zip(layers_of(body), parts, strict=True):
            wanted = [s for s in tree.leaves(part) if s.requires_grad]
            if wanted:
                gradients = torch.autograd.grad(loss, wanted, retain_graph=True, allow_unused=True)
                sizes = [norm(g[:, None]) for g in gradients if g is not None]
                found.setdefault(name, []).append(math.hypot(*sizes))
    return found


@torch.no_grad()
def felt(body: Recurrence, predict: Score, x_BTI: Tensor, lags: Sequence[int]) -> list[float]:
    """How far the prediction at the last step moves, by lag, where the input so many steps before is another row's.

    Where inputs are numbers, each lag is weighed by how large its changes happened to be beside those of the others.

    Args:
        predict: outputs (B, W) to predictions (B, P).
        lags: from 0 to T - 1.
    """
    body.eval()
    T, found = x_BTI.shape[1], []
    whole_BP = predict(body(x_BTI)[0][:, -1])
    sizes_T = (x_BTI - x_BTI.roll(1, 0)).double().square().sum(-1).mean(0).sqrt()
    usual = float(sizes_T.mean())
    for lag, state in zip(lags, states_before(body, x_BTI, [lag + 1 for lag in lags]), strict=True):
        rest_BTI = x_BTI[:, T - lag - 1 :].clone()
        rest_BTI[:, 0] = rest_BTI[:, 0].roll(1, 0)
        moved_BP = predict(body(rest_BTI, state)[0][:, -1])
        size = float(sizes_T[T - lag - 1]) if x_BTI.is_floating_point() else usual
        moved = float((moved_BP - whole_BP).square().sum(-1).mean().sqrt())
        found.append(moved * usual / size if size else 0.0)
    return found


@torch.no_grad()
def states_before(body: Recurrence, x_BTI: Tensor, lags: Sequence[int]) -> list[State]:
    """The states so many steps before the end, in the order of the lags."""
    T, state = x_BTI.shape[1], body.init_state(len(x_BTI))
    at: dict[int, State] = {}
    cuts = sorted({0, *(T - lag for lag in lags)})
    for begin, end in pairwise([*cuts, T]):
        at[begin] = state
        if end > begin:
            state = body(x_BTI[:, begin:end], state)[1]
    at[T] = state
    return [at[T - lag] for lag in lags]


def norm(gradient_BTI: Tensor) -> float:
    """Root mean square over rows of the norm of what each has."""
    return math.sqrt(float(gradient_BTI.double().square().sum()) / len(gradient_BTI))


def horizon(lags: Sequence[int], curve: Sequence[float], share: float = SHARE) -> float:
    """The last lag at which the curve has this share of its greatest height; infinite where that is the last of all, or
    where the curve is not finite; 0 where there is nothing to fall."""
    if not all(map(math.isfinite, curve)):
        return math.inf
    top = max(curve, default=0.0)
    if not top > 0:
        return 0.0
    last = max(lag for lag, value in zip(lags, curve, strict=True) if value >= share * top)
    return math.inf if last == lags[-1] and last > 0 else float(last)


def lags_up_to(most: int) -> list[int]:
    """Lags from 0 to `most`: each of the first, and then ever wider apart."""
    lags = list(range(min(most, DENSE) + 1))
    while lags[-1] < most:
        lags.append(min(most, math.ceil(lags[-1] * 1.04)))
    return lags


def _name(layer: nn.Module) -> str:
    inner = getattr(layer, "layer", getattr(layer, "inner", None))
    return type(layer).__name__.lower() + (f" {_name(inner)}" if isinstance(inner, nn.Module) else "")
