"""Streams that are stepped side by side are the streams that they are alone."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_carried import STREAMS, WHOLE, line, near

import clew
from clew import tree
from clew.errors import ClewError, DataError, NotCausalError, RunError
from clew.stream import Batcher, Session
from clew.stream.batcher import FullError
from clew.stream.slots import SIZES, _size


@pytest.mark.parametrize("task", STREAMS)
def test_side_by_side_is_alone(task: str, every_run: dict[str, Path]) -> None:
    """Lines of different lengths, some streams silent, one of them wrong now and then."""
    model, draws = clew.load(every_run[task]), np.random.default_rng(0)
    batcher, alone = Batcher(model, 30), [Session(model) for _ in range(20)]
    streams = [batcher.join() for _ in alone]
    for turn in range(6):
        chosen = draws.permutation(20)[: draws.integers(1, 21)].tolist()
        lines = {
            i: line(task, 100 * turn + i)[: draws.integers(1, 2000 if task == "transcribe" else 8)] for i in chosen
        }
        wrong = chosen[0]
        found = batcher.push({**{streams[i]: given for i, given in lines.items()}, streams[wrong]: None})
        assert isinstance(found[streams[wrong]], DataError)
        for i in chosen[1:]:
            near(found[streams[i]], alone[i].push(lines[i]))
    for i, stream in enumerate(streams):
        assert batcher.steps(stream) == alone[i].steps
        for ours, leaf in zip(tree.leaves(batcher.state(stream)), tree.leaves(alone[i].state), strict=True):
            torch.testing.assert_close(ours, leaf, rtol=1e-4, atol=1e-5)


def test_streams_that_come_and_go_and_poisoned_ones(every_run: dict[str, Path]) -> None:
    """A tenth of the streams hold NaN; the others are what they are alone, whoever had their slot before."""
    model, draws = clew.load(every_run["forecast"]), np.random.default_rng(1)
    batcher, alone, poisoned = Batcher(model, 64), {}, set()
    for turn in range(150):
        while len(alone) + len(poisoned) < 40 or draws.random() < 0.3:
            try:
                stream = batcher.join()
            except FullError:
                break
            if draws.random() < 0.1:
                poisoned.add(stream)
                for leaf in batcher._slots.leaves:
                    if leaf.dtype.kind == "f":
                        leaf[stream] = np.nan
            else:
                alone[stream] = Session(model)
        for stream in draws.permutation([*alone, *poisoned])[:5].tolist():
            batcher.leave(stream)
            alone.pop(stream, None)
            poisoned.discard(stream)
        values = {stream: [float(draws.normal())] for stream in draws.permutation([*alone, *poisoned])[:30].tolist()}
        found = batcher.push(values)
        for stream, value in values.items():
            if stream in alone:
                near(found[stream], alone[stream].push(value))
        assert len(batcher) == len(alone) + len(poisoned), turn
    assert poisoned


def test_numbers_in_numbers_out(every_run: dict[str, Path]) -> None:
    model = clew.load(every_run["forecast"])  # of one step, which it feeds itself
    batcher, session = Batcher(model, 700, horizon=1), Session(model, horizon=1)
    streams = np.array([batcher.join() for _ in range(700)])
    assert batcher.outputs == ["level"]
    for t in range(4):
        answers = batcher.step(streams, np.full((700, 1), 0.1 * t))
        expected = session.push(0.1 * t)["forecast"]
        np.testing.assert_allclose(answers, np.tile(expected, (700, 1)), rtol=1e-5, atol=1e-6)
    rows = np.full((3, 1), 0.7)
    rows[1] = np.nan
    answers = batcher.step(streams[:3], rows)
    assert np.isnan(answers).any(1).tolist() == [False, True, False]
    near(batcher.push({int(streams[1]): 0.7})[int(streams[1])]["forecast"], session.push(0.7)["forecast"])
    assert batcher.step(streams[:0], rows[:0]).shape == (0, 1)
    with pytest.raises(DataError, match="3 streams of 1 numbers"):
        batcher.step(streams[:3], np.zeros((3, 2)))


def test_joining_leaving_and_time(every_run: dict[str, Path]) -> None:
    model = clew.load(every_run["regress"])
    batcher, session = Batcher(model, 2), Session(model)
    one, two = batcher.join(), batcher.join()
    with pytest.raises(FullError, match="all 2 streams are taken"):
        batcher.join()
    session.push(line("regress", 0))
    batcher.push({one: line("regress", 0)})
    saved = batcher.snapshot(one)
    batcher.leave(two)
    batcher.leave(two)
    again = batcher.join(saved)
    near(batcher.push({again: [1.0, 2.0]})[again], session.fork().push([1.0, 2.0]))
    session.restore(batcher.snapshot(one))
    batcher.reset(one)
    assert batcher.steps(one) == 0
    near(batcher.push({one: [1.0, 2.0]})[one], Session(model).push([1.0, 2.0]))
    assert batcher.expire(60.0) == []
    time.sleep(0.02)
    batcher.push({one: [0.0, 0.0]})
    assert batcher.expire(0.01) == [again]
    assert len(batcher) == 1
    for gone in (lambda: batcher.push({again: [1.0, 2.0]}), lambda: batcher.snapshot(again)):
        with pytest.raises(ClewError, match=f"there is no stream {again}"):
            gone()
    with pytest.raises(RunError):
        batcher.join(b"nothing")
    assert len(batcher) == 1


def test_from_many_threads(every_run: dict[str, Path]) -> None:
    """A stream's answers come in the order of its lines, and are its own."""
    model = clew.load(every_run["regress"])
    batcher = Batcher(model, 16)
    before = threading.active_count()

    def one(seed: int) -> list[Any]:
        stream = batcher.join()
        futures = [batcher.submit(stream, line("regress", seed + t)) for t in range(20)]
        found = [future.result(30) for future in futures]
        batcher.leave(stream)
        return found

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(one, range(0, 3200, 100)))
    for seed, answers in zip(range(0, 3200, 100), found, strict=True):
        session = Session(model)
        for t, answer in enumerate(answers):
            near(answer, session.push(line("regress", seed + t)))
    stream = batcher.join()
    with pytest.raises(DataError):
        batcher.submit(stream, "no numbers").result(30)
    waiting = [batcher.submit(stream, [1.0, 2.0]) for _ in range(5)]
    batcher.leave(stream)
    batcher.close()
    assert all(future.done() for future in waiting)
    assert threading.active_count() <= before + 8
    with pytest.raises(ClewError, match="no stream"):
        batcher.submit(stream, [1.0, 2.0])


@pytest.mark.parametrize("task", WHOLE)
def test_what_reads_a_whole_source_is_refused(task: str, every_run: dict[str, Path]) -> None:
    with pytest.raises(NotCausalError):
        Batcher(clew.load(every_run[task]))


@pytest.mark.parametrize("left", range(1, 1500, 7))
def test_batches_are_few_and_full(left: int) -> None:
    whole, sizes = left, []
    while left > 0:
        sizes.append(_size(left))
        left -= sizes[-1]
    assert set(sizes) <= set(SIZES)
    assert sum(sizes) < 2 * whole
    assert len(sizes) <= whole // 256 + 8
