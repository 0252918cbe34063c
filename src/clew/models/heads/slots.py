"""A set of vectors without an order, from one output: S slots, each a vector and the probability that it is used
(detection as set prediction: Carion et al. 2020, arXiv:2005.12872, section 3.1).

c[i, j] = |v_i - t_j|^2 - ln p_i + ln(1 - p_i)            what it costs that slot i stands for element j
loss    = mean over sets of sum over pairs of |v_i - t_j|^2 / |t| + cross-entropy of the slots' use

"matching"   each element has the slot that the cheapest matching gives it (Kuhn 1955: the Hungarian method)
"sinkhorn"   soft pairs: entropic optimal transport (Cuturi 2013, arXiv:1306.0895), differentiated through
"chamfer"    each element has its nearest used slot, and each used slot its nearest element (Fan et al. 2017,
             arXiv:1612.00603, eq. 1); which slots are used is told by the matching
"ordered"    element j has slot j: what an order that means nothing costs

N sets, S slots, D numbers of an element, W numbers of an output
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clew.ops.dropout import dropout

LOSSES = ("matching", "sinkhorn", "chamfer", "ordered")
SOFTNESS = 0.05  # of Sinkhorn's pairs, in units of a squared deviation
ROUNDS = 50  # of Sinkhorn's normalisation
NOTHING = -1e4  # the logarithm of a sum that is none


class SlotHead(nn.Module):
    """Args:
    width: of an output.
    slots: S, the most elements of a set.
    numbers: D.
    kind: of loss, one of `LOSSES`.
    dropout: of outputs.
    """

    takes_missing = True  # elements that are NaN

    def __init__(self, width: int, slots: int, numbers: int, kind: str = "matching", dropout: float = 0.0) -> None:
        super().__init__()
        if kind not in LOSSES:
            raise ValueError(f"unknown loss '{kind}'")
        self.slots, self.numbers, self.kind, self.dropout = slots, numbers, kind, dropout
        self.inner = nn.Linear(width, 2 * width)
        self.readout = nn.Linear(2 * width, slots * (numbers + 1))

    def loss(self, y: Tensor, target: Tensor) -> Tensor:
        """Args: outputs (N, W) and targets (N, S D), element behind element, NaN behind the last."""
        v_NSD, use_NS = self._slots(dropout(y, self.dropout, self.training))
        t_NSD = target.unflatten(-1, (self.slots, self.numbers))
        real_NS = ~t_NSD.isnan().any(-1)
        t_NSD = t_NSD.nan_to_num()
        far_NSS = (v_NSD[:, :, None] - t_NSD[:, None]).square().sum(-1)  # slots by elements
        count_N = real_NS.sum(1).clamp(min=1)
        if self.kind == "ordered":
            pairs_NSS = torch.diag_embed(real_NS.to(y.dtype))
        else:
            pairs_NSS = matched(far_NSS.detach() - use_NS.detach()[:, :, None], real_NS)
        used_NS = pairs_NSS.sum(2)
        use = F.binary_cross_entropy_with_logits(use_NS, used_NS)
        if self.kind == "sinkhorn":
            fixed_NS = use_NS.detach()
            pairs_NSS = sinkhorn(far_NSS - F.logsigmoid(fixed_NS)[:, :, None], -F.logsigmoid(-fixed_NS), real_NS)
        if self.kind == "chamfer":
            none = torch.finfo(y.dtype).max
            to_slot = far_NSS.masked_fill(~used_NS.bool()[:, :, None], none).amin(1)  # of each element
            to_element = far_NSS.masked_fill(~real_NS[:, None], none).amin(2)  # of each slot
            near = torch.where(real_NS, to_slot, 0.0).sum(1) + torch.where(used_NS.bool(), to_element, 0.0).sum(1)
            return (near / count_N).mean() / 2 + use
        return ((pairs_NSS * far_NSS).sum((1, 2)) / count_N).mean() + use

    def predict(self, y: Tensor) -> Tensor:
        """(..., S (D + 1)): of each slot its vector and the log-odds that it is used."""
        return self.readout(F.silu(self.inner(y)))

    def _slots(self, y: Tensor) -> tuple[Tensor, Tensor]:
        slots_NSD = self.predict(y).unflatten(-1, (self.slots, self.numbers + 1))
        return slots_NSD[..., :-1], slots_NSD[..., -1]


@torch.no_grad()
def matched(cost_NSS: Tensor, real_NS: Tensor) -> Tensor:
    """1 for the pairs of slot and element (N, S, S) that together cost least; elements that are not real have none."""
    from scipy.optimize import linear_sum_assignment  # slow to import, and few runs need it

    pairs, costs, real = torch.zeros_like(cost_NSS), cost_NSS.nan_to_num().double().cpu().numpy(), real_NS.cpu().numpy()
    for n in range(len(costs)):
        elements = real[n].nonzero()[0]
        rows, columns = linear_sum_assignment(costs[n][:, elements])
        pairs[n, torch.from_numpy(rows), torch.from_numpy(elements[columns])] = 1.0
    return pairs


def sinkhorn(cost_NSS: Tensor, idle_NS: Tensor, real_NS: Tensor) -> Tensor:
    """Soft pairs (N, S, S): each real element is shared out among the slots, and no slot has more than one.

    Args:
        idle_NS: what it costs that a slot is not used.
    """
    # A column more for what slots keep, so that theirs too sum up to 1.
    log = torch.cat([-cost_NSS, -idle_NS[:, :, None]], 2) / SOFTNESS
    kept_N1 = (real_NS.shape[1] - real_NS.sum(1, keepdim=True)).clamp(min=1e-6).log()
    sums_NS = torch.cat([torch.where(real_NS, 0.0, NOTHING), kept_N1], 1)[:, None]
    for _ in range(ROUNDS):
        log = log - log.logsumexp(2, keepdim=True)
        log = log - log.logsumexp(1, keepdim=True) + sums_NS
    return torch.where(real_NS[:, None], log[..., :-1].exp(), 0.0)
