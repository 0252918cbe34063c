"""The routes of a server.

GET  /            the page                       GET /healthz   whether it lives, and how many streams there are
GET  /model       what the model reads and says  GET /metrics   Prometheus text
POST /predict     {"value": ...}: the answer to one line, or to a chunk, read from the beginning
WS   /stream      a JSON line in, a JSON line out, the state carried; ?session=NAME goes on from where it was
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path
from typing import Any

import orjson
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route, WebSocketRoute

from clew.errors import ClewError, said
from clew.stream.engine import engine_of, sound_of
from clew.stream.server.describe import asyncapi, openapi
from clew.stream.server.hub import Hub
from clew.stream.server.limits import Limits
from clew.stream.server.streams import Streams
from clew.stream.session import Session
from clew.tasks.base import Streamed

PAGE = Path(__file__).parent / "page"
FILES = {
    "/": ("page.html", "text/html"),
    "/page.js": ("page.js", "text/javascript"),
    "/page.css": ("page.css", "text/css"),
}
WAITING = 100  # requests for a prediction, at most
SAFE = {
    "Content-Security-Policy": "default-src 'self'; img-src data:; frame-ancestors 'none'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


def make_app(
    trained: Streamed, limits: Limits = Limits(), *, task: str = "", folder: Path | None = None, host: str = ""
) -> Starlette:
    """The server of one model, for any ASGI runner.

    Args:
        task: what the model was trained for.
        folder: where streams are kept when the server ends.
        host: the address that it listens on; loopback is told from others by it.

    Raises:
        NotCausalError: the model needs the future, so that it cannot stream.
    """
    hub, asked_by = Hub(trained, limits, folder), ThreadPoolExecutor(1, "clew-predict")
    asking: set[asyncio.Future[dict[str, Any]]] = set()
    sound = sound_of(trained)
    about = {
        "task": task,
        "clew": metadata.version("clew"),
        "model": engine_of(trained).fingerprint,
        "reads_text": trained.reads_text,
        "reads_line_ends": trained.reads_line_ends,
        **_numbers(trained),
        "rate": sound.rate if sound else 0,
        "limits": {"streams": limits.streams, "frame": limits.frame, "idle": limits.idle},
    }

    def allowed(request: Request) -> None:
        if not limits.trusts(request.headers, host):
            hub.refused.labels("origin").inc()
            raise HTTPException(403, "this page may not ask here")
        if not limits.admits(request.headers, request.query_params):
            hub.refused.labels("token").inc()
            raise HTTPException(
                401,
                "the token is missing or wrong: say Authorization: Bearer TOKEN, or ?token=TOKEN",
                {"WWW-Authenticate": "Bearer"},
            )

    async def page(request: Request) -> Response:
        if not limits.trusts(request.headers, host):
            raise HTTPException(403, "this page may not ask here")
        file, kind = FILES[request.url.path]
        return FileResponse(PAGE / file, media_type=kind, headers=SAFE)

    async def healthz(request: Request) -> Response:
        return JSONResponse({"ok": not hub.draining, "streams": len(hub.batcher)}, 503 if hub.draining else 200)

    async def model(request: Request) -> Response:
        allowed(request)
        return JSONResponse(about)

    async def metrics(request: Request) -> Response:
        allowed(request)
        return Response(generate_latest(hub.registry), media_type=CONTENT_TYPE_LATEST)

    async def described(request: Request) -> Response:
        return JSONResponse(openapi(about) if request.url.path == "/openapi.json" else asyncapi(about))

    async def predict(request: Request) -> Response:
        allowed(request)
        body = bytearray()
        async for part in request.stream():
            body += part
            if len(body) > limits.frame:
                hub.refused.labels("frame").inc()
                raise HTTPException(413, f"at most {limits.frame:,} bytes")
        if len(asking) >= WAITING:
            hub.refused.labels("busy").inc()
            raise HTTPException(503, "too many ask at once: ask again later", {"Retry-After": "1"})
        try:
            asked = orjson.loads(body)
            value, horizon = asked["value"], int(asked.get("horizon", 0))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise HTTPException(400, 'the body must be {"value": ...} in JSON, which has no NaN') from error
        if not 0 <= horizon <= 100_000:
            raise HTTPException(400, "horizon must be between 0 and 100,000")
        found = asyncio.wrap_future(asked_by.submit(lambda: Session(trained, horizon).push(value)))
        asking.add(found)
        found.add_done_callback(asking.discard)
        try:
            answer = await found
        except ClewError as error:
            return JSONResponse(said(error), 422)
        except asyncio.CancelledError:
            raise HTTPException(503, "the server ends") from None
        return Response(orjson.dumps(answer), media_type="application/json")

    paths = [Route(path, page) for path in FILES]
    routes = [
        *paths,
        Route("/healthz", healthz),
        Route("/model", model),
        Route("/metrics", metrics),
        Route("/openapi.json", described),
        Route("/asyncapi.json", described),
        Route("/predict", predict, methods=["POST"]),
        WebSocketRoute("/stream", Streams(hub, limits, host)),
    ]
    app = Starlette(routes=routes, exception_handlers={HTTPException: _problem})
    app.state.hub = hub
    return app


async def _problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": {"what": error.detail}}, error.status_code, error.headers)


def _numbers(trained: Streamed) -> dict[str, Any]:
    """What its inputs and answers are called, where it has a step of numbers."""
    try:
        numbers = trained.plain()
    except ClewError:
        return {"inputs": [], "outputs": []}
    scale = {"mean": numbers.mean.tolist(), "std": numbers.std.tolist()} if not numbers.reads_units else {}
    return {"inputs": numbers.inputs, "outputs": numbers.outputs[:1000], **scale}
