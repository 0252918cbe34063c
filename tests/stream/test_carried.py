"""A stream is the whole pass whatever it is cut into; it can be saved, split in two, and taken up elsewhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save

import clew
from clew import tree
from clew.errors import ClewError, DataError, NotCausalError, RunError
from clew.stream import Session

STREAMS = ("classify", "detect", "forecast", "generate", "multitask", "regress", "set", "tag", "transcribe")
WHOLE = ("caption", "point", "summarise", "translate")


def line(task: str, seed: int) -> Any:
    draws = np.random.default_rng(seed)
    if task == "generate":
        return "".join(draws.choice(list("the cat sat on"), 12))
    if task == "transcribe":
        return (0.3 * np.sin(np.arange(2000) * draws.uniform(0.1, 0.6))).tolist()
    return draws.normal(size=(7, 1 if task in ("detect", "forecast", "tag") else 2)).tolist()


def near(a: Any, b: Any) -> None:
    """The same answers, numbers but for rounding."""
    assert type(a) is type(b) or isinstance(a, int | float)
    if isinstance(a, dict):
        assert a.keys() == b.keys()
        for name in a:
            near(a[name], b[name])
    elif isinstance(a, list):
        assert len(a) == len(b)
        for one, other in zip(a, b, strict=True):
            near(one, other)
    elif isinstance(a, float):
        assert a == pytest.approx(b, rel=1e-4, abs=1e-5)
    else:
        assert a == b


@pytest.fixture(params=STREAMS)
def task(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def model(task: str, every_run: dict[str, Path]) -> Any:
    return clew.load(every_run[task])


def test_any_chunking_is_the_same_stream(task: str, model: Any) -> None:
    """Bit for bit by a Stepper; the state is that of the model's own pass."""
    draws, given = np.random.default_rng(0), line(task, 0)
    by_steps = Session(model)
    steps = [by_steps.push(given[t : t + 1] if isinstance(given, str) else [v]) for t, v in enumerate(given)]
    for _ in range(5):
        cuts = sorted(draws.integers(0, len(given) + 1, 3).tolist())
        chunked = Session(model)
        answers = [chunked.push(given[a:b]) for a, b in zip([0, *cuts], [*cuts, len(given)], strict=True) if b > a]
        assert chunked.steps == by_steps.steps
        for ours, leaf in zip(tree.leaves(by_steps.state), tree.leaves(chunked.state), strict=True):
            torch.testing.assert_close(ours, leaf, rtol=1e-4, atol=1e-5)
        if task in ("classify", "forecast", "multitask", "regress", "set"):
            near(answers[-1], steps[-1])
        elif task == "transcribe":
            assert "".join(a.get("text", "") for a in answers) == "".join(a.get("text", "") for a in steps)
    with torch.no_grad():
        x, _ = model.from_line(given)
        opened = np.concatenate([model.opening().reshape(-1, x.shape[1]), x]).astype(x.dtype)
        _, state = model.model(torch.as_tensor(opened)[None])
    for ours, leaf in zip(tree.leaves(by_steps.state), tree.leaves(state), strict=True):
        torch.testing.assert_close(ours, leaf, rtol=1e-4, atol=1e-5)


def test_saved_and_taken_up_again(task: str, model: Any, every_run: dict[str, Path], tmp_path: Path) -> None:
    session = Session(model)
    session.push(line(task, 0))
    (tmp_path / "stream.snapshot").write_bytes(session.snapshot())
    elsewhere, fork = Session(clew.load(every_run[task])), session.fork()
    elsewhere.push(line(task, 3))
    elsewhere.restore(tmp_path / "stream.snapshot")
    assert elsewhere.steps == session.steps
    for seed in (1, 2):
        expected = session.push(line(task, seed))
        assert elsewhere.push(line(task, seed)) == expected == fork.push(line(task, seed))
    fork.push(line(task, 4))
    assert session.push(line(task, 5)) == elsewhere.push(line(task, 5))  # what a fork hears is its own
    assert session.snapshot() == elsewhere.snapshot()


def test_many_streams_of_one_model_do_not_meet(task: str, model: Any) -> None:
    alone, many = [], [Session(model) for _ in range(4)]
    for seed in range(4):
        session = Session(model)
        alone.append([session.push(line(task, 10 * seed + t)) for t in range(3)])
    together = [[session.push(line(task, 10 * s + t)) for s, session in enumerate(many)] for t in range(3)]
    assert [list(row) for row in zip(*together, strict=True)] == alone
    assert len({id(session._engine) for session in many}) == 1


@pytest.mark.parametrize("task", WHOLE)
def test_what_reads_a_whole_source_is_refused(task: str, every_run: dict[str, Path]) -> None:
    with pytest.raises(NotCausalError):
        Session(clew.load(every_run[task]))


def test_a_model_that_learned_on_gets_a_new_engine(every_run: dict[str, Path]) -> None:
    model = clew.load(every_run["regress"])
    before = Session(model)
    with torch.no_grad():
        next(model.model.parameters()).mul_(2.0)
    after = Session(model)
    assert before.push(line("regress", 0)) != after.push(line("regress", 0))


