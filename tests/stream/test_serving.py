"""`clew serve` as a process: what only a real connection, a signal or a browser shows."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

import clew
from clew.stream import Session
from clew.stream.server.limits import Limits
from clew.stream.server.running import prepared

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
LINES = [[0.1, 0.2], [[0.3, -0.4], [0.0, 1.0]], {"1": 0.5, "2": 0.5}, [0.2, 0.1]]


@contextlib.contextmanager
def process_of(run: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The command, and the address that it says."""
    command = [sys.executable, "-m", "clew", "serve", str(run), "--port", "0", *options]
    one = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=one) as process:
        assert process.stderr is not None
        line = process.stderr.readline()
        try:
            assert line.startswith("http://127.0.0.1:"), line + process.stderr.read()
            yield process, line.split("/ ")[0]
        finally:
            process.terminate()
            process.wait(20)


@contextlib.contextmanager
def server(run: Path, port: int = 0, folder: Path | None = None, **limits: Any) -> Iterator[str]:
    """The same in a thread, which needs no second torch."""
    how: dict[str, Any] = {"host": "127.0.0.1", "port": port, "task": "regress", "folder": folder or run / "sessions"}
    one, bound = prepared(clew.load(run), Limits(**limits), **how)
    thread = threading.Thread(target=one.run, args=([bound],))
    thread.start()
    try:
        assert until(lambda: one.started, 20)
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"
    finally:
        one.handle_exit(signal.SIGTERM, None)
        thread.join(20)
        bound.close()
        assert not thread.is_alive()


def websocket(url: str, name: str = "", **how: Any) -> Any:
    return connect(url.replace("http", "ws") + "/stream" + (f"?session={name}" if name else ""), **how)


def streams_of(url: str) -> int:
    return json.loads(urllib.request.urlopen(f"{url}/healthz").read())["streams"]


def until(holds: Callable[[], bool], seconds: float) -> bool:
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        if holds():
            return True
        time.sleep(0.02)
    return False


def test_streams_outlive_a_server(every_run: dict[str, Path], tmp_path: Path) -> None:
    run, session = every_run["regress"], Session(clew.load(every_run["regress"]))
    with process_of(run, "--sessions", str(tmp_path / "kept")) as (process, url):
        with websocket(url) as line, websocket(url) as silent:
            name = json.loads(line.recv())["session"]
            silent.recv()
            for value in LINES:
                line.send(json.dumps(value))
                session.push(value)
                line.recv()
            process.send_signal(signal.SIGTERM)
            with pytest.raises(ConnectionClosed) as closed:
                line.recv(10)
            assert closed.value.rcvd.code == 1012
        assert process.wait(20) == 0
    assert [file.stem for file in (tmp_path / "kept").iterdir()] == [name]  # who has said nothing leaves nothing
    with server(run, folder=tmp_path / "kept") as url:
        with websocket(url, name) as line:
            assert json.loads(line.recv()) == {"session": name, "steps": session.steps}
            assert len(list((tmp_path / "kept").iterdir())) == 1  # a power cut now would lose nothing
            with websocket(url, name) as other:
                assert "goes on elsewhere" in json.loads(other.recv())["error"]["what"]
            line.send(json.dumps([0.7, 0.7]))
            assert json.loads(line.recv()) == {"step": session.steps + 1, **session.push([0.7, 0.7])}
        with websocket(url, name) as line:  # it was taken up, and then left
            assert "no stream of that name" in json.loads(line.recv())["error"]["what"]
        assert not list((tmp_path / "kept").iterdir())


