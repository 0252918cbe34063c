"""The settings of a small run of every kind of task, by the file of `conftest.files` that it learns from."""

from __future__ import annotations

FAST = {"progress": False, "width": 12, "threads": 1, "patience": 0, "dropout": 0.0, "lr": 2e-2}
RUNS = {
    "classify": ("reviews", {"target": "label", "inputs": ["text"], "steps": 60}),
    "regress": ("reviews", {"target": "stars", "inputs": ["text"], "steps": 60, "task": "regress"}),
    "tag": ("words", {"steps": 60}),
    "generate": ("story", {"steps": 60, "batch": 4, "window": 32}),
    "series": ("waves", {"steps": 60}),
    "steps": ("room", {"task": "tag", "target": "state", "inputs": ["light", "heat"], "steps": 60, "window": 24}),
    "row": ("flowers", {"task": "classify", "target": "species", "steps": 60}),
}
