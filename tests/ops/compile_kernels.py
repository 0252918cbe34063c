"""Triton's kernels to machine code of an H100, which needs no GPU: run by itself, as a process that interprets compiles
nothing."""

from __future__ import annotations

import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from clew.ops.triton import elementwise, gated, matrix, selective

WHOLE = {"T", "N", "D", "H", "G", "K", "V", "a_b", "a_t", "heads"}
SUMS = {"kept", "within", "dA", "dB", "dC", "dq", "dk", "dw"}  # of at least single precision
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
    assert triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options).asm["cubin"]


for numbers in ("fp32", "bf16"):
    for kernel in (
        elementwise.forward,
        elementwise.backward,
        elementwise.forward_complex,
        elementwise.backward_complex,
    ):
        compiled(kernel, numbers, {**ELEMENTWISE, "MAXIMUM": False}, set())
    compiled(elementwise.backward, numbers, {**ELEMENTWISE, "MAXIMUM": True}, set())
    compiled(selective.forward, numbers, {**SELECTIVE, "TRAINING": True})
    compiled(selective.backward, numbers, SELECTIVE)
    vector = numbers == "bf16"  # the other in the other
    constants = {**MATRIX, "W": 64 if vector else 1, "ERASE": vector, "DOT": "tf32" if vector else "tf32x3"}
    forward, backward = ({"C": 16, "EVERY": 4, "BV": n} for n in (64, 32))
    compiled(matrix.forward, numbers, {**constants, **forward, "TRAINING": True}, num_warps=4)
    compiled(matrix.backward, numbers, {**constants, **backward}, SUMS | {"da", "db"}, num_warps=8)
    for cell in ("tanh", "relu", "gru", "lstm", "slstm"):
        held = (cell == "slstm") == (numbers == "bf16")
        constants = {"RAGGED": True, "RESETS": True, "CELL": cell, "HELD": held, "BB": 16, "BH": 16, "BK": 64}
        constants |= {"DOT": "tf32" if numbers == "bf16" else "tf32x3"}
        compiled(gated.forward, numbers, {**constants, "TRAINING": True}, {"c", "gates", "cells"})
        constants |= {"PARTS": 4}
        compiled(gated.backward, numbers, constants, {"gates", "cells", "dh", "dc", "dhr", "dcr"})
print("compiled")
