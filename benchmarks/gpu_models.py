"""Layers, language models and streams of `gpu.py`, beside torch's own."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from gpu_machine import Machine, Run, least
from race import ratio
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from clew import cells, tree
from clew import nn as drop_in
from clew.ops.triton import classical as gated
from clew.stream.device_slots import DeviceSlots

CELLS = ("mingru", "rglru", "mamba", "mamba2", "gla", "retnet", "deltanet", "gated_deltanet", "rwkv7", "mlstm", "slstm")


def layers(machine: Machine, _: dict[str, float]) -> list[dict[str, Any]]:
    """LSTM and GRU beside torch's: one layer and two, both directions, packed sequences. Ours are those that are chosen
    for the device, which may be torch's own."""
    shapes = [*itertools.product((1, 16, 32, 256), (256,), (128, 256, 512, 1024))]
    shapes += [(16, T, 512) for T in (128, 1024, 2048)]
    rows = []
    for (B, T, H), kind, dtype in itertools.product(
        [(2, 4, 3)] if machine.small else shapes, ("LSTM", "GRU"), (torch.bfloat16, torch.float32)
    ):
        for count, both, packed in ((1, False, False), (2, False, False), (1, True, False), (1, False, True)):
            torch.manual_seed(0)
            theirs = getattr(nn, kind)(H, H, count, batch_first=True, bidirectional=both).to(machine.device, dtype)
            ours = getattr(drop_in, kind)(H, H, count, batch_first=True, bidirectional=both).to(machine.device, dtype)
            ours.load_state_dict(theirs.state_dict())
            x = torch.randn(B, T, H, device=machine.device, dtype=dtype, requires_grad=True)
            lengths = torch.linspace(T, max(1, T // 4), B).long() if packed else None

            def once(module: nn.Module, x: Tensor = x, lengths: Tensor | None = lengths) -> Run:
                def run() -> list[Tensor]:
                    y = module(x if lengths is None else pack_padded_sequence(x, lengths, batch_first=True))[0]
                    y = y if lengths is None else y.data
                    return [y, *torch.autograd.grad(y.float().sum(), [x, *module.parameters()])]

                return run

            row = {"cell": kind, "B": B, "T": T, "H": H, "layers": count, "both": both, "packed": packed}
            times = machine.race({"clew": once(ours), "torch": once(theirs)}, 2e-3 if dtype == torch.float32 else 5e-2)
            by = gated.faster(kind.lower(), x, H)
            row |= {"dtype": str(dtype), "weak": _weak(kind, dtype, B, H, count, both, packed)}
            row |= {"kernel": "clew" if by else "torch"}
            row["faster than torch"] = times if isinstance(times, str) else round(ratio(times, "clew", "torch"), 3)
            rows.append(row)
            print(row, flush=True)
    return rows


def _weak(kind: str, dtype: torch.dtype, B: int, H: int, count: int, both: bool, packed: bool) -> bool:
    """Whether cuDNN runs this by its plain kernels."""
    wide = H > 192 and (kind == "GRU" or dtype == torch.bfloat16)
    return wide or count > 1 or both or packed


def streams(machine: Machine, _: dict[str, float]) -> dict[str, dict[str, float]]:
    """Steps a second of as many streams as move at once, their rows coming from and going to the CPU."""
    counts, W = ((3,), 8) if machine.small else ((1, 256, 4096), 256)
    found: dict[str, dict[str, float]] = {}
    for name in CELLS[:2] if machine.small else ("gru", "lstm", *CELLS):
        cell = cells.RECURRENCES[name](W, W).to(machine.device).eval()
        first = [leaf.detach().cpu().numpy() for leaf in tree.leaves(cell.init_state(1))]
        slots = DeviceSlots(first, max(counts), torch.device(machine.device))
        found[name] = {}
        for count in counts:
            places, rows = np.arange(count), np.random.default_rng(0).normal(size=(count, W)).astype(np.float32)
            taken = least(lambda slots=slots, cell=cell, p=places, r=rows: slots.move(cell, p, r), machine)
            found[name][f"{count} streams"] = round(count / taken)
        print(name, found[name], "steps a second", flush=True)
    return found


class Causal(nn.Module):
    """Self-attention as torch has it."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.qkv, self.out, self.heads = nn.Linear(width, 3 * width), nn.Linear(width, width), heads

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (t.unflatten(-1, (self.heads, -1)).transpose(1, 2) for t in self.qkv(x).chunk(3, -1))
        return self.out(F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2))


class Block(nn.Module):
    def __init__(self, mixer: nn.Module, width: int) -> None:
        super().__init__()
        self.mixer, self.before, self.between = mixer, nn.LayerNorm(width), nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        y = self.mixer(self.before(x))
        x = x + (y[0] if isinstance(y, tuple) else y)
        return x + self.mlp(self.between(x))


def language(machine: Machine, _: dict[str, float]) -> dict[str, float]:
    """Tokens a second that a model of 4 blocks trains on, in bfloat16."""
    B, T, W, units = (1, 4, 16, 11) if machine.small else (8, 2048, 512, 8192)
    mixers: dict[str, Callable[[], nn.Module]] = {
        "nn.LSTM": lambda: nn.LSTM(W, W, batch_first=True),
        "Transformer": lambda: Causal(W, max(1, W // 64)),
        **{name: (lambda name=name: cells.RECURRENCES[name](W, W)) for name in CELLS[: 2 if machine.small else None]},
    }
    found = {}
    for name, mixer in mixers.items():
        torch.manual_seed(0)
        blocks = [Block(mixer(), W) for _ in range(4)]
        model = nn.Sequential(nn.Embedding(units, W), *blocks, nn.LayerNorm(W), nn.Linear(W, units))
        model = model.to(machine.device, torch.bfloat16)
        x = torch.randint(units, (B, T + 1), device=machine.device)

        def step(model: nn.Module = model, x: Tensor = x) -> None:
            loss = F.cross_entropy(model(x[:, :-1]).flatten(0, 1).float(), x[:, 1:].flatten())
            torch.autograd.grad(loss, list(model.parameters()))

        try:
            found[name] = round(B * T / least(step, machine))
        except torch.OutOfMemoryError:
            found[name] = 0
        print(name, found[name], "tokens a second", flush=True)
    return found
