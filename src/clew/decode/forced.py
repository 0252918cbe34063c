"""The log-probability of sequences that are given.

B rows, T units, V units known
"""

from __future__ import annotations

import torch
from torch import Tensor

from clew.decode.predictor import Predictor, check_largest, check_start, check_step
from clew.errors import ConfigError, ShapeError
from clew.tree import State


def teacher_forced(
    model: Predictor,
    logp_BV: Tensor,
    state: State,
    context: State | None,
    units_BT: Tensor,
    lengths: Tensor,
    end: int | None,
) -> Tensor:
    """What each sequence's choices add up to, (B,) float64 nats, one step after the other. Gradients flow.

    Args:
        logp_BV: the prediction from which the first unit is chosen, and the state after it was made.
        units_BT: the sequences; behind its length a row may hold anything.
        lengths: (B,) units of each.
        end: the unit that follows each sequence and counts too; None where they have not ended.

    Raises:
        ShapeError: a tensor does not fit.
        ConfigError: a unit outside the vocabulary, or a prediction that is no log-probability.
    """
    check_start(logp_BV, state, context)
    B, V = logp_BV.shape
    if units_BT.ndim != 2 or units_BT.is_floating_point() or len(units_BT) != B or lengths.shape != (B,):
        got = f"{units_BT.dtype} {tuple(units_BT.shape)} and {tuple(lengths.shape)}"
        raise ShapeError(f"units must be whole numbers ({B}, steps) and lengths ({B},), got {got}")
    T = units_BT.shape[1]
    if B and not 0 <= int(lengths.min()) <= int(lengths.max()) <= T:
        raise ShapeError(f"lengths must lie between 0 and the {T} steps of units, got {lengths.tolist()[:8]}")
    lengths = lengths.to(logp_BV.device)
    ending = 0 if end is None else end
    units_BT = torch.cat([units_BT, units_BT.new_full((B, 1), ending)], 1).to(logp_BV.device, torch.int64)
    real_BT = torch.arange(T + 1, device=logp_BV.device) < lengths[:, None]
    units_BT = torch.where(real_BT, units_BT, ending)
    if B and not 0 <= int(units_BT.min()) <= int(units_BT.max()) < V:
        raise ConfigError(f"a sequence has a unit outside the vocabulary: units are 0 to {V - 1}")
    counts_B = lengths + (end is not None)
    steps = int(counts_B.max()) if B else 0
    total_B = torch.zeros(B, dtype=torch.float64, device=logp_BV.device)
    for t in range(steps):
        if t:
            logp_BV, state = model.step(units_BT[:, t - 1 : t], state, context)
            check_step(logp_BV, B, V)
        counted_B = t < counts_B
        chosen_B = torch.where(counted_B, logp_BV.gather(1, units_BT[:, t : t + 1])[:, 0], 0.0)
        total_B = total_B + check_largest(chosen_B)
    return total_B
