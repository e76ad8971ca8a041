"""Where the decision log goes: the service's own log, a file, a receiver of OPA's decision logs.

The receiver's interface is that of OPA's documentation, "Decision Log Service API": POST with a gzip-compressed JSON
array of events, and any 2xx for thanks. Everything that blocks does so in a thread.
"""

from __future__ import annotations

import asyncio
import gzip
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Self

import orjson
import structlog

from pdp.calls import Call, CallFailed, status_of
from pdp.decisions.outlet import Undeliverable
from pdp.v1.config_values import Secret
from pdp.v1.strict_yaml import ConfigError

log = structlog.get_logger("pdp.decisions")

# For one batch, in all.
_PATIENCE: Final = 30.0
# What no second try makes good: it cannot be read, or is too large.
_HOPELESS: Final = frozenset({400, 413, 415, 422})


class UploadFailed(OSError):
    """The receiver did not take the events; the text is fit to be shown."""


class ConsoleSink:
    """Lines of the service's own log."""

    async def deliver(self, lines: Sequence[bytes]) -> None:
        for each in lines:
            log.info("decision", **orjson.loads(each))


class FileSink:
    """JSON lines in a file that only this user reads. A full one gets the number 1, an older one the next."""

    def __init__(self, path: Path, *, size: int, files: int) -> None:
        self._path = path
        self._size = size
        self._files = files

    async def deliver(self, lines: Sequence[bytes]) -> None:
        await asyncio.to_thread(self._write, lines)

    def _write(self, lines: Sequence[bytes]) -> None:
        pending = list(lines)
        while pending:
            with self._open() as file:
                while pending and (file.tell() == 0 or file.tell() + len(pending[0]) < self._size):
                    file.write(pending.pop(0) + b"\n")
            if pending:
                self._rotate()

    def _open(self) -> _File:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return _File(self._path)

    def _rotate(self) -> None:
        for number in range(self._files - 1, 0, -1):
            older = self._numbered(number)
            if older.exists():
                older.replace(self._numbered(number + 1))
        self._path.replace(self._numbered(1))

    def _numbered(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}")


class _File:
    """The file, at its end; a line that a crash cut off is ended, so that the next one stands for itself."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._at = os.fstat(self._descriptor).st_size
        if self._at and os.pread(self._descriptor, 1, self._at - 1) != b"\n":
            self.write(b"\n")

    def tell(self) -> int:
        return self._at

    def write(self, data: bytes) -> None:
        while data:
            written = os.write(self._descriptor, data)
            self._at += written
            data = data[written:]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)


class UploadSink:
    """A receiver of OPA's decision logs. The token is asked for anew each time, so that it may change."""

    def __init__(self, url: str, *, token: Secret | None, authority: Path | None, patience: float = _PATIENCE) -> None:
        self._url = url
        self._token = token
        self._authority = authority
        self._patience = patience

    async def deliver(self, lines: Sequence[bytes]) -> None:
        """Raises UploadFailed where it may go better later, Undeliverable where it will not."""
        await asyncio.to_thread(self._post, lines)

    def _post(self, lines: Sequence[bytes]) -> None:
        headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
        try:
            if self._token is not None:
                headers["Authorization"] = f"Bearer {self._token.resolve()}"
            events = gzip.compress(b"[" + b",".join(lines) + b"]", compresslevel=6)
            status = status_of(Call("POST", self._url, self._patience, events, headers, self._authority))
        except ConfigError:
            raise UploadFailed(0, "the token cannot be had") from None
        except CallFailed as error:
            raise UploadFailed(0, f"it cannot be reached ({error})") from None
        if status in _HOPELESS:
            raise Undeliverable(f"the receiver refuses the events with status {status}")
        if not 200 <= status < 300:
            raise UploadFailed(0, f"the receiver answers with status {status}")