def test_frames_slow_readers_and_those_who_go(every_run: dict[str, Path]) -> None:
    with server(every_run["regress"], frame=2000, send=1.0) as url:
        with websocket(url) as line:
            line.recv()
            assert streams_of(url) == 1
            line.send(json.dumps([[0.0, 0.0]] * 1000))
            with pytest.raises(ConnectionClosed) as closed:
                line.recv(10)
            assert closed.value.rcvd.code == 1009
        freed = False
        for _ in range(3):  # on a busy machine a request alone may take so long
            with websocket(url) as line:
                line.recv()
                line.socket.close()  # without a word
                freed = freed or until(lambda: streams_of(url) == 0, 1.0)
        assert freed
        host, port = url.removeprefix("http://").split(":")
        small = socket.socket()
        small.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        small.connect((host, int(port)))
        with websocket(url, max_queue=1, sock=small, close_timeout=0.1) as slow:  # asks for ever, and reads nothing
            watch, ends = json.dumps({"watch": True}), time.monotonic() + 60
            small.settimeout(2)
            with contextlib.suppress(ConnectionClosed, OSError):
                while time.monotonic() < ends:
                    slow.send(watch)
            assert time.monotonic() < ends
            assert until(lambda: streams_of(url) == 0, 5.0)
        assert json.loads(urllib.request.urlopen(f"{url}/healthz").read())["ok"]


def test_a_port_that_is_taken(every_run: dict[str, Path], run_clew) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        answer = run_clew("serve", every_run["regress"], "--port", taken.getsockname()[1])
    assert answer.code == 2
    assert "cannot be listened on" in answer.err
    answer = run_clew("serve", every_run["regress"], "--host", "192.0.2.7", "--token", "secret", "--port", 0)
    assert "choose another --host" in answer.err
    answer = run_clew("serve", every_run["regress"], "--port", 0, "--sessions", every_run["regress"] / "recipe.toml")
    assert (answer.code, "choose another --sessions" in answer.err) == (2, True)
    answer = run_clew("serve", every_run["translate"], "--port", 0)
    assert answer.code == 2
    assert "reads a whole source" in answer.err


@pytest.mark.skipif(BROWSER is None, reason="needs a Chromium to look at the page with")
def test_the_page_in_a_browser(every_run: dict[str, Path], tmp_path: Path) -> None:
    """On a phone and on a desk: it connects, streams, shows numbers that change, and goes on after a restart."""
    api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    shows = api.expect
    quiet = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
    (tmp_path / "rows.csv").write_text("2,1\n" + "".join(f"{i / 9},{i / 7}\n" for i in range(12)))
    complaints: list[str] = []
    with api.sync_playwright() as run:
        browser = run.chromium.launch(executable_path=BROWSER, args=quiet)
        for width in (360, 1280):
            with server(every_run["regress"]) as url:
                page = browser.new_page(viewport={"width": width, "height": 800})
                page.on("pageerror", lambda error: complaints.append(str(error)))
                page.on("console", lambda m: complaints.append(m.text) if m.type == "error" else None)
                page.goto(url)
                shows(page.locator(".status")).to_have_text("connected")
                page.keyboard.press("Tab")
                page.fill(".line", "0.5, 0.25")
                page.keyboard.press("Enter")
                shows(page.locator(".status")).to_have_text("step 1")
                first = page.inner_text(".answer")
                assert "total" in first
                page.fill(".line", "nonsense")
                page.keyboard.press("Enter")
                page.wait_for_selector(".status.bad")
                page.set_input_files(".pick", tmp_path / "rows.csv")
                shows(page.locator(".status")).to_have_text("step 13")
                assert page.inner_text(".answer") != first
                page.click(".mark")
                page.click(".live")
                shows(page.locator(".feltnow")).to_contain_text("The marked")
                page.click("#add")
                shows(page.locator(".panel")).to_have_count(2)
                page.click(".panel:nth-of-type(2) .close")
                shows(page.locator(".panel")).to_have_count(1)
                assert page.evaluate("document.documentElement.scrollWidth") <= width
                page.click(".live")
                steps = int(page.inner_text(".status").split()[1])
                assert steps > 13
            page.wait_for_selector(".status.bad")
            assert all("WebSocket" in text or "ERR_CONNECTION" in text for text in complaints), complaints
            complaints.clear()
            with server(every_run["regress"], int(url.rpartition(":")[2])):
                shows(page.locator(".status")).to_contain_text("resumed at step", timeout=20_000)
                assert int(page.inner_text(".status").split()[-1]) >= steps
            page.close()
        browser.close()
