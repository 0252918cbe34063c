"""Tasks, one file each, and the run folder: from a person's sources to a model and back."""

from clew.tasks.train import TASKS, evaluate, load, train

__all__ = ["TASKS", "evaluate", "load", "train"]
