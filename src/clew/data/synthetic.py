"""Sequences made by rule, whose answer is known: what a recurrence can and cannot learn is measured on them."""

from __future__ import annotations

import torch
from torch import Tensor

from clew.errors import ConfigError, ShapeError

UNSCORED = -100  # the target of a step that asks for nothing: what torch's cross_entropy leaves out by itself


def adding(batch: int, length: int, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
    """The adding problem (Hochreiter & Schmidhuber 1997, Neural Computation 9(8), section 5.4; in the form of Le et al.
    2015, arXiv:1504.00941, section 4.1): the sum of the two marked numbers, seen one step at a time.

    Args:
        batch: B, sequences to draw.
        length: T, steps of each; at least 2.
        generator: where the numbers come from; torch's own when None.

    Returns:
        x (B, T, 2): a number uniform in [0, 1] and a mark, 1 at one step of the first half and one of the second,
            else 0.
        y (B, 1): the sum of the two marked numbers. Who always says 1 has a mean squared error of 1/6.
    """
    half = length // 2
    numbers_BT = torch.rand(batch, length, generator=generator)
    marks_BT = torch.zeros(batch, length)
    first_B1 = torch.randint(0, half, (batch, 1), generator=generator)
    second_B1 = torch.randint(half, length, (batch, 1), generator=generator)
    marks_BT.scatter_(1, torch.cat([first_B1, second_B1], 1), 1.0)
    return torch.stack([numbers_BT, marks_BT], -1), (numbers_BT * marks_BT).sum(1, keepdim=True)


def selective_copying(
    batch: int, length: int, tokens: int, vocabulary: int, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor]:
    """Selective copying (Gu & Dao 2023, arXiv:2312.00752, sections 3.1 and 4.1.1): data at random places among noise,
    to be given in order when all has been read. When a token comes says nothing of what it is, so what is kept must be
    chosen by what is read.

    Args:
        batch: B, sequences to draw.
        length: T, steps of each that are read.
        tokens: N, of them data; then so many steps ask for one each.
        vocabulary: V, kinds of tokens: 0 for noise, 1 for asking, 2 ... V - 1 for data.
        generator: where the tokens and their places come from; torch's own when None.

    Returns:
        x (B, T + N): int64. T steps of noise and data, every choice of N places as likely, then N times 1.
        y (B, T + N): int64. The N data in order at the last N steps, UNSCORED before. Who guesses is right once in
            V - 2 times.

    Raises:
        ShapeError: more tokens than steps to read.
        ConfigError: no kind of data.
    """
    if not 0 <= tokens <= length:
        raise ShapeError(f"selective_copying: {tokens} tokens do not fit in {length} steps", hint="raise length")
    if vocabulary < 3:
        raise ConfigError(f"selective_copying: vocabulary must be at least 3 (noise, asking, data), got {vocabulary}")
    data_BN = torch.randint(2, vocabulary, (batch, tokens), generator=generator)
    place_BN = torch.rand(batch, length, generator=generator).argsort(1)[:, :tokens].sort(1).values
    x_BT = torch.zeros(batch, length, dtype=torch.int64).scatter_(1, place_BN, data_BN)
    y_BT = torch.full_like(x_BT, UNSCORED)
    return torch.cat([x_BT, torch.ones_like(data_BN)], 1), torch.cat([y_BT, data_BN], 1)


def induction(
    batch: int, length: int, vocabulary: int, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor]:
    """Induction heads (Olsson et al. 2022, arXiv:2209.11895; as Gu & Dao 2023, arXiv:2312.00752, section 4.1.2, ask for
    it): a special token comes twice, the second time last, and then what followed it the first time is asked for.

    Args:
        batch: B, sequences to draw.
        length: T, steps of each; at least 3.
        vocabulary: V, kinds of tokens: 0 for the special one, 1 ... V - 1 for the others.
        generator: where the tokens and the place come from; torch's own when None.

    Returns:
        x (B, T): int64, uniform over 1 ... V - 1 but for 0 at the last step and at one before the last two.
        y (B, T): int64. At the last step the token behind the first 0, UNSCORED before. Who guesses is right once in
            V - 1 times.

    Raises:
        ShapeError: less than 3 steps.
        ConfigError: no token but the special one.
    """
    if length < 3:
        raise ShapeError(f"induction: length must be at least 3 (special, its follower, special), got {length}")
    if vocabulary < 2:
        raise ConfigError(f"induction: vocabulary must be at least 2 (the special token and another), got {vocabulary}")
    x_BT = torch.randint(1, vocabulary, (batch, length), generator=generator)
    place_B1 = torch.randint(0, length - 2, (batch, 1), generator=generator)
    x_BT.scatter_(1, place_B1, 0)
    x_BT[:, -1] = 0
    y_BT = torch.full_like(x_BT, UNSCORED)
    y_BT[:, -1:] = x_BT.gather(1, place_B1 + 1)
    return x_BT, y_BT
