"""A trained model on a port: one-shot predictions over HTTP, streams over websockets, and a page."""

from clew.stream.server.app import make_app
from clew.stream.server.limits import Limits
from clew.stream.server.running import serve

__all__ = ["Limits", "make_app", "serve"]
