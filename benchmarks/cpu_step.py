"""One step at batch 1 on one thread: a Stepper beside torch's cells, onnxruntime, and what the caches allow.

python benchmarks/cpu_step.py

Writes results/4/step.json. onnxruntime is raced where it and onnx are installed. The floor is the time to read the
weights once from the cache that holds them, at the bandwidth that a plain sum reaches there.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from race import Differ, check, ratio, spread
from result import commit, write
from torch import nn

from clew import cells, ops
from clew.ops import native
from clew.stream import Stepper

WIDTHS = (32, 64, 128, 256)
STEPS = 200  # of one turn
TURNS = 40
AGAINST_TORCH = {32: 10, 64: 10, 128: 8, 256: 4}
AGAINST_ONNX = {32: 6, 64: 6, 128: 3, 256: 2}
KINDS = {"lstm": (cells.LSTM, nn.LSTMCell, 4), "gru": (cells.GRU, nn.GRUCell, 3)}


def with_onnx(kind: str, cell: cells.LSTM | cells.GRU) -> Callable[..., np.ndarray] | None:
    """One step by onnxruntime on one thread; the state goes out and in again: its own, or that of the caller."""
    try:
        import onnx
        import onnxruntime as ort
        from onnx import TensorProto, helper, numpy_helper
    except ImportError:
        return None
    H, wide = cell.hidden_size, cell.input_size
    order = [0, 3, 1, 2] if kind == "lstm" else [1, 0, 2]  # onnx: i o f c, and z r h

    def turned(w: torch.Tensor) -> np.ndarray:
        return torch.cat([w.detach().chunk(len(order))[i] for i in order])[None].numpy()

    bias = np.concatenate([turned(cell.bias_ih)[0], turned(cell.bias_hh)[0]])[None]
    constants = {"W": turned(cell.weight_ih), "R": turned(cell.weight_hh), "B": bias}
    states = ["h", "c"] if kind == "lstm" else ["h"]
    node = helper.make_node(
        kind.upper(),
        ["x", "W", "R", "B", "", *states],
        ["", *(f"{s}_out" for s in states)],
        hidden_size=H,
        **({} if kind == "lstm" else {"linear_before_reset": 1}),
    )
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [node],
        "step",
        [value("x", TensorProto.FLOAT, [1, 1, wide]), *(value(s, TensorProto.FLOAT, [1, 1, H]) for s in states)],
        [value(f"{s}_out", TensorProto.FLOAT, [1, 1, H]) for s in states],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    own = {s: np.zeros((1, 1, H), np.float32) for s in states}
    names = [f"{s}_out" for s in states]

    def step(x: np.ndarray, state: dict[str, np.ndarray] = own) -> np.ndarray:
        after = session.run(names, {"x": x[None], **state})
        for s, leaf in zip(states, after, strict=True):
            state[s] = leaf
        return after[0][0]

    return step


def with_torch(kind: str, cell: cells.LSTM | cells.GRU) -> Callable[[torch.Tensor], torch.Tensor]:
    theirs = KINDS[kind][1](cell.input_size, cell.hidden_size)
    with torch.no_grad():
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
            getattr(theirs, name).copy_(getattr(cell, name))
    state: list[Any] = [None]

    def step(x: torch.Tensor) -> torch.Tensor:
        state[0] = theirs(x, state[0])
        return state[0][0] if kind == "lstm" else state[0]

    return step


def bandwidth(bytes_: int) -> float:
    """Bytes a second at which one core reads so many again and again: numpy's dot of a vector with itself."""
    values = np.ones(max(64, bytes_ // 4), np.float32)
    best, times = float("inf"), max(20, int(2e8 // values.nbytes))
    for _ in range(5):
        began = time.perf_counter()
        for _ in range(times // 5):
            values.dot(values)
        best = min(best, (time.perf_counter() - began) / (times // 5))
    return values.nbytes / best


def measured_turns(runners: dict[str, Callable[[], Any]]) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {name: [] for name in runners}
    for turn in range(TURNS + 1):
        for name, run in runners.items():
            began = time.perf_counter()
            for _ in range(STEPS):
                run()
            if turn:
                times[name].append((time.perf_counter() - began) / STEPS)
    return times


def race(kind: str, H: int) -> dict[str, Any]:
    torch.manual_seed(0)
    cell = KINDS[kind][0](H, H)
    xs = np.random.default_rng(0).normal(size=(20, 1, H)).astype(np.float32)
    tensors = [torch.from_numpy(x) for x in xs]
    steppers = {kept: Stepper(cell, 1, kept) for kept in ("float32", "bfloat16", "int8")}
    theirs, onnx = with_torch(kind, cell), with_onnx(kind, cell)
    sequences = {
        "clew": lambda: [np.concatenate([steppers["float32"].step(x) for x in xs])],
        "torch": lambda: [torch.cat([theirs(x) for x in tensors]).numpy()],
        **({"onnxruntime": lambda: [np.concatenate([onnx(x) for x in xs])]} if onnx else {}),
    }
    check(sequences, 1e-5)
    runners: dict[str, Callable[[], Any]] = {
        "clew": lambda: steppers["float32"].step(xs[0]),
        "in place": steppers["float32"].run,
        "bfloat16": lambda: steppers["bfloat16"].step(xs[0]),
        "int8": lambda: steppers["int8"].step(xs[0]),
        "torch": lambda: theirs(tensors[0]),
        **({"onnxruntime": lambda: onnx(xs[0])} if onnx else {}),
    }
    times = measured_turns(runners)
    weights = KINDS[kind][2] * H * 2 * H * 4
    floor = weights / bandwidth(weights)
    against = [name for name in ("torch", "onnxruntime") if name in times]
    sequence = torch.from_numpy(np.random.default_rng(1).normal(size=(1, 300, H)).astype(np.float32))
    return {
        "us": {name: round(1e6 * statistics.median(t), 2) for name, t in times.items()},
        "ratio": {name: round(ratio(times, "clew", name), 2) for name in against},
        "quarters": {name: spread(times, "clew", name) for name in against},
        "floor_us": round(1e6 * floor, 2),
        "times_the_floor": round(statistics.median(times["in place"]) / floor, 2),
        "error": {kept: stepper.error(sequence) for kept, stepper in steppers.items()},
    }


def stack(H: int) -> dict[str, float]:
    """A stack of two LSTM layers, beside its own step by torch."""
    torch.manual_seed(0)
    model = cells.Stack(cells.LSTM(H, H), cells.LSTM(H, H)).eval()
    stepper, state = Stepper(model), [model.init_state(1)]
    x = np.random.default_rng(0).normal(size=(1, H)).astype(np.float32)
    tensor = torch.from_numpy(x)

    def theirs() -> torch.Tensor:
        y, state[0] = model.step(tensor, state[0])
        return y

    times = measured_turns({"clew": lambda: stepper.step(x), "torch": theirs})
    return {
        **{name: round(1e6 * statistics.median(t), 2) for name, t in times.items()},
        "ratio": round(ratio(times, "clew", "torch"), 2),
    }


def main() -> None:
    measured, figure, met = commit(), {}, True
    torch.set_num_threads(1)
    with torch.no_grad(), ops.only("torch"):
        for kind in KINDS:
            for H in WIDTHS:
                point = figure[f"{kind} {H}"] = race(kind, H)
                print(kind, H, point, flush=True)
                bars = {"torch": AGAINST_TORCH[H], "onnxruntime": AGAINST_ONNX[H]}
                met = met and all(point["ratio"].get(name, 0) >= bar for name, bar in bars.items())
                met = met and (H < 64 or point["times_the_floor"] <= 2.5)
        figure["stack of two LSTM layers"] = {H: stack(H) for H in WIDTHS}
        print(figure["stack of two LSTM layers"])
    write(
        "4/step",
        "One step at batch 1, one thread, I = H: medians of ratios in turns",
        seeds=[0],
        figure=figure,
        bar="torch: 10x at 32 and 64, 8x at 128, 4x at 256; onnxruntime: 6x, 6x, 3x, 2x; from 64 on within 2.5x of "
        "the floor; GRU likewise",
        met=met,
        measured=measured,
        kernels=(native.native_info() or {}).get("instruction_set"),
    )


if __name__ == "__main__":
    try:
        main()
    except Differ as error:
        sys.exit(f"numbers differ, nothing is timed: {error}")
