"""The theory of recurrent networks as experiments: each states a claim, measures it and draws it.

clew lab                      the list
clew lab last_step --out DIR  one
clew lab all --out DIR        all of them, with a page
"""

from __future__ import annotations

from importlib import import_module

from clew.errors import ConfigError, did_you_mean
from clew.lab.base import Experiment, Finding, Outcome

NAMES = (  # in the order of their claims
    *("last_step", "every_step", "gradients", "adding", "dependency", "bottleneck", "focus", "pooling", "masking"),
    *("nesting", "pointing", "searching", "rolling", "supervision", "integrator", "parameters", "cost", "hopfield"),
    "streaming",
)

__all__ = ["NAMES", "Experiment", "Finding", "Outcome", "experiment"]


def experiment(name: str) -> Experiment:
    """The experiment of this name, or of this claim ("L7").

    Raises:
        ConfigError: there is none.
    """
    if name.upper() in (claims := {f"L{number}": known for number, known in enumerate(NAMES, 1)}):
        name = claims[name.upper()]
    if name not in NAMES:
        raise ConfigError(f"no experiment '{name}'", hint=did_you_mean(name, NAMES))
    return import_module(f"clew.lab.{name}")  # pyright: ignore[reportReturnType]
