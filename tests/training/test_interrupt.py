"""Real signals to a real process."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from toy import SETTINGS, train

from clew.training import checkpoint
from clew.training.interrupt import Interrupt

SCRIPT = """
import dataclasses, json, sys, time
sys.path.insert(0, sys.argv[2])
from toy import SETTINGS, train
def slowly(step, batch):
    print(step, flush=True)
    time.sleep(0.02)
    return batch
import torch
torch.set_num_threads(1)
settings = dataclasses.replace(SETTINGS, steps=2000, patience=0)
from pathlib import Path
_, fitted = train(Path(sys.argv[1]), slowly, settings=settings)
print(json.dumps({"step": fitted.step, "stopped": fitted.stopped}))
"""


def test_ctrl_c_of_a_process(tmp_path: Path) -> None:
    command = [sys.executable, "-c", SCRIPT, str(tmp_path), str(Path(__file__).parent)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    while (line := process.stdout.readline()).strip() != "9":
        assert line, process.communicate()[1]
    os.kill(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert process.returncode == 0, err
    fitted = json.loads(out.splitlines()[-1])
    assert fitted["stopped"] == "interrupted"
    assert 10 <= fitted["step"] < 2000
    assert "stopping after this step" in err
    saved, skipped = checkpoint.newest(tmp_path / "checkpoints")
    assert saved is not None
    assert saved.step == fitted["step"]
    assert not skipped


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_finishes_the_step_and_saves(number: int, tmp_path: Path) -> None:
    def change(step: int, batch: Any) -> Any:
        if step == 9:
            signal.raise_signal(number)
        return batch

    _, fitted = train(tmp_path, change)
    assert (fitted.stopped, fitted.step) == ("interrupted", 10)  # the step in which it came is finished
    saved, _ = checkpoint.newest(tmp_path / "checkpoints")
    assert saved is not None
    assert saved.step == 10


def test_a_bar_on_a_terminal_only(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    train(None, progress=None)
    assert capsys.readouterr() == ("", "")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    train(None, progress=False)
    assert capsys.readouterr() == ("", "")
    train(None, progress=None)
    out, err = capsys.readouterr()
    assert out == ""
    assert "training" in err
    assert "40/40" in err
    assert not re.search("\x1b\\[[0-9;]*3[0-9]", err)  # no colours


def test_the_second_signal_raises_and_handlers_come_back() -> None:
    before = signal.getsignal(signal.SIGINT)
    with Interrupt() as interrupt:
        signal.raise_signal(signal.SIGINT)
        assert interrupt.asked
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_training_in_another_thread(tmp_path: Path) -> None:
    steps: list[int] = []

    def work() -> None:
        torch.set_num_threads(1)  # counts for its own thread only
        steps.append(train(tmp_path)[1].step)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert steps == [SETTINGS.steps]
