"""Whether a kernel says what its definition says on this GPU: tried once before it is used, at odd sizes and at round
ones, with ragged rows and resets and without. A compiler is a large program, and a driver another.
"""

from __future__ import annotations

import functools
import itertools
import math
import threading
import warnings
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from clew.ops import native_linear, triton
from clew.ops.native_linear import Kernel
from clew.ops.triton import classical, grid

KERNELS = {
    "linear_scan": native_linear.REAL,
    "linear_scan of complex numbers": native_linear.COMPLEX,
    "max_scan": native_linear.MAXIMUM,
    "selective_scan": native_linear.SELECTIVE,
    "matrix_scan": native_linear.MATRIX,
}
NAMES = {kernel.number: name for name, kernel in KERNELS.items()}
NEAR = {torch.float64: 1e-11, torch.float32: 2e-5, torch.bfloat16: 2.0**-5, torch.float16: 2.0**-8}


class Case(NamedTuple):
    """What a kernel is tried on; compilers make other code of sizes that 16 divides, and of one step."""

    sizes: dict[str, int]  # of the letters of `Kernel.tensors`
    ragged: bool = False  # rows of several lengths, and resets
    erase: bool = True
    shared: bool = False  # `a` is the same at all steps


CASES = (
    Case({"B": 3, "T": 70, "N": 37, "D": 19, "G": 2, "H": 4, "K": 16, "V": 24, "W": 16, "2": 2}, ragged=True),
    Case(
        {"B": 2, "T": 128, "N": 64, "D": 32, "G": 2, "H": 2, "K": 64, "V": 64, "W": 1, "2": 2}, erase=False, shared=True
    ),
    Case({"B": 1, "T": 40, "N": 48, "D": 16, "G": 1, "H": 1, "K": 64, "V": 64, "W": 64, "2": 2}),
    Case({"B": 2, "T": 1, "N": 16, "D": 16, "G": 1, "H": 2, "K": 16, "V": 16, "W": 1, "2": 2}),
)
GATED = (  # B, T, H, heads, whether ragged
    (3, 5, 37, 1, True),
    (16, 5, 64, 2, False),
    (16, 3, 512, 1, False),
    (20, 3, 576, 1, True),
)
_found: dict[tuple[str, torch.dtype, torch.device], bool] = {}
_trying = threading.Lock()


def trusted(name: str, dtype: torch.dtype, device: torch.device) -> bool:
    """Whether there is such a kernel and its law (`LAWS`) holds; where it does not, a warning says so, and what there
    is without it runs.

    While a CUDA graph is captured only what was found before is known: nothing can be tried then.
    """
    key = name, dtype, device
    if not takes(name, dtype):
        return False
    if key not in _found and not (device.type == "cuda" and torch.cuda.is_current_stream_capturing()):
        with _trying:
            if key not in _found:
                _try(*key)
    return _found.get(key, False)


def forget() -> None:
    """Everything is tried anew."""
    _found.clear()


def _try(name: str, dtype: torch.dtype, device: torch.device) -> None:
    try:
        # A thread of its own has no modes, hooks or autocast around it.
        with ThreadPoolExecutor(1) as alone:
            found = alone.submit(LAWS[name], dtype, device).result()
        why = f"off by {found:.1e}"
    except torch.OutOfMemoryError:  # says nothing of the kernel
        return
    except Exception as error:  # compilers raise what they like
        found, why = math.nan, f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error) else ''}"
    _found[name, dtype, device] = found <= NEAR[dtype]
    if not found <= NEAR[dtype]:
        warnings.warn(f"the Triton kernel of {name} in {dtype} is not used on {device}: {why}", stacklevel=4)


def laws(device: torch.device, dtypes: Iterable[torch.dtype] = tuple(NEAR)) -> dict[str, bool]:
    """Of each kernel and dtype: whether it is used."""
    pairs = itertools.product(LAWS, dtypes)
    return {f"{name}, {dtype}": trusted(name, dtype, device) for name, dtype in pairs if takes(name, dtype)}


def takes(name: str, dtype: torch.dtype) -> bool:
    """Whether there is such a kernel at all: one in double precision is no use where it does not fit into registers."""
    return dtype != torch.float64 or (name in KERNELS and name != "matrix_scan")


@torch.inference_mode(False)
@torch.enable_grad()
def difference(
    kernel: Kernel, dtype: torch.dtype, device: torch.device | str, cases: Iterable[Case] | None = None
) -> float:
    """How far outputs, last states and gradients are from the definition in double precision, as a part of their size:
    the most over cases, NaN where there is one that should not be."""
    found = [_difference(kernel, dtype, device, case) for case in cases or CASES]
    return float(torch.tensor(found, dtype=torch.float64, device="cpu").max())


