"""Training for a time: the minutes become steps once, and the run is then one of so many steps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file
from small_runs import FAST, RUNS

import clew
from clew.errors import ConfigError
from clew.tasks.run import RunFolder

MINUTES = 0.02


def lengthless(run: str) -> dict[str, object]:
    """The settings of a small run, without what says how long it is."""
    return {name: value for name, value in {**FAST, **RUNS[run][1]}.items() if name not in ("steps", "epochs")}


@pytest.mark.parametrize("run", ["classify", "generate", "series"])
def test_minutes_are_steps_that_are_written_down(files, tmp_path: Path, run: str, capsys) -> None:
    file, settings = RUNS[run][0], lengthless(run)
    timed = clew.train(files[file], tmp_path / "timed", minutes=MINUTES, **settings)
    kept = RunFolder(tmp_path / "timed").recipe().train
    assert (kept.steps, kept.minutes, kept.epochs) == (timed["steps"], 0, 0)
    assert f"steps: {timed['steps']}, for which there is time in {MINUTES} minutes" in capsys.readouterr().err
    counted = clew.train(files[file], tmp_path / "counted", steps=timed["steps"], **settings)
    assert counted["metrics"] == timed["metrics"]
    one, other = (load_file(tmp_path / name / "model.safetensors") for name in ("timed", "counted"))
    assert all(np.array_equal(one[name], other[name]) for name in one)


def test_more_minutes_are_more_steps(files, tmp_path: Path) -> None:
    file, settings = RUNS["classify"][0], lengthless("classify")
    steps = []
    for minutes in (0.002, 0.2):
        clew.train(files[file], tmp_path / str(minutes), minutes=minutes, **{**settings, "patience": 1})
        steps.append(RunFolder(tmp_path / str(minutes)).recipe().train.steps)
    assert 1 <= steps[0] < steps[1]


def test_a_run_goes_on_with_the_steps_that_it_was_begun_with(files, tmp_path: Path) -> None:
    file, settings = RUNS["classify"][0], lengthless("classify")
    begun = clew.train(files[file], tmp_path / "run", minutes=MINUTES, **settings)
    recipe = tmp_path / "recipe.toml"
    recipe.write_text('task = "classify"\n[train]\nminutes = 50\n')
    bare = tmp_path / "bare.toml"
    bare.write_text('task = "classify"\n')
    asked = [{"minutes": 50}, {"overrides": ["train.minutes=50"]}, {}, {"recipe": recipe}]
    asked.append({"recipe": bare, "overrides": ["minutes=50"]})
    for said in asked:
        (tmp_path / "run" / "metrics.json").unlink()
        again = clew.train(files[file], tmp_path / "run", resume=True, **said, **settings)
        assert again["steps"] == begun["steps"]


@pytest.mark.parametrize("beside", [{"steps": 5}, {"epochs": 5}])
def test_only_one_length_is_taken(files, tmp_path: Path, beside: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match="give one of epochs, steps and minutes"):
        clew.train(files[RUNS["classify"][0]], tmp_path / "run", minutes=1, **beside)
    assert not (tmp_path / "run").exists()
