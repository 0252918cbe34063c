"""A server in the words of OpenAPI 3.1 and AsyncAPI 3.0."""

from __future__ import annotations

from typing import Any

LINE = {
    "description": "Numbers: one, a list with one a column, an object by column, or a list of those. Text: a string, or"
    ' {"text": ...}. Sound: a list of samples from -1 to 1.',
}
PROBLEM = {
    "type": "object",
    "properties": {
        "error": {
            "type": "object",
            "properties": {name: {"type": "string"} for name in ("what", "column", "hint")},
            "required": ["what"],
        }
    },
}


def openapi(about: dict[str, Any]) -> dict[str, Any]:
    """What can be asked over HTTP."""
    body = {"type": "object", "required": ["value"], "properties": {"value": LINE, "horizon": {"type": "integer"}}}
    bad = {"content": {"application/json": {"schema": PROBLEM}}}
    return {
        "openapi": "3.1.0",
        "info": _info(about),
        "components": {"securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
        "paths": {
            "/predict": {
                "post": {
                    "summary": "The answer to one line, or to a chunk, read from the beginning",
                    "security": [{"token": []}, {}],
                    "requestBody": {"required": True, "content": {"application/json": {"schema": body}}},
                    "responses": {
                        "200": {"description": "the answer", "content": {"application/json": {"schema": {}}}},
                        "400": {"description": "the body is not what is asked for", **bad},
                        "401": {"description": "the token is missing or wrong", **bad},
                        "413": {"description": "the body is too large", **bad},
                        "422": {"description": "the value is not what the model reads", **bad},
                        "503": {"description": "too many ask at once", **bad},
                    },
                }
            },
            "/model": {
                "get": {"summary": "What the model reads and says", "responses": {"200": {"description": "it"}}}
            },
            "/healthz": {
                "get": {
                    "summary": "Whether the server lives",
                    "responses": {"200": {"description": "it does"}, "503": {"description": "it ends"}},
                }
            },
            "/metrics": {"get": {"summary": "Prometheus text", "responses": {"200": {"description": "it"}}}},
        },
    }


def asyncapi(about: dict[str, Any]) -> dict[str, Any]:
    """What can be said over a websocket."""
    control = {"type": "object", "properties": {"reset": {"const": True}, "watch": {"type": "boolean"}, "mark": LINE}}
    answer = {"type": "object", "properties": {"session": {"type": "string"}, "step": {"type": "integer"}}}
    return {
        "asyncapi": "3.0.0",
        "info": _info(about),
        "components": {"securitySchemes": {"token": {"type": "httpApiKey", "name": "token", "in": "query"}}},
        "channels": {
            "stream": {
                "address": "/stream",
                "messages": {
                    "line": {"payload": {"anyOf": [LINE, control]}},
                    "answer": {"payload": {"anyOf": [answer, PROBLEM]}},
                },
            }
        },
        "operations": {
            "say": {"action": "receive", "channel": {"$ref": "#/channels/stream"}},
            "hear": {"action": "send", "channel": {"$ref": "#/channels/stream"}},
        },
    }


def _info(about: dict[str, Any]) -> dict[str, Any]:
    return {"title": f"A model of {about['task'] or 'sequences'}", "version": about["clew"]}
