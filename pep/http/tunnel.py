"""What follows an upgrade: both sides' bytes pass as they are, within the grant of the upgrade, and are recorded.

A tunnel is allowed or denied as a whole: nothing in it is decided or masked. What the target sends is watched for the
credential; a connection that shows it is cut. Frame headers of WebSocket (RFC 6455, section 5.2) are left out, and
control frames are a stream of their own, because they may stand between the fragments of a message.
"""

from __future__ import annotations

from typing import Any, Final

from pep.core.keeping import Kept
from pep.core.model import Grant
from pep.core.records import Body, Event, EventType
from pep.core.wire import Continuation
from pep.http.classify import Request
from pep.http.connection import Connection
from pep.http.disclosed import dataset, disclosed
from pep.http.stepping import Cut

_SIZES: Final = {126: 2, 127: 8}
_CONTROL: Final = 8  # the first opcode of control frames
# So much of a secret may be the end of an innocent message, which must not wait. With more of it, it does.
_MOST_SHOWN: Final = 5


class Tunnel:
    """One upgraded connection."""

    def __init__(self, connection: Connection, request: Request, grant: Grant, protocol: str, kept: Kept) -> None:
        self._connection = connection
        self._request = request
        self._grant = grant
        self._protocol = protocol
        self._sent = self._received = 0
        self._record = kept
        self._sample: list[bytes] = []
        self._payload = Payload() if protocol == "websocket" else None
        scrub = connection.settings.scrub
        self._watches = (scrub.watch(), scrub.watch())
        self._kept = b""  # not sent, because it may be the beginning of a secret

    def client(self, data: bytes) -> None:
        self._sent += len(data)
        self._keep(b"> ", data)
        self._connection.forward(data, Continuation(self._grant))

    def upstream(self, data: bytes) -> None:
        self._received += len(data)
        contents = (data, b"") if self._payload is None else self._payload.feed(data)
        if any(watch.found(content) for watch, content in zip(self._watches, contents, strict=True)):
            raise Cut("the target showed its credential")
        self._kept += data
        if any(watch.begun > _MOST_SHOWN for watch in self._watches):
            return
        data, self._kept = self._kept, b""
        self._keep(b"< ", data)
        self._connection.send(data)

    def event(self) -> Event:
        """What goes on record when it ends."""
        facts: dict[str, Any] = {
            "execution_id": self._grant.execution_id,
            "bytes": self._received,
            "bytes_sent": self._sent,
            "tags": [self._protocol],
            **self._record.facts(),
        }
        if self._received:
            facts |= disclosed(dataset(self._request), self._grant, (), 0, {})
        bodies = (Body("response", b"".join(self._sample)),) if self._sample else ()
        grant = self._grant
        return Event(EventType.RESPONSE, grant.decision_ids[0], grant.policy_revision, facts, bodies)

    def _keep(self, mark: bytes, data: bytes) -> None:
        if kept := self._record.lines(data):
            self._sample.append(mark + kept + b"\n")


class Payload:
    """The contents of WebSocket frames without their headers: those of data frames, those of control frames."""

    def __init__(self) -> None:
        self._header = bytearray()
        self._left = 0
        self._mask = b""
        self._at = 0
        self._control = False

    def feed(self, data: bytes) -> tuple[bytes, bytes]:
        """Of a stream that comes in any pieces."""
        out = (bytearray(), bytearray())
        position = 0
        while position < len(data):
            if self._left:
                piece = data[position : position + self._left]
                position += len(piece)
                self._left -= len(piece)
                out[self._control].extend(self._unmasked(piece))
                continue
            self._header.append(data[position])
            position += 1
            self._start()
        return bytes(out[0]), bytes(out[1])

    def _start(self) -> None:
        header = self._header
        if len(header) < 2:
            return
        size, masked = header[1] & 0x7F, bool(header[1] & 0x80)
        extended = _SIZES.get(size, 0)
        whole = 2 + extended + (4 if masked else 0)
        if len(header) < whole:
            return
        self._control = header[0] & 0x0F >= _CONTROL
        self._left = int.from_bytes(header[2 : 2 + extended]) if extended else size
        self._mask = bytes(header[whole - 4 :]) if masked else b""
        self._at = 0
        header.clear()

    def _unmasked(self, piece: bytes) -> bytes:
        if not self._mask:
            return piece
        turned = (self._mask[self._at % 4 :] + self._mask[: self._at % 4]) * (len(piece) // 4 + 1)
        self._at += len(piece)
        return bytes(left ^ right for left, right in zip(piece, turned, strict=False))
