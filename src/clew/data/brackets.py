"""Strings of brackets, whose nesting no finite memory can follow to any depth, and a control that two states follow.

B batch, T time. Brackets of kind k are the tokens 2 k (opens) and 2 k + 1 (closes). What is asked of each prefix: is it
BALANCED as it stands, OPEN (so that what comes can still balance it), or BROKEN for good?
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from clew.data.synthetic import UNSCORED
from clew.errors import ConfigError, ShapeError

BALANCED, OPEN, BROKEN = range(3)


def brackets(
    lengths_B: Tensor, depths_B: Tensor, kinds: int = 1, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor]:
    """Strings about half of which are balanced; the others are broken somewhere or open at the end, about as often.

    A balanced string is drawn evenly from all of its length whose deepest bracket is at exactly its depth, its kinds
    evenly too. An open one is drawn likewise from those that end 2, 4, ... brackets deep (depth 1 leaves none).
    A broken one is a balanced one that was damaged: two parts of it, cut where a bracket is open, were swapped, which
    often breaks it early; an opening bracket was turned into a closing one, which with one kind mostly breaks it late;
    or, if there are several kinds, one bracket was made one of another kind, which breaks it anywhere.

    Args:
        lengths_B: int64, tokens of each string; even.
        depths_B: int64, the greatest number of brackets that are open at once, before anything is changed.
        kinds: of brackets.
        generator: where the strings come from; torch's own when None.

    Returns:
        x (B, T): int64 tokens, T the greatest length; 0 behind a string.
        y (B, T): int64 answers for each prefix; UNSCORED behind a string.

    Raises:
        ShapeError: an odd length, or a depth under 1 or over half the length.
        ConfigError: no kind of brackets.
    """
    if kinds < 1:
        raise ConfigError(f"brackets: kinds must be at least 1, got {kinds}")
    if lengths_B.shape != depths_B.shape or lengths_B.ndim != 1:
        shapes = f"{tuple(lengths_B.shape)} and {tuple(depths_B.shape)}"
        raise ShapeError(f"brackets: lengths and depths must be (batch,) alike, got {shapes}")
    if (wrong := (lengths_B % 2 != 0) | (depths_B < 1) | (2 * depths_B > lengths_B)).any():
        length, depth = int(lengths_B[wrong][0]), int(depths_B[wrong][0])
        raise ShapeError(f"brackets: no balanced string of {length} tokens is exactly {depth} deep")
    if not len(lengths_B):
        return lengths_B.new_zeros(0, 0), lengths_B.new_zeros(0, 0)
    fate_B, how_B, end_B = torch.rand(3, len(lengths_B), generator=generator)
    open_B = (fate_B < 0.25) & (depths_B > 1)
    broken_B = (fate_B < 0.5) & ~open_B
    swapped_B, turned_B = broken_B & (how_B < 0.3), broken_B & (how_B >= 0.3) & ((how_B < 0.6) | (kinds == 1))
    renamed_B = broken_B & ~swapped_B & ~turned_B
    ends_B = torch.where(open_B, 2 + 2 * (end_B * (depths_B // 2)).long(), 0)
    opens_BT = _walks(lengths_B, depths_B, ends_B, generator)
    t_T = torch.arange(opens_BT.shape[1])
    real_BT = t_T < lengths_B[:, None]
    kind_BT = torch.randint(kinds, opens_BT.shape, generator=generator)
    kind_BT = torch.where(opens_BT, kind_BT, _before_on_level(kind_BT, opens_BT))
    # The end of the first part, where a bracket is open: so the second closes one too many. Or what is turned, renamed.
    may_BT = torch.where(swapped_B[:, None], _height(opens_BT) > 0, opens_BT | renamed_B[:, None])
    place_B1 = ((torch.rand(may_BT.shape, generator=generator) + 1) * (may_BT & real_BT)).argmax(1, keepdim=True)
    here_BT = t_T == place_B1
    opens_BT = opens_BT & ~(here_BT & turned_B[:, None])
    other_BT = (kind_BT + torch.randint(1, max(kinds, 2), kind_BT.shape, generator=generator)) % kinds
    kind_BT = torch.where(here_BT & renamed_B[:, None], other_BT, kind_BT)
    shift_B1 = torch.where(swapped_B[:, None], place_B1 + 1, 0)
    x_BT = (2 * kind_BT + ~opens_BT).gather(1, (t_T + shift_B1) % lengths_B[:, None])
    return torch.where(real_BT, x_BT, 0), torch.where(real_BT, judge(x_BT), UNSCORED)


def judge(x_BT: Tensor) -> Tensor:
    """What each prefix of tokens (B, T) is: BALANCED, OPEN or BROKEN."""
    opens_BT, kind_BT = x_BT % 2 == 0, x_BT // 2
    height_BT = _height(opens_BT)
    wrong_BT = ~opens_BT & ((height_BT < 0) | (_before_on_level(kind_BT, opens_BT) != kind_BT))
    y_BT = torch.where(height_BT == 0, BALANCED, OPEN)
    return torch.where(wrong_BT.cummax(1).values, BROKEN, y_BT)


def parity(batch: int, length: int, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
    """The regular control: is the number of ones so far odd?

    Returns:
        x (B, T): int64, 0 or 1, each as likely.
        y (B, T): int64, 1 where it is odd.
    """
    x_BT = torch.randint(2, (batch, length), generator=generator)
    return x_BT, x_BT.cumsum(1) % 2


def _walks(lengths_B: Tensor, depths_B: Tensor, end_B: Tensor, generator: torch.Generator | None) -> Tensor:
    """Which of the tokens (B, T) open: walks from 0 to `end` whose greatest height is exactly the depth, drawn evenly.

    They are drawn from the end: a step comes from above as often as walks do that begin as they should.
    """
    T, D = int(lengths_B.max()), int(depths_B.max())
    # Rounded up, so that batches of all sizes share few tables.
    ways, coin_TB = (
        _ways(*(1 << (n - 1).bit_length() for n in (T, D))),
        torch.rand(T, len(lengths_B), generator=generator, dtype=torch.float64),
    )
    height_B, steps = end_B.clone(), []
    touched_B = (end_B == depths_B).long()
    for t in reversed(range(T)):
        lower_B = (height_B - 1).clamp(min=0)  # below 0 there is nothing to come from: always from above then
        higher_B = torch.minimum(height_B + 1, depths_B)
        from_below_B = ways[depths_B, t, lower_B, touched_B] * (height_B > 0)
        above_B = torch.maximum(touched_B, (higher_B == depths_B).long())
        from_above_B = ways[depths_B, t, higher_B, above_B] * (height_B < depths_B)
        inside_B = t < lengths_B
        opens_B = coin_TB[t] * (from_above_B + from_below_B) >= from_above_B
        steps.append(opens_B)
        height_B = torch.where(inside_B, torch.where(opens_B, lower_B, higher_B), height_B)
        touched_B = torch.where(inside_B & ~opens_B, above_B, touched_B)
    return torch.stack(steps[::-1], 1)


@lru_cache(maxsize=16)
def _ways(length: int, depth: int) -> Tensor:
    """[d, t, h, m]: the share of all walks of t steps that go from 0 to h, never under 0 or over d; where m is 0, and
    touch d before they come to h. float64, (depth + 1, length + 1, depth + 2, 2)."""
    ways = torch.zeros(depth + 1, length + 1, depth + 2, 2, dtype=torch.float64)
    d, h = torch.arange(depth + 1)[:, None], torch.arange(depth + 2)
    within = h <= d
    top = (h == d).double()
    # What stands at d before the last step has touched it, so all walks to there count.
    ways[:, 0, 0, 1] = 1.0
    for t in range(1, length + 1):
        before = ways[:, t - 1]
        reached = before[..., 1]
        still = top * reached + (1 - top) * before[..., 0]
        for m, each in enumerate((still, reached)):
            ways[:, t, 1:, m] += each[:, :-1]
            ways[:, t, :-1, m] += each[:, 1:]
        ways[:, t] *= within[..., None] / 2
    return ways


def _before_on_level(kind_BT: Tensor, opens_BT: Tensor) -> Tensor:
    """The kind of the bracket before on the same level: of the one that a closing bracket closes, if it closes any."""
    level_BT = _height(opens_BT) + ~opens_BT
    order_BT = level_BT.argsort(dim=1, stable=True)
    return torch.empty_like(kind_BT).scatter_(1, order_BT, kind_BT.gather(1, order_BT).roll(1, 1))


def _height(opens_BT: Tensor) -> Tensor:
    """How many brackets are open after each token, as if all were alike."""
    return (2 * opens_BT.long() - 1).cumsum(1)
