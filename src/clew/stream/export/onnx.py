"""A trained model as two ONNX graphs with the state as named inputs and outputs: `step`, and `chunk`, a Scan of it.

B streams (dynamic), T steps (dynamic), I inputs, O outputs
"""

from __future__ import annotations

import json
import logging
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from clew import ops, tree
from clew.errors import ClewError
from clew.stream.recorder import Steps, blank, evaluating
from clew.tree import State

NEEDS = "pip install 'clew[export]'"


class StepGraph(nn.Module):
    """A step over the leaves of a state, in their order."""

    def __init__(self, model: Steps, like: State) -> None:
        super().__init__()
        self.model, self.like = model, like

    def forward(self, x_BI: Tensor, *leaves: Tensor) -> tuple[Tensor, ...]:
        y, state = self.model.step(x_BI, tree.rebuild(self.like, iter(leaves)))
        return (y, *tree.leaves(state))


@torch.no_grad()
def step_graph(model: Steps) -> Any:
    """The ONNX model of one step: x (B, I) and the leaves of the state to y (B, ...) and the leaves after it.

    Raises:
        NotCausalError: the model needs the future.
        ClewError: onnx is not installed, or has no way to say the step.
    """
    _needed()
    with evaluating(model), ops.reference(), warnings.catch_warnings(), _quiet():
        warnings.simplefilter("ignore")
        like, x_BI = model.init_state(2), blank(model, 2)
        leaves = {name: leaf.clone() for name, leaf in tree.to_named(like).items()}
        batch = torch.export.Dim("batch", min=1)
        try:
            made = torch.onnx.export(
                StepGraph(model, like),
                (x_BI, *leaves.values()),
                dynamo=True,
                dynamic_shapes=({0: batch}, tuple({0: batch} for _ in leaves)),
                input_names=["x", *leaves],
                output_names=["y", *(f"{name}.next" for name in leaves)],
                verbose=False,
            )
        except Exception as error:  # torch's exporter raises what it likes
            reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
            raise ClewError(f"torch cannot export this step: {reason}", hint="clew export --to c") from error
    assert made is not None
    proto = made.model_proto
    del proto.graph.value_info[:]  # sizes of what is between, which go stale where a graph is rewritten
    for node in proto.graph.node:  # the lines of Python that it came from
        del node.metadata_props[:]
        node.doc_string = ""
    return proto


def chunk_graph(step: Any) -> Any:
    """The same over x (B, T, I): y (B, T, ...), and the state after the last step."""
    from onnx import helper

    graph, rest = step.graph, list(step.graph.input)[1:]
    x, y = graph.input[0], graph.output[0]
    body = helper.make_graph(list(graph.node), "step", [*rest, x], [*list(graph.output)[1:], y])
    scan = helper.make_node(
        "Scan",
        [*(f"{leaf.name}.first" for leaf in rest), "x_chunk"],
        [*(f"{leaf.name}.last" for leaf in rest), "y_chunk"],
        body=body,
        num_scan_inputs=1,
        scan_input_axes=[1],
        scan_output_axes=[1],
    )
    names = [leaf.name for leaf in rest]
    outer = [helper.make_node("Identity", [name], [f"{name}.first"]) for name in names]
    outer += [scan, helper.make_node("Identity", ["y_chunk"], ["y_all"])]
    outer += [helper.make_node("Identity", [f"{name}.last"], [f"{name}.after"]) for name in names]
    whole = helper.make_graph(
        outer,
        "chunk",
        [_renamed(x, "x_chunk", True), *(_renamed(leaf, leaf.name) for leaf in rest)],
        [_renamed(y, "y_all", True), *(_renamed(leaf, f"{leaf.name}.after") for leaf in rest)],
        initializer=list(graph.initializer),
    )
    made = helper.make_model(whole, opset_imports=list(step.opset_import), ir_version=step.ir_version)
    made.functions.extend(step.functions)
    return made


def with_metadata(made: Any, said: dict[str, Any]) -> Any:
    """A model, now with a JSON text under each name."""
    from onnx import helper

    texts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in said.items()}
    helper.set_model_props(made, texts)
    return made


def quantised(made: Any) -> Any:
    """The same with matrices of int8, by onnxruntime's dynamic quantisation."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(), _quiet():
        warnings.simplefilter("ignore")
        before, after = Path(folder) / "a.onnx", Path(folder) / "b.onnx"
        onnx.save(made, str(before))
        extra = {"EnableSubgraph": True}
        quantize_dynamic(before, after, weight_type=QuantType.QInt8, per_channel=True, extra_options=extra)
        return onnx.load(str(after))


class OnnxSteps:
    """A step graph run by onnxruntime, B streams side by side."""

    def __init__(self, made: Any, like: State) -> None:
        self._session, self.like = session(made), like
        self._names = [value.name for value in self._session.get_inputs()]
        self.state = like

    def step(self, x: np.ndarray | Tensor) -> np.ndarray:
        """The output (B, ...) for an input (B, I), and the state moved on."""
        given = {"x": np.asarray(x), **{k: v.numpy() for k, v in tree.to_named(self.state).items()}}
        y, *leaves = self._session.run(None, {name: np.ascontiguousarray(given[name]) for name in self._names})
        self.state = tree.rebuild(self.like, map(torch.from_numpy, leaves))
        return y


def chunk_answers(made: Any, like: State, xs_BTI: np.ndarray) -> np.ndarray:
    """What a chunk graph answers, (B, T, O), from the state before the first step."""
    leaves = tree.to_named(like)
    given = {"x_chunk": xs_BTI, **{name: np.ascontiguousarray(leaf.numpy()) for name, leaf in leaves.items()}}
    running = session(made)
    names = [value.name for value in running.get_inputs()]
    return running.run(["y_all"], {name: given[name] for name in names})[0]


def session(made: Any) -> Any:
    """An onnxruntime session of a model, on one thread, as a step has too little for more."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    return onnxruntime.InferenceSession(made.SerializeToString(), options, providers=["CPUExecutionProvider"])


def state_described(like: State) -> list[dict[str, Any]]:
    """Of each leaf: its name, what follows the batch in its shape, its type, and what it holds at the start."""
    return [
        {
            "name": name,
            "shape": list(leaf.shape[1:]),
            "dtype": str(leaf.dtype).removeprefix("torch."),
            "initial": _few(leaf[0].flatten().tolist()),
        }
        for name, leaf in tree.to_named(like).items()
    ]


def _few(numbers: Sequence[Any]) -> Any:
    """One number where all are that one."""
    return numbers[0] if len(numbers) and all(number == numbers[0] for number in numbers) else list(numbers)


def _renamed(value: Any, name: str, timed: bool = False) -> Any:
    """What a graph takes or gives under another name; with time behind the batch."""
    from onnx import helper

    kind = value.type.tensor_type
    sizes: list[Any] = [d.dim_param or d.dim_value for d in kind.shape.dim]
    sizes[0] = "batch"
    if timed:
        sizes.insert(1, "time")
    return helper.make_tensor_value_info(name, kind.elem_type, sizes)


def _needed() -> None:
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ClewError(f"ONNX needs {error.name}, which is not installed", hint=NEEDS) from error


class _quiet:
    """The exporter's own log lines are none of the user's business."""

    def __enter__(self) -> None:
        self.before = logging.root.manager.disable
        logging.disable(logging.ERROR)

    def __exit__(self, *_: object) -> None:
        logging.disable(self.before)
