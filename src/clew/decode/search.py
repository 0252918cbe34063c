"""Beam search: the likeliest sequences that a model which predicts its own next input can be found to give.

Each step, the `width` best continuations of the `width` best open hypotheses of a row are kept; those that choose the
end leave their slots, which are filled anew in the next step. All rows and all hypotheses take a step together; a row
leaves when no open hypothesis can come among its best any more.

B rows, R of them running, M open hypotheses of each, K of the next step, N = R M, V units, T choices so far
"""

from __future__ import annotations

import torch
from torch import Tensor

from clew import tree
from clew.decode import pool, select
from clew.decode.constraints import Allow, Constraints, never_of
from clew.decode.penalty import Coverage, LengthPenalty, Scoring
from clew.decode.pool import FINISHED, NOTHING, UNFINISHED, Hypothesis, Pool
from clew.decode.predictor import Predictor, check_largest, check_start, check_step
from clew.decode.running import begin, check_counts
from clew.tree import State


@torch.no_grad()
def beam(
    model: Predictor,
    logp_BV: Tensor,
    state: State,
    context: State | None = None,
    *,
    end: int,
    most: int | Tensor,
    width: int = 5,
    nbest: int = 1,
    least: int = 0,
    length_penalty: float | LengthPenalty = 0.0,
    coverage: Coverage | None = None,
    no_repeat: int = 0,
    never: Tensor | None = None,
    prefix: Tensor | None = None,
    allow: Allow | None = None,
    monotonic: bool = False,
) -> list[list[Hypothesis]]:
    """The best hypotheses found for each row, at most `nbest`: finished ones first, then by score.

    Args:
        logp_BV: the prediction from which the first unit is chosen, and the state after it was made.
        context: what does not move while the model runs.
        end: the unit that ends a sequence.
        most: choices, the end among them, for all rows or (B,). What has not ended by then is unfinished.
        width: open hypotheses of a row. With 1 it is `greedy`.
        least: units before the end.
        length_penalty: alpha of Wu et al. 2016 (arXiv:1609.08144, eq. 14), 0 for none, or a function from lengths, the
            end counted, to what log-probabilities are divided by, as `per_unit`.
        coverage: from the state in which a hypothesis made its last choice to (N,), not over 0, added to its score:
            cp of eq. 14, see `covered`.
        no_repeat: no so many units in a row twice; 0 for no such rule.
        never: units (n,), or a mask (B, V), that are never chosen.
        prefix: units (B, P) that come first; a negative number leaves the choice free, so -1 fills shorter ones. They
            stand above every other rule.
        allow: from the units so far (N, T), and the row of the batch that each belongs to (N,), to a mask (N, V).
        monotonic: each slot chooses among the children of the slots up to its own (Lemons et al. 2022,
            arXiv:2204.02929), so that a wider search finds all that a narrower one finds.

    A hypothesis that nothing may follow ends unfinished. Of equal candidates that of the better parent, then the lower
    unit is taken.

    Raises:
        ShapeError: a tensor does not fit.
        ConfigError: an option that is impossible, or predictions that are NaN or no log-probabilities.

    Example:
        >>> logp, state = model(prompt_BT1)
        >>> found = beam(model, logp[:, -1], state, end=0, most=50)
        >>> found[0][0].units
    """
    check_start(logp_BV, state, context)
    check_counts(1, width=width, nbest=nbest)
    check_counts(0, least=least, no_repeat=no_repeat)
    (B, V), device = logp_BV.shape, logp_BV.device
    never_n, never_BV = never_of(never, B, V, device)
    running = begin(logp_BV, most, nbest, end, least, never_BV, prefix)
    scoring = Scoring(length_penalty, int(running.most_R.max()) if B else 1, coverage, device)
    rules, choose = Constraints(end, never_n, least, no_repeat, allow), select.monotone if monotonic else select.best
    found: list[list[Hypothesis]] = [[] for _ in range(B)]
    while len(running.row_R):
        row_R, most_R, never_RV, prefix_RP, ended, total_RM, units_RMT = running
        R, M, T = units_RMT.shape
        open_RM, last_R = total_RM > -torch.inf, most_R == T + 1

        # Of each hypothesis only so many units can be among the best as the best are many.
        value_Nk, unit_Nk = select.top(rules.apply(logp_BV, units_RMT, row_R, never_RV, prefix_RP), width)
        # What an empty slot predicts is nobody's, be it NaN.
        value_RMk = torch.where(open_RM[:, :, None], value_Nk.unflatten(0, (R, M)), -torch.inf)
        sum_RMk = total_RM[:, :, None] + check_largest(value_RMk)
        total_RK, place_RK = choose(sum_RMk, width)
        unit_RK = unit_Nk.reshape(R, -1).gather(1, place_RK)
        parent_RK = place_RK // sum_RMk.shape[2]
        origin_RK = parent_RK + M * torch.arange(R, device=device)[:, None]
        longer_RKT = torch.cat([units_RMT.flatten(0, 1)[origin_RK], unit_RK[:, :, None]], 2)

        taken_RK = total_RK > -torch.inf
        ends_RK = taken_RK & (unit_RK == end)
        cut_RK = taken_RK & ~ends_RK & last_R[:, None]
        stuck_RM = open_RM & (sum_RMk[:, :, 0] == -torch.inf)
        if bool((ends_RK | cut_RK).any()) or bool(stuck_RM.any()):
            extra_RM = scoring.extra(state, total_RM)
            score_RM = scoring.score(total_RM, T, extra_RM)
            rank_RM = torch.where(stuck_RM, UNFINISHED, NOTHING)
            ended = pool.insert(ended, Pool(rank_RM, score_RM, total_RM, torch.full_like(rank_RM, T), units_RMT))
            score_RK = scoring.score(total_RK, T + 1, extra_RM.gather(1, parent_RK))
            rank_RK = torch.where(ends_RK, FINISHED, torch.where(cut_RK, UNFINISHED, NOTHING))
            ended = pool.insert(ended, Pool(rank_RK, score_RK, total_RK, T + 1 - ends_RK.long(), longer_RKT))
            total_RK = total_RK.masked_fill(ends_RK, -torch.inf)

        hope_R, full_R = total_RK.amax(1), ended.rank_RL[:, -1] == FINISHED
        done_R = last_R | (hope_R == -torch.inf)
        if bool((full_R & ~done_R).any()):
            done_R |= full_R & (ended.score_RL[:, -1] >= scoring.within_reach(hope_R, T + 1, most_R))
        running = running._replace(ended=ended, total_RM=total_RK, units_RMT=longer_RKT)
        stay = (~done_R).nonzero()[:, 0]
        if len(stay) < R:  # at once: the state moves in each step anyway
            leave = done_R.nonzero()[:, 0]
            for row, best in zip(row_R[leave].tolist(), pool.hypotheses(tree.take(ended, leave)), strict=True):
                found[row] = best
            running = tree.take(running, stay)
        if len(stay):
            state = tree.take(state, origin_RK[stay].flatten())
            K = unit_RK.shape[1]
            if context is not None and (len(stay), K) != (R, M):  # the same for all hypotheses of a row
                context = tree.take(context, (stay * M).repeat_interleave(K))
            logp_BV, state = model.step(unit_RK[stay].view(-1, 1), state, context)
            check_step(logp_BV, len(stay) * K, V)
    return found
