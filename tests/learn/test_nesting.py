"""With a stack even what has no memory of its own learns brackets, and follows them longer and deeper than any seen."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from clew.cells import Pointwise
from clew.cells.stack_memory import StackMemory
from clew.data.brackets import brackets
from clew.data.synthetic import UNSCORED

STEPS, LENGTH, DEPTH = 250, 12, 4


def forgetful(input_size: int, hidden_size: int) -> Pointwise:
    """Each step by itself: what it knows of the past, it reads off the stack."""
    layers = nn.Linear(input_size, hidden_size), nn.Tanh(), nn.Linear(hidden_size, hidden_size), nn.Tanh()
    return Pointwise(nn.Sequential(*layers), input_size, hidden_size)


def test_follows_brackets_deeper_than_it_was_taught() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    draws = torch.Generator().manual_seed(0)
    cell = StackMemory.around(forgetful, 2, 16, depth=16, noise=1.0, hard=True)
    head = nn.Linear(cell.output_size, 3)
    parameters = [*cell.parameters(), *head.parameters()]
    optimiser = torch.optim.Adam(parameters, lr=2e-2)
    schedule = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.0, STEPS)
    for _ in range(STEPS):
        lengths_B = 2 * torch.randint(1, LENGTH // 2 + 1, (32,), generator=draws)
        depths_B = 1 + (torch.rand(32, generator=draws) * (lengths_B // 2).clamp(max=DEPTH)).long()
        x_BT, y_BT = brackets(lengths_B, depths_B, generator=draws)
        logits_BTC = head(cell(F.one_hot(x_BT, 2).float())[0])
        loss = F.cross_entropy(logits_BTC.flatten(0, 1), y_BT.flatten(), ignore_index=UNSCORED)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        schedule.step()
    cell.eval()
    x_BT, y_BT = brackets(torch.full((500,), 60), torch.full((500,), 12), generator=torch.Generator().manual_seed(99))
    with torch.no_grad():
        y_BTH, state = cell(F.one_hot(x_BT, 2).float())
    right = float((head(y_BTH)[:, -1].argmax(-1) == y_BT[:, -1]).float().mean())
    assert right > 0.97, f"{right:.3f} of the strings are judged rightly; who says balanced every time has 0.5"
    balanced_B = y_BT[:, -1] == 0
    assert (state.slots[balanced_B, :, 0, -1] == 0).float().mean() > 0.97, "the stack is empty when all is closed"
    assert cell.lost(state).overflow[balanced_B].sum() == 0
