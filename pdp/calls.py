"""HTTP calls that the service makes to others, each with an end: nobody holds one longer than it may take in all.

The time-outs of `requests` are for each read, so that a receiver which answers one byte at a time would never run into
one. Here the connection is cut when the time for the whole call is over. No redirect is followed, no password comes
from ~/.netrc, and of an answer no more is read than was asked for. Everything here blocks, so it runs in a thread.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any, Final

import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection
from urllib3.connectionpool import HTTPConnectionPool
from urllib3.exceptions import HTTPError

_CONNECT: Final = 5.0
# Enough of an answer for the usual server to see that it was taken.
_GLANCED_AT: Final = 4 << 10


class CallFailed(OSError):
    """No answer, or none that can be used. The text is fit for a log: neither the URL nor the answer is in it."""


@dataclass(frozen=True, slots=True)
class Call:
    """What is asked of whom. `seconds` is for all of it; `proxies` are taken from the environment if that is said."""

    method: str
    url: str
    seconds: float
    data: bytes | Mapping[str, str] | None = None
    headers: Mapping[str, str] | None = None
    ca: Path | None = None
    proxies: bool = False


def answered(call: Call, largest: int) -> tuple[int, bytes]:
    """The status and the whole content. Raises CallFailed, also where the content is larger than that."""
    with _called(call) as (answer, cutter):
        content = b""
        for chunk in answer.iter_content(1 << 14):
            content += chunk
            if len(content) > largest:
                raise CallFailed("the answer is too large")
        # A cut looks like the end of an answer that does not say how long it is.
        cutter.check()
        return answer.status_code, content


def status_of(call: Call) -> int:
    """The status alone, whatever comes of the rest. Raises CallFailed."""
    with _called(call) as (answer, _):
        with contextlib.suppress(requests.RequestException, HTTPException, HTTPError, OSError, ValueError):
            answer.raw.read(_GLANCED_AT)
        return answer.status_code


@contextlib.contextmanager
def _called(call: Call) -> Iterator[tuple[requests.Response, _Cutter]]:
    cutter = _Cutter(call.seconds)
    try:
        with cutter, requests.Session() as session:
            # No password from ~/.netrc, and no proxy that only the environment knows of.
            session.trust_env = call.proxies
            session.auth = _unchanged
            for scheme in ("http://", "https://"):
                session.mount(scheme, _Adapter(cutter))
            with session.request(
                call.method,
                call.url,
                data=call.data,
                headers=call.headers,
                # For each read; never more than is left for everything.
                timeout=(min(_CONNECT, call.seconds), call.seconds),
                verify=True if call.ca is None else str(call.ca),
                allow_redirects=False,
                stream=True,
            ) as answer:
                cutter.check()
                yield answer, cutter
    except CallFailed:
        raise
    except (requests.RequestException, HTTPException, HTTPError, OSError, ValueError) as error:
        # The error's own text may hold the URL, which may hold a secret.
        raise CallFailed("it took too long" if cutter.late else type(error).__name__) from None


def _unchanged(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request


class _Cutter:
    """Shuts the connections of one call down when its time is over, whatever another thread waits for on them."""

    def __init__(self, seconds: float) -> None:
        self.late = False
        self._end = time.monotonic() + seconds
        self._timer = threading.Timer(seconds, self._cut)
        self._timer.daemon = True
        self._lock = threading.Lock()
        self._sockets: list[socket.socket] = []

    def __enter__(self) -> None:
        self._timer.start()

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()

    def watch(self, connection: HTTPConnection) -> None:
        """It has just been made. Raises CallFailed where it comes too late."""
        with self._lock:
            # The socket, not the connection: that one lets go of it where an answer ends with the connection.
            # Of TLS within TLS, to a proxy, it is the one below.
            found = getattr(connection.sock, "socket", connection.sock)
            if isinstance(found, socket.socket):
                self._sockets.append(found)
        self.check()

    def check(self) -> None:
        if self.late or time.monotonic() >= self._end:
            self.late = True
            raise CallFailed("it took too long")

    def _cut(self) -> None:
        with self._lock:
            self.late = True
            for each in self._sockets:
                with contextlib.suppress(OSError):
                    # Past TLS, which would wait for what the other thread is doing.
                    socket.socket.shutdown(each, socket.SHUT_RDWR)


class _Adapter(HTTPAdapter):
    """Tells the cutter of each connection that is made."""

    def __init__(self, cutter: _Cutter) -> None:
        self._cutter = cutter
        super().__init__(max_retries=0)

    def get_connection_with_tls_context(self, *arguments: Any, **named: Any) -> HTTPConnectionPool:
        pool = super().get_connection_with_tls_context(*arguments, **named)
        assert isinstance(pool, HTTPConnectionPool)
        pool.ConnectionCls = _watched(pool.ConnectionCls, self._cutter)
        return pool


def _watched(plain: Any, cutter: _Cutter) -> Any:
    """The kind of connection, with a `connect` that hands it to the cutter."""

    class Watched(plain):  # type: ignore[misc]
        def connect(self) -> None:
            super().connect()
            cutter.watch(self)

    return Watched