def _difference(kernel: Kernel, dtype: torch.dtype, device: torch.device | str, case: Case) -> float:
    given = [None if t is None else t.to(dtype) for t in _drawn(kernel, case)]
    ours = [None if t is None else t.to(device) for t in given]
    if case.shared and kernel.keeps == "outputs":
        given, ours = ([a[:1, :1].expand_as(a), *others] for a, *others in (given, ours) if a is not None)
    ours = [None if t is None else t.detach().requires_grad_() for t in ours]
    theirs = [None if t is None else t.double().requires_grad_() for t in given]
    B, T = case.sizes["B"], case.sizes["T"]
    lengths = torch.linspace(T, 0, B, device="cpu").round().long() if case.ragged else None
    reset = torch.arange(T, device="cpu").expand(B, T) % 7 == 3 if case.ragged else None
    found = triton.scan(kernel, ours, lengths, reset)
    wanted = kernel.definition(*theirs, lengths, reset)
    return _apart(found, wanted, *([t for t in some if t is not None] for some in (ours, theirs)))


def _apart(found: Sequence[Tensor], wanted: Sequence[Tensor], ours: list[Tensor], theirs: list[Tensor]) -> float:
    """Outputs and their gradients."""
    along = [torch.sin(torch.arange(t.numel(), dtype=torch.float64, device="cpu")).view(t.shape) for t in wanted]
    gradients = torch.autograd.grad(
        found, ours, [v.to(t.device, t.dtype) for v, t in zip(along, found, strict=True)], materialize_grads=True
    )
    expected = torch.autograd.grad(wanted, theirs, along, materialize_grads=True)
    pairs = zip((*found, *gradients), (*wanted, *expected), strict=True)
    apart = [((a.detach().double().cpu() - b.detach()).abs() / (1 + b.detach().abs().max())).max() for a, b in pairs]
    return float(torch.stack(apart).max())


@torch.inference_mode(False)
@torch.enable_grad()
def gated_difference(cell: str, dtype: torch.dtype, device: torch.device | str) -> float:
    """The same of a cell of `classical`."""
    G, generator, found = grid.GATES[cell], torch.Generator("cpu").manual_seed(0), []
    for B, T, H, heads, ragged in GATED:
        D, leaves = H // heads, 3 if cell.startswith("slstm") else 1
        shapes = [(B, T, G * H), (B, H), (leaves, B, H), (B, H), (leaves, B, H), (heads, G * D, D), (H,)]
        drawn = [torch.randn(*shape, generator=generator, dtype=torch.float64, device="cpu") for shape in shapes]
        drawn[5] *= D**-0.5
        if cell == "relu":  # away from its kink, where a rounded sum goes to the other side
            drawn[0], drawn[5] = drawn[0] + 3 * drawn[0].sign(), 0.1 * drawn[5]
        if leaves == 3:
            for c in (drawn[2], drawn[4]):
                c[1] = 1 + c[1].abs()  # what is divided by
        ours = [t.to(device, dtype).requires_grad_() for t in drawn]
        theirs = [t.to(dtype).double().requires_grad_() for t in drawn]
        lengths = torch.linspace(T, 0, B, device="cpu").round().long() if ragged else None
        reset = torch.rand(B, T, generator=generator, device="cpu") < 0.3 if ragged else None
        gx, h, c, hr, cr, hh, bn = ours
        said = classical.run(cell, gx, (h, c), (hr, cr), hh, bn, lengths, reset)
        wanted = classical.defined(grid.Case(cell, lengths, reset), *theirs)
        used = 3 if G == 4 else 2  # others have no c
        found.append(_apart(said[:used], wanted[:used], ours, theirs))
    return float(torch.tensor(found, dtype=torch.float64, device="cpu").max())


def _drawn(kernel: Kernel, case: Case) -> list[Tensor | None]:
    """Tensors as a recurrence has them: decays from 0 to 1, steps above 0, keys of length 1."""
    generator, found = torch.Generator("cpu").manual_seed(0), {}
    for name, letters in kernel.tensors.items():
        shape = [case.sizes[letter] for letter in letters]
        found[name] = 2 * torch.rand(shape, generator=generator, dtype=torch.float64, device="cpu") - 1
    if kernel.number == native_linear.SELECTIVE.number:
        found |= {"dt": found["dt"].abs(), "A": -3 * found["A"].abs()}
    elif kernel.number == native_linear.MATRIX.number:
        key = F.normalize(found["k"], dim=-1)
        found |= {"w": found["w"].abs(), "k": key}
        found |= {"a": -0.9 * key, "b": key.clone()} if case.erase else {"a": None, "b": None}
    elif kernel.number != native_linear.MAXIMUM.number:
        found["a"] = 0.7 * found["a"]
    return list(found.values())


CELLS = ("tanh", "relu", "gru", "lstm", "slstm", "slstm_exp")
LAWS: dict[str, Callable[[torch.dtype, torch.device], float]] = {
    **{name: functools.partial(difference, kernel) for name, kernel in KERNELS.items()},
    **{cell: functools.partial(gated_difference, cell) for cell in CELLS},
}
