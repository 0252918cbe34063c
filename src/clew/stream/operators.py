"""torch's operators as the operations of a Program: each takes the Program, where the result goes, and what torch gave.

A function gives back a tensor where the result stands elsewhere than in the place that was meant for it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from clew.errors import ClewError
from clew.stream.fuse import Op
from clew.stream.program import OWN_STEP, Program

Number = Tensor | float
OPERATORS: dict[str, Callable[..., Tensor | None]] = {}


def operator(*names: str) -> Callable[[Callable[..., Tensor | None]], Callable[..., Tensor | None]]:
    def listed(function: Callable[..., Tensor | None]) -> Callable[..., Tensor | None]:
        OPERATORS.update(dict.fromkeys(names, function))
        return function

    return listed


def simple(op: Op, count: int) -> Callable[..., None]:
    """An operation of the first `count` arguments."""

    def noted(p: Program, to: Tensor, *args: Any, **kwargs: Any) -> None:
        beside = next((a for a in args[:count] if isinstance(a, Tensor) and a.is_floating_point()), to)
        p.view(op, to, *(p.operand(a, beside) for a in args[:count]))

    return noted


for _op, _names in {
    Op.COPY: "clone _to_copy lift_fresh_copy contiguous",
    Op.NOT: "bitwise_not logical_not",
    Op.OF_TANH: "tanh",
    Op.OF_RELU: "relu",
    Op.LOG_SIGMOID: "log_sigmoid_forward",
    **{Op[n.upper()]: n for n in ("neg", "abs", "exp", "expm1", "exp2", "log", "log1p", "sqrt", "rsqrt", "reciprocal")},
    **{Op[n.upper()]: n for n in ("sin", "cos", "sigmoid", "silu")},
}.items():
    OPERATORS |= dict.fromkeys(_names.split(), simple(_op, 1))

for _op, _names in {
    Op.POW: "pow",
    Op.LARGER: "maximum clamp_min",
    Op.SMALLER: "minimum clamp_max",
    Op.AND: "bitwise_and logical_and",
    Op.OR: "bitwise_or logical_or",
    **{Op[n.upper()]: n for n in ("mul", "div", "eq", "ne", "lt", "le", "gt", "ge")},
}.items():
    OPERATORS |= dict.fromkeys(_names.split(), simple(_op, 2))

OPERATORS["where"] = simple(Op.WHERE, 3)


@operator(*(f"{how}_like" for how in ("zeros", "ones", "full")), *(f"new_{how}" for how in ("zeros", "ones", "full")))
def _constant(p: Program, to: Tensor, *args: Any, **kwargs: Any) -> None:
    p.view(Op.COPY, to, p.hold(to))  # anew at each step, as something may be added to it


@operator("add")
def _add(p: Program, to: Tensor, a: Number, b: Number, alpha: float = 1) -> None:
    if alpha == 1:
        p.view(Op.ADD, to, p.operand(a, to), p.operand(b, to))
    else:
        p.view(Op.MULTIPLY_ADD, to, p.operand(a), p.operand(b, to), p.operand(alpha, to))


@operator("sub")
def _sub(p: Program, to: Tensor, a: Number, b: Number, alpha: float = 1) -> None:
    if alpha == 1:
        p.view(Op.SUB, to, p.operand(a, to), p.operand(b, to))
    else:
        _add(p, to, a, b, -alpha)


@operator("rsub")
def _rsub(p: Program, to: Tensor, a: Number, b: Number, alpha: float = 1) -> None:
    _sub(p, to, b, a, alpha)


@operator("addcmul")
def _addcmul(p: Program, to: Tensor, x: Tensor, a: Tensor, b: Tensor, value: float = 1) -> None:
    x, a, b = (p.operand(t) for t in (x, a, b))
    if value == 1:
        p.view(Op.MULTIPLY_ADD, to, x, a, b)
    else:
        p.view(Op.MUL, to, a, b)
        p.view(Op.MULTIPLY_ADD, to, x, to, p.operand(value, to))


@operator("pow")
def _pow(p: Program, to: Tensor, x: Number, exponent: Number) -> None:
    x = p.operand(x, to)
    if exponent == 2 and not isinstance(exponent, Tensor):
        p.view(Op.MUL, to, x, x)
    else:
        p.view(Op.POW, to, x, p.operand(exponent, to))


@operator("clamp", "hardtanh")
def _clamp(p: Program, to: Tensor, x: Tensor, min: Number | None = None, max: Number | None = None) -> None:
    x = p.operand(x)
    for op, bound in ((Op.LARGER, min), (Op.SMALLER, max)):
        if bound is not None:
            p.view(op, to, x, p.operand(bound, to))
            x = to


@operator("masked_fill")
def _masked_fill(p: Program, to: Tensor, x: Tensor, mask: Tensor, value: Number) -> None:
    p.view(Op.WHERE, to, p.operand(mask), p.operand(value, to), p.operand(x))


@operator("copy")
def _copy(p: Program, to: Tensor, x: Tensor, source: Tensor, non_blocking: bool = False) -> None:
    p.view(Op.COPY, to, p.operand(source))


@operator("gelu")
def _gelu(p: Program, to: Tensor, x: Tensor, approximate: str = "none") -> None:
    if approximate == "none":
        return p.view(Op.GELU, to, p.operand(x))
    # x sigmoid(2 u), u = sqrt(2 / pi) (x + 0.044715 x^3) (Hendrycks & Gimpel 2016, arXiv:1606.08415, section 2)
    scale, x = 2 * (2 / torch.pi) ** 0.5, p.operand(x)
    p.view(Op.MUL, to, x, x)
    p.view(Op.MULTIPLY_ADD, to, p.operand(scale), to, p.operand(0.044715 * scale))
    p.view(Op.MUL, to, to, x)
    p.view(Op.SIGMOID, to, to)
    return p.view(Op.MUL, to, to, x)


@operator("softplus")
def _softplus(p: Program, to: Tensor, x: Tensor, beta: float = 1, threshold: float = 20) -> None:
    x = p.operand(x)
    if beta != 1:
        p.view(Op.MUL, to, x, p.operand(beta, to))
        x = to
    p.view(Op.SOFTPLUS, to, x)
    if beta != 1:
        p.view(Op.DIV, to, to, p.operand(beta, to))


# --------------------------------------------------------------------------------------------------------- reductions


def _kept(to: Tensor, x: Tensor, dim: Any, keepdim: bool) -> Tensor:
    """Where the result goes, with the dimensions that are summed over."""
    dims = range(x.ndim) if dim is None or dim == [] else [dim] if isinstance(dim, int) else dim
    if not keepdim:
        for d in sorted(d % x.ndim for d in dims):
            to = to.unsqueeze(d)
    return to


@operator("sum")
def _sum(p: Program, to: Tensor, x: Tensor, dim: Any = None, keepdim: bool = False, dtype: Any = None) -> None:
    p.view(Op.SUM, _kept(to, x, dim, keepdim), x)


@operator("mean")
def _mean(p: Program, to: Tensor, x: Tensor, dim: Any = None, keepdim: bool = False, dtype: Any = None) -> None:
    p.view(Op.SUM, _kept(to, x, dim, keepdim), x)
    p.view(Op.MUL, to, to, p.operand(to.numel() / max(1, x.numel())))


@operator("amax")
def _amax(p: Program, to: Tensor, x: Tensor, dim: Any = (), keepdim: bool = False) -> None:
    p.view(Op.MOST, _kept(to, x, list(dim), keepdim), x)


@operator("_log_softmax")
def _log_softmax(p: Program, to: Tensor, x: Tensor, dim: int, half: bool) -> Tensor:
    rows = p.dense(x.movedim(dim, -1))
    out = p.hold(rows)
    p.over_rows(Op.LOG_SOFTMAX, out, rows.shape[-1], rows=rows[..., 0].numel(), x=rows)
    return out.movedim(-1, dim)


@operator("_softmax")
def _softmax(p: Program, to: Tensor, x: Tensor, dim: int, half: bool) -> None:
    logarithms = _log_softmax(p, to, x, dim, half)
    assert logarithms is not None
    p.view(Op.EXP, to, logarithms)


@operator("native_layer_norm")
def _layer_norm(
    p: Program, to: Tensor, x: Tensor, shape: list[int], gain: Tensor | None, bias: Tensor | None, epsilon: float
) -> Tensor:
    return _norm(p, Op.LAYER_NORM, x, shape, gain, bias, epsilon)


@operator("_fused_rms_norm")
def _rms_norm(
    p: Program, to: Tensor, x: Tensor, shape: list[int], gain: Tensor | None, epsilon: float | None
) -> Tensor:
    return _norm(p, Op.RMS_NORM, x, shape, gain, None, torch.finfo(x.dtype).eps if epsilon is None else epsilon)


def _norm(
    p: Program, op: Op, x: Tensor, shape: Sequence[int], gain: Tensor | None, bias: Tensor | None, epsilon: float
):
    x, width = p.dense(x), int(torch.Size(shape).numel())
    has = {"weight": gain, "bias": bias}
    out = p.hold(x)
    p.over_rows(
        op, out, width, epsilon, x.numel() // width, x=x, **{n: p.operand(t) for n, t in has.items() if t is not None}
    )
    return out


# ------------------------------------------------------------------------------------------------- joining, products


@operator("cat")
def _cat(p: Program, to: Tensor, parts: Sequence[Tensor], dim: int = 0) -> None:
    at = 0
    for part in parts:
        width = part.shape[dim] if part.ndim == to.ndim else 0  # torch lets an empty vector pass
        if p.of(part) and part.numel():  # what stands still is there already
            p.view(Op.COPY, to.narrow(dim, at, width), part)
        at += width


@operator("stack")
def _stack(p: Program, to: Tensor, parts: Sequence[Tensor], dim: int = 0) -> None:
    for part, place in zip(parts, to.unbind(dim), strict=True):
        if p.of(part):
            p.view(Op.COPY, place, part)


@operator("constant_pad_nd")
def _pad(p: Program, to: Tensor, x: Tensor, pad: list[int], value: float = 0) -> None:
    for i in range(len(pad) // 2):
        before, after, dim = pad[2 * i], pad[2 * i + 1], x.ndim - 1 - i
        x = x.narrow(dim, max(0, -before), x.shape[dim] + min(0, before) + min(0, after))
        to = to.narrow(dim, max(0, before), x.shape[dim])
    p.view(Op.COPY, to, x)


@operator("index")
def _index(p: Program, to: Tensor, x: Tensor, places: Sequence[Tensor | None]) -> None:
    """One dimension at places that stand still."""
    dims = [d for d, place in enumerate(places) if place is not None]
    place = places[dims[0]]
    if len(dims) != 1 or place is None or place.ndim != 1 or place.dtype != torch.int64 or p.of(place):
        raise ClewError("a Stepper picks from one dimension at places that stand still", hint=OWN_STEP)
    listed, start = place.tolist(), 0
    for end in range(1, len(listed) + 1):
        if end == len(listed) or listed[end] != listed[end - 1] + 1:  # a run ends
            run = x.narrow(dims[0], listed[start], end - start)
            p.view(Op.COPY, to.narrow(dims[0], start, end - start), run)
            start = end


@operator("embedding")
def _embedding(p: Program, to: Tensor, weight: Tensor, units: Tensor, *args: Any, **kwargs: Any) -> None:
    p.over_rows(Op.LOOKUP, to, weight.shape[1], rows=units.numel(), units=p.dense(units), weight=p.operand(weight))


@operator("mm")
def _mm(p: Program, to: Tensor, x: Tensor, m: Tensor) -> Tensor | None:
    return _addmm(p, to, None, x, m)


@operator("addmm")
def _addmm(
    p: Program, to: Tensor, bias: Tensor | None, x: Tensor, m: Tensor, beta: float = 1, alpha: float = 1
) -> Tensor | None:
    ready = bias is None or (bias.ndim == 1 and not p.of(bias) and len(bias) == m.shape[1])
    if p.of(m) or not ready or (beta, alpha) != (1, 1):
        _bmm(p, to, x, m)
        if alpha != 1:
            p.view(Op.MUL, to, to, p.operand(alpha, to))
        if bias is not None:
            p.view(Op.MULTIPLY_ADD, to, to, p.operand(bias), p.operand(beta, to))
        return None
    out = p.rows(to)
    p.product(Op.LINEAR, 1, p.side_by_side(x), None, [m.t()], [m.new_zeros(m.shape[1]) if bias is None else bias], out)
    return out


@operator("bmm")
def _bmm(p: Program, to: Tensor, a: Tensor, b: Tensor) -> None:
    p.view(Op.DOT, to[..., None], p.operand(a)[..., :, None, :], p.operand(b).mT[..., None, :, :])


@operator("mv")
def _mv(p: Program, to: Tensor, a: Tensor, b: Tensor) -> None:
    p.view(Op.DOT, to[:, None], p.operand(a, to), p.operand(b, to))
