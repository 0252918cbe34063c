"""A run folder to the files of an export, and to the certificate that they say what the model says."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from importlib import metadata
from typing import Any, NamedTuple

import numpy as np
import torch

from clew.errors import ClewError, ConfigError
from clew.models import Single
from clew.stream.engine import engine_of
from clew.stream.export import c_proof, onnx, parity
from clew.stream.export.c import to_c
from clew.stream.export.parity import Moves
from clew.stream.stepper import Stepper
from clew.tasks.plain import Plain
from clew.tasks.train import load
from clew.training.files import plain as without_nan

KINDS = ("onnx", "c")
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,60}")
SHAPES = ((1, 1), (1, 7), (2, 3), (3, 16), (5, 2))  # streams and steps that chunks are tried with


class Exported(NamedTuple):
    """What was written, and how to ask it."""

    files: dict[str, str | bytes]
    sizes: dict[str, int]  # in bytes
    answers: Callable[[Sequence[np.ndarray]], list[np.ndarray]] | None  # to raw sequences (T, I); None: it cannot run
    moves: Callable[[Single, int], Moves]  # of the bare model as it was exported, so many streams side by side
    by: dict[str, Any]  # what it was built and run with


def export_run(
    run: str,
    source: str | None = None,
    *,
    to: str = "onnx",
    int8: bool = False,
    worse: float = 0.01,
    name: str = "model",
) -> tuple[dict[str, str | bytes], dict[str, Any]]:
    """The files by name, and what was found when they were compared with the model.

    Args:
        source: what to compare on; None for what the run learned from.
        worse: how much worse a metric may get by int8, as a part of it.

    Raises:
        NotCausalError: the model needs the future.
        ConfigError: int8 makes a metric worse than that, or the name is none.
        ClewError: what was exported does not say what the model says, or the model has a step that cannot be exported.
    """
    if to == "onnx" and not NAME.fullmatch(name):
        raise ConfigError(f"--name: '{name}' is no name of a file", hint="letters, digits, _ and -")
    trained = load(run)
    trained.model.init_state(1)  # refuses what needs the future
    plain: Plain = trained.plain()
    if plain.reads_units and len(plain.inputs) > 1:
        what = "a step that reads a word with its letters cannot be exported"
        raise ClewError(what, hint='train with data.source_unit = "word"')
    tables = parity.tables_of(run, source)
    xs = parity.real_steps(trained, plain, tables)
    found: dict[str, Any] = {
        "kind": to,
        "clew": metadata.version("clew"),
        "model": engine_of(trained).fingerprint,
        "inputs": plain.inputs,
        "outputs": plain.outputs,
        "weights": "int8" if int8 else "float32",
        "plan": trained.to_json(),
    }
    written = _onnx(plain, name, int8, found) if to == "onnx" else _c(plain, name, int8, run)
    found |= {"bytes": written.sizes, **written.by, "difference": None}
    if int8 and tables:
        found["metrics"] = parity.measured(trained, tables, written.moves)
        parity.refuse_worse(found["metrics"], worse)
    if written.answers is not None:
        single = [x_TI.astype(np.int64 if plain.reads_units else np.float32) for x_TI in xs]
        theirs, ours = written.answers(single), parity.own_answers(plain, xs)
        difference = parity.difference(theirs, ours, plain.sizes)
        on = ", ".join(table.name for table in tables) or "inputs drawn by chance"
        found |= {"steps": sum(map(len, xs)), "on": on, "difference": difference}
        if not int8 and not difference <= parity.NEAR:
            what = f"what was exported is {difference:.1e} off the model, where {parity.NEAR} is allowed"
            far = parity.hardest(plain)
            hint = f"{far}, too little for single precision: learn from its differences" if far else None
            raise ClewError(what, hint=hint or "are the inputs far from what the run learned from?")
    return written.files, without_nan(found)


def _c(plain: Plain, name: str, int8: bool, run: str) -> Exported:
    weights = "int8" if int8 else "float32"
    source = to_c(plain, name, f"Written by `clew export {run} --to c`.", weights)
    there = c_proof.compiler() is not None
    sizes = {"weights": source.weights, "state": source.state, "stack": source.stack}
    if there:
        sizes = {"code": c_proof.code_size(source), **sizes}
    return Exported(
        dict(source.files),
        sizes,
        (lambda xs: c_proof.answers(source, xs)) if there else None,
        lambda model, B: Stepper(model, B, weights),
        c_proof.version() if there else {"why": "there is no C compiler here"},
    )


def _onnx(plain: Plain, name: str, int8: bool, said: dict[str, Any]) -> Exported:
    like = plain.init_state(1)
    described = {**said, "state": onnx.state_described(like)}
    step = onnx.step_graph(plain)
    chunk = onnx.chunk_graph(step)
    if int8:
        step, chunk = onnx.quantised(step), onnx.quantised(chunk)
    files: dict[str, str | bytes] = {
        f"{name}-{part}.onnx": onnx.with_metadata(made, described).SerializeToString()
        for part, made in (("step", step), ("chunk", chunk))
    }
    bare: dict[int, Any] = {}

    def moves(model: Single, B: int) -> Moves:
        if not bare:
            bare[0] = onnx.quantised(onnx.step_graph(model))
        return onnx.OnnxSteps(bare[0], model.init_state(B))

    def answers(xs: Sequence[np.ndarray]) -> list[np.ndarray]:
        if not int8:
            _tried(plain, step, chunk, xs)
        return [onnx.chunk_answers(chunk, like, x_TI[None])[0] for x_TI in xs]

    sizes = {part: len(content) for part, content in files.items()}
    return Exported(files, sizes, answers, moves, {"onnxruntime": metadata.version("onnxruntime"), "shapes": SHAPES})


@torch.no_grad()
def _tried(plain: Plain, step: Any, chunk: Any, xs: Sequence[np.ndarray]) -> None:
    """Raises ClewError where the graphs, at one of several shapes, do not say what the model says."""
    steps = np.concatenate(xs)
    for B, T in SHAPES:
        x_BTI = np.resize(steps, (B, T, steps.shape[1]))
        ours = plain(torch.from_numpy(x_BTI))[0].numpy()
        moves = onnx.OnnxSteps(step, plain.init_state(B))
        one = np.stack([moves.step(x_BI) for x_BI in x_BTI.swapaxes(0, 1)], 1)
        whole = onnx.chunk_answers(chunk, plain.init_state(B), x_BTI)
        for what, theirs in (("step", one), ("chunk", whole)):
            if not parity.difference(list(theirs), list(ours), plain.sizes) <= parity.NEAR:
                raise ClewError(f"the {what} graph is off the model at {B} streams of {T} steps")
