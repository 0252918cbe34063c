"""How far back to train: K for truncated backpropagation, from how far the data reach and the gradient does.

data       K = ln(1/e) / l, where I(K) falls under the share e of I0 (see `information`)
gradient   the last lag at which it is at least e of its greatest (see `flow.horizon`)
"""

from __future__ import annotations

import math
from typing import NamedTuple

LEAST = 8


class Window(NamedTuple):
    steps: int
    why: str


def suggested(data: float, gradient: float, longest: int) -> Window:
    """A power of two that is enough, and why.

    Args:
        data: the lag to which the data carry information; infinite where they do beyond what was measured.
        gradient: the lag to which gradients flow, in the same way.
        longest: steps of the longest sequence.
    """
    if data <= 0:
        return Window(min(longest, 32), "the data show no dependency between steps by themselves")
    reach = min(data, gradient)
    if math.isinf(reach):
        return Window(longest, f"neither the data's information nor the gradient ends within {longest} steps")
    steps = min(longest, max(LEAST, 1 << math.ceil(math.log2(max(2.0, reach)))))
    if gradient < data:
        return Window(steps, f"gradients reach {gradient:.0f} steps, and a longer window would cost time for nothing")
    return Window(steps, f"the data carry information to {data:.0f} steps")
