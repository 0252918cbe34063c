"""The task of pointing: from a file to a model that beats the order as given, and what it says of other files."""

from __future__ import annotations

import csv
import io
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_runs import FAST

import clew
from clew.data.geometry import travelling_salesman
from clew.data.items import ItemRecord
from clew.errors import ConfigError, DataError, NotCausalError
from clew.tasks import point
from clew.tasks.train import read_for

SORTING = {**FAST, "task": "point", "width": 16, "steps": 80, "batch": 32, "attention": "scaled_dot", "cell": "gru"}


def numbers(n: int, seed: int, some: bool = False) -> list[dict[str, Any]]:
    """Numbers and their order; `some`: of those under 0.5 alone."""
    r, rows = random.Random(seed), []
    for _ in range(n):
        items = [round(r.random(), 4) for _ in range(r.randint(1 + some, 4))]
        order = sorted(range(len(items)), key=items.__getitem__)
        rows.append({"items": items, "order": [i for i in order if not some or items[i] < 0.5]})
    return rows


def write(file: Path, rows: list[dict[str, Any]]) -> Path:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


@pytest.fixture(scope="module")
def sorted_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("point")
    clew.train(write(folder / "numbers.jsonl", numbers(400, 0)), folder / "run", **SORTING)
    return folder / "run"


def test_a_run_beats_the_order_as_given(sorted_run: Path) -> None:
    found = json.loads((sorted_run / "metrics.json").read_text())
    assert found["metrics"].keys() == found["baseline"]["given"].keys() == {"exact", "token_error"}
    assert found["metrics"]["exact"] > found["baseline"]["given"]["exact"] + 0.2
    assert found["metrics"]["token_error"] < found["baseline"]["given"]["token_error"]
    assert found["n"] == found["parts"]["test"] == 40


def test_evaluating_counts_orders(sorted_run: Path, tmp_path: Path) -> None:
    """One of these four is sorted as given, and two have one order."""
    rows = [[0.1, 0.2], [0.9, 0.1, 0.5], [0.4], [0.7]]
    file = write(tmp_path / "a.jsonl", [{"items": r, "order": np.argsort(r).tolist()} for r in rows])
    said = clew.evaluate(sorted_run, file)
    assert said["n"] == 4
    assert said["baseline"]["given"]["exact"] == 0.75
    orders = clew.load(sorted_run).orders([np.array(r)[:, None] for r in rows])
    right = [order.tolist() == np.argsort(r).tolist() for order, r in zip(orders, rows, strict=True)]
    assert said["metrics"]["exact"] == np.mean(right)
    assert [len(order) for order in orders] == [2, 3, 1, 1]  # all orders that it learned from held all items


def test_predictions(sorted_run: Path, tmp_path: Path, run_clew) -> None:
    """A file to predict on needs no orders; a row's answer is the same whatever stands beside it."""
    rows = numbers(30, 5)
    file = write(tmp_path / "a.jsonl", [{"items": row["items"]} for row in rows])
    said = run_clew("predict", sorted_run, file)
    assert said.code == 0
    found = list(csv.DictReader(io.StringIO(said.out)))
    assert list(found[0]) == ["row", "order", "nats"]
    assert [int(row["row"]) for row in found] == list(range(1, 31))
    trained = clew.load(sorted_run)
    for row, known in zip(found[:5], rows, strict=False):
        (alone,) = trained.search([np.array(known["items"])[:, None]])
        assert json.loads(row["order"]) == [place - 1 for place in alone.units]
        assert float(row["nats"]) == pytest.approx(-alone.logp, abs=1e-4)
        assert sorted(json.loads(row["order"])) == list(range(len(known["items"])))


def test_a_wider_search_finds_nothing_less_likely(sorted_run: Path) -> None:
    trained, rows = clew.load(sorted_run), [np.array(row["items"])[:, None] for row in numbers(40, 7)]
    narrow, wide = trained.search(rows), trained.searching(beam=24).search(rows)
    assert all(b.logp >= a.logp - 1e-6 for a, b in zip(narrow, wide, strict=True))


def test_orders_of_some_items_choose_where_to_end(tmp_path: Path) -> None:
    file = write(tmp_path / "a.jsonl", numbers(300, 1, some=True))
    clew.train(file, tmp_path / "run", **SORTING)
    trained = clew.load(tmp_path / "run")
    assert not trained.whole
    other = write(tmp_path / "b.jsonl", numbers(200, 2, some=True))
    said = clew.evaluate(tmp_path / "run", other)
    assert said["metrics"]["exact"] > said["baseline"]["given"]["exact"] + 0.3
    lengths = {len(order) for order in trained.orders([np.array([[0.9], [0.8]]), np.array([[0.1], [0.2]])])}
    assert lengths == {0, 2}


