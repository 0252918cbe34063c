"""What is exported says what the model says: every recurrence and every task as C, and as ONNX."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from every_task import FAST
from torch import nn

import clew
from clew.cells import RECURRENCES, Bidirectional, Elman, Pointwise, Residual, Stack
from clew.data.series import Scaler
from clew.errors import ClewError, ConfigError, NotCausalError
from clew.models import Single
from clew.models.heads.numbers import NumberHead
from clew.stream import Stepper
from clew.stream.export import c_proof, export_run, parity, to_c
from clew.tasks.plain import Plain, unscaled

compiles = pytest.mark.skipif(c_proof.compiler() is None, reason="there is no C compiler")
STREAMS = ("classify", "detect", "forecast", "generate", "multitask", "regress", "set", "tag")
INPUTS = Scaler(np.array([1.0, 2.0, 3.0]), np.array([2.0, 1.0, 0.5]))
OUTPUTS = Scaler(np.array([5.0, 6.0]), np.array([2.0, 3.0]))


def plain_of(cell: str, width: int = 8) -> Plain:
    torch.manual_seed(0)
    body = Stack(Pointwise(nn.Linear(3, width), 3, width), Residual(RECURRENCES[cell](width, width)))
    return Plain(Single(body, NumberHead(width, 2)).eval(), ["a", "b", "c"], ["u", "v"], unscaled(OUTPUTS), INPUTS)


def steps(T: int = 50) -> np.ndarray:
    return INPUTS.invert(np.random.default_rng(0).normal(size=(T, 3))).astype(np.float32)


@compiles
@pytest.mark.parametrize("cell", RECURRENCES)
def test_every_recurrence_as_c(cell: str) -> None:
    plain, x_TI = plain_of(cell), steps()
    source = to_c(plain)
    assert "malloc" not in "".join(source.files.values())
    ours = parity.own_answers(plain, [x_TI])
    near = 2e-5 if cell == "attention" else parity.NEAR  # a softmax over all that was read
    assert parity.difference(c_proof.answers(source, [x_TI]), ours) <= near
    assert source.weights >= 4 * sum(p.numel() for p in plain.model.body.parameters()) * 0.5


def test_a_difference_is_in_the_units_of_the_answer() -> None:
    ours = np.linspace(-3, 3, 40, dtype=np.float32)[:, None]
    for size, mean in ((1e-9, 0.0), (1.0, 0.0), (1e6, 5e6)):
        a = (ours * size + mean).astype(np.float32)
        wrong = (ours * (1 + 1e-3) * size + mean).astype(np.float32)
        assert parity.difference([a], [a], np.array([size])) == 0
        assert parity.difference([wrong], [a], np.array([size])) > parity.NEAR
    far = np.float32(1e9) + ours  # one step of float32 is 64 here: less than that is no difference
    assert parity.difference([np.nextafter(far, np.float32(np.inf))], [far], np.ones(1)) <= 2 * parity.NEAR


@compiles
@pytest.mark.parametrize("cell", ["elman", "gru", "lstm", "mingru", "s5"])
def test_int8_is_what_a_stepper_of_int8_says(cell: str) -> None:
    plain, x_TI = plain_of(cell, 32), steps()
    small, stepper = to_c(plain, weights="int8"), Stepper(plain, 1, "int8")
    theirs = np.concatenate([stepper.step(x_I[None]) for x_I in x_TI])
    assert parity.difference(c_proof.answers(small, [x_TI]), [theirs]) <= parity.NEAR
    assert small.weights < 0.4 * to_c(plain).weights


TWO = """#include "net.h"
#include <string.h>
int main(void) {
  static net a, b;
  float x[3] = {1, 2, 3}, y[2], z[2];
  net_init(&a);
  net_init(&b);
  net_step(&a, x, y);
  net_step(&b, x, z);
  if (memcmp(y, z, sizeof y)) return 1;
  net_step(&a, x, y);
  net_init(&b);
  net_step(&b, x, y);
  return memcmp(y, z, sizeof y) != 0;
}
"""


@compiles
def test_a_step_may_begin_anew_and_streams_do_not_meet(tmp_path: Path) -> None:
    source = to_c(plain_of("lstm"), "net")
    source.save(tmp_path)
    (tmp_path / "two.c").write_text(TWO)
    subprocess.run(["gcc", *c_proof.STRICT, "two.c", "net.c", "-o", "two", "-lm"], cwd=tmp_path, check=True)
    assert subprocess.run([tmp_path / "two"]).returncode == 0


@compiles
@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("1,2", "number 2"),
        ("1,2,3,4", "number 3"),
        ("1,x,3", "number 2"),
        ("1,nan,3", "number 2"),
        ("1,2,inf", "number 3"),
        ("1e99,2,3", "number 1"),
        ("", "number 1"),
    ],
)
def test_the_program_names_a_bad_line(line: str, said: str, tmp_path: Path) -> None:
    program = c_proof.compiled(to_c(plain_of("elman")), tmp_path)
    got = subprocess.run([program], input=f"1, 2,3\r\n{line}\n", capture_output=True, text=True)
    assert got.returncode == 2
    assert f"line 2, {said}: 3 finite numbers" in got.stderr
    assert len(got.stdout.splitlines()) == 1


@compiles
@pytest.mark.parametrize("task", STREAMS)
def test_every_task_as_c(task: str, every_run: dict[str, Path], tmp_path: Path, run_clew) -> None:
    said = run_clew("export", every_run[task], "--to", "c", "--out", tmp_path / "out", "--json")
    assert said.code == 0, said.err
    found = json.loads(said.out)
    assert found["difference"] <= parity.NEAR
    assert found["steps"] > 100
    assert {file.name for file in (tmp_path / "out").iterdir()} == {"model.h", "model.c", "main.c", "certificate.json"}
    assert f"MODEL_OUTPUTS {len(found['outputs'])}\n" in (tmp_path / "out" / "model.h").read_text()


@compiles
def test_int8_is_refused_where_it_costs_too_much(every_run: dict[str, Path], tmp_path: Path, run_clew) -> None:
    arguments = ("export", every_run["forecast"], "--to", "c", "--int8", "--out", tmp_path / "out")
    said = run_clew(*arguments, "--worse", "0.5", "--json")
    assert said.code == 0, said.err
    metrics = json.loads(said.out)["metrics"]
    assert metrics["model"].keys() == metrics["exported"].keys()
    assert metrics["model"] != metrics["exported"]
    worse = {name: 1.1 * value for name, value in metrics["model"].items()}
    with pytest.raises(ConfigError, match=r"int8 makes mae worse by 10%"):
        parity.refuse_worse({"model": metrics["model"], "exported": worse}, 0.05)
    parity.refuse_worse({"model": metrics["model"], "exported": worse}, 0.11)
    better = {"model": {"accuracy": 0.8}, "exported": {"accuracy": 0.9}}
    parity.refuse_worse(better, 0.0)


def test_what_cannot_be_exported(every_run: dict[str, Path], tmp_path: Path, run_clew) -> None:
    for task in ("transcribe", "translate"):
        said = run_clew("export", every_run[task], "--to", "c")
        assert said.code == 2
        assert "hint: " in said.err
    assert "unknown kind 'C'" in run_clew("export", every_run["tag"], "--to", "C").err
    for name in ("My net", "double", "main"):
        assert "no name for C" in run_clew("export", every_run["tag"], "--to", "c", "--name", name).err
    for name in ("../x", "a/b", ".", ""):
        assert "no name of a file" in run_clew("export", every_run["tag"], "--name", name).err
    (tmp_path / "file").touch()
    assert "is a file" in run_clew("export", every_run["tag"], "--to", "c", "--out", tmp_path / "file").err
    both = Single(Bidirectional(Elman(3, 4), Elman(3, 4)), NumberHead(8, 2))
    with pytest.raises(NotCausalError):
        to_c(Plain(both, ["a", "b", "c"], ["u", "v"], unscaled(OUTPUTS), INPUTS))


@compiles
def test_what_single_precision_cannot_tell_apart_is_refused(
    every_run: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seconds since 1970 that vary by one: the certificate says how far off they are, and which column it is."""
    run = every_run["regress"]
    source = clew.load(run).source
    far = clew.load(run)
    far.source = replace(source, scaler=Scaler(source.scaler.mean + np.array([0.0, 1.7e9]), source.scaler.std))
    monkeypatch.setattr(export_run.__globals__["parity"], "tables_of", lambda *_: [])
    monkeypatch.setitem(export_run.__globals__, "load", lambda _: far)
    with pytest.raises(ClewError, match=r"off the model(.|\n)*'2' lies around 1.7e\+09"):
        export_run(str(run), to="c")


