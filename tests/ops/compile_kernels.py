"""Triton's kernels to machine code of an H100, which needs no GPU: run by itself, as a process that interprets compiles
nothing. `--all`: each in every form and in single precision too."""

from __future__ import annotations

import sys
from itertools import product

import torch
import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from clew.ops.triton import elementwise, gated, grid, matrix, selective

WHOLE = {"T", "N", "D", "H", "G", "K", "V", "a_b", "a_t", "heads"}
SUMS = {"kept", "within", "dA", "dB", "dC", "dq", "dk", "dw"}  # of at least single precision
SHARED = 227 << 10  # bytes that a program may have
COMMON = {"RAGGED": True, "RESETS": True, "ACC": tl.float32}
ELEMENTWISE = {**COMMON, "BT": 64, "BN": 32, "STAGES": 3}
SELECTIVE = {**COMMON, "BT": 16, "BD": 8, "BN": 16, "STAGES": 3}
MATRIX = {**COMMON, "BK": 64}


def compiled(kernel, numbers: str, constants: dict, sums: set[str] = SUMS, **options) -> None:
    kinds = {name: "*fp32" if name in sums else f"*{numbers}" for name in kernel.arg_names}
    given = {"lengths": "*i64", "reset": "*i1", "counters": "*i32"} | dict.fromkeys(WHOLE, "i32")
    given |= {"B": "i32"} if "hh" in kinds else {}  # elsewhere a tensor
    kinds |= {name: kind for name, kind in given.items() if name in kinds} | dict.fromkeys(constants, "constexpr")
    places = {(kernel.arg_names.index(name),): value for name, value in constants.items()}
    source = ASTSource(kernel, signature=kinds, constexprs=places)
    found = triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options)
    assert found.metadata.shared <= SHARED, (kernel.fn.__name__, numbers, constants, found.metadata.shared)


everything = "--all" in sys.argv  # takes minutes
for numbers in ("fp32", "bf16") if everything else ("bf16",):
    dot = {"DOT": "tf32" if numbers == "bf16" else "tf32x3"}
    for kernel in (
        elementwise.forward,
        elementwise.backward,
        elementwise.backward_complex,
        elementwise.forward_complex,
    ):
        if everything or kernel is not elementwise.forward_complex:
            compiled(kernel, numbers, {**ELEMENTWISE, "MAXIMUM": False}, set())
    compiled(elementwise.backward, numbers, {**ELEMENTWISE, "MAXIMUM": True}, set())
    compiled(selective.forward, numbers, {**SELECTIVE, "TRAINING": True})
    compiled(selective.backward, numbers, SELECTIVE)
    for W, erase in product((1, 64), (False, True)) if everything else [(1, False)]:
        fine = {"C": 16, "EVERY": 4, "BV": 32}
        constants = {**MATRIX, **dot, "W": W, "ERASE": erase}
        wide = fine if W > 1 or erase else {"C": 32, "EVERY": 2, "BV": 64}
        compiled(matrix.forward, numbers, {**constants, **wide, "TRAINING": True}, num_warps=4)
        compiled(matrix.backward, numbers, {**constants, **fine}, SUMS | {"da", "db"}, num_warps=8)
    for cell in ("tanh", "relu", "gru", "lstm", "slstm") if everything else ("slstm",):
        constants = {**dot, "RAGGED": True, "RESETS": True, "CELL": cell, "BB": 16, "BH": 16, "BK": 64}
        constants["HELD"] = (cell == "slstm") == (numbers == "bf16")
        compiled(gated.forward, numbers, {**constants, "TRAINING": True}, {"c", "gates", "cells"})
        constants |= {"PARTS": 4}
        compiled(gated.backward, numbers, constants, {"gates", "cells", "dh", "dc", "dhr", "dcr"})
    # What is held fits, wherever it is.
    wide = {1: (256, 512, 1024), 8: (64, 256)} if everything else {}
    for cell, B, (heads, D) in product(("tanh", "lstm"), (16, 64, 256), [(n, D) for n in wide for D in wide[n]]):
        G, dtype = grid.GATES[cell], torch.float32 if numbers == "fp32" else torch.bfloat16
        for backward in (False, True):
            hh = torch.empty(heads, G * D, D, dtype=dtype)
            shape = grid.shared_out(grid.Case(cell, None, None), B, hh, 132, backward)
            constants = {**dot, "RAGGED": False, "RESETS": False, "CELL": cell, "HELD": shape.held}
            constants |= {"BB": shape.rows, "BH": shape.units, "BK": shape.inner}
            if backward:
                constants |= {"PARTS": grid.PARTS}
                sums = {"gates", "cells", "dh", "dc", "dhr", "dcr"}
                compiled(gated.backward, numbers, constants, sums, num_warps=4, num_stages=1)
            else:
                sums = {"c", "gates", "cells"}
                compiled(gated.forward, numbers, {**constants, "TRAINING": True}, sums, num_warps=4, num_stages=1)
print("compiled")
