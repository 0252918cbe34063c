"""A run stopped anywhere and resumed equals the run that never stopped, bit for bit; CLEW_RESUMES makes a long run."""

from __future__ import annotations

import dataclasses
import json
import os
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from toy import PER_EPOCH, SETTINGS, Toy, ToyBatches, train

from clew.errors import RunError, TrainingError
from clew.training import Settings, checkpoint, fit


def outcome(folder: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any], list[dict[str, Any]]]:
    """The last checkpoint (weights, best weights, optimizer, random state, counts) and the log; without seconds."""
    saved, skipped = checkpoint.newest(folder / "checkpoints")
    assert saved is not None
    assert not skipped
    saved.meta["counts"].pop("seconds")
    log = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return saved.tensors, saved.meta, [{k: v for k, v in line.items() if k != "seconds"} for line in log]


def assert_same(a: Path, b: Path) -> None:
    tensors, meta, log = outcome(a)
    others, other_meta, other_log = outcome(b)
    assert tensors.keys() == others.keys()
    for name, value in tensors.items():
        assert torch.equal(value, others[name]), name
    assert meta == other_meta
    assert log == other_log
    assert log


TRIALS = int(os.environ.get("CLEW_RESUMES", "4"))  # four times as many runs, each stopped one to four times


class Crash(Exception):
    """As a power cut: nothing is saved at this moment."""