@pytest.mark.parametrize("to", ["c", "onnx"])
def test_words_with_their_letters_are_refused_in_words(to: str, tmp_path: Path, run_clew) -> None:
    (tmp_path / "a.conll").write_text("".join(f"the O\ncat{i} N\n\n" for i in range(24)))
    settings = {**FAST, "task": "tag", "source_unit": "word+character", "steps": 1, "letters": 4}
    clew.train(tmp_path / "a.conll", tmp_path / "run", **settings)
    said = run_clew("export", tmp_path / "run", "--to", to)
    assert (said.code, len(said.err.splitlines())) == (2, 2)
    assert "a word with its letters" in said.err


def test_a_name_is_no_code(tmp_path: Path) -> None:
    """What a file calls its columns stands in a comment, and cannot end it."""
    model = Single(Stack(Elman(1, 2)), NumberHead(2, 1)).eval()
    names = ["*/ int main(void) { return 1; } /*\n#error ??/ \u03b1"]
    source = to_c(Plain(model, names, names, lambda y: y, Scaler(np.zeros(1), np.ones(1))))
    assert source.files["model.h"].count("*/") == 4
    assert "\n#error" not in source.files["model.h"]
    assert "??" not in source.files["model.h"]


# ----------------------------------------------------------------------------------------------------------------- ONNX


