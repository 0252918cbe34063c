"""The classes of all steps chosen together: a linear-chain conditional random field (Lafferty et al. 2001; above a
recurrence: Huang et al. 2015, arXiv:1508.01991, section 2.3; Lample et al. 2016, arXiv:1603.01360, eq. 1-2).

s(k) = first[k_1] + sum over t of e[t, k_t] + sum over t > 1 of moves[k_t-1, k_t] + last[k_T],    e = W y + b
p(k) = exp s(k) / Z,    Z = sum over all k of exp s(k)

log Z is the forward algorithm's, the best k Viterbi's, p(k_t) what the forward and the backward algorithm meet in.

B rows, T steps, W numbers of an output, K classes
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from clew.data.batch import Batch
from clew.ops import definition as ref
from clew.ops.dropout import dropout


class ChainHead(nn.Module):
    """Args: width of an output, K classes, dropout of outputs."""

    def __init__(self, width: int, classes: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.readout, self.dropout = nn.Linear(width, classes), dropout
        self.moves = nn.Parameter(torch.zeros(classes, classes))  # from a row's class to a column's
        self.first, self.last = nn.Parameter(torch.zeros(classes)), nn.Parameter(torch.zeros(classes))

    def sequence_loss(self, y_BTW: Tensor, batch: Batch) -> Tensor:
        """-log p of the true classes, over the number of steps; padding may hold anything."""
        y_BTW, real_BT = _real(y_BTW, batch.lengths)
        if not y_BTW.shape[1]:
            return y_BTW.sum()
        e_BTK = self.readout(dropout(y_BTW, self.dropout, self.training))
        target_BT = batch.target.masked_fill(~real_BT, 0)
        surprise_B = self.log_partition(e_BTK, real_BT) - self.score(e_BTK, target_BT, real_BT)
        return surprise_B.sum() / real_BT.sum().clamp(min=1)

    def predict_sequence(self, y_BTW: Tensor, lengths: Tensor | None = None) -> Tensor:
        """The best classes, and beside each the log-probability of that class at that step: (B, T, 2), 0 where
        padded."""
        y_BTW, real_BT = _real(y_BTW, lengths)
        if not y_BTW.shape[1]:
            return y_BTW.new_zeros(*y_BTW.shape[:2], 2)
        e_BTK = self.readout(y_BTW)
        best_BT = self.best(e_BTK, real_BT)
        logp_BT = self.marginals(e_BTK, real_BT).gather(2, best_BT[..., None])[..., 0]
        return ref.hide_padding(torch.stack([best_BT.to(logp_BT.dtype), logp_BT], -1), real_BT)

    def score(self, e_BTK: Tensor, target_BT: Tensor, real_BT: Tensor) -> Tensor:
        """s of given classes: (B,); 0 for a row without steps."""
        at_B = (real_BT.sum(1) - 1).clamp(min=0)
        ends_B = self.first[target_BT[:, 0]] + self.last[target_BT.gather(1, at_B[:, None])[:, 0]]
        steps_BT = e_BTK.gather(2, target_BT[..., None])[..., 0]
        moves_BT = self.moves[target_BT[:, :-1], target_BT[:, 1:]]
        return (
            torch.where(real_BT, steps_BT, 0.0).sum(1)
            + torch.where(real_BT[:, 1:], moves_BT, 0.0).sum(1)
            + (torch.where(real_BT.any(1), ends_B, 0.0))
        )

    def log_partition(self, e_BTK: Tensor, real_BT: Tensor) -> Tensor:
        """log Z: (B,); 0 for a row without steps."""
        forward_BK = self._forward(e_BTK, real_BT)[:, -1]
        return torch.where(real_BT.any(1), (forward_BK + self.last).logsumexp(1), 0.0)

    def marginals(self, e_BTK: Tensor, real_BT: Tensor) -> Tensor:
        """log p(k_t): (B, T, K); what it is where padded does not matter."""
        after_BK, found = self.last.expand(len(e_BTK), -1), []
        forward_BTK = self._forward(e_BTK, real_BT)
        for t in range(e_BTK.shape[1] - 1, -1, -1):
            found.append(after_BK)
            before_BK = (self.moves + (e_BTK[:, t] + after_BK)[:, None]).logsumexp(2)
            after_BK = torch.where(real_BT[:, t, None], before_BK, after_BK)
        together_BTK = forward_BTK + torch.stack(found[::-1], 1)
        return together_BTK - together_BTK.logsumexp(2, keepdim=True)

    def best(self, e_BTK: Tensor, real_BT: Tensor) -> Tensor:
        """The classes (B, T) with the highest s; of equal ones the lower numbers at the end."""
        best_BK, came = self.first + e_BTK[:, 0], []
        same_BK = torch.arange(e_BTK.shape[2], device=e_BTK.device).expand_as(best_BK)
        for t in range(1, e_BTK.shape[1]):
            ahead_BK, from_BK = (best_BK[:, :, None] + self.moves).max(1)
            real_B1 = real_BT[:, t, None]
            best_BK = torch.where(real_B1, ahead_BK + e_BTK[:, t], best_BK)
            came.append(torch.where(real_B1, from_BK, same_BK))  # behind the end a class comes from itself
        k_B1 = (best_BK + self.last).argmax(1, keepdim=True)
        path = [k_B1]
        for from_BK in reversed(came):
            path.append(from_BK.gather(1, path[-1]))
        return torch.cat(path[::-1], 1)

    def _forward(self, e_BTK: Tensor, real_BT: Tensor) -> Tensor:
        """The logarithm of the sum over all that comes before and at a step: (B, T, K); behind the end the last."""
        sums = [self.first + e_BTK[:, 0]]
        for t in range(1, e_BTK.shape[1]):
            ahead_BK = (sums[-1][:, :, None] + self.moves).logsumexp(1) + e_BTK[:, t]
            sums.append(torch.where(real_BT[:, t, None], ahead_BK, sums[-1]))
        return torch.stack(sums, 1)


def _real(y_BTW: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor]:
    """Outputs with nothing in the padding, and which steps are real, (B, T)."""
    real_BT = ref.valid_steps(y_BTW, lengths)
    if real_BT is None:
        return y_BTW, torch.ones(y_BTW.shape[:2], dtype=torch.bool, device=y_BTW.device)
    return ref.hide_padding(y_BTW, real_BT), real_BT
