"""What a server allows, and whom."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from clew.errors import ConfigError

LOOPBACK = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True)
class Limits:
    """Args:
    streams: how many there may be at once.
    frame: bytes of a message or of the body of a request.
    idle: seconds after which a silent stream is closed.
    send: seconds that a reader may take to read an answer before it is cut off.
    drain: seconds that connections have to end when the server does.
    token: what every request must bring; none where it is empty.
    origins: pages besides the server's own that a browser may connect from.
    """

    streams: int = 1000
    frame: int = 1 << 20
    idle: float = 600.0
    send: float = 10.0
    drain: float = 10.0
    token: str = ""
    origins: tuple[str, ...] = ()

    def check(self, host: str) -> None:
        """Raises ConfigError where a number is out of bounds, or a port open to others has no token."""
        for name in ("streams", "frame", "idle", "send", "drain"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"--{name} must be more than 0, got {getattr(self, name)}")
        if host not in LOOPBACK and not self.token:
            what = f"anybody who reaches {host} could use the model"
            raise ConfigError(what, hint="give a --token, or leave --host at 127.0.0.1")

    def admits(self, headers: Mapping[str, str], query: Mapping[str, str]) -> bool:
        """Whether a request brings the token, as `Authorization: Bearer TOKEN` or, as browsers must, as ?token=."""
        if not self.token:
            return True
        given = headers.get("authorization", "")
        kind, _, said = given.partition(" ")
        given = said if kind.lower() == "bearer" else query.get("token", "")
        return hmac.compare_digest(given.encode(), self.token.encode())

    def trusts(self, headers: Mapping[str, str], host: str = "") -> bool:
        """Whether a page may connect: one of the server's own, or a named one. What is no browser sends no Origin.

        On loopback the Host must be loopback too, so that no name of a stranger's leads here.
        """
        named, origin = headers.get("host", ""), headers.get("origin")
        try:
            if host in LOOPBACK and ("@" in named or urlsplit(f"//{named}").hostname not in LOOPBACK):
                return False
            return origin is None or origin in self.origins or urlsplit(origin).netloc == named
        except ValueError:  # no address at all
            return False