@pytest.fixture
def onnx() -> Any:
    for name in ("onnx", "onnxruntime", "onnxscript"):
        pytest.importorskip(name, reason="needs the extra export")
    from clew.stream.export import onnx

    return onnx


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("cell", ["lstm", "mamba"])
def test_onnx_says_the_same_at_every_shape(cell: str, onnx: Any) -> None:
    from clew.stream.export.run import SHAPES, _tried

    plain = plain_of(cell)
    step = onnx.step_graph(plain)
    assert len(SHAPES) >= 5
    _tried(plain, step, onnx.chunk_graph(step), [steps()])
    with torch.no_grad():
        plain.mean += 1.0  # another model: the same graphs are off
    with pytest.raises(ClewError, match="off the model at 1 streams of 1 steps"):
        _tried(plain, step, onnx.chunk_graph(step), [steps()])


@pytest.mark.filterwarnings("ignore")
def test_a_run_as_onnx(every_run: dict[str, Path], tmp_path: Path, run_clew, onnx: Any) -> None:
    said = run_clew("export", every_run["generate"], "--out", tmp_path / "out", "--int8", "--worse", "0.5", "--json")
    assert said.code == 0, said.err
    found = json.loads(said.out)
    assert found["metrics"]["exported"]["nats"] == pytest.approx(found["metrics"]["model"]["nats"], rel=0.05)
    import onnx as library

    made = library.load(str(tmp_path / "out" / "model-chunk.onnx"))
    said_there = {prop.key: prop.value for prop in made.metadata_props}
    assert json.loads(said_there["outputs"]) == found["outputs"]
    assert json.loads(said_there["plan"])["input"]["vocabulary"]
    assert all({"name", "shape", "dtype", "initial"} == set(leaf) for leaf in json.loads(said_there["state"]))
