"""Streams that are stepped side by side are the streams that they are alone."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_carried import STREAMS, WHOLE, line, near

import clew
from clew import tree
from clew.data.series import Scaler
from clew.errors import ClewError, DataError, NotCausalError, RunError
from clew.stream import Batcher, Session
from clew.stream.batcher import FullError
from clew.stream.device_slots import DeviceSlots
from clew.stream.engine import Engine
from clew.stream.slots import SIZES, Slots, _size


def on_device(first: list[np.ndarray], count: int) -> DeviceSlots:
    """As on a GPU, but for the graphs."""
    return DeviceSlots(first, count, torch.device("cpu"))


@pytest.mark.parametrize("slots", [Slots, on_device])
@pytest.mark.parametrize("task", STREAMS)
def test_side_by_side_is_alone(
    task: str, slots: Any, every_run: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lines of different lengths, some streams silent, one of them wrong now and then."""
    monkeypatch.setattr("clew.stream.batcher.Slots", slots)
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
                        leaf[batcher._slot(stream)] = np.nan
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
    with pytest.raises(DataError, match="asked for twice"):
        batcher.step(streams[[0, 1, 0]], rows)
    steps = batcher.steps(int(streams[0]))
    assert np.isnan(batcher.step(streams[:1], np.array([[1e39]]))).all()  # more than single precision holds
    assert batcher.steps(int(streams[0])) == steps


def test_units_in_numbers_out(every_run: dict[str, Path]) -> None:
    model = clew.load(every_run["generate"])
    batcher = Batcher(model, 2)
    stream, session = batcher.join(), Session(model)
    units = model.from_line("the")[0]
    answers = [batcher.step([stream], unit[None])[0] for unit in units]
    session.push("the")
    np.testing.assert_allclose(answers[-1], np.exp(session._carried.last), rtol=1e-4, atol=1e-6)
    for wrong in (-1, len(batcher.outputs), 1.5, np.nan):
        with pytest.raises(DataError, match="whole numbers 0 to"):
            batcher.step([stream], np.array([[wrong]]))
    assert batcher.steps(stream) == 3


def test_numbers_far_from_0(every_run: dict[str, Path]) -> None:
    """Raw numbers are standardised in double precision: a time in seconds since 1970 is one."""
    model = clew.load(every_run["forecast"])
    model.plan = replace(model.plan, scaler=Scaler(np.array([1.7e9]), np.array([0.5])))
    batcher, session = Batcher(model, 2, horizon=1), Session(model, horizon=1)
    stream = batcher.join()
    for value in (1.7e9 + 0.125, 1.7e9 - 0.75):
        expected = session.push(value)["forecast"][0]
        assert batcher.step([stream], np.array([[value]]))[0, 0] == pytest.approx(expected, abs=64.0)  # float32 there
    for ours, leaf in zip(tree.leaves(batcher.state(stream)), tree.leaves(session.state), strict=True):
        torch.testing.assert_close(ours, leaf, rtol=1e-4, atol=1e-5)


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
    assert f"there is no stream {again}" in str(batcher.push({again: [1.0, 2.0]})[again])
    with pytest.raises(ClewError, match=f"there is no stream {again}"):
        batcher.snapshot(again)
    with pytest.raises(RunError):
        batcher.join(b"nothing")
    assert len(batcher) == 1


def test_from_many_threads(every_run: dict[str, Path]) -> None:
    """Short lines and long ones, in slots that have had other owners: a stream's answers are its own."""
    model = clew.load(every_run["regress"])
    batcher = Batcher(model, 16)

    def one(seed: int) -> list[Any]:
        stream = batcher.join()
        found: list[Any] = []
        for t in range(20):
            given = line("regress", seed + t)
            found.append(batcher.push_alone(stream, given) if t % 3 else batcher.push({stream: given})[stream])
        batcher.leave(stream)
        return found

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(one, range(0, 3200, 100)))
    for seed, answers in zip(range(0, 3200, 100), found, strict=True):
        session = Session(model)
        for t, answer in enumerate(answers):
            near(answer, session.push(line("regress", seed + t)))


