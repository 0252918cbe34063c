"""The training loop: batches in, the weights with the best validation out.

It asks a model only for `model.loss(batch)`, or, where the batches carry a state from one to the next
(`data.batch.Lanes`), for `model.carry(batch, state)`: the loss and the detached state that the next batch begins in.
Everything is a function of the settings, the seed and the step, so a run that was stopped anywhere and resumed gives
the numbers of one that never stopped (bit for bit on the CPU).
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from clew.errors import TrainingError, did_you_mean
from clew.training import optim, watch
from clew.training.feed import Batches, endless, to_device
from clew.training.interrupt import Interrupt
from clew.training.log import Log, Talk
from clew.training.state import TrainingState, begin


@dataclasses.dataclass(frozen=True)
class Settings:
    """What decides the numbers of a run.

    Args:
        steps: updates in all.
        lr: the highest learning rate.
        warmup: the fraction of the steps over which the rate rises.
        clip: the largest norm of the gradients; 0 = no clipping.
        weight_decay: of AdamW, on matrices only.
        average: how much of a running mean of the weights each step leaves; it is this mean that is validated and kept
            (Polyak & Juditsky 1992, SIAM J. Control Optim. 30(4)). 0 = the weights themselves.
        accumulate: batches whose gradients make one update, each weighed by its `losses` (1 without them): the
            gradient of one large batch, in the memory of a small one.
        patience: stop after so many validations without a new best; 0 = never.
        validate_every: steps between validations; there is one at the end too.
        checkpoint_every: steps between checkpoints; 0 = at each validation.
    """

    steps: int
    lr: float = 2e-3
    warmup: float = 0.05
    clip: float = 1.0
    weight_decay: float = 0.0
    average: float = 0.0
    accumulate: int = 1
    patience: int = 0
    validate_every: int = 100
    checkpoint_every: int = 0


@dataclasses.dataclass(frozen=True)
class Fitted:
    """How training ended; the model holds the weights of `best_step`. `best` are that validation's metrics."""

    step: int
    best_step: int
    best: dict[str, float]
    seconds: float
    steps_per_second: float
    stopped: Literal["done", "early", "interrupted"]


def fit(
    model: nn.Module,
    batches: Batches,
    settings: Settings,
    *,
    validate: Callable[[], dict[str, float]] | None = None,
    watch: Callable[[], dict[str, Any]] | None = None,
    monitor: str = "loss",
    folder: Path | None = None,
    seed: int = 0,
    resume: bool = False,
    progress: bool | None = None,
) -> Fitted:
    """Train `model` in place and leave it with its best weights, in eval mode.

    Args:
        validate: metrics of the model as it is, called in eval mode without gradients; the lowest `monitor` is the
            best. Without it the last weights are the best and nothing stops early: a training loss is no evidence.
        watch: what else there is to see, asked after each validation and written into the log as "flow"; it changes
            nothing.
        folder: where `log.jsonl` and `checkpoints/` go; None writes nothing.
        seed: of dropout and of the order of the batches.
        resume: go on from the newest whole checkpoint in `folder`; if there is none, start from scratch. Without
            `resume` the folder's log and checkpoints of an earlier run are deleted.
        progress: see `log.Talk`.

    Ctrl-C and SIGTERM finish the step, save a checkpoint and return; a second one raises KeyboardInterrupt.

    Raises:
        TrainingError: a loss or gradient that is not finite; it is never applied or saved.
        RunError: other settings on resuming, only damaged checkpoints, a disk that cannot be written.
    """
    if len(batches) < 1 or min(settings.steps, settings.validate_every, settings.accumulate) < 1:
        raise TrainingError("nothing to train on: there must be a batch, a step and a step between validations")
    torch.manual_seed(seed)
    optimizer = optim.make_optimizer(model, settings.lr, settings.weight_decay)
    fixed = {**dataclasses.asdict(settings), "monitor": monitor, "seed": seed, "batches_per_epoch": len(batches)}
    del fixed["checkpoint_every"]  # it changes no number
    state = TrainingState(model, optimizer, folder and folder / "checkpoints", fixed)
    busy, every = 0.0, settings.checkpoint_every or settings.validate_every
    with Talk(progress, settings.steps) as talk, Interrupt() as interrupt:
        begin(state, resume, talk)
        counts, first = state.counts, state.counts.step
        log = Log(folder and folder / "log.jsonl", counts.step)
        stream = endless(batches, seed, counts.step * settings.accumulate)
        carries = getattr(batches, "carries", False)
        model.train()
        try:
            while True:
                last = counts.step == settings.steps
                if counts.step > counts.validated and (last or counts.step % settings.validate_every == 0):
                    line = _validation(state, settings, validate, monitor, len(batches) / settings.accumulate)
                    if watch is not None and (flow := _seen(model, watch)):
                        line["flow"] = flow
                    log.write(line)
                    talk.validation(line)
                over = last or 0 < settings.patience <= counts.bad
                if over or counts.step % every == 0:
                    state.save()
                if over or interrupt.asked:
                    break
                started = time.perf_counter()
                _update(state, list(islice(stream, settings.accumulate)), settings, carries)
                busy += time.perf_counter() - started
                talk.step(counts.step)
            state.save()
        except KeyboardInterrupt:
            if interrupt.asked:  # the second: at once, and perhaps in the middle of an update
                raise
            state.save()
        finally:  # after a TrainingError too the model holds weights that can be used
            state.load_best()
            model.eval()
    done, early = counts.validated == settings.steps, 0 < settings.patience <= counts.bad
    stopped = "done" if done else "early" if early else "interrupted"
    speed = (counts.step - first) / max(busy, 1e-9)
    return Fitted(counts.step, counts.best_step, dict(counts.best), state.tick(), speed, stopped)


