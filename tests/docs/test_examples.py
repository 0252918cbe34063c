"""Every Python example that the documents and docstrings show runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = {
    f"{name}, example {i + 1}": code
    for name in ("README.md", "CONTRIBUTING.md", "docs/diagnosis.md", "docs/streaming.md")
    for i, code in enumerate(re.findall(r"```python\n(.*?)```", (ROOT / name).read_text(), re.DOTALL))
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    scope = {"clew": __import__("clew")}
    exec(EXAMPLES[name], scope)
    if "MinGRU" in scope:
        assert all(law.holds for law in scope["clew"].check(scope["MinGRU"](4, 8)))


def test_the_readme_shows_what_the_demo_prints() -> None:
    """The figures of the first screen are those of the kept result."""
    import json

    shown = (ROOT / "README.md").read_text()
    kept = json.loads((ROOT / "results" / "2" / "demo.json").read_text())["figure"]
    for metrics in (kept["metrics"], *kept["baseline"].values()):
        assert f"{metrics['mase']:.4g}" in shown
