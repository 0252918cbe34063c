"""Real signals to a real process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

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


def start(folder: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", SCRIPT, str(folder), str(Path(__file__).parent)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_a_signal_finishes_the_step_and_saves(tmp_path: Path) -> None:
    numbers = [signal.SIGINT, signal.SIGTERM]
    processes = {number: start(tmp_path / str(int(number))) for number in numbers}  # side by side: imports take long
    for number, process in processes.items():
        assert process.stdout is not None
        while (line := process.stdout.readline()).strip() != "9":
            assert line, process.communicate()[1]
        os.kill(process.pid, number)
        out, err = process.communicate(timeout=20)
        assert process.returncode == 0, err
        fitted = json.loads(out.splitlines()[-1])
        assert fitted["stopped"] == "interrupted" and 10 <= fitted["step"] < 2000 and "stopping after this step" in err
        saved, skipped = checkpoint.newest(tmp_path / str(int(number)) / "checkpoints")
        assert saved is not None and saved.step == fitted["step"] and not skipped


def test_the_second_signal_raises_and_handlers_come_back() -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), Interrupt() as interrupt:
        signal.raise_signal(signal.SIGINT)
        assert interrupt.asked
        signal.raise_signal(signal.SIGINT)
        time.sleep(1)
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
