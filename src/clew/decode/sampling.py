"""Sampling from a model that predicts its own next input.

temperature   p^(1/temperature), normalised: under 1 nearer to the likeliest, 0 the likeliest itself
top_k         only the k likeliest (Fan et al. 2018, arXiv:1805.04833)
top_p         only the likeliest whose probabilities reach p (nucleus; Holtzman et al. 2020, arXiv:1904.09751)

B rows, V units
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from clew.errors import ConfigError
from clew.models import Single
from clew.tree import State


def choose(
    logp_BV: Tensor, generator: torch.Generator, temperature: float = 1.0, top_k: int = 0, top_p: float = 1.0
) -> Tensor:
    """One unit a row, (B,), drawn from log-probabilities.

    Raises:
        ConfigError: a temperature under 0, or a top_p outside (0, 1].
    """
    if not 0 <= temperature < float("inf"):
        raise ConfigError(f"the temperature must be a number of at least 0, got {temperature}")
    if not 0 < top_p <= 1 or top_k < 0:
        raise ConfigError(f"top_p must lie in (0, 1] and top_k be at least 0, got {top_p} and {top_k}")
    if temperature == 0:
        return logp_BV.argmax(-1)
    logp_BV = (logp_BV.double() / temperature).log_softmax(-1)
    if 0 < top_k < logp_BV.shape[-1]:
        kth = logp_BV.topk(top_k, -1).values[:, -1:]
        logp_BV = logp_BV.masked_fill(logp_BV < kth, -torch.inf)
    p_BV = logp_BV.softmax(-1)
    if top_p < 1:
        ordered, order = p_BV.sort(-1, descending=True)
        ordered = ordered.masked_fill(ordered.cumsum(-1) - ordered >= top_p, 0.0)  # the first that reaches p stays
        p_BV = torch.zeros_like(p_BV).scatter(-1, order, ordered)
    return torch.multinomial(p_BV, 1, generator=generator)[:, 0]


@torch.no_grad()
def sample(
    model: Single,
    logp_BV: Tensor,
    state: State,
    seed: int = 0,
    *,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    never: Tensor | None = None,
) -> Iterator[Tensor]:
    """Unit after unit, (B,) each, without end: every choice is the model's next input.

    Args:
        logp_BV: the prediction from which the first unit is drawn, and the state it was made from.
        seed: of the draws; the same seed gives the same units.
        never: units that are never drawn.
    """
    generator = torch.Generator(logp_BV.device).manual_seed(seed)
    while True:
        if never is not None:
            logp_BV = logp_BV.index_fill(-1, never, -torch.inf)
        unit_B = choose(logp_BV, generator, temperature, top_k, top_p)
        yield unit_B
        logp_BV, state = model.step(unit_B[:, None], state)
