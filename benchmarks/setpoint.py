"""A model of a motor and its generator that holds a voltage: it looks ahead, and is held against a tuned PI controller.

python benchmarks/setpoint.py [--data FOLDER] [--quick]

What is driven in the simulation is another model than the one that looks ahead (an LSTM of the first nine tenths of the
record beside the recipe's GRU of its first 70%), and what is measured of it has noise as large as its own error on the
last twentieth. The machine is switched on or off at each step, as it was when it was recorded.

ahead    tries every way to switch over the next H steps, and does the first of the one whose voltages, corrected by
         what the model has been wrong by, lie nearest to what is wanted (receding horizon)
PI       kp e + ki * sum of e, switched so that what was asked for is given in the mean (sigma-delta) or by a threshold

H and the correction, kp, ki and the way of switching are chosen on one sequence of set points; both are measured on
others, by the mean distance in volts. Writes results/7/setpoint.json.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import prepare
import torch
from result import ROOT, commit, write
from scipy.optimize import differential_evolution

import clew
from clew import tree

ON, HELD, LEVELS, RANGE = 5.0, 40, 12, (2500.0, 5500.0)
RUNS = 5  # sequences of set points to be measured on
Controller = Callable[[float, float], float]  # wanted and measured to the input


class Machine:
    """A model, and the state that it is in."""

    def __init__(self, run: Path) -> None:
        self.trained: Any = clew.load(run)
        self.state = self.trained.model.eval().init_state(1)

    @torch.no_grad()
    def drive(self, u_T: list[float]) -> np.ndarray:
        y_BT, self.state = self._outputs(np.array([u_T]), self.state)
        return y_BT[0]

    @torch.no_grad()
    def try_all(self, u_BT: np.ndarray) -> np.ndarray:
        return self._outputs(u_BT, tree.take(self.state, torch.zeros(len(u_BT), dtype=torch.long)))[0]

    def _outputs(self, u_BT: np.ndarray, state: Any) -> tuple[np.ndarray, Any]:
        x = torch.tensor(self.trained.source.scaler.apply(u_BT.reshape(-1, 1)), dtype=torch.float32)
        y, state = self.trained.model(x.view(*u_BT.shape, 1), state)
        return self.trained.answers.scaler.invert(y.double().numpy().reshape(-1, 1)).reshape(u_BT.shape), state


class Ahead:
    def __init__(self, run: Path, horizon: int, trust: float) -> None:
        self.model, self.trust, self.wrong, self.expected = Machine(run), trust, 0.0, None
        self.ways = np.array(list(product((0.0, ON), repeat=horizon)))

    def __call__(self, wanted: float, measured: float) -> float:
        if self.expected is not None:
            self.wrong += self.trust * (measured - self.expected - self.wrong)
        cost = np.abs(self.model.try_all(self.ways) + self.wrong - wanted).sum(1)
        u = float(self.ways[cost.argmin(), 0])
        self.expected = float(self.model.drive([u])[0])
        return u


class PI:
    """In units of the input for each 1,000 V."""

    def __init__(self, kp: float, ki: float, spread: float) -> None:
        self.kp, self.ki, self.spread, self.sum, self.owed = kp, ki, spread > 0.5, 0.0, 0.0

    def __call__(self, wanted: float, measured: float) -> float:
        error = (wanted - measured) / 1000.0
        asked = self.kp * error + self.ki * (self.sum + error)
        if 0.0 <= asked <= ON or error * asked < 0.0:
            self.sum += error  # not further where the input is at its end (anti-windup)
        asked = min(max(asked, 0.0), ON)
        if not self.spread:
            return ON * (asked > ON / 2)
        self.owed += asked
        u = ON * (self.owed >= ON / 2)
        self.owed -= u
        return u


def set_points(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).uniform(*RANGE, LEVELS).repeat(HELD)


def distance(plant: Path, control: Controller, seed: int, noise: float) -> float:
    """Mean of |voltage - wanted| over a sequence of set points, in volts."""
    machine, draws, apart = Machine(plant), np.random.default_rng(1000 + seed), []
    voltage = float(machine.drive([0.0, ON] * 10)[-1])
    for wanted in set_points(seed):
        u = control(float(wanted), voltage + noise * draws.standard_normal())
        voltage = float(machine.drive([u])[0])
        apart.append(abs(voltage - wanted))
    return float(np.mean(apart))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--quick", action="store_true", help="short trainings; writes nothing")
    asked = parser.parse_args()
    if not asked.data.is_dir():
        sys.exit("needs --data, the folder of the data sets")
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        work, recipe = Path(folder), ROOT / "recipes" / "generator.toml"
        source, begun = prepare.generator(asked.data / "sysid-generator", work), commit()
        short = {"steps": 200} if asked.quick else {}
        model = clew.train(source, work / "model", recipe=recipe, progress=False, **short)
        whole = {"cell": "lstm", "width": 64, "seed": 1, "recipe": recipe, "progress": False, **short}
        plant = clew.train(source, work / "plant", overrides=["data.valid=0.05", "data.test=0.05"], **whole)
        noise = plant["metrics"]["rmse"]

        def ahead(seed: int, horizon: int, trust: float) -> float:
            return distance(work / "plant", Ahead(work / "model", horizon, trust), seed, noise)

        tried = {way: ahead(0, *way) for way in product((4, 6, 8), (0.1, 0.3, 1.0))}
        best = min(tried, key=lambda way: tried[way])
        tuned = differential_evolution(
            lambda k: distance(work / "plant", PI(*k), 0, noise),
            [(0.0, 20.0), (0.0, 5.0), (0.0, 1.0)],
            **{"seed": 0, "maxiter": 2 if asked.quick else 12, "popsize": 8, "polish": False},
        )
        seeds = list(range(1, RUNS + 1))
        ours = [ahead(seed, *best) for seed in seeds]
        theirs = [distance(work / "plant", PI(*tuned.x), seed, noise) for seed in seeds]
    print(f"ahead {ours} (chosen: {best}, {tried[best]:.0f}), PI {theirs} (chosen: {tuned.x}, {tuned.fun:.0f})")
    if asked.quick:
        return
    write(
        "7/setpoint",
        "Holding set points with the motor-generator in simulation: mean distance in volts, looking ahead and by PI",
        seeds=seeds,
        figure={
            **{"ahead": float(np.mean(ours)), "pi": float(np.mean(theirs)), "ahead_runs": ours, "pi_runs": theirs},
            **{"ahead_chosen": best, "pi_chosen": tuned.x.tolist(), "noise": noise},
            **{"model": model["metrics"], "plant": plant["metrics"]},
        },
        bar="looking ahead is nearer than the tuned PI on every sequence",
        met=all(a < b for a, b in zip(ours, theirs, strict=True)),
        measured=begun,
    )


if __name__ == "__main__":
    main()
