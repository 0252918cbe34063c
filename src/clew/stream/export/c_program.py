"""A step as C99: the operations that a Stepper would carry out, written down as loops over arrays of fixed size.

The weights are constants, what is carried lies in one struct, what is between two operations on the stack; nothing is
allocated, and of the library only what <math.h> has is called.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from clew.stream.fuse import Entry, Group, Op, address, fused
from clew.stream.program import Program
from clew.stream.recorder import Taken

TYPES = {torch.float32: "float", torch.int64: "long long", torch.bool: "unsigned char", torch.float64: "double"}
BYTES = {"float": 4, "long long": 8, "unsigned char": 1, "double": 8, "signed char": 1}
EXPRESSIONS = {
    Op.COPY: "{0}", Op.NEG: "-{0}", Op.ABS: "fabsf({0})", Op.NOT: "!{0}", Op.EXP: "expf({0})", Op.EXPM1: "expm1f({0})",
    Op.EXP2: "exp2f({0})", Op.LOG: "logf({0})", Op.LOG1P: "log1pf({0})", Op.SQRT: "sqrtf({0})",
    Op.RSQRT: "1.0f / sqrtf({0})", Op.RECIPROCAL: "1.0f / {0}", Op.SIN: "sinf({0})", Op.COS: "cosf({0})",
    Op.OF_TANH: "tanhf({0})", Op.SIGMOID: "sigmoid({0})", Op.OF_RELU: "larger({0}, 0.0f)",
    Op.SILU: "{0} * sigmoid({0})", Op.GELU: "0.5f * {0} * (1.0f + erff({0} * 0.70710678f))",
    Op.SOFTPLUS: "{0} > 20.0f ? {0} : log1pf(expf({0}))",
    Op.LOG_SIGMOID: "({0} < 0.0f ? {0} : 0.0f) - log1pf(expf(-fabsf({0})))",
    Op.FINITE: "{0} - {0} == 0.0f", Op.ADD: "{0} + {1}", Op.SUB: "{0} - {1}", Op.MUL: "{0} * {1}",
    Op.DIV: "{0} / {1}", Op.POW: "powf({0}, {1})", Op.LARGER: "larger({0}, {1})", Op.SMALLER: "smaller({0}, {1})",
    Op.EQ: "{0} == {1}", Op.NE: "{0} != {1}", Op.LT: "{0} < {1}", Op.LE: "{0} <= {1}", Op.GT: "{0} > {1}",
    Op.GE: "{0} >= {1}", Op.AND: "{0} && {1}", Op.OR: "{0} || {1}", Op.WHERE: "{0} ? {1} : {2}",
    Op.MULTIPLY_ADD: "{0} + {1} * {2}",
}  # fmt: skip
WHOLE = {  # of whole numbers, as states count steps with
    Op.ABS: "{0} < 0 ? -{0} : {0}", Op.LARGER: "{0} > {1} ? {0} : {1}", Op.SMALLER: "{0} < {1} ? {0} : {1}",
}  # fmt: skip
REDUCTIONS = {Op.SUM: "{to} += {0};", Op.DOT: "{to} += {0} * {1};", Op.MOST: "{to} = larger({to}, {0});"}
ACROSS = 4  # rows of a product that are added at once, so that the sums are loaded and stored once for all of them


@dataclass(frozen=True)
class Call:
    """An operation that is not over views, with what stands still in it."""

    op: Op
    names: tuple[str, ...]  # of its tensors, in the order of the entry's
    size: tuple[int, int]  # rows and width; of a product its units
    weights: Sequence[Tensor] = ()  # (gates H, width) each
    biases: Sequence[Tensor] = ()
    epsilon: float = 0.0

    def __call__(self, addresses: list[int]) -> None:
        raise AssertionError("written as C, not run")


class Memory(NamedTuple):
    """An array."""

    name: str
    kind: str
    first: np.ndarray  # what it holds before the first step


class CProgram(Program):
    """Takes down one row's step, and writes it as C.

    Args:
        weights: "float32", or "int8" with one scale to a row.
    """

    lines: list[str]  # the body of the step
    constants: list[str]
    carried: list[Memory]  # of the struct
    passing: list[Memory]  # of the stack
    sums: int  # numbers of the largest product, on the stack as well
    weight_bytes: int

    def __init__(self, weights: str) -> None:
        self.weights, self.V = weights, 1
        self.memory: dict[int, Tensor] = {}
        self.entries: list[Entry] = []
        self.lines, self.constants, self.carried, self.passing, self.sums, self.weight_bytes = [], [], [], [], 0, 0
        self._places: dict[int, str] = {}  # by an address: how C calls what lies there
        self._still: set[int] = set()  # whose numbers are not written down yet
        self._local: dict[int, str] = {}  # of the loop that is being written

    def over_rows(self, op: Op, to: Tensor, width: int, epsilon: float = 0.0, rows: int = 1, **named: Tensor) -> None:
        call = Call(op, ("next", *named), (rows, width), epsilon=epsilon)
        self.entries.append(Entry(op, (to,), tuple(named.values()), call))

    def product(
        self,
        op: Op,
        gates: int,
        x: Tensor,
        h: Tensor | None,
        weights: Sequence[Tensor],
        biases: Sequence[Tensor],
        next: Tensor,
        **state: Tensor,
    ) -> None:
        to = {"next": next, **({"next_c": state.pop("next_c")} if "next_c" in state else {})}
        of = {"x": x, **({} if h is None else {"h": h}), **state}
        w, b = ([t.detach().clone() for t in some] for some in (weights, biases))
        call = Call(op, (*to, *of), (1, len(w[0]) // gates), w, b)
        self.entries.append(Entry(op, tuple(to.values()), tuple(of.values()), call))

    def finish(self, ends: Iterable[Tensor]) -> None:
        self.groups = fused(self.entries, ends)

    def write(self, taken: Taken) -> None:
        """Write the step down: from an array `x` (of whole numbers: `unit`) to what `taken.y` is a view of."""
        written = set().union(*(group.writes for group in self.groups))
        to = [t for group in self.groups for entry in group.entries if entry.op < Op.SUM for t in entry.to]
        whole = {address(t) for t in to if self._covers(t)} - {address(leaf) for leaf in taken.leaves}
        scalars = {own for group in self.groups if _is_one_loop(group) for own in group.between}
        self._places[address(taken.x)] = "unit" if taken.x.dtype == torch.int64 else "x"
        for i, (own, held) in enumerate(self.memory.items()):
            name, kind = f"m{i}", TYPES[held.dtype]
            if own in self._places:
                continue
            self._places[own] = name
            if own not in written:
                self._still.add(own)
            elif own not in whole:  # the state, and what is written only in part
                self._places[own] = f"s->{name}"
                self.carried.append(Memory(name, kind, held.numpy().copy()))
            elif own not in scalars:
                self.passing.append(Memory(name, kind, held.numpy()))
        for group in self.groups:
            self._write(group)
        outputs = taken.y.reshape(-1)
        self._loops([(0, len(outputs))], [f"y[i0] = {self.place(outputs, ['i0'])};"])

    # -------------------------------------------------------------------------------------------------------- memory

    def place(self, t: Tensor, index: Sequence[str]) -> str:
        """The element of a view, as C."""
        own = address(t)
        if own in self._local:
            return self._local[own]
        if own in self._still:
            self._still.discard(own)
            self._constant(self.memory[own], self._places[own])
        at = t.storage_offset() - self.memory[own].storage_offset()
        terms = [f"{s} * {i}" if s != 1 else i for i, s in zip(index, t.stride(), strict=True) if s and i != "0"]
        return f"{self._places[own]}[{' + '.join([*terms, *([str(at)] if at or not terms else [])])}]"

    def _covers(self, t: Tensor) -> bool:
        """Whether a view has every number of its memory."""
        return (
            sum((n - 1) * s for n, s in zip(t.shape, t.stride(), strict=True)) + 1
            == t.numel()
            == len(self.memory[address(t)])
        )

    def _constant(self, t: Tensor, name: str = "", kind: str = "") -> str:
        name, kind = name or f"w{len(self.constants)}", kind or TYPES[t.dtype]
        self.weight_bytes += t.numel() * BYTES[kind]
        self.constants.append(f"static const {kind} {name}[{t.numel()}] = {{{values(t.numpy())}}};")
        return name

    # ---------------------------------------------------------------------------------------------------- operations

    def _write(self, group: Group) -> None:
        if not _is_one_loop(group):
            for entry in group.entries:
                if isinstance(entry.add, Call):
                    self._call(entry, entry.add)
                else:
                    self._views([entry], set())
        else:
            self._views(group.entries, group.between)

    def _views(self, entries: list[Entry], between: set[int]) -> None:
        shape = entries[0].to[0].shape
        index = [f"i{d}" if n > 1 else "0" for d, n in enumerate(shape)]
        loops = [(d, n) for d, n in enumerate(shape) if n > 1]
        if entries[0].op in REDUCTIONS:
            (entry,) = entries
            target, of = self.place(entry.to[0], index), [self.place(t, index) for t in entry.of]
            first = "-INFINITY" if entry.op == Op.MOST else "0"
            self._loops([(d, n) for d, n in loops if entry.to[0].stride(d)], [f"{target} = {first};"])
            self._loops(loops, [REDUCTIONS[entry.op].format(*of, to=target)])
            return
        body = []
        for entry in entries:
            to, of = entry.to[0], [self.place(t, index) for t in entry.of]
            kind = TYPES[to.dtype]
            numbers = [t for t in entry.of if t.dtype != torch.bool]
            whole = bool(numbers) and not any(t.dtype.is_floating_point for t in numbers)
            shown = (WHOLE.get(entry.op) if whole else None) or EXPRESSIONS[entry.op]
            shown = shown.format(*of)
            if entry.op != Op.COPY or any(t.dtype != to.dtype for t in entry.of):
                shown = f"({kind})({shown})" if kind != "float" or whole else shown
            if address(to) in between:
                name = f"t{len(body)}"
                body.append(f"const {kind} {name} = {shown};")
                self._local[address(to)] = name
            else:
                body.append(f"{self.place(to, index)} = {shown};")
        self._local.clear()
        self._loops(loops, body)

    def _loops(self, loops: Sequence[tuple[int, int]], body: list[str]) -> None:
        for depth, (d, n) in enumerate(loops):
            self.lines.append("  " * (depth + 1) + f"for (int i{d} = 0; i{d} < {n}; ++i{d}) {{")
        self.lines += ["  " * (len(loops) + 1) + line for line in (body if loops else ["{", *body, "}"])]
        self.lines += ["  " * (depth + 1) + "}" for depth in reversed(range(len(loops)))]

    def _call(self, entry: Entry, call: Call) -> None:
        t = dict(zip(call.names, (*entry.to, *entry.of), strict=True))
        rows, width = call.size
        if call.weights:
            self._product(call, t)
        elif call.op == Op.LOOKUP:
            unit = self.place(t["units"].reshape(-1), ["r"])
            table = self.place(t["weight"], ["0", "j"]).replace("[j]", f"[{width} * {unit} + j]")
            to = self.place(t["next"].reshape(-1, width), ["r", "j"])
            self.lines += [f"  for (int r = 0; r < {rows}; ++r)", f"    for (int j = 0; j < {width}; ++j)"]
            self.lines.append(f"      {to} = {table};")
        else:
            self._norm(call, t)

    def _norm(self, call: Call, t: Mapping[str, Tensor]) -> None:
        rows, n = call.size
        each = f"for (int j = 0; j < {n}; ++j)"
        x, to = (self.place(part.reshape(-1, n), ["r", "j"]) for part in (t["x"], t["next"]))
        lines = [f"for (int r = 0; r < {rows}; ++r) {{"]
        if call.op == Op.LOG_SOFTMAX:
            lines += ["  float most = -INFINITY, sum = 0.0f;", f"  {each} most = larger(most, {x});"]
            lines += [f"  {each} sum += expf({x} - most);", "  sum = most + logf(sum);", f"  {each} {to} = {x} - sum;"]
        else:
            gain, shift = (self.place(t[name].reshape(-1), ["j"]) if name in t else "" for name in ("weight", "bias"))
            lines += ["  float mean = 0.0f, square = 0.0f;"]
            if call.op == Op.LAYER_NORM:
                lines += [f"  {each} mean += {x};", f"  mean /= {n}.0f;"]
            lines += [f"  {each} square += ({x} - mean) * ({x} - mean);"]
            lines += [f"  square = 1.0f / sqrtf(square / {n}.0f + {number(call.epsilon)});"]
            scaled = f"({x} - mean) * square" + (f" * {gain}" if gain else "") + (f" + {shift}" if shift else "")
            lines += [f"  {each} {to} = {scaled};"]
        self.lines += [f"  {line}" for line in (*lines, "}")]

    def _product(self, call: Call, t: Mapping[str, Tensor]) -> None:
        H = call.size[1]
        bias = torch.stack(list(call.biases)).sum(0)
        if call.op == Op.GRU:  # the state's part of the candidate stands by itself
            bias = torch.cat([bias[: 2 * H], call.biases[0][2 * H :], call.biases[1][2 * H :]])
        scale = torch.cat(list(call.weights), 1).abs().amax(1).clamp_min(1e-12) / 127
        self.sums = max(self.sums, len(bias))
        lines = [f"float g[{len(bias)}];"]
        lines.append(f"for (int j = 0; j < {len(bias)}; ++j) g[j] = {self._bias(bias, scale)};")
        for name, w in zip(("x", "h"), call.weights, strict=False):
            parts = [(0, slice(None))]
            if call.op == Op.GRU and name == "h":
                parts = [(0, slice(2 * H)), (3 * H, slice(2 * H, None))]
            for first, rows in parts:
                lines += self._matrix(w[rows], scale[rows], self.place(t[name], ["r", "k"]), first)
        if self.weights == "int8":
            scales = self._constant(torch.cat([scale, scale[2 * H :]]) if call.op == Op.GRU else scale)
            lines.append(f"for (int j = 0; j < {len(bias)}; ++j) g[j] *= {scales}[j];")
        at = {name: self.place(tensor, ["r", "j"]) for name, tensor in t.items()}
        lines += [f"for (int j = 0; j < {H}; ++j) {{", *(f"  {line}" for line in self._cell(call.op, H, at)), "}"]
        self.lines += [f"  for (int r = 0; r < {len(t['x'])}; ++r) {{", *(f"    {line}" for line in lines), "  }"]

    def _bias(self, bias: Tensor, scale: Tensor) -> str:
        if not bool(bias.any()):
            return "0.0f"
        if self.weights == "int8":  # in units of a weight, as the sum is
            bias = bias / torch.cat([scale, scale[-(len(bias) - len(scale)) :]])[: len(bias)]
        return f"{self._constant(bias)}[j]"

    def _matrix(self, w: Tensor, scale: Tensor, x: str, first: int) -> list[str]:
        """g[first + j] += sum over k of w[j, k] x[k]: the innermost loop goes along the outputs, as vectors do."""
        N, K = w.shape
        if self.weights == "int8":
            name = self._constant((w / scale[:, None]).round().T.to(torch.int8).contiguous(), kind="signed char")
        else:
            name = self._constant(w.T.contiguous())
        to, lines = f"g[{first} + j]" if first else "g[j]", []
        for begin, end, rows in ((0, K - K % ACROSS, ACROSS), (K - K % ACROSS, K, 1)):
            if begin < end:
                values = [f"v{i} = {x.replace('k', f'(k + {i})') if i else x}" for i in range(rows)]
                sums = " + ".join(f"v{i} * {name}[{N} * (k + {i}) + j]" for i in range(rows))
                lines += [f"for (int k = {begin}; k < {end}; k += {rows}) {{", f"  const float {', '.join(values)};"]
                lines += [f"  for (int j = 0; j < {N}; ++j) {to} += {sums};", "}"]
        return lines

    def _cell(self, op: Op, H: int, at: Mapping[str, str]) -> list[str]:
        if op in (Op.LINEAR, Op.TANH, Op.RELU):
            shown = {Op.LINEAR: "g[j]", Op.TANH: "tanhf(g[j])", Op.RELU: "larger(g[j], 0.0f)"}
            return [f"{at['next']} = {shown[op]};"]
        if op == Op.GRU:
            return [
                f"const float r_ = sigmoid(g[j]), u = sigmoid(g[{H} + j]);",
                f"const float n = tanhf(g[{2 * H} + j] + r_ * g[{3 * H} + j]);",
                f"{at['next']} = n + u * ({at['h']} - n);",
            ]
        return [
            f"const float c = sigmoid(g[{H} + j]) * {at['c']} + sigmoid(g[j]) * tanhf(g[{2 * H} + j]);",
            f"{at['next_c']} = c;",
            f"{at['next']} = sigmoid(g[{3 * H} + j]) * tanhf(c);",
        ]


def _is_one_loop(group: Group) -> bool:
    """Whether what is between two operations of a group needs no array."""
    return all(e.add is None and e.op < Op.SUM for e in group.entries)


def values(array: np.ndarray) -> str:
    """The numbers of an array as C writes them."""
    flat = array.reshape(-1)
    return ",".join(map(number, flat.tolist()) if flat.dtype.kind == "f" else (str(int(v)) for v in flat))


def number(value: float) -> str:
    if value != value:
        return "NAN"
    if abs(value) == float("inf"):
        return "INFINITY" if value > 0 else "-INFINITY"
    return f"{np.float32(value)}f"
