"""Whether products round their factors to bfloat16: torch's own switch, which our kernels follow too."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

ROUNDED = "medium"  # as torch calls it


@contextmanager
def products(precision: str) -> Iterator[None]:
    """Inside this block products round their factors to "bfloat16" where that is faster; "float32" changes nothing."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(ROUNDED if precision == "bfloat16" else before)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def rounds() -> bool:
    return torch.get_float32_matmul_precision() == ROUNDED