def _seen(model: nn.Module, watch: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    model.eval()
    try:
        return watch()
    finally:
        model.train()


def _rate(step: int, settings: Settings) -> float:
    return optim.rate(step, settings.steps, math.ceil(settings.warmup * settings.steps), settings.lr)


def _update(state: TrainingState, batches: list[Any], settings: Settings, carries: bool) -> None:
    """One step of the optimizer, or a TrainingError and the weights as they were."""
    counts, carried, value = state.counts, state.carried, 0.0
    state.optimizer.zero_grad(set_to_none=True)
    shares = [getattr(batch, "losses", 1) for batch in batches] if len(batches) > 1 else [1]
    for batch, share in zip(batches, shares, strict=True):
        batch = to_device(batch, state.device)
        loss: Tensor
        if carries:
            loss, carried = state.model.carry(batch, carried)  # pyright: ignore[reportCallIssue]
        else:
            loss = state.model.loss(batch)  # pyright: ignore[reportCallIssue]
        loss = loss * (share / max(1, sum(shares))) if len(batches) > 1 else loss
        loss.backward()
        value += float(loss.detach())
    gradients = [p.grad for p in state.parameters if p.grad is not None]
    norm = nn.utils.get_total_norm(gradients)
    size = float(norm)
    if not (math.isfinite(value) and math.isfinite(size)):  # before clipping, which would spread a NaN to all
        raise watch.non_finite(
            counts.step + 1, state.model, batches if len(batches) > 1 else batches[0], value, state.kept()
        )
    if settings.clip > 0:
        nn.utils.clip_grads_with_norm_(state.parameters, settings.clip, norm)
    for group in state.optimizer.param_groups:
        group["lr"] = _rate(counts.step, settings)
    state.optimizer.step()
    state.follow(settings.average)
    state.keep_random()
    state.carried = carried
    counts.step, counts.count = counts.step + 1, counts.count + 1
    counts.loss_sum, counts.norm_sum = counts.loss_sum + value, counts.norm_sum + size


def _validation(
    state: TrainingState,
    settings: Settings,
    validate: Callable[[], dict[str, float]] | None,
    monitor: str,
    per_epoch: float,
) -> dict[str, Any]:
    """Measure, keep the weights if they are the best so far, and return the line for the log."""
    counts, model = state.counts, state.model
    metrics: dict[str, float] = {}
    loss, norm = counts.loss_sum / counts.count, counts.norm_sum / counts.count
    if validate is None:
        counts.best_step, counts.best = counts.step, {"loss": loss}
    else:
        with state.averaged():
            model.eval()
            # What a validation draws at random must not move the training.
            with torch.random.fork_rng([state.device] if state.device.type == "cuda" else []), torch.no_grad():
                metrics = {name: float(value) for name, value in validate().items()}
            model.train()
            if monitor not in metrics:
                raise TrainingError(f"the validation gives no '{monitor}'", hint=did_you_mean(monitor, metrics))
            if metrics[monitor] < counts.best.get(monitor, math.inf):  # never true of a NaN
                state.keep_best()
                counts.best_step, counts.best, counts.bad = counts.step, metrics, 0
            else:
                counts.bad += 1
    counts.loss_sum, counts.norm_sum, counts.count, counts.validated = 0.0, 0.0, 0, counts.step
    return {
        "step": counts.step,
        "epoch": counts.step / per_epoch,
        "loss": loss,
        "grad_norm": norm,
        "lr": _rate(counts.step - 1, settings),
        "valid": metrics,
        "seconds": round(state.tick(), 3),
    }
