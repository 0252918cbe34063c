"""How the kernels are launched: sizes of tiles, and the memory that they write to."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from clew.ops import native_linear
from clew.ops.native_linear import Kernel, Named
from clew.ops.triton import elementwise, matrix, selective, tiles

FEW_COLUMNS = 8  # of a program, however few programs there are
INTERVAL = 64  # steps between two matrix states that are kept
VALUES = 32  # of a program at least, as each program has a gradient of the keys
FEW_STEPS, LEAST = 16, 16  # of a chunk in which keys decay by themselves, or are erased; any side of a product
PRODUCTS = {torch.float64: "ieee", torch.float32: "tf32x3"}  # of half precision TF32, which has more digits than that


class Plan(NamedTuple):
    """What both passes of a case have in common."""

    grid: tuple[int, int]
    sizes: list[int]
    options: dict[str, Any]

    def run(self, kernel: Any, tensors: list[Tensor], **options: Any) -> None:
        """Launch a kernel, unless there is nothing to write."""
        if 0 not in self.grid:
            with torch.cuda.device(tensors[0].device) if tensors[0].is_cuda else nullcontext():
                kernel[self.grid](*tensors, *self.sizes, **self.options, **options)


def _plan(
    like: Tensor, lengths: Tensor | None, reset: Tensor | None, grid: tuple[int, int], sizes: list[int], **tiles: Any
) -> Plan:
    accurate = tl.float64 if like.dtype == torch.float64 else tl.float32
    options = {"RAGGED": lengths is not None, "RESETS": reset is not None, "ACC": accurate, "enable_fp_fusion": True}
    return Plan(grid, sizes, {**options, **tiles})


def _flags(like: Tensor, lengths: Tensor | None, reset: Tensor | None) -> list[Tensor]:
    """Lengths and resets; where there are none, something that is never read."""
    return [like if t is None else t for t in (lengths, reset)]


def _over_time(like: Tensor, lengths: Tensor | None) -> Tensor:
    """What a kernel writes its real steps to."""
    return like.new_empty(like.shape) if lengths is None else like.new_zeros(like.shape)


def _sums(like: Tensor, *shape: int, lengths: Tensor | None = None) -> Tensor:
    """Memory of at least single precision; of zeros where there are steps of padding, which are not written."""
    make = like.new_empty if lengths is None else like.new_zeros
    return make(shape, dtype=torch.promote_types(like.dtype, torch.float32))


def _power(size: int, most: int | None = None) -> int:
    """The smallest power of 2 that holds a size, or the largest that is allowed."""
    power = triton.next_power_of_2(max(size, 1))
    return power if most is None else min(power, most)


# --------------------------------------------------------------------------------------------------------- elementwise


def _elementwise(kernel: Kernel, given: Named, lengths: Tensor | None, reset: Tensor | None) -> Plan:
    B, T, N = given["b"].shape[:3]
    of = tiles.of("elementwise", given["b"].device)
    columns, at_once = _power(N, of["columns"]), tiles.programs(given["b"].device)
    while columns > FEW_COLUMNS and B * triton.cdiv(N, columns) < at_once:
        columns //= 2
    own = {"BT": _power(max(T, 2), of["steps"]), "BN": columns, "STAGES": of["num_stages"]}
    own |= {"MAXIMUM": kernel.number == native_linear.MAXIMUM.number, "num_warps": of["num_warps"]}
    sizes = [T, N, *given["a"].stride()[:2]]
    return _plan(given["b"], lengths, reset, (B, triton.cdiv(N, columns)), sizes, **own)


def elementwise_forward(
    kernel: Kernel, given: Named, lengths: Tensor | None, reset: Tensor | None, _: dict[str, Any]
) -> Named:
    h0 = given["h0"]
    found = {"y": _over_time(given["b"], lengths), "h": torch.empty_like(h0)}
    run = elementwise.forward_complex if kernel.number == native_linear.COMPLEX.number else elementwise.forward
    tensors = [*given.values(), *_flags(h0, lengths, reset), *found.values()]
    _elementwise(kernel, given, lengths, reset).run(run, tensors)
    return found


def elementwise_backward(
    kernel: Kernel, given: Named, lengths: Tensor | None, reset: Tensor | None, kept: Named
) -> Named:
    h0 = given["h0"]
    found = {f"d{name}": _over_time(given["b"], lengths) for name in ("a", "b")}
    found |= {f"d{name}": torch.empty_like(h0) for name in ("h0", "hr")}
    run = elementwise.backward_complex if kernel.number == native_linear.COMPLEX.number else elementwise.backward
    read = [*given.values(), *_flags(h0, lengths, reset), kept["y"], kept["dy"], kept["dh"]]
    _elementwise(kernel, given, lengths, reset).run(run, [*read, *found.values()])
    return found


# ----------------------------------------------------------------------------------------------------------- selective


def _selective(given: Named, lengths: Tensor | None, reset: Tensor | None) -> Plan:
    B, T, D = given["x"].shape
    N = given["A"].shape[1]
    of = tiles.of("selective", given["x"].device)
    channels = _power(D, max(1, of["numbers"] // (of["steps"] * _power(N))))
    own = {"BT": _power(max(T, 2), of["steps"]), "BD": channels, "BN": _power(N), "num_warps": of["num_warps"]}
    return _plan(given["x"], lengths, reset, (B, triton.cdiv(D, channels)), [T, D, N], STAGES=of["num_stages"], **own)


def selective_forward(
    kernel: Kernel, given: Named, lengths: Tensor | None, reset: Tensor | None, how: dict[str, Any]
) -> Named:
    plan, h0 = _selective(given, lengths, reset), given["h0"]
    T, D, N = plan.sizes
    found = {"y": _over_time(given["x"], lengths), "h": torch.empty_like(h0)}
    if how["training"]:
        found["kept"] = _sums(h0, len(h0), triton.cdiv(T, plan.options["BT"]), D, N)
    written = [found["y"], found["h"], found.get("kept", h0)]
    tensors = [*given.values(), *_flags(h0, lengths, reset), *written]
    plan.run(selective.forward, tensors, TRAINING=how["training"])
    return found


def selective_backward(
    kernel: Kernel, given: Named, lengths: Tensor | None, reset: Tensor | None, kept: Named
) -> Named:
    plan, h0 = _selective(given, lengths, reset), given["h0"]
    (B, parts), (T, D, N) = plan.grid, plan.sizes
    found = {f"d{name}": _over_time(given["x"], lengths) for name in ("x", "dt")}
    found["dA"] = _sums(h0, B, D, N)
    found |= {f"d{name}": _sums(h0, parts, B, T, N, lengths=lengths) for name in ("B", "C")}
    found |= {f"d{name}": torch.empty_like(h0) for name in ("h0", "hr")}
    read = [*given.values(), *_flags(h0, lengths, reset), kept["kept"], kept["dy"], kept["dh"]]
    plan.run(selective.backward, [*read, *found.values()])
    return found | {f"d{name}": found[f"d{name}"].sum(0).to(h0.dtype) for name in ("A", "B", "C")}


# -------------------------------------------------------------------------------------------------------------- matrix


def _matrix(given: Named, lengths: Tensor | None, reset: Tensor | None, which: str) -> Plan:
    B, T, H, V = given["v"].shape
    (G, K), W = given["k"].shape[2:], given["w"].shape[3]
    of = tiles.of(which, given["v"].device)
    keys = max(_power(K), LEAST)
    values = max(_power(V, max(VALUES, of["numbers"] // keys)), LEAST)
    fine = W > 1 or "a" in given
    own = {"C": FEW_STEPS if fine else of["steps"], "BK": keys, "BV": values, "ERASE": "a" in given}
    own |= {"EVERY": INTERVAL // own["C"], "DOT": PRODUCTS.get(given["v"].dtype, "tf32")}
    own |= {name: of[name] for name in ("num_warps", "num_stages")}
    return _plan(given["v"], lengths, reset, (B * H, triton.cdiv(V, values)), [T, H, G, K, V, W], **own)


def matrix_forward(
    kernel: Kernel, given: Named, lengths: Tensor | None, reset: Tensor | None, how: dict[str, Any]
) -> Named:
    plan, h0 = _matrix(given, lengths, reset, "matrix"), given["h0"]
    T, _, _, K, V, _ = plan.sizes
    found = {"y": _over_time(given["v"], lengths), "h": torch.empty_like(h0)}
    if how["training"]:
        found["kept"] = _sums(h0, plan.grid[0], triton.cdiv(T, INTERVAL), K, V)
    written = [found["y"], found["h"], found.get("kept", h0)]
    tensors = [given.get(name, h0) for name in kernel.tensors]
    plan.run(matrix.forward, [*tensors, *_flags(h0, lengths, reset), *written], TRAINING=how["training"])
    return found


def matrix_backward(kernel: Kernel, given: Named, lengths: Tensor | None, reset: Tensor | None, kept: Named) -> Named:
    plan, h0 = _matrix(given, lengths, reset, "matrix backward"), given["h0"]
    (heads, parts), (T, H, G, K, V, W) = plan.grid, plan.sizes
    keys = [name for name in ("q", "k", "a", "b") if name in given]
    found = {f"d{name}": _sums(h0, parts, len(h0), T, H, K, lengths=lengths) for name in keys}
    found |= {"dv": _over_time(given["v"], lengths), "dw": _sums(h0, parts, len(h0), T, H, W, lengths=lengths)}
    found |= {f"d{name}": torch.empty_like(h0) for name in ("h0", "hr")}
    several = plan.options["EVERY"] > 1
    within = _sums(h0, heads, plan.options["EVERY"], K, V) if several else h0
    tensors = [given.get(name, h0) for name in kernel.tensors]
    read = [*tensors, *_flags(h0, lengths, reset), kept["kept"], within, kept["dy"], kept["dh"]]
    plan.run(matrix.backward, [*read, *(found.get(f"d{name}", h0) for name in kernel.tensors)])
    for name in keys:  # the heads of a group share these
        found[f"d{name}"] = found[f"d{name}"].sum(0).unflatten(2, (G, H // G)).sum(3).to(h0.dtype)
    return found | {"dw": found["dw"].sum(0).to(h0.dtype)}


PASSES = {
    native_linear.REAL.number: (elementwise_forward, elementwise_backward),
    native_linear.COMPLEX.number: (elementwise_forward, elementwise_backward),
    native_linear.MAXIMUM.number: (elementwise_forward, elementwise_backward),
    native_linear.SELECTIVE.number: (selective_forward, selective_backward),
    native_linear.MATRIX.number: (matrix_forward, matrix_backward),
}
