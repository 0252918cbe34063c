"""What several folders of tests share: a small trained run and the command line in process."""

from __future__ import annotations

import io
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

if not os.path.exists("/dev/nvidiactl"):  # no GPU: Triton's kernels are interpreted, as is said before it is imported
    os.environ.setdefault("TRITON_INTERPRET", "1")

import numpy as np
import pytest
import torch
from every_task import FAST, runs

import clew
from clew.cli import main


class Said(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture(autouse=True, scope="session")
def _hears_ctrl_c() -> None:
    """What a shell starts in the background is born deaf to it, and to the shell's end."""
    for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, handler)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Tiny models only slow down on more, most of all on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def run_clew(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Said]:
    """Run a command; what it ended with and said. A mistake of the user's is one to four lines and no traceback."""

    def run(*arguments: object, feed: str = "") -> Said:
        monkeypatch.setattr(sys, "stdin", io.StringIO(feed))
        capsys.readouterr()
        try:
            main([str(argument) for argument in arguments])
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
        said = Said(code, *capsys.readouterr())
        assert "Traceback" not in said.err
        return said

    return run


def wave(steps: int = 120, seed: int = 0) -> np.ndarray:
    """A season of 8 with noise, (T,)."""
    noise = np.random.default_rng(seed).normal(size=steps)
    return 10 + 3 * np.sin(np.arange(steps) * 2 * np.pi / 8) + 0.3 * noise


@pytest.fixture(scope="session")
def series_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with a time, a target and a further column."""
    path = tmp_path_factory.mktemp("series") / "load.csv"
    rows = [f"{t},{y:.6f},{x:.6f}" for t, (y, x) in enumerate(zip(wave(), wave(seed=1), strict=True))]
    path.write_text("\n".join(["hour,load,heat", *rows]) + "\n")
    return path


@pytest.fixture(scope="session", params=["iterative", "direct"])
def trained(request: pytest.FixtureRequest, series_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with two columns, in each mode."""
    out = tmp_path_factory.mktemp("runs") / request.param
    settings = {"target": "load", "inputs": ["heat"], "horizon": 5, "steps": 30, "width": 8, "mode": request.param}
    clew.train(series_file, out, progress=False, validate_every=15, **settings)
    return out


@pytest.fixture(scope="session")
def every_source(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, dict[str, Any]]]:
    """By task, a small source and the settings of a run."""
    return runs(tmp_path_factory.mktemp("sources"))


@pytest.fixture(scope="session")
def every_run(every_source: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """By task, the folder of a run that was trained for a few steps, when it is asked for."""
    folder = tmp_path_factory.mktemp("every")

    class Runs(dict[str, Path]):
        def __missing__(self, task: str) -> Path:
            file, settings = every_source[task]
            clew.train(file, folder / task, **{**FAST, "task": task, **settings})
            self[task] = folder / task
            return self[task]

    return Runs()
