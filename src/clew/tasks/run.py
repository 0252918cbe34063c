"""A run folder: everything that a trained model is, in files that a person can read and no program can execute.

recipe.toml   model.safetensors   plan.json   metrics.json   log.jsonl   checkpoints/
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from torch import nn

from clew import config
from clew.config import Recipe
from clew.errors import RunError
from clew.training.checkpoint import load_weights, save_weights
from clew.training.files import read_json, write_atomic

RECIPE, WEIGHTS, PLAN, METRICS = "recipe.toml", "model.safetensors", "plan.json", "metrics.json"


class RunFolder:
    """Reads and writes the files of one run; every write is atomic and fsynced.

    Raises (every method): RunError naming the file, and what to do.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def check_free(self, *, resume: bool) -> None:
        """Raise RunError where a new run would overwrite something; a run that is resumed may be there."""
        if self.path.exists() and not self.path.is_dir():
            raise RunError("is a file, not a folder", file=self.path, hint="choose another --out")
        begun = (self.path / RECIPE).exists()
        if begun and not resume:
            raise RunError(
                "already holds a run, which is not overwritten",
                file=self.path,
                hint="choose another --out, continue it with --resume, or delete the folder",
            )
        if self.path.is_dir() and not begun and any(self.path.iterdir()):
            raise RunError("is not empty and holds no run", file=self.path, hint="choose a new folder for --out")

    def create(self) -> None:
        """Make the folder."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(f"cannot be made: {error.strerror}", file=self.path, hint="choose another --out") from error

    def begun(self) -> bool:
        return (self.path / RECIPE).exists()

    def check(self) -> None:
        """Raise RunError unless this is the folder of a finished run."""
        if not self.path.is_dir():
            raise RunError("no such run folder", file=self.path, hint="clew train FILE --out RUN makes one")
        within = [] if self.begun() else sorted(str(file.parent) for file in self.path.glob(f"*/{RECIPE}"))
        if within:
            few = ", ".join(within[:4]) + (", ..." if len(within) > 4 else "")
            raise RunError("is no run, but a folder of runs", file=self.path, hint=f"name one: {few}")
        for name in (RECIPE, WEIGHTS, PLAN):
            if not (self.path / name).is_file():
                hint = "finish it with clew train ... --resume" if name == WEIGHTS else "train it again"
                raise RunError("is missing, so this is not a finished run", file=self.path / name, hint=hint)

    def recipe(self) -> Recipe:
        return config.build(config.load_recipe(self.path / RECIPE), file=self.path / RECIPE)

    def save_recipe(self, recipe: Recipe) -> None:
        write_atomic(self.path / RECIPE, config.dump(recipe))

    def plan(self) -> dict[str, Any]:
        return read_json(self.path / PLAN)

    def save_plan(self, plan: dict[str, Any]) -> None:
        write_atomic(self.path / PLAN, json.dumps(plan) + "\n")

    def metrics(self) -> dict[str, Any]:
        return read_json(self.path / METRICS)

    def save_metrics(self, metrics: dict[str, Any]) -> None:
        write_atomic(self.path / METRICS, json.dumps(metrics, indent=1) + "\n")

    def load_weights(self, model: nn.Module) -> None:
        load_weights(self.path / WEIGHTS, model)

    def save_weights(self, model: nn.Module) -> None:
        save_weights(self.path / WEIGHTS, model)
