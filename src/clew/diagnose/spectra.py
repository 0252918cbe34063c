"""What a recurrence does to small changes of its state: Jacobians along a sequence, and Lyapunov exponents.

J[t] = d s[t] / d s[t-1];  spectral radius: the largest |eigenvalue| of J[t]
exponents: mean over t of ln r_ii[t], where Q[t] R[t] = J[t] Q[t-1] (Benettin et al. 1980, Meccanica 15; of recurrent
networks: Engelken, Wolf & Abbott 2023, arXiv:2006.02427)

An exponent below 0 forgets at that rate a step, 0 keeps, above 0 is chaos. Of a stack they are those of its layers.

N numbers of state, K exponents, T steps
"""

from __future__ import annotations

import copy
import math
from typing import NamedTuple

import torch
from torch import Tensor

from clew import ops, tree
from clew.cells import Recurrence
from clew.tree import State

LARGEST = 512  # numbers of state of which all eigenvalues are found
AT_ONCE = -20.0  # nats a step, under which differences say nothing but that little is left
COUNTED = 30  # steps that tell what becomes of differences, at least
SMALL = 1e-6  # a change of the state, beside its size


class Spectrum(NamedTuple):
    exponents: list[float]  # nats a step, the largest first; -inf for what is gone within few steps
    radius: float  # geometric mean over steps; NaN where the state is too large for it
    size: int  # N


def spectrum(cell: Recurrence, x_TI: Tensor, exponents: int = 8, settle: int = 20) -> Spectrum:
    """Of one sequence, by differences in double precision.

    Args:
        x_TI: inputs; the first `settle` steps are read and not counted. Of less than 30 more nothing is said.
        exponents: K, at most N.
    """
    cell, x_TI = copy.deepcopy(cell).double().eval(), x_TI.double()
    state = cell.init_state(1)
    N = _flat(state).shape[1]
    if not N:
        return Spectrum([], math.nan, 0)
    K = min(exponents, N)
    draws = torch.Generator().manual_seed(0)
    q_NK = torch.linalg.qr(torch.randn(N, K, generator=draws, dtype=torch.float64))[0]
    sums_K, radii, counted = torch.zeros(K, dtype=torch.float64), [], 0
    with ops.reference(), torch.no_grad():
        for t, x_I in enumerate(x_TI):
            q_NK, r_KK = torch.linalg.qr(_pushed(cell, x_I, state, q_NK.T).T)
            if t >= settle:
                sums_K += r_KK.diagonal().abs().clamp(min=1e-300).log()
                counted += 1
                if N <= LARGEST and counted % 10 == 1:
                    jacobian_NN = _pushed(cell, x_I, state, torch.eye(N, dtype=torch.float64)).T
                    radii.append(float(torch.linalg.eigvals(jacobian_NN).abs().max()))
            state = cell.step(x_I[None], state)[1]
    radius = math.exp(sum(map(math.log, radii)) / len(radii)) if radii and min(radii) > 0 else math.nan
    if counted < COUNTED:
        return Spectrum([], math.nan, N)
    rates = sorted((sums_K / counted).tolist(), reverse=True)
    return Spectrum([rate if rate > AT_ONCE else -math.inf for rate in rates], radius, N)


def _pushed(cell: Recurrence, x_I: Tensor, state: State, v_KN: Tensor) -> Tensor:
    """J v of K changes of the state, (K, N)."""
    flat_1N = _flat(state)
    small = SMALL * max(1.0, float(flat_1N.abs().max()))
    moved = _filled(state, torch.cat([flat_1N + small * v_KN, flat_1N - small * v_KN]))
    above_KN, below_KN = _flat(cell.step(x_I.expand(2 * len(v_KN), -1), moved)[1]).chunk(2)
    return (above_KN - below_KN) / (2 * small)


def _flat(state: State) -> Tensor:
    """The numbers of a state, (B, N)."""
    leaves = [leaf.flatten(1) for leaf in tree.leaves(state) if leaf.is_floating_point()]
    return torch.cat(leaves, 1) if leaves else torch.zeros(1, 0)


def _filled(like: State, flat_BN: Tensor) -> State:
    """The inverse of `_flat`, from a state of one row; what is no float is as it was."""
    leaves, at, B = [], 0, len(flat_BN)
    for leaf in tree.leaves(like):
        if leaf.is_floating_point():
            leaves.append(flat_BN[:, at : at + leaf[0].numel()].view(B, *leaf.shape[1:]))
            at += leaf[0].numel()
        else:
            leaves.append(leaf.expand(B, *leaf.shape[1:]))
    return tree.rebuild(like, iter(leaves))
