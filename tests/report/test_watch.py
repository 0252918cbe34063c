"""`--watch`: the log says how far gradients reach, and nothing else is changed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from every_task import FAST

import clew
from clew.diagnose.watching import FlowWatch


@pytest.mark.parametrize("task", ["classify", "forecast", "generate", "translate", "point"])
def test_watching_changes_nothing_but_the_log(task: str, every_source: dict, tmp_path: Path) -> None:
    file, settings = every_source[task]
    for name, watch in (("plain", False), ("watched", True)):
        clew.train(file, tmp_path / name, **{**FAST, **settings, "task": task, "validate_every": 2, "watch": watch})
    plain, watched = (
        [json.loads(line) for line in (tmp_path / name / "log.jsonl").read_text().splitlines()]
        for name in ("plain", "watched")
    )
    assert "flow" not in plain[0]
    for lag in watched[0]["flow"].values():
        assert lag is None or lag >= 0
    for a, b in zip(plain, watched, strict=True):
        assert a["loss"] == b["loss"]
        assert a["valid"] == b["valid"]
    saved = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("plain", "watched")]
    assert saved[0] == saved[1]


def test_the_command_line_has_it(every_source: dict, tmp_path: Path, run_clew) -> None:
    file, _ = every_source["classify"]
    settings = ("--input", "x", "--target", "label", "--set", "steps=4", "--set", "width=8")
    assert run_clew("train", file, *settings, "--watch", "--out", tmp_path / "run").code == 0
    assert "flow" in json.loads((tmp_path / "run" / "log.jsonl").read_text().splitlines()[0])
    said = run_clew("diagnose", tmp_path / "run", "--out", tmp_path / "page.html")
    assert said.code == 0
    assert "steps that gradients reach" in (tmp_path / "page.html").read_text()


def test_it_looks_no_more_than_its_share(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("clew.diagnose.watching.time.perf_counter", lambda: now[0])

    class One:
        def __len__(self) -> int:
            return 1

        def epoch(self, seed: int, epoch: int, start: int = 0) -> Any:
            yield torch.zeros(1)

    watch = FlowWatch(torch.nn.Linear(1, 1), One(), 0, share=0.1)

    def look() -> dict[str, Any]:
        now[0] += 1.0
        return {"all": [1.0, 0.5, 0.001]}

    monkeypatch.setattr(watch, "_curves", look)
    assert watch() == {"all": 1.0}
    assert watch() == {}
    now[0] = 11.0
    assert watch() == {"all": 1.0}
    assert watch() == {}
