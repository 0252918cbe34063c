"""All that moves while a model trains, as one object that a checkpoint can hold."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from clew import tree
from clew.errors import RunError
from clew.training import checkpoint, watch
from clew.training.files import cannot_write
from clew.training.log import Talk
from clew.training.optim import fill_optimizer, optimizer_tensors
from clew.training.weights import fill
from clew.tree import State


@dataclasses.dataclass
class Counts:
    """The numbers; everything else (epoch, position in it, learning rate) is a function of `step`.

    `loss_sum`, `norm_sum` and `count` run since the last validation; `bad` counts validations without a new best.
    """

    step: int = 0
    validated: int = 0
    best_step: int = 0
    best: dict[str, float] = dataclasses.field(default_factory=dict)
    bad: int = 0
    loss_sum: float = 0.0
    norm_sum: float = 0.0
    count: int = 0
    seconds: float = 0.0


class TrainingState:
    """Model, mean and best weights, optimizer, random state and counts.

    The random state is torch's alone: the loop draws from nothing else, batches are a pure function of seed and step,
    and a model's or a validation's own use of Python's or NumPy's generator is its own affair.
    """

    def __init__(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, folder: Path | None, settings: dict[str, Any]
    ) -> None:
        self.model, self.optimizer, self.folder, self.settings = model, optimizer, folder, settings
        self.parameters = list(model.parameters())  # walking the modules at every step costs small models dearly
        self.device = self.parameters[0].device
        self.counts = Counts()
        self.best: dict[str, Tensor] = {}
        self.mean: list[Tensor] = []  # of each parameter, over the steps; [] where none is kept
        self.carried: State | None = None  # of the recurrence, from one batch to the next
        self._saved = (0, 0)
        self._began = time.perf_counter()
        self.keep_random()

    def tick(self) -> float:
        """The seconds of training so far, those before a resume included."""
        self.counts.seconds = time.perf_counter() - self._began
        return self.counts.seconds

    def kept(self) -> str:
        """Where the last good weights are, in words."""
        if self._saved[0]:
            return f"the last good weights are in {self.folder}, step {self._saved[0]}"
        return f"the model holds the weights of step {self.counts.best_step if self.best else self.counts.step}"

    def keep_random(self) -> None:
        """Remember the random state between two steps; a step that is given up half way must not have moved it."""
        self.random = {"cpu": torch.get_rng_state()}
        if self.device.type == "cuda":
            self.random["cuda"] = torch.cuda.get_rng_state(self.device)

    def follow(self, keep: float) -> None:
        """Move the mean of the weights towards what they are now; of what it was it keeps so much, less at first."""
        if keep:
            now: list[Any] = [p.detach() for p in self.parameters]
            if self.mean:
                step = self.counts.step
                get_ema_multi_avg_fn(min(keep, (1 + step) / (10 + step)))(self.mean, now, None)
            else:
                self.mean = [p.clone() for p in now]

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """In this block the model holds the mean weights, where they are kept."""
        own = [p.detach().clone() for p in self.parameters] if self.mean else []
        self._put(self.mean)
        try:
            yield
        finally:
            self._put(own)

    @torch.no_grad()
    def _put(self, weights: list[Tensor]) -> None:
        for parameter, value in zip(self.parameters, weights, strict=bool(weights)):
            parameter.copy_(value)

    def keep_best(self) -> None:
        """Remember the weights as they are now as the best. Raises TrainingError if they are not finite."""
        self._check()
        self.best = {name: value.detach().clone() for name, value in self.model.state_dict().items()}

    def load_best(self) -> None:
        """Put the best weights into the model; before the first validation there are the last, or their mean."""
        if self.best:
            self.model.load_state_dict(self.best)
        else:
            self._put(self.mean)

    def save(self) -> None:
        """Write a checkpoint, unless this very state was written already or there is no folder.

        Raises:
            RunError: it cannot be written.
            TrainingError: the weights are not finite; older checkpoints stay.
        """
        now = (self.counts.step, self.counts.validated)
        if self.folder is None or now == self._saved:
            return
        self._check()
        self.tick()
        groups = {
            "model": self.model.state_dict(),
            "best": self.best,
            "mean": dict(zip(dict(self.model.named_parameters()), self.mean, strict=bool(self.mean))),
            "optimizer": optimizer_tensors(self.optimizer, self.model),
            "random": self.random,
            "carried": {} if self.carried is None else tree.to_named(self.carried),
        }
        tensors = {f"{group}/{name}": value for group, named in groups.items() for name, value in named.items()}
        meta = {"settings": self.settings, "counts": dataclasses.asdict(self.counts)}
        checkpoint.save(self.folder, self.counts.step, tensors, meta)
        self._saved = now

    def load(self, saved: checkpoint.Checkpoint) -> None:
        """Go back to a checkpoint.

        Raises:
            RunError: it belongs to other settings (named) or to another model.
        """
        was = saved.meta.get("settings", {})
        changed = [f"{k} was {was.get(k)}, now is {v}" for k, v in self.settings.items() if was.get(k) != v]
        if changed:
            hint = "resume with the old settings, or train anew without resuming"
            raise RunError(f"cannot resume with other settings: {'; '.join(changed)}", file=self.folder, hint=hint)
        names = ("model", "best", "mean", "optimizer", "random", "carried")
        groups: dict[str, dict[str, Tensor]] = {name: {} for name in names}
        for full, value in saved.tensors.items():
            group, _, name = full.partition("/")
            groups.setdefault(group, {})[name] = value
        fill(self.model, groups["model"], self.folder)
        fill_optimizer(self.optimizer, self.model, groups["optimizer"])
        self.best = {name: value.to(self.device) for name, value in groups["best"].items()}
        mean = groups["mean"]
        self.mean = [mean[name].to(self.device) for name, _ in self.model.named_parameters()] if mean else []
        try:
            self.counts = Counts(**saved.meta["counts"])
        except (KeyError, TypeError) as error:
            raise RunError("is a checkpoint of another version of clew", file=self.folder) from error
        if groups["carried"]:
            rows = next(iter(groups["carried"].values())).shape[0]
            like = self.model.init_state(rows)  # pyright: ignore[reportCallIssue]
            self.carried = tree.map(lambda leaf: leaf.to(self.device), tree.from_named(groups["carried"], like))
        torch.set_rng_state(groups["random"]["cpu"])  # last: an initial state may draw a mask
        if self.device.type == "cuda" and "cuda" in groups["random"]:
            torch.cuda.set_rng_state(groups["random"]["cuda"], self.device)
        self.keep_random()
        self._saved = (self.counts.step, self.counts.validated)
        self._began = time.perf_counter() - self.counts.seconds

    def _check(self) -> None:
        if not watch.weights_are_finite(self.model):
            raise watch.non_finite(self.counts.step, self.model, (), math.nan, self.kept())


def begin(state: TrainingState, resume: bool, talk: Talk) -> None:
    """Go back to the newest whole checkpoint, or make the folder ready for a first one."""
    folder = state.folder
    if folder is None:
        return
    if resume:
        saved, skipped = checkpoint.newest(folder)
        for why in skipped:
            talk.say(f"warning: skipped a checkpoint: {why}")
        if saved is not None:
            state.load(saved)
            return talk.say(f"resumed at step {saved.step}")
        if skipped:
            raise RunError("holds only damaged checkpoints", file=folder, hint="train anew without resuming")
        talk.say(f"no checkpoint in {folder}: training from scratch")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(folder, error) from error
    checkpoint.clear(folder)
