"""How the work of the gated kernels is shared out among programs that wait for each other, and their launch."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor

from clew.ops.triton import tiles

GATES = {"tanh": 1, "relu": 1, "gru": 3, "lstm": 4, "slstm": 4, "slstm_exp": 4}
LEAST, ROWS, UNITS, INNER = 16, (16, 32, 64, 128), (16, 32, 64), 64  # sides of a tile
PARTS = 4  # of the sums over all gates
HELD, HELD_BACK = 220 << 10, 64 << 10  # bytes of a product whose weights are held: in shared memory, in registers
SINGLE = 256  # numbers of a product in single precision whose weights are in registers, where there is one gate


class Case(NamedTuple):
    """What a pass is told beside its tensors."""

    cell: str
    lengths: Tensor | None
    reset: Tensor | None


class Shape(NamedTuple):
    """How the work is shared out."""

    rows: int  # of a program
    units: int  # that a program has at once
    blocks: int  # programs that go over the units of a head
    inner: int  # numbers that a product goes over at once
    held: bool  # whether that is all of them, so that the weights are read once


def flags(case: Case, like: Tensor) -> list[Tensor]:
    """Lengths and resets; where there are none, something that is never read."""
    return [like if t is None else t for t in (case.lengths, case.reset)]


def shared_out(case: Case, B: int, hh: Tensor, at_once: int, backward: bool) -> Shape:
    """As many programs as run side by side, as they wait for each other; small ones first, whose weights are held."""
    (heads, _, D), G, single = hh.shape, GATES[case.cell], hh.dtype == torch.float32
    across = PARTS if backward else (1 if G == 1 else 4)  # of which a GRU leaves one empty
    inner = max(LEAST, _power(-(-G * D // PARTS) if backward else D))
    for rows in (n for n in ROWS if n < 2 * max(B, LEAST)):
        for units in (n for n in UNITS if n < 2 * max(D, LEAST) and (n >= D or UNITS[-1] < D)):  # of one, nobody waits
            groups, blocks = -(-B // rows) * heads, -(-D // units)
            size = inner * hh.element_size() * (across * units + rows * (PARTS if backward else 1))
            size *= 2 if single and not backward else 1  # products in single precision keep two copies
            fits = size <= (HELD_BACK if backward else HELD) and not (single and G == 1 and inner > SINGLE)
            if fits and (blocks == 1 or groups * blocks <= at_once):
                return Shape(rows, units, blocks, inner, held=True)
    rows = next((n for n in ROWS if -(-B // n) * heads <= at_once), ROWS[-1])
    blocks = max(1, min(-(-D // UNITS[0]), at_once // (-(-B // rows) * heads)))
    return Shape(rows, UNITS[0], blocks, max(LEAST, min(inner, INNER, INNER * 64 // rows)), held=False)


def launch(
    kernel: Any, case: Case, tensors: list[Tensor], sizes: tuple[int, int, int], hh: Tensor, **options: Any
) -> None:
    backward, (heads, _, D) = "TRAINING" not in options, hh.shape
    shape = shared_out(case, sizes[0], hh, tiles.programs(hh.device), backward)
    groups = -(-sizes[0] // shape.rows) * heads
    if hh.is_cuda:
        options["launch_cooperative_grid"] = shape.blocks > 1  # else nobody waits
    counters = torch.zeros(groups, dtype=torch.int32, device=hh.device)
    told = {"CELL": case.cell, "RAGGED": case.lengths is not None, "RESETS": case.reset is not None}
    told |= {"HELD": shape.held, "BB": shape.rows, "BH": shape.units, "BK": shape.inner}
    told |= {"DOT": "tf32x3" if hh.dtype == torch.float32 else "tf32"} | ({"PARTS": PARTS} if backward else {})
    # Nothing is fetched ahead: what was, would not stay in the nearest cache.
    told |= {"num_warps": 4, "num_stages": 1, "enable_fp_fusion": True}
    with torch.cuda.device(hh.device) if hh.is_cuda else nullcontext():
        kernel[groups, shape.blocks](*tensors, counters, *sizes, D, heads, **told, **options)


def _power(size: int) -> int:
    return 1 << max(size - 1, 0).bit_length()
