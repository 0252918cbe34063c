"""Kill a process in the middle of saving, again and again; prints what was left. `python killer.py FOLDER COUNT`.

The killed process is a fork, so that a kill costs milliseconds and not an import of torch.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import torch

from clew.training import checkpoint


def tensors(step: int) -> dict[str, torch.Tensor]:
    return {"a": torch.full((150_000,), float(step)), "b": torch.full((3,), step), "none": torch.zeros(0, 4)}


def save_for_ever(folder: Path, step: int, replaced: int | None) -> None:
    """Save until killed: from outside, or where `replaced` is given by itself, before it would replace that many."""
    if replaced is not None:
        replace, calls = os.replace, itertools.count()

        def killing(*paths: Path) -> None:
            if next(calls) == replaced:
                os.kill(os.getpid(), signal.SIGKILL)
            replace(*paths)

        os.replace = killing
    while True:
        checkpoint.save(folder, step, tensors(step), {"number": step})
        step += 1


def main(folder: Path, count: int) -> dict[str, int]:
    torch.set_num_threads(1)  # a fork has no thread but its own
    draw = random.Random(0)
    found = {"kills": 0, "in the middle": 0, "lost": 0, "damaged": 0, "left over": 0}
    last = 0
    for number in range(count):
        by_itself = number % 2 == 0  # so that half the kills are in the middle however slow or fast the disk is
        replaced = draw.randrange(3) if by_itself else None
        child = os.fork()
        if child == 0:
            try:
                save_for_ever(folder, last + 1, replaced)
            finally:
                os._exit(1)
        if not by_itself:
            time.sleep(draw.uniform(0.003, 0.03))
            os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        found["kills"] += 1
        found["in the middle"] += any(folder.glob(".step-*.tmp"))
        saved, skipped = checkpoint.newest(folder)
        found["damaged"] += len(skipped)
        step = saved.step if saved else 0
        whole = saved is None or all(torch.equal(saved.tensors[name], t) for name, t in tensors(step).items())
        found["lost"] += step < last or not whole
        last = step + 1
        checkpoint.save(folder, last, tensors(last), {"number": last})
        names = sorted(path.name for path in folder.iterdir())
        found["left over"] += len(names) > 2 or any(not name.startswith("step-") for name in names)
    return found


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), int(sys.argv[2]))))