def test_a_long_line_keeps_no_other_waiting(every_run: dict[str, Path]) -> None:
    """While one stream reads by itself others go on, its own next line waits, and who leaves is not there after it."""
    model, same = clew.load(every_run["regress"]), clew.load(every_run["regress"])
    batcher, inside, go_on, push = Batcher(model, 3), threading.Event(), threading.Event(), Engine.push

    def slow(*given: Any) -> Any:
        inside.set()
        assert go_on.wait(20)
        return push(batcher._engine, *given)

    long, other, leaves = batcher.join(), batcher.join(), batcher.join()
    batcher._engine.push = slow
    with ThreadPoolExecutor(3) as pool:
        reads = pool.submit(batcher.push_alone, long, [[0.1, 0.2]] * 500)
        gone = pool.submit(batcher.push_alone, leaves, [[0.1, 0.2]] * 500)
        assert inside.wait(20)
        near(batcher.push({other: [1.0, 2.0]})[other], alone(same, [1.0, 2.0]))
        assert batcher.steps(long) == 0
        batcher.leave(leaves)
        owner = batcher.join()  # the slot of one whose line is being read
        assert owner != leaves
        follows = pool.submit(batcher.push, {long: [0.3, 0.4]})
        go_on.set()
        near(reads.result(20), alone(same, [[0.1, 0.2]] * 500))
        near(follows.result(20)[long], alone(same, [[0.1, 0.2]] * 500, [0.3, 0.4]))
        with pytest.raises(ClewError, match="no stream"):
            gone.result(20)
    assert batcher.steps(owner) == 0
    near(batcher.push({owner: [1.0, 2.0]})[owner], alone(same, [1.0, 2.0]))


def test_a_snapshot_after_a_long_line_and_a_short_one(every_run: dict[str, Path]) -> None:
    model = clew.load(every_run["generate"])
    batcher = Batcher(model, 2)
    stream = batcher.join()
    batcher.push_alone(stream, "the cat sat on ")
    batcher.push({stream: "the mat"})
    session = Session(clew.load(every_run["generate"]))
    session.restore(batcher.snapshot(stream))
    near(session.push(" the"), alone(clew.load(every_run["generate"]), "the cat sat on ", "the mat", " the"))


def test_a_batch_waits_for_one_of_it_that_reads_by_itself(every_run: dict[str, Path]) -> None:
    """Who leaves meanwhile is told so, and who has its slot then is not touched."""
    model = clew.load(every_run["regress"])
    batcher, inside, go_on, push = Batcher(model, 2), threading.Event(), threading.Event(), Engine.push

    def slow(*given: Any) -> Any:
        inside.set()
        assert go_on.wait(20)
        return push(batcher._engine, *given)

    leaves, long = batcher.join(), batcher.join()
    batcher._engine.push = slow
    with ThreadPoolExecutor(2) as pool:
        reads = pool.submit(batcher.push_alone, long, [[0.1, 0.2]] * 5)
        assert inside.wait(20)
        both = pool.submit(batcher.push, {leaves: [1.0, 2.0], long: [0.3, 0.4]})
        while not batcher._back._waiters:  # it has begun, and waits
            time.sleep(0.001)
        batcher.leave(leaves)
        owner = batcher.join()
        go_on.set()
        reads.result(20)
        found = both.result(20)
    same = clew.load(every_run["regress"])
    assert isinstance(found[leaves], ClewError)
    near(found[long], alone(same, [[0.1, 0.2]] * 5, [0.3, 0.4]))
    near(batcher.push({owner: [1.0, 2.0]})[owner], alone(same, [1.0, 2.0]))


def alone(model: Any, *lines: Any) -> Any:
    """What a session says to the last of these."""
    session = Session(model)
    return [session.push(given) for given in lines][-1]


def test_what_is_odd_about_a_line_is_its_own(every_run: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """A list that is deeper than Python goes, a stream that has left, a fault of ours: the others are answered."""
    model = clew.load(every_run["regress"])
    batcher = Batcher(model, 4)
    deep: Any = []
    for _ in range(5000):
        deep = [deep]
    streams = [batcher.join() for _ in range(4)]
    batcher.leave(streams[3])
    read = type(model).from_line

    def odd(self: Any, value: Any, before: Any = None) -> Any:
        if value == "odd":
            raise KeyError(value)
        return read(self, value, before)

    monkeypatch.setattr(type(model), "from_line", odd)
    found = batcher.push(dict(zip(streams, [deep, [1.0, 2.0], "odd", [1.0, 2.0]], strict=True)))
    near(found[streams[1]], alone(model, [1.0, 2.0]))
    assert [type(found[streams[i]]) for i in (0, 2, 3)] == [DataError, KeyError, ClewError]


def test_sessions_begun_by_many_threads_at_once(every_run: dict[str, Path]) -> None:
    """They have one engine, and what it noted is the model's step."""
    for _ in range(5):
        model = clew.load(every_run["regress"])
        start = threading.Barrier(4)

        def one(model: Any = model, start: threading.Barrier = start) -> Session:
            start.wait()
            return Session(model)

        with ThreadPoolExecutor(4) as pool:
            sessions = [future.result(30) for future in [pool.submit(one) for _ in range(4)]]
        assert len({id(session._engine) for session in sessions}) == 1
        assert sessions[0]._engine._stepper is not None
        x_TI, _ = model.from_line(line("regress", 0))
        with torch.no_grad():
            y = model.model(torch.from_numpy(x_TI)[None])[0][0]
        np.testing.assert_allclose(sessions[0]._engine.read(sessions[0]._carried, x_TI), y, rtol=1e-4, atol=1e-5)


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