def stopping(at: int, how: type[BaseException]) -> Any:
    def change(step: int, batch: Any) -> Any:
        if step == at:
            raise how
        return batch

    return change


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The uninterrupted runs: one to the end, one that stops early, one whose weights are averaged."""
    folders = {name: tmp_path_factory.mktemp(name) for name in RUNS}
    for name, folder in folders.items():
        assert train(folder, **RUNS[name])[1].stopped == ENDS[name]
    return folders


EARLY = dataclasses.replace(SETTINGS, patience=3, lr=3e-2)
MEAN = dataclasses.replace(SETTINGS, average=0.9)
RUNS = {"done": {}, "early": {"monitor": "worse", "settings": EARLY}, "mean": {"settings": MEAN}}
ENDS = {"done": "done", "early": "early", "mean": "done"}


@pytest.mark.parametrize("how", [Crash, KeyboardInterrupt])
@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("trial", range(TRIALS))
def test_random_stops(how: type[BaseException], run: str, trial: int, whole: dict[str, Path], tmp_path: Path) -> None:
    end = outcome(whole[run])[1]["counts"]["step"]
    draw = random.Random(trial)
    for stop in sorted(draw.sample(range(end), k=draw.randint(1, 4))):
        torch.rand(trial)  # the generator is elsewhere when a new process resumes
        if how is Crash:
            with pytest.raises(Crash):
                train(tmp_path, stopping(stop, Crash), resume=True, **RUNS[run])
        else:
            assert train(tmp_path, stopping(stop, how), resume=True, **RUNS[run])[1].stopped == "interrupted"
            saved, _ = checkpoint.newest(tmp_path / "checkpoints")
            assert (saved.step if saved else 0) == stop
    model, fitted = train(tmp_path, resume=True, **RUNS[run])
    assert fitted.stopped == ENDS[run]
    assert_same(tmp_path, whole[run])
    again, same = train(tmp_path, stopping(end, Crash), resume=True, **RUNS[run])  # asks for no batch
    assert (same.stopped, same.best, same.best_step) == (ENDS[run], fitted.best, fitted.best_step)
    for a, b in zip(model.state_dict().values(), again.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_stop_inside_a_step_and_inside_a_validation(whole: dict[str, Path], tmp_path: Path) -> None:
    """The interrupted step has drawn its dropout already; the interrupted validation must be made up for."""
    settings = dataclasses.replace(SETTINGS, validate_every=100)
    models = [Toy() for _ in range(3)]
    for model in models:  # its buffers alone move in the middle of a step
        model.body[1] = torch.nn.Identity()
    calls = []

    def stop_in_forward(module: torch.nn.Module, *_: Any) -> None:
        calls.append(1)
        if len(calls) == 10:
            raise KeyboardInterrupt

    models[0].head.register_forward_hook(stop_in_forward)
    assert train(tmp_path / "a", model=models[0], settings=settings)[1].step == 9
    train(tmp_path / "a", model=models[1], settings=settings, resume=True)
    train(tmp_path / "b", model=models[2], settings=settings)
    assert_same(tmp_path / "a", tmp_path / "b")

    def stop() -> dict[str, float]:
        raise KeyboardInterrupt

    assert train(tmp_path / "c", validate=stop)[1].stopped == "interrupted"
    train(tmp_path / "c", resume=True)
    assert_same(tmp_path / "c", whole["done"])


def test_best_weights_are_loaded(tmp_path: Path) -> None:
    model, fitted = train(tmp_path)
    log = outcome(tmp_path)[2]
    best = min(log, key=lambda line: line["valid"]["loss"])
    assert fitted.best_step == best["step"]
    assert fitted.best == best["valid"]
    x = torch.linspace(-1, 1, 30).view(10, 3)
    value = (model.head(model.body(x)) - x.sum(1, keepdim=True).sin()).square().mean()
    assert not model.training
    assert value.item() == fitted.best["loss"]
    assert best["epoch"] == best["step"] / PER_EPOCH


def test_other_settings_are_named(tmp_path: Path) -> None:
    train(tmp_path)
    with pytest.raises(RunError, match=r"lr was 0.01, now is 0.02; seed was 3, now is 4"):
        train(tmp_path, settings=dataclasses.replace(SETTINGS, lr=0.02, checkpoint_every=9), resume=True, seed=4)


def test_starting_again_forgets_the_old_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train(tmp_path / "a")
    assert train(tmp_path / "a", stopping(5, KeyboardInterrupt))[1].step == 5
    assert [step for step, _ in checkpoint._found(tmp_path / "a" / "checkpoints")] == [5, 3]
    train(tmp_path / "b", resume=True, progress=True)
    said = capsys.readouterr()
    assert said.out == ""
    assert "training from scratch" in said.err
    assert "step 40" in said.err


def test_damaged_checkpoints_are_skipped_aloud(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], whole: dict[str, Path]
) -> None:
    train(tmp_path, stopping(20, KeyboardInterrupt))
    (_, first), (_, _second) = checkpoint._found(tmp_path / "checkpoints")
    first.write_bytes(first.read_bytes()[:-7])
    train(tmp_path, resume=True, progress=None)
    assert f"skipped a checkpoint: {first.name} is damaged" in capsys.readouterr().err
    assert_same(tmp_path, whole["done"])
    for _, path in checkpoint._found(tmp_path / "checkpoints"):
        path.write_bytes(b"")
    with pytest.raises(RunError, match="only damaged checkpoints"):
        train(tmp_path, resume=True)


def test_without_validation_or_folder() -> None:
    _model, fitted = train(None, validate=None)
    assert fitted.stopped == "done"
    assert fitted.best_step == 40
    assert fitted.best["loss"] > 0
    assert fitted.steps_per_second > 0
    with pytest.raises(TrainingError, match="gives no 'los'"):
        train(None, monitor="los")


def test_weights_file_of_the_wrong_model(tmp_path: Path) -> None:
    train(tmp_path)
    other = Toy()
    other.head = torch.nn.Linear(8, 2)
    with pytest.raises(RunError, match=r"wrong shape: 'head.weight' is \(1, 8\), the model's is \(2, 8\)"):
        fit(other, ToyBatches(), SETTINGS, monitor="loss", folder=tmp_path, seed=3, resume=True, progress=False)


def test_settings_have_defaults() -> None:
    assert Settings(steps=1).clip == 1.0
