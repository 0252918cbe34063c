"""Sampling from a model that predicts its own next input.

temperature   p^(1/temperature), normalised: under 1 nearer to the likeliest, 0 the likeliest itself
top_k         only the k likeliest (Fan et al. 2018, arXiv:1805.04833)
top_p         only the likeliest whose probabilities reach p (nucleus; Holtzman et al. 2020, arXiv:1904.09751)
min_p         only those at least so likely as this part of the likeliest (Nguyen et al. 2024, arXiv:2407.01082)

What is asked for together holds together; of equally likely units the lower ones stay. B rows, V units
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from clew.decode.constraints import forbid, never_of
from clew.decode.predictor import Predictor, check_start, check_step
from clew.decode.select import top
from clew.errors import ConfigError
from clew.tree import State


def choose(
    logp_BV: Tensor,
    generator: torch.Generator,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    min_p: float = 0.0,
) -> Tensor:
    """One unit a row, (B,), drawn from log-probabilities.

    Raises:
        ConfigError: a temperature or top_k under 0, a top_p outside (0, 1] or a min_p outside [0, 1]; a row of
            log-probabilities with NaN, or with none over -inf.
    """
    if not 0 <= temperature < float("inf"):
        raise ConfigError(f"the temperature must be a number of at least 0, got {temperature}")
    if not 0 < top_p <= 1 or top_k < 0:
        raise ConfigError(f"top_p must lie in (0, 1] and top_k be at least 0, got {top_p} and {top_k}")
    if not 0 <= min_p <= 1:
        raise ConfigError(f"min_p must lie in [0, 1], got {min_p}")
    highest_B1 = logp_BV.amax(-1, keepdim=True)
    if not bool(highest_B1.isfinite().all()):
        if bool((highest_B1 == -torch.inf).any()):
            raise ConfigError("no unit is possible: all log-probabilities are -inf", hint="forbid fewer units")
        raise ConfigError("the model predicted NaN or inf", hint="look at its weights, its inputs and its state")
    if temperature == 0:
        return logp_BV.argmax(-1)
    logp_BV = ((logp_BV.double() - highest_B1) / temperature).log_softmax(-1)
    if 0 < top_k < logp_BV.shape[-1]:
        value_BK, unit_BK = top(logp_BV, top_k)
        logp_BV = torch.full_like(logp_BV, -torch.inf).scatter(-1, unit_BK, value_BK)
    p_BV = logp_BV.softmax(-1)
    if top_p < 1:
        ordered, order = p_BV.sort(dim=-1, descending=True, stable=True)
        before = F.pad(ordered.cumsum(-1)[:, :-1], (1, 0))
        ordered = ordered.masked_fill(before >= top_p, 0.0)  # the first that reaches p stays
        p_BV = torch.zeros_like(p_BV).scatter(-1, order, ordered)
    if min_p > 0:
        p_BV = p_BV.masked_fill(p_BV < min_p * p_BV.amax(-1, keepdim=True), 0.0)
    return torch.multinomial(p_BV, 1, generator=generator)[:, 0]


@torch.no_grad()
def sample(
    model: Predictor,
    logp_BV: Tensor,
    state: State,
    seed: int = 0,
    *,
    context: State | None = None,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    min_p: float = 0.0,
    never: Tensor | None = None,
) -> Iterator[Tensor]:
    """Unit after unit, (B,) each, without end: every choice is the model's next input.

    Args:
        logp_BV: the prediction from which the first unit is drawn, and the state it was made from.
        seed: of the draws; the same seed gives the same units.
        context: what does not move while the model runs.
        never: units (n,), or a mask (B, V), that are never drawn.

    Raises:
        ShapeError: a tensor does not fit.
        ConfigError: see `choose`.
    """
    check_start(logp_BV, state, context)
    generator = torch.Generator(logp_BV.device).manual_seed(seed)
    B, V = logp_BV.shape
    never_n, never_BV = never_of(never, B, V, logp_BV.device)
    while True:
        unit_B = choose(forbid(logp_BV, never_n, never_BV), generator, temperature, top_k, top_p, min_p)
        yield unit_B
        logp_BV, state = model.step(unit_B[:, None], state, context)
        check_step(logp_BV, B, V)


def greedy(
    model: Predictor, logp_BV: Tensor, state: State, context: State | None = None, *, never: Tensor | None = None
) -> Iterator[Tensor]:
    """The likeliest unit after the likeliest unit, (B,) each, without end; of equal ones the lowest. See `sample`."""
    return sample(model, logp_BV, state, context=context, temperature=0.0, never=never)