def test_texts_are_ordered_by_their_letters(tmp_path: Path) -> None:
    """Those that no order named in training, too."""
    r, rows = random.Random(0), []
    for _ in range(400):
        words = ["".join(r.choices("abcdxyz", k=r.randint(2, 4))) for _ in range(3)]
        rows.append({"words": words, "order": sorted(range(3), key=lambda i, words=words: words[i][0])})
    file, settings = write(tmp_path / "a.jsonl", rows), {"inputs": ["words"], "letters": 12, "word_dropout": 0.5}
    found = clew.train(file, tmp_path / "run", **{**SORTING, **settings})
    assert found["metrics"]["exact"] > found["baseline"]["given"]["exact"] + 0.2
    assert found["metrics"].keys() == {"exact", "token_error"}
    trained = clew.load(tmp_path / "run")
    (order,) = trained.orders([["zebra", "apple"]])
    assert sorted(order) == [0, 1]
    with pytest.raises(ConfigError, match="an item cannot be cut into the unit 'byte'"):
        clew.train(file, tmp_path / "other", **{**SORTING, **settings, "source_unit": "byte"})


def test_one_order_of_some_items_in_validation_is_enough(tmp_path: Path) -> None:
    """It leaves the end free, as its own end could not be scored else."""
    file = write(tmp_path / "a.jsonl", numbers(60, 0))
    other = write(tmp_path / "b.jsonl", [*numbers(20, 1), {"items": [0.3, 0.2, 0.1], "order": [2]}])
    found = clew.train(file, tmp_path / "run", **{**SORTING, "steps": 2, "valid": str(other)})
    assert np.isfinite(found["valid"]["nats"])
    assert not clew.load(tmp_path / "run").whole


def test_tours_are_measured_by_their_length(tmp_path: Path) -> None:
    x, y = travelling_salesman(80, 5)
    rows = [{"items": a, "order": b} for a, b in zip(x.tolist(), y.tolist(), strict=True)]
    clew.train(write(tmp_path / "a.jsonl", rows), tmp_path / "run", **{**SORTING, "steps": 2})
    said = clew.evaluate(tmp_path / "run", tmp_path / "a.jsonl")
    for scores in (said["metrics"], said["baseline"]["given"]):
        assert scores.keys() == {"exact", "token_error", "length_ratio"}
        assert 1 <= scores["length_ratio"] < 3
    points, best = np.array([[0.0, 0], [1, 1], [1, 0], [0, 1]]), np.array([0, 2, 1, 3])
    record = ItemRecord(points, best, "a", 1)
    crossing = point.metrics([np.arange(4), best[::-1]], [record, record])
    assert crossing["length_ratio"] == pytest.approx((1 + (2 + 2 * 2**0.5) / 4) / 2)
    assert crossing["exact"] == 0
    assert "length_ratio" not in point.metrics([best[:3]], [record._replace(order=best[:3])])


@pytest.mark.parametrize("setting", [{"attention": "coverage"}, {"attention": "none"}, {"attention": "multi_head"}])
def test_attention_that_cannot_point(tmp_path: Path, setting: dict[str, str]) -> None:
    file = write(tmp_path / "a.jsonl", numbers(40, 0))
    with pytest.raises(ConfigError, match="cannot point"):
        clew.train(file, tmp_path / "run", **{**SORTING, **setting})


def test_a_search_too_wide(sorted_run: Path, tmp_path: Path, run_clew) -> None:
    said = run_clew("predict", sorted_run, write(tmp_path / "a.jsonl", numbers(2, 0)), "--beam", 5000)
    assert said.code == 2
    assert said.err.startswith("clew: decode.beam: input should be less than or equal to 1000")


def test_keys_that_say_nothing_here(tmp_path: Path) -> None:
    file = write(tmp_path / "a.jsonl", numbers(40, 0))
    for setting in ({"pooling": "max"}, {"label_smoothing": 0.1}, {"tied": True}, {"copying": True}):
        with pytest.raises(ConfigError, match="says nothing to the task 'point'"):
            clew.train(file, tmp_path / "run", **{**SORTING, **setting})


def test_other_items_than_were_learned_from(sorted_run: Path, tmp_path: Path) -> None:
    file = write(tmp_path / "a.jsonl", [{"items": [[1, 2], [3, 4]], "order": [0, 1]}])
    with pytest.raises(DataError, match=r"a\.jsonl, row 1, column 'items': items of 2 numbers"):
        clew.evaluate(sorted_run, file)
    with pytest.raises(NotCausalError, match="cannot stream"):
        clew.load(sorted_run).model.init_state(1)
    assert read_for(sorted_run, file).rows == 1


def test_every_search_is_the_recipes(tmp_path: Path) -> None:
    """`decode.longest` cuts orders, here before the end that they would have."""
    file = write(tmp_path / "a.jsonl", numbers(60, 0))
    clew.train(file, tmp_path / "run", **{**SORTING, "steps": 1, "longest": 2, "beam": 3})
    trained = clew.load(tmp_path / "run")
    assert trained.decode.beam == 3
    (found,) = trained.search([np.array([[0.1], [0.2], [0.3], [0.4]])])
    assert len(found.units) <= 3
    assert not found.finished