def test_a_long_line_is_given_up_where_the_process_ends(every_run: dict[str, Path]) -> None:
    session = Session(clew.load(every_run["regress"]))
    session._engine.ended = True
    session.push([[1.0, 2.0]] * 5)
    with pytest.raises(ClewError, match="not read to its end"):
        session.push([[1.0, 2.0]] * 1000)


def test_a_chunk_names_the_step_that_is_wrong(every_run: dict[str, Path]) -> None:
    session = Session(clew.load(every_run["regress"]))
    clean = session.fork()
    with pytest.raises(DataError, match="step 2 of the chunk"):
        session.push([[1.0, 2.0], [1.0, None], [0.0, 0.0]])
    assert session.push(np.ones((3, 2))) == clean.push([[1.0, 1.0]] * 3)


def rewritten(saved: bytes, change: Any) -> bytes:
    """A snapshot with another content, its checksum right."""
    from clew.training.weights import pack, unpack_bytes

    tensors, meta = unpack_bytes(saved)
    tensors, meta = change(tensors, meta) or (tensors, meta)
    return pack(tensors, meta)


ATTACKS = {
    "another format": lambda t, m: (t, {**m, "format": 2}),
    "another model": lambda t, m: (t, {**m, "model": "0" * 64}),
    "more said": lambda t, m: (t, {**m, "run": "rm -rf"}),
    "steps below 0": lambda t, m: (t, {**m, "steps": -1}),
    "steps beyond counting": lambda t, m: (t, {**m, "steps": 1 << 70}),
    "a format that is true": lambda t, m: (t, {**m, "format": True}),
    "an infinite state": lambda t, m: ({k: v + torch.inf if k.startswith("state") else v for k, v in t.items()}, m),
    "a prediction of another shape": lambda t, m: ({**t, "last": torch.zeros(1, 2, 3)}, m),
    "a prediction of another type": lambda t, m: ({**t, "last": t["last"].double()}, m),
    "a prediction that is none": lambda t, m: ({**t, "last": t["last"] * torch.nan}, m),
    "sound for a model of numbers": lambda t, m: ({**t, "unread": torch.zeros(200)}, m),
    "steps that are true": lambda t, m: (t, {**m, "steps": True}),
    "a leaf missing": lambda t, m: ({k: v for k, v in t.items() if k != min(k for k in t if k.startswith("state"))}, m),
    "a leaf more": lambda t, m: ({**t, "state.9": torch.zeros(1)}, m),
    "two rows": lambda t, m: ({k: torch.cat([v, v]) if k.startswith("state") else v for k, v in t.items()}, m),
    "NaN": lambda t, m: ({k: v * torch.nan if v.is_floating_point() else v for k, v in t.items()}, m),
    "another type": lambda t, m: ({k: v.double() for k, v in t.items()}, m),
    "something unread": lambda t, m: ({**t, "unread": torch.zeros(2, 2)}, m),
    "too large": lambda t, m: ({**t, "unread": torch.zeros(1 << 19)}, m),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_snapshot_of_a_stranger(attack: str, every_run: dict[str, Path]) -> None:
    session = Session(clew.load(every_run["classify"]))
    session.push(line("classify", 0))
    saved, clean = session.snapshot(), session.fork()
    with pytest.raises(RunError):
        session.restore(rewritten(saved, ATTACKS[attack]))
    assert session.push(line("classify", 1)) == clean.push(line("classify", 1))


@pytest.mark.parametrize("unread", [torch.zeros(1 << 12), torch.zeros(3), torch.full((300,), 1e9)])
def test_sound_that_no_frames_have_left(unread: torch.Tensor, every_run: dict[str, Path]) -> None:
    session = Session(clew.load(every_run["transcribe"]))
    session.push(line("transcribe", 0))
    saved = session.snapshot()
    session.restore(rewritten(saved, lambda t, m: (t, m)))
    with pytest.raises(RunError, match="no sound"):
        session.restore(rewritten(saved, lambda t, m: ({**t, "unread": unread}, m)))


def test_a_damaged_snapshot_is_refused(every_run: dict[str, Path], tmp_path: Path) -> None:
    session, draws = Session(clew.load(every_run["classify"])), np.random.default_rng(0)
    session.push(line("classify", 0))
    saved = session.snapshot()
    for _ in range(300):
        broken = bytearray(saved)
        for place in draws.integers(0, len(saved), draws.integers(1, 4)):
            broken[place] ^= int(draws.integers(1, 256))
        cut = bytes(broken[: draws.integers(0, len(saved))]) if draws.random() < 0.3 else bytes(broken)
        if cut != saved:
            with pytest.raises(RunError):
                session.restore(cut)
    for content in (
        b"",
        b"\x00" * 8,
        b"\xff" * 64,
        json.dumps({"format": 1}).encode(),
        save({"state": torch.zeros(1)}),
    ):
        with pytest.raises(RunError):
            session.restore(content)
    with pytest.raises(RunError, match="cannot be read"):
        session.restore(tmp_path / "none")
    session.restore(saved)
