"""A server under load on loopback: python benchmarks/serving.py

Streams that each say a line, wait for the answer and say the next, over websockets, from a process of their own: at 1,
100 and 1,000 streams, the time from a line to its answer, and answers a second, beside a server of the same parts that
sends each line back. An LSTM of 64 over two columns. Writes results/9/load.json.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
import uvicorn
from result import commit, write
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect
from streams import forecaster

from clew.stream.server.limits import Limits
from clew.stream.server.running import prepared

STREAMS = (1, 100, 1000)
SECONDS, TURNS = 3.0, 5
BAR = 0.5
LINE = json.dumps([0.1, 0.2])


async def client(port: int, streams: int, seconds: float) -> dict[str, Any]:
    """Seconds of each line, and lines a second, once all are connected."""
    from websockets.asyncio.client import connect

    took: list[float] = []
    begin, over = asyncio.Event(), time.perf_counter() + 3600

    async def one() -> None:
        async with connect(f"ws://127.0.0.1:{port}/stream", compression=None, ping_interval=None) as socket:
            await socket.recv()
            ready.append(1)
            await begin.wait()
            while time.perf_counter() < over:
                began = time.perf_counter()
                await socket.send(LINE)
                await socket.recv()
                took.append(time.perf_counter() - began)

    ready: list[int] = []
    tasks = []
    for _ in range(streams):
        tasks.append(asyncio.create_task(one()))
        if len(tasks) % 50 == 0:
            await asyncio.sleep(0.05)
    while len(ready) < streams:
        await asyncio.sleep(0.01)
    over = time.perf_counter() + seconds
    begin.set()
    await asyncio.gather(*tasks)
    p50, p99 = (round(float(q) * 1e3, 3) for q in np.quantile(took, [0.5, 0.99]))
    return {"a second": round(len(took) / seconds), "p50 ms": p50, "p99 ms": p99}


def asked(port: int, streams: int) -> dict[str, Any]:
    command = [sys.executable, __file__, "client", str(port), str(streams)]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


async def _echo(socket: WebSocket) -> None:
    await socket.accept()
    await socket.send_text("ready")
    try:
        while True:
            await socket.send_text(await socket.receive_text())
    except WebSocketDisconnect:
        pass


@contextmanager
def running(server: uvicorn.Server, bound: Any) -> Iterator[int]:
    thread = threading.Thread(target=server.run, args=([bound],))
    thread.start()
    try:
        yield bound.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join()
        bound.close()


def main() -> None:
    at = commit()
    with tempfile.TemporaryDirectory() as folder:
        model, limits = forecaster(Path(folder)), Limits(streams=2000)
        how: dict[str, Any] = {"host": "127.0.0.1", "port": 0, "task": "forecast", "folder": None}
        ours, here = prepared(model, limits, **how)
        theirs, there = prepared(model, limits, **how)
        theirs.config.app = Starlette(routes=[WebSocketRoute("/stream", _echo)])
        seen: dict[str, dict[int, list[Any]]] = {name: {n: [] for n in STREAMS} for name in ("model", "echo")}
        with running(ours, here) as port, running(theirs, there) as echo:
            for _ in range(TURNS):
                for n in STREAMS:
                    seen["model"][n].append(asked(port, n))
                    seen["echo"][n].append(asked(echo, n))
                    print(n, seen["model"][n][-1], seen["echo"][n][-1], flush=True)
    figure: dict[str, Any] = {}
    for n in STREAMS:
        pairs = zip(seen["model"][n], seen["echo"][n], strict=True)
        ratio = statistics.median(a["a second"] / b["a second"] for a, b in pairs)
        middle = {
            name: {key: statistics.median(turn[key] for turn in turns[n]) for key in turns[n][0]}
            for name, turns in seen.items()
        }
        figure[str(n)] = {**middle, "of an echo": round(ratio, 3)}
    write(
        "9/load",
        "answers a second over websockets on loopback, and the time of one, at 1, 100 and 1,000 streams, beside an echo"
        " server of the same parts",
        seeds=[0],
        figure=figure,
        bar=f"at least {BAR} times the messages of the echo server, at each",
        met=all(row["of an echo"] >= BAR for row in figure.values()),
        measured=at,
    )


if __name__ == "__main__":
    if sys.argv[1:2] == ["client"]:
        print(json.dumps(asyncio.run(client(int(sys.argv[2]), int(sys.argv[3]), SECONDS))))
    else:
        torch.set_num_threads(1)
        main()
