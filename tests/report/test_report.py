"""The page of a run: every task has one, it stands by itself, and a browser shows it on a phone and on a desk."""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from clew.report import Section, page, picture
from clew.tasks.train import TASKS

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
LARGEST, SLOWEST = 3_000_000, 60.0  # bytes, seconds


@pytest.fixture
def sources(every_source: dict[str, tuple[Path, dict[str, Any]]]) -> dict[str, tuple[Path, dict[str, Any]]]:
    return every_source


@pytest.fixture
def trained(every_run: dict[str, Path]) -> dict[str, Path]:
    return every_run


def test_every_task_is_tried(sources: dict) -> None:
    assert set(sources) == set(TASKS)


@pytest.mark.parametrize("task", TASKS)
def test_every_task_has_a_page(task: str, trained: dict[str, Path], sources: dict, tmp_path: Path, run_clew) -> None:
    started = time.perf_counter()
    said = run_clew("diagnose", trained[task], sources[task][0], "--out", tmp_path / "page.html", "--json")
    assert said.code == 0, said.err
    assert time.perf_counter() - started < SLOWEST
    found = json.loads(said.out)
    assert found["task"] == task
    text = (tmp_path / "page.html").read_text()
    assert len(text.encode()) < LARGEST
    assert text.count("<section>") >= 5
    assert "What it says, beside the truth" in text
    assert not re.search(r"<script|\ssrc=|@import|href=\"(?!#|data:)", text)
    if task not in ("caption", "point", "summarise", "translate"):
        assert found["steps"] > 1
        assert all(isinstance(curve, list) for curve in found["gradients"].values())
    elif task != "translate":
        assert 0 < found["attention_entropy"] <= 1.001
    else:
        assert found["capacity"]["bits"] > 0


def test_without_a_source_it_looks_at_its_own(trained: dict[str, Path], run_clew) -> None:
    said = run_clew("diagnose", trained["classify"], "--dt", "0.02", "--steps", "8")
    assert said.code == 0, said.err
    assert (trained["classify"] / "report.html").exists()
    assert re.search(r"\d steps, [\d.]+ s", (trained["classify"] / "report.html").read_text())


def test_seconds_are_steps_times_dt(trained: dict[str, Path], tmp_path: Path, run_clew) -> None:
    found = json.loads(
        run_clew("diagnose", trained["classify"], "--dt", "0.5", "--json", "--out", tmp_path / "a.html").out
    )
    for layer in found["layers"]:
        for steps, seconds in zip(layer["time_constants"], layer.get("seconds", []), strict=True):
            assert steps is None or seconds == pytest.approx(0.5 * steps)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--steps", "1"], "--steps must be at least 2"),
        (["--dt", "nan"], "--dt must be"),
        (["--dt", "-1"], "--dt must be"),
        (["no_such.csv"], "no_such.csv"),
    ],
)
def test_what_cannot_be_done_is_said(arguments: list[str], says: str, trained: dict[str, Path], run_clew) -> None:
    said = run_clew("diagnose", trained["classify"], *arguments)
    assert said.code == 2
    assert says in said.err


def test_a_folder_that_is_none_and_one_to_write_to(trained: dict[str, Path], tmp_path: Path, run_clew) -> None:
    assert run_clew("diagnose", tmp_path / "nothing").code == 2
    said = run_clew("diagnose", trained["classify"], "--out", tmp_path)
    assert said.code == 2
    assert "is a folder" in said.err


def test_another_file_than_it_knows(trained: dict[str, Path], tmp_path: Path, run_clew) -> None:
    (tmp_path / "other.csv").write_text("a,b\n1,2\n3,4\n")
    said = run_clew("diagnose", trained["classify"], tmp_path / "other.csv")
    assert said.code == 2
    assert "other.csv" in said.err


def test_what_is_shown_is_never_markup() -> None:
    nasty = "<script>alert(1)</script> & <b>"
    text = page(nasty, nasty, [Section(nasty, nasty, (nasty,), [(nasty,)])])
    assert "<script" not in text
    assert "<b>" not in text
    assert picture(lambda figure: figure.subplots().plot([0, 1])).startswith("<svg")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="no playwright to look at pages with")
    if BROWSER is None:
        pytest.skip("no Chromium to look at pages with")
    quiet = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
    with playwright.sync_playwright() as run:
        opened = run.chromium.launch(executable_path=BROWSER, args=quiet)
        yield opened
        opened.close()


@pytest.mark.parametrize("task", ["classify", "translate", "summarise"])
def test_a_browser_shows_it(
    task: str, browser: Any, trained: dict[str, Path], sources: dict, run_clew, tmp_path: Path
) -> None:
    file = tmp_path / "page.html"
    assert run_clew("diagnose", trained[task], sources[task][0], "--out", file).code == 0
    complaints: list[str] = []
    for width, scheme in product((360, 1280), ("light", "dark")):
        opened = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
        opened.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        opened.on("pageerror", lambda error: complaints.append(str(error)))
        opened.on(
            "request", lambda request: complaints.append(request.url) if not request.url.startswith("file:") else None
        )
        opened.goto(file.as_uri())
        assert opened.evaluate("document.documentElement.scrollWidth") <= width
        assert opened.locator("svg").count() >= 2
        opened.close()
    assert complaints == []
