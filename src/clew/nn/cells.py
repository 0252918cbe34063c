"""`RNNCell`, `GRUCell` and `LSTMCell` with torch's signatures (torch.nn, 2.13), computed by the definitions."""

from __future__ import annotations

import torch
from torch import Tensor

from clew.ops import Weights, Zoneout
from clew.ops import definition as ref


class RNNCell(torch.nn.RNNCell):
    """One step of an Elman network: `torch.nn.RNNCell`."""

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        if self.nonlinearity not in ("tanh", "relu"):
            raise RuntimeError(f"Unknown nonlinearity: {self.nonlinearity}")
        x_BI, (h_BH,), batched = _batched(self, input, None if hx is None else (hx,), 1)
        w = _weights(self)
        h_BH = ref.elman_step(ref.input_gates(x_BI, w), h_BH, h_BH, w, self.nonlinearity, Zoneout())
        return h_BH if batched else h_BH.squeeze(0)


class GRUCell(torch.nn.GRUCell):
    """One step of a GRU: `torch.nn.GRUCell`."""

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        x_BI, (h_BH,), batched = _batched(self, input, None if hx is None else (hx,), 1)
        w = _weights(self)
        h_BH = ref.gru_step(ref.input_gates(x_BI, w), h_BH, h_BH, w, Zoneout())
        return h_BH if batched else h_BH.squeeze(0)


class LSTMCell(torch.nn.LSTMCell):
    """One step of an LSTM: `torch.nn.LSTMCell`."""

    def forward(self, input: Tensor, hx: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, Tensor]:
        x_BI, (h_BH, c_BH), batched = _batched(self, input, hx, 2)
        w = _weights(self)
        h_BH, c_BH = ref.lstm_step(ref.input_gates(x_BI, w), h_BH, c_BH, h_BH, w, Zoneout())
        return (h_BH, c_BH) if batched else (h_BH.squeeze(0), c_BH.squeeze(0))


def _weights(cell: torch.nn.RNNCellBase) -> Weights:
    return Weights(cell.weight_ih, cell.weight_hh, cell.bias_ih, cell.bias_hh)


def _batched(
    cell: torch.nn.RNNCellBase, x: Tensor, hx: tuple[Tensor, ...] | None, leaves: int
) -> tuple[Tensor, tuple[Tensor, ...], bool]:
    """Input and state with a batch, zeros where no state is given, and whether the input had one; torch's errors."""
    name = cell._get_name()
    if x.dim() not in (1, 2):
        raise ValueError(f"{name}: Expected input to be 1D or 2D, got {x.dim()}D instead")
    for i, leaf in enumerate(() if hx is None else hx):
        if leaf.dim() not in (1, 2):
            which = f"hx[{i}]" if leaves == 2 else "hidden"
            raise ValueError(f"{name}: Expected {which} to be 1D or 2D, got {leaf.dim()}D instead")
    if leaves == 2 and hx is not None:
        if isinstance(hx, Tensor):  # (2, B, H) would unpack in silence
            raise TypeError("lstm_cell(): argument 'hx' (position 2) must be tuple of Tensors, not Tensor")
        if len(hx) != 2:
            raise RuntimeError("lstm_cell expects two hidden states")
    batched = x.dim() == 2
    x_BI = x if batched else x.unsqueeze(0)
    if hx is None:
        hx = (x_BI.new_zeros(x_BI.shape[0], cell.hidden_size),) * leaves
    elif not batched:
        hx = tuple(leaf.unsqueeze(0) for leaf in hx)
    if x_BI.shape[1] != cell.input_size:
        raise RuntimeError(f"input has inconsistent input_size: got {x_BI.shape[1]} expected {cell.input_size}")
    for i, leaf in enumerate(hx):
        if leaf.size(0) != x_BI.shape[0]:
            raise RuntimeError(f"Input batch size {x_BI.shape[0]} doesn't match hidden{i} batch size {leaf.shape[0]}")
        if leaf.size(1) != cell.hidden_size:
            raise RuntimeError(
                f"hidden{i} has inconsistent hidden_size: got {leaf.shape[1]}, expected {cell.hidden_size}"
            )
    return x_BI, hx, batched
