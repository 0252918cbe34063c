"""A stream is the whole pass, cut into steps."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import clew
from clew.data.sources import read_table
from clew.data.table import numeric
from clew.errors import DataError, NotCausalError
from clew.stream import Session


@pytest.fixture
def values(series_file: Path) -> np.ndarray:
    table = read_table(series_file)
    return np.stack([numeric(table, "load"), numeric(table, "heat")], 1)


def test_every_step_streams_the_forecast_of_the_whole_pass(trained: Path, values: np.ndarray) -> None:
    model = clew.load(trained)
    session = Session(model)
    for t, row in enumerate(values[:40], 1):
        np.testing.assert_allclose(session.push(row.tolist())["forecast"], model.predict(values[:t], 5), rtol=1e-5)
    assert session.steps == 40


def test_names_lists_and_resets(trained: Path, values: np.ndarray) -> None:
    by_list, by_name = Session(clew.load(trained)), Session(clew.load(trained))
    for load, heat in values[:9]:
        last = by_list.push([load, heat])["forecast"]
        np.testing.assert_array_equal(last, by_name.push({"heat": heat, "load": load, "more": 1.0})["forecast"])
    by_name.reset()
    again = [by_name.push(row.tolist())["forecast"] for row in values[:9]]
    np.testing.assert_array_equal(again[-1], last)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (1.0, "expected 2 numbers a step \\(load, heat\\)"),
        ([1.0], "expected 2 numbers"),
        (
            {"load": 1.0, "haet": 1.0},
            "column 'heat': missing\nhint: 'haet' is no column that the model .*'heat'?",
        ),
        ([1.0, float("nan")], "column 'heat': nan is not a finite number"),
        ([True, 1.0], "column 'load': True is not a finite number"),
        ("1,2", "expected 2 numbers"),
        ([1.0, "2"], "column 'heat': '2' is not a finite number"),
    ],
)
def test_a_wrong_step_leaves_the_stream_as_it_was(trained: Path, values: np.ndarray, wrong, said: str) -> None:
    clean, tried = Session(clew.load(trained)), Session(clew.load(trained))
    for row in values[:5]:
        expected = clean.push(row.tolist())["forecast"]
        with pytest.raises(DataError, match=said):
            tried.push(wrong)
        np.testing.assert_array_equal(tried.push(row.tolist())["forecast"], expected)


def test_the_state_does_not_grow(trained: Path, values: np.ndarray) -> None:
    session = Session(clew.load(trained))
    sizes = set()
    for row in values[:30]:
        session.push(row.tolist())
        sizes.add(tuple(tuple(leaf.shape) for leaf in clew.tree.leaves(session.state)))
    assert len(sizes) == 1


def test_what_needs_the_future_is_refused(trained: Path) -> None:
    model = clew.load(trained)
    model.model.body = clew.cells.Bidirectional(clew.cells.GRU(2, 3), clew.cells.GRU(2, 3))
    with pytest.raises(NotCausalError, match="needs the future"):
        Session(model)


def test_the_command_streams_lines(trained: Path, values: np.ndarray, run_clew) -> None:
    lines = [json.dumps(row.tolist()) for row in values[:6]]
    said = run_clew("stream", trained, feed="\n".join([*lines[:2], '{"reset": true}', "", *lines]))
    rows = [json.loads(line) for line in said.out.splitlines()]
    assert said.code == 0
    assert [row["step"] for row in rows] == [1, 2, 1, 2, 3, 4, 5, 6]
    np.testing.assert_allclose(rows[-1]["forecast"], clew.load(trained).predict(values[:6], 5), rtol=1e-5)


@pytest.mark.parametrize(
    ("line", "place"),
    [
        ("1 2", "stdin, row 2: not JSON"),
        ("[1]", "stdin, row 2: expected 2 numbers"),
        ('{"load": 1}', "row 2, column 'heat'"),
    ],
)
def test_the_command_names_a_bad_line(trained: Path, run_clew, line: str, place: str) -> None:
    said = run_clew("stream", trained, feed=f"[1, 2]\n{line}\n[1, 2]\n")
    assert said.code == 2
    assert place in said.err
    assert len(said.out.splitlines()) == 1  # what came before was answered


def test_float64_state_follows_the_model(trained: Path) -> None:
    session = Session(clew.load(trained))
    assert {leaf.dtype for leaf in clew.tree.leaves(session.state)} == {torch.float32, torch.bool}
