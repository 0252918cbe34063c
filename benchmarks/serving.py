"""A server under load on loopback: python benchmarks/serving.py

Streams that each say a line, wait for the answer and say the next, over websockets, from a process of their own: at 1,
100 and 1,000 streams, the time from a line to its answer, and answers a second, beside a server of the same parts that
sends each line back; the two take turns of half a second. An LSTM of 64 over two columns. Writes results/9/load.json.
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
SECONDS, TURNS = 0.5, 30
BAR = 0.5
LINE = json.dumps([0.1, 0.2])


async def client(ports: list[int], streams: int) -> list[list[list[float]]]:
    """The seconds of each line, of each turn, of each server; all connections stay open, and the servers take turns."""
    from websockets.asyncio.client import connect

    async def opened(port: int) -> Any:
        socket = await connect(f"ws://127.0.0.1:{port}/stream", compression=None, ping_interval=None)
        await socket.recv()
        return socket

    async def one(socket: Any, over: float, took: list[float]) -> None:
        while (began := time.perf_counter()) < over:
            await socket.send(LINE)
            await socket.recv()
            took.append(time.perf_counter() - began)

    sockets = [[await opened(port) for _ in range(streams)] for port in ports]
    turns: list[list[list[float]]] = [[] for _ in ports]
    for _ in range(1 + TURNS):
        for mine, took in zip(sockets, turns, strict=True):
            took.append([])
            over = time.perf_counter() + SECONDS
            await asyncio.gather(*(one(socket, over, took[-1]) for socket in mine))
    for socket in (socket for mine in sockets for socket in mine):
        await socket.close()
    return [took[1:] for took in turns]  # the first one warms up


def asked(ports: list[int], streams: int) -> list[list[list[float]]]:
    command = [sys.executable, __file__, "client", *map(str, ports), str(streams)]
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


def _summary(turns: list[list[float]]) -> dict[str, Any]:
    p50, p99 = (round(float(q) * 1e3, 3) for q in np.quantile([took for turn in turns for took in turn], [0.5, 0.99]))
    return {"a second": round(statistics.median(map(len, turns)) / SECONDS), "p50 ms": p50, "p99 ms": p99}


def main() -> None:
    at = commit()
    with tempfile.TemporaryDirectory() as folder:
        model, limits = forecaster(Path(folder)), Limits(streams=2000)
        how: dict[str, Any] = {"host": "127.0.0.1", "port": 0, "task": "forecast", "folder": None}
        ours, here = prepared(model, limits, **how)
        theirs, there = prepared(model, limits, **how)
        theirs.config.app = Starlette(routes=[WebSocketRoute("/stream", _echo)])
        figure: dict[str, Any] = {}
        with running(ours, here) as port, running(theirs, there) as echo:
            for n in STREAMS:
                turns = asked([port, echo], n)
                ratio = statistics.median(len(a) / len(b) for a, b in zip(*turns, strict=True))
                model, sent_back = map(_summary, turns)
                figure[str(n)] = {"model": model, "echo": sent_back, "of an echo": round(ratio, 3)}
                print(n, figure[str(n)], flush=True)
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
        *ports, streams = map(int, sys.argv[2:])
        print(json.dumps(asyncio.run(client(ports, streams))))
    else:
        torch.set_num_threads(1)
        main()
