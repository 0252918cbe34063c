"""`RNN`, `GRU` and `LSTM` with torch's signatures (torch.nn, 2.13), computed by `clew.ops`.

They derive from torch's modules for what must be torch's to the letter (parameters, names, checks, printing), and
replace `forward`. Inside, everything is batch-first and one layer and direction at a time.

    L layers x directions, B batch, T time, D features
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from clew import ops
from clew.ops import definition as ref

State = tuple[Tensor, ...]  # (h,) or (h, c)
Scan = Callable[..., tuple[Tensor, Any]]


class _Sequence:
    """Where a batch of sequences comes from and goes back to: padded or packed, batched or not."""

    def __init__(self, module: torch.nn.RNNBase, source: Tensor | PackedSequence) -> None:
        self.packed = source if isinstance(source, PackedSequence) else None
        self.batch_first = module.batch_first
        self.lengths: Tensor | None = None
        self.batched = True
        if self.packed is not None:
            # Without the indices the rows stay in the order of the packing, longest first.
            in_order = PackedSequence(self.packed.data, self.packed.batch_sizes)
            self.x_BTD, self.all_lengths = pad_packed_sequence(in_order, batch_first=True)
            if int(self.all_lengths.min()) < self.x_BTD.shape[1]:
                self.lengths = self.all_lengths
        else:
            assert isinstance(source, Tensor)
            self.batched = source.dim() == 3
            x = source if self.batched else source.unsqueeze(0 if self.batch_first else 1)
            self.x_BTD = x if self.batch_first else x.transpose(0, 1)

    def dropout(self, y_BTD: Tensor, p: float) -> Tensor:
        """Dropped out in the layout in which torch does it, so that equal seeds give equal masks."""
        if self.packed is not None:
            flat = F.dropout(self._flat(y_BTD), p)
            return pad_packed_sequence(PackedSequence(flat, self.packed.batch_sizes), batch_first=True)[0]
        return F.dropout(y_BTD.transpose(0, 1).contiguous(), p).transpose(0, 1)

    def output(self, y_BTD: Tensor) -> Tensor | PackedSequence:
        if self.packed is not None:
            return self.packed._replace(data=self._flat(y_BTD))
        y = y_BTD if self.batch_first else y_BTD.transpose(0, 1).contiguous()  # callers `view` it, as torch's allows
        return y if self.batched else y.squeeze(0 if self.batch_first else 1)

    def _flat(self, y_BTD: Tensor) -> Tensor:
        return pack_padded_sequence(y_BTD, self.all_lengths, batch_first=True).data


class _Layers(torch.nn.RNNBase):
    """The forward of all three. `run` is given the scan."""

    leaves = 1

    def run(
        self, scan: Scan, source: Tensor | PackedSequence, hx: State | None
    ) -> tuple[Tensor | PackedSequence, State]:
        """Outputs as torch lays them out, and the final state, each leaf (L, B, D)."""
        self._update_flat_weights()  # torch's checks read these; `functional_call` puts others in their place
        if isinstance(source, Tensor) and source.dim() not in (2, 3):
            noun = "" if self.leaves == 2 else " tensor" if isinstance(self, torch.nn.RNN) else ""
            raise ValueError(f"{self._get_name()}: Expected input to be 2D or 3D, got {source.dim()}D{noun} instead")
        if isinstance(source, Tensor) and hx is not None:
            hx = self._batched_state(source.dim() == 3, hx)
        packed = source if isinstance(source, PackedSequence) else None
        batch_sizes = packed.batch_sizes if packed is not None else None
        data = packed.data if packed is not None else source
        assert isinstance(data, Tensor)
        checked = data if packed is not None or data.dim() == 3 else data.unsqueeze(0 if self.batch_first else 1)
        if hx is None:
            self.check_input(checked, batch_sizes)
            rows = self.get_expected_hidden_size(checked, batch_sizes)[1]
            count = self.num_layers * (2 if self.bidirectional else 1)
            widths = (self.proj_size or self.hidden_size, self.hidden_size)[: self.leaves]
            hx = tuple(data.new_zeros(count, rows, width) for width in widths)
        else:
            if packed is not None:
                hx = tuple(_reordered(leaf, packed.sorted_indices) for leaf in hx)
            given: Any = hx if self.leaves == 2 else hx[0]
            self.check_forward_args(checked, given, batch_sizes)
        sequence = _Sequence(self, source)
        if sequence.x_BTD.shape[1] == 0:
            raise RuntimeError("Expected sequence length to be larger than 0 in RNN")
        y_BTD, final = self._through(scan, sequence, hx)
        if packed is not None:
            final = tuple(_reordered(leaf, packed.unsorted_indices) for leaf in final)
        elif not sequence.batched:
            final = tuple(leaf.squeeze(1) for leaf in final)
        return sequence.output(y_BTD), final

    def _through(self, scan: Scan, sequence: _Sequence, hx: State) -> tuple[Tensor, State]:
        """All layers and directions."""
        x_BTD, directions, finals = sequence.x_BTD, 2 if self.bidirectional else 1, []
        for layer in range(self.num_layers):
            outputs = []
            for direction in range(directions):
                before = (*(leaf[layer * directions + direction] for leaf in hx), ())
                y_BTD, after = self._one(scan, x_BTD, before, layer, direction, sequence.lengths)
                outputs.append(y_BTD)
                finals.append(after[: self.leaves])
            x_BTD = torch.cat(outputs, -1) if directions == 2 else outputs[0]
            if self.dropout and self.training and layer < self.num_layers - 1:
                x_BTD = sequence.dropout(x_BTD, self.dropout)
        return x_BTD, tuple(torch.stack(leaves) for leaves in zip(*finals, strict=True))

    def _one(
        self, scan: Scan, x_BTD: Tensor, state: Any, layer: int, direction: int, lengths: Tensor | None
    ) -> tuple[Tensor, Any]:
        """One layer in one direction; backwards is forwards over the rows turned round."""
        suffix = f"_l{layer}" + ("_reverse" if direction else "")
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr")
        parameters: list[Any] = [getattr(self, name + suffix, None) for name in names]
        weights = ops.Weights(*parameters)
        if not direction:
            return scan(x_BTD, state, weights, initial=state, lengths=lengths)
        turned_BT = ref.turn(x_BTD, lengths)
        y_BTD, after = scan(ref.pick_steps(x_BTD, turned_BT), state, weights, initial=state, lengths=lengths)
        return ref.pick_steps(y_BTD, turned_BT), after

    def _batched_state(self, batched: bool, hx: State) -> State:
        want, kind = (3, "batched 3-D") if batched else (2, "unbatched 2-D")
        if any(leaf.dim() != want for leaf in hx):
            if self.leaves == 2:
                found = ", ".join(f"{leaf.dim()}-D" for leaf in hx)
                raise RuntimeError(f"For {kind} input, hx and cx should also be {want}-D but got ({found}) tensors")
            raise RuntimeError(f"For {kind} input, hx should also be {want}-D but got {hx[0].dim()}-D tensor")
        return hx if batched else tuple(leaf.unsqueeze(1) for leaf in hx)

    def flatten_parameters(self) -> None:
        """Nothing to do: our ops read the parameters where they are."""


def _reordered(leaf_LBD: Tensor, rows: Tensor | None) -> Tensor:
    """Rows in the order of the packing, or back. (Torch's `permute_hidden` takes a tensor or a pair, by class.)"""
    return leaf_LBD if rows is None else leaf_LBD.index_select(1, rows)


class RNN(_Layers, torch.nn.RNN):
    """Elman network with torch's signature: `torch.nn.RNN`."""

    def forward(self, input: Tensor | PackedSequence, hx: Tensor | None = None):
        y, (h,) = self.run(
            partial(ops.elman_scan, nonlinearity=self.mode.removeprefix("RNN_").lower()),
            input,
            None if hx is None else (hx,),
        )
        return y, h


class GRU(_Layers, torch.nn.GRU):
    """Gated recurrent unit with torch's signature: `torch.nn.GRU`."""

    def forward(self, input: Tensor | PackedSequence, hx: Tensor | None = None):
        y, (h,) = self.run(ops.gru_scan, input, None if hx is None else (hx,))
        return y, h


class LSTM(_Layers, torch.nn.LSTM):
    """Long short-term memory with torch's signature: `torch.nn.LSTM`."""

    leaves = 2

    def forward(self, input: Tensor | PackedSequence, hx: tuple[Tensor, Tensor] | None = None):
        y, (h, c) = self.run(ops.lstm_scan, input, None if hx is None else (hx[0], hx[1]))
        return y, (h, c)
