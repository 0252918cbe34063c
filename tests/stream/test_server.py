"""The server: it says what a session says, refuses what it should, and loses nothing when it ends."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

import clew
from clew.errors import ConfigError
from clew.stream import Session
from clew.stream.server import Limits, app, make_app
from clew.stream.server.hub import Hub
from clew.stream.server.watching import Watch

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
LINES = [[0.1, 0.2], [[0.3, -0.4], [0.0, 1.0]], {"1": 0.5, "2": 0.5}, [0.2, 0.1]]


@pytest.fixture
def model(every_run: dict[str, Path]) -> Any:
    return clew.load(every_run["regress"])


def client(model: Any, **limits: Any) -> TestClient:
    return TestClient(
        make_app(model, Limits(**limits), task="regress", host="127.0.0.1"), headers={"Host": "localhost"}
    )


def said(socket: Any, line: Any) -> Any:
    socket.send_text(line if isinstance(line, str) else json.dumps(line))
    return json.loads(socket.receive_text())


def test_a_stream_is_a_session(model: Any) -> None:
    session = Session(model)
    with client(model).websocket_connect("/stream") as socket:
        assert json.loads(socket.receive_text())["steps"] == 0
        for line in LINES:
            expected = session.push(line)
            assert said(socket, line) == {"step": session.steps, **expected}
        for wrong in (
            "no json",
            "[1]",
            '"text"',
            "[NaN, 1]",
            "[1e300, 1]",
            "null",
            "[" * 100_000,
            '{"a":' * 980 + "1" + "}" * 980,
            "[" * 1000 + "]" * 1000,
            "[[" + "[" * 1000 + "]" * 1000 + ",1]]",
        ):
            assert "what" in said(socket, wrong)["error"]
        assert said(socket, LINES[0]) == {"step": session.steps + 1, **session.push(LINES[0])}
        socket.send_bytes(json.dumps(LINES[3]).encode())
        assert json.loads(socket.receive_text()) == {"step": session.steps + 1, **session.push(LINES[3])}
        assert said(socket, {"reset": True}) == {"step": 0}
        assert said(socket, LINES[0]) == {"step": 1, **Session(model).push(LINES[0])}


def test_a_long_chunk_keeps_nobody_waiting(model: Any, every_run: dict[str, Path]) -> None:
    """While a chunk is read on a thread, others join, say something and leave."""
    hub, session = Hub(model, Limits()), Session(clew.load(every_run["regress"]))
    inside, go_on, push = threading.Event(), threading.Event(), hub.batcher._engine.push

    def slow(*given: Any) -> Any:
        inside.set()
        assert go_on.wait(20)
        return push(*given)

    async def talk() -> None:
        (stream, _), (other, _) = hub.join(), hub.join()
        hub.batcher._engine.push = slow
        chunk = asyncio.create_task(hub.push(stream, [[0.1, 0.2]] * 500, 5000))
        assert await asyncio.to_thread(inside.wait, 20)
        assert await hub.push(other, [0.3, 0.4], 10) == pytest.approx(session.fork().push([0.3, 0.4]))
        hub.leave(other)
        other, _ = hub.join()
        watch = Watch(hub, other)
        assert await watch.answer({"reset": True}, 15) == {"step": 0}
        assert "state" in await watch.answer({"watch": True}, 15)
        assert not chunk.done()
        go_on.set()
        assert await chunk == pytest.approx(session.push([[0.1, 0.2]] * 500))
        assert len(hub.batcher) == 2
        assert await hub.push(stream, [0.3, 0.4], 10) == pytest.approx(session.push([0.3, 0.4]))

    asyncio.run(talk())
    hub.close()


def test_what_was_kept_too_long_is_deleted(model: Any, tmp_path: Path) -> None:
    old, new, other = (tmp_path / name for name in (f"{'a' * 32}.snapshot", f"{'b' * 32}.snapshot", "mine.snapshot"))
    for file in (old, new, other):
        file.write_bytes(b"")
    for file in (old, other):
        os.utime(file, (0, 0))
    Hub(model, Limits(), tmp_path).close()
    assert sorted(tmp_path.iterdir()) == sorted([new, other])


def test_predictions_that_wait(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """More than may wait are told to come again; the others are answered."""
    monkeypatch.setattr(app, "WAITING", 2)
    go_on, push = threading.Event(), Session.push

    def slow(self: Session, value: Any) -> Any:
        assert go_on.wait(20)
        return push(self, value)

    monkeypatch.setattr(Session, "push", slow)
    with client(model) as served, ThreadPoolExecutor(3) as pool:
        asked = [pool.submit(served.post, "/predict", json={"value": LINES[0]}) for _ in range(3)]
        first = next(as_completed(asked, 20)).result()
        assert (first.status_code, first.headers["Retry-After"]) == (503, "1")
        go_on.set()
        assert sorted(one.result(20).status_code for one in asked) == [200, 200, 503]


def test_text_and_several_streams(every_run: dict[str, Path]) -> None:
    model = clew.load(every_run["generate"])
    served = client(model)
    with served.websocket_connect("/stream") as one, served.websocket_connect("/stream") as two:
        names = {json.loads(socket.receive_text())["session"] for socket in (one, two)}
        assert len(names) == 2
        ours = [Session(model), Session(model)]
        for text in ("the cat", " sat\n"):
            for socket, session in zip((one, two), ours, strict=True):
                assert said(socket, json.dumps(text)) == {"step": session.steps + len(text), **session.push(text)}
            ours[1].push("more")
            said(two, json.dumps("more"))


def test_what_a_page_looks_at(model: Any) -> None:
    with client(model).websocket_connect("/stream") as socket:
        socket.receive_text()
        seen = said(socket, {"watch": True})
        assert seen["state"]
        answer = said(socket, LINES[0])
        assert {"state", "gates", "total"} <= answer.keys()
        assert all(0 <= v <= 1 for values in answer["gates"].values() for v in values)
        assert answer["state"] != seen["state"]
        felt = [said(socket, {"mark": LINES[0]})["felt"], *(said(socket, LINES[0])["felt"] for _ in range(3))]
        assert felt[0] == 1.0
        assert all(value > 0 for value in felt)
        for wrong in (None, True, [None], [[0.1, 0.2]] * 10_000):
            assert "error" in said(socket, {"mark": wrong})
        assert "felt" not in said(socket, LINES[0])
        assert "gates" not in said(socket, {"watch": False})


def test_a_mark_in_a_loud_sound(every_run: dict[str, Path]) -> None:
    with client(clew.load(every_run["transcribe"])).websocket_connect("/stream") as socket:
        socket.receive_text()
        loud = [0.9, -0.9] * 1000
        assert said(socket, {"mark": loud})["felt"] == 1.0
        assert "felt" in said(socket, loud)


def test_a_mark_changes_nothing_of_the_stream(model: Any) -> None:
    session = Session(model)
    with client(model).websocket_connect("/stream") as socket:
        socket.receive_text()
        for line in ([1.0, 2.0], {"mark": [0.5, 0.5]}, [0.1, 0.1]):
            expected = session.push(line["mark"] if isinstance(line, dict) else line)
            answer = said(socket, line)
            assert answer["total"] == pytest.approx(expected["total"], rel=1e-5)


def test_over_http(model: Any) -> None:
    served = client(model, frame=1000)
    assert served.get("/healthz").json() == {"ok": True, "streams": 0}
    about = served.get("/model").json()
    assert (about["task"], about["inputs"], about["outputs"]) == ("regress", ["1", "2"], ["total"])
    assert served.post("/predict", json={"value": LINES[1]}).json() == Session(model).push(LINES[1])
    assert "1 numbers" not in served.post("/predict", json={"value": [1]}).text
    for body, status in (("x", 400), ("{}", 400), ("[]", 400), ('{"value": [1]}', 422), ("[" * 900, 400)):
        assert served.post("/predict", content=body).status_code == status, body
    assert served.post("/predict", content="0" * 1001).status_code == 413
    assert served.get("/nothing").status_code == 404
    page = served.get("/")
    assert "default-src 'self'" in page.headers["content-security-policy"]
    assert not re.search(r'(src|href)="(https?:)?//', page.text)
    for file in ("/page.js", "/page.css"):
        assert served.get(file).status_code == 200
    assert set(served.get("/openapi.json").json()["paths"]) == {"/predict", "/model", "/healthz", "/metrics"}
    assert served.get("/asyncapi.json").json()["channels"]["stream"]["address"] == "/stream"
    with served.websocket_connect("/stream") as socket:
        socket.receive_text()
        said(socket, LINES[0])
        assert served.get("/healthz").json()["streams"] == 1
        text = served.get("/metrics").text
        assert "clew_streams 1.0" in text
        assert "clew_messages_total 1.0" in text
        assert "clew_refused_total" in text


def test_whom_it_lets_in(model: Any) -> None:
    served = client(model, token="secret", origins=("https://mine.org",))
    for path in ("/model", "/metrics"):
        assert served.get(path).status_code == 401
        assert served.get(path, headers={"Authorization": "Bearer secre"}).status_code == 401
        assert served.get(path, headers={"Authorization": "Bearer secret"}).status_code == 200
        assert served.get(path, headers={"Authorization": "bearer secret"}).status_code == 200
    assert served.get("/healthz").status_code == 200
    assert served.post("/predict", json={"value": LINES[0]}).status_code == 401
    good = {"Authorization": "Bearer secret"}
    for origin, there in (
        ("http://evil.org", False),
        ("null", False),
        ("http://localhost", True),
        ("https://mine.org", True),
    ):
        assert (served.get("/model", headers={**good, "Origin": origin}).status_code == 200) is there
        for path in ("/stream?token=secret", "/stream"):
            if there and "secret" in path:
                with served.websocket_connect(path, headers={"Origin": origin}) as socket:
                    assert "session" in json.loads(socket.receive_text())
            else:
                with pytest.raises(WebSocketDisconnect), served.websocket_connect(path, headers={"Origin": origin}):
                    pass
    for host in ("evil.org", "evil.org@localhost", "[::1", "["):  # names that lead here, and no names
        assert served.get("/model", headers={**good, "Host": host}).status_code == 403
    assert served.get("/model", headers={**good, "Origin": "http://["}).status_code == 403


def test_limits_of_streams_and_time(model: Any) -> None:
    served = client(model, streams=1, idle=0.3)
    with served.websocket_connect("/stream") as socket:
        socket.receive_text()
        with served.websocket_connect("/stream") as other:
            assert "all 1 streams are taken" in json.loads(other.receive_text())["error"]["what"]
            with pytest.raises(WebSocketDisconnect) as closed:
                other.receive_text()
            assert closed.value.code == 1013
        with pytest.raises(WebSocketDisconnect) as closed:
            socket.receive_text()
        assert closed.value.code == 1008
    with served.websocket_connect("/stream") as socket:  # its slot was freed
        socket.receive_text()
        socket.send_bytes(b"\x00")
    with served.websocket_connect("/stream?session=../../etc/passwd") as socket:
        assert "no stream of that name" in json.loads(socket.receive_text())["error"]["what"]
    assert served.get("/healthz").json()["streams"] == 0


@pytest.mark.parametrize(
    ("settings", "host", "wrong"),
    [
        ({}, "0.0.0.0", "anybody who reaches 0.0.0.0"),
        ({"streams": 0}, "127.0.0.1", "--streams must be more than 0"),
        ({"idle": -1.0}, "127.0.0.1", "--idle must be more than 0"),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, Any], host: str, wrong: str) -> None:
    with pytest.raises(ConfigError, match=wrong):
        Limits(**settings).check(host)
    Limits(token="t").check("0.0.0.0")
