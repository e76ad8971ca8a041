"""What attacks on the HTTP proxy share: a target that sends any bytes, a client that keeps all, a finder of leaks.

The masked values, the target's credential and the clients' tokens are random words, so any six characters of one that
arrive where they must not are a leak, however they are written. An attempt first shows that the finder does find the
word in what the target has sent: an attempt that sends nothing proves nothing.

What policy says of a request is in the first segment of its path: see `policy`.
"""

from __future__ import annotations

import base64
import contextlib
import gzip
import html
import io
import json
import re
import socket
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from urllib.parse import unquote_to_bytes

import brotli
import zstandard

from pep.core.decision_client import Login
from pep.core.model import Action, Decision, Deny, FieldMask, NullMask, PartialEmailMask, Reason, RedactText
from pep.core.sessions import Party, SessionHandle, Subject
from pep.http.config import HttpProxy
from pep.http.server import serve
from tests.stub_service import REVISION, Running, StubDecisions, allow, deny, mask, require_approval, running

SSN = "QZX7KV-WJ4HP9"
EMAIL = "vrbqlx.wjzk@kjwzpd-xq.io"
SHAPED = "583-27-9146"  # what the detector of such numbers knows
SECRET = "jqxz7wvk3hpt9bmfgr5cdn2s"
ALICE, BOB = "kwbtz-6yhq3-alice-vnx2m", "rfpgd-9xjc4-bobby-tqz8s"
VALUES = (SSN, EMAIL, SHAPED)
MARKERS = (*VALUES, SECRET)

VISIBLE = "plainly-seen"
CUSTOMER = {"id": 1, "name": VISIBLE, "ssn": SSN, "email": EMAIL}
DOCUMENT = json.dumps(CUSTOMER).encode()

FIELDS = (FieldMask("", "$..ssn", NullMask()), FieldMask("", "$..email", PartialEmailMask()))
REDACT = RedactText(frozenset({"email", "ssn", "jwt"}))


def policy(action: Action) -> Decision:
    """By the path's first segment; of a tool by its name."""
    if action.protocol == "mcp":
        return deny() if action.properties.get("tool") == SSN else allow()
    segments = action.properties.get("segments") or [""]
    match str(segments[0]).lower():
        case "masked":
            return mask(*FIELDS, also=(REDACT,))
        case "named":
            return mask(*FIELDS)
        case "redacted":
            return allow(REDACT)
        case "open":
            return allow()
        case "held":
            return require_approval()
        case _:
            return deny()


# --- the target -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Seen:
    """A request as it arrived."""

    raw: bytes
    method: str
    target: str
    body: bytes
    peer: int

    def field(self, name: str) -> str:
        found = re.search(rf"(?im)^{re.escape(name)}:[ \t]*([^\r\n]*)\r$", self.raw.decode("latin-1"))
        return found[1] if found else ""


Script = Callable[[Seen], Iterable[bytes]]
CLOSE = b""  # in a script: the connection ends here


@dataclass
class Hostile:
    """A target that reads requests and answers each with whatever bytes its script says."""

    listener: socket.socket
    script: Script = lambda _seen: (reply(DOCUMENT),)
    seen: list[Seen] = field(default_factory=list)

    @property
    def port(self) -> int:
        return int(self.listener.getsockname()[1])

    @property
    def received(self) -> bytes:
        return b"".join(seen.raw + seen.body for seen in self.seen)

    def says(self, *pieces: bytes) -> None:
        """The same for every request."""
        self.seen.clear()
        self.script = lambda _seen: pieces

    def follows(self, script: Script) -> None:
        self.seen.clear()
        self.script = script

    def run(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, peer = self.listener.accept()
                threading.Thread(target=self._serve, args=(connection, int(peer[1])), daemon=True).start()

    def _serve(self, connection: socket.socket, peer: int) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with connection, connection.makefile("rb") as stream, contextlib.suppress(OSError):
            while (seen := _read(stream, peer)) is not None:
                self.seen.append(seen)
                for piece in self.script(seen):
                    if piece == CLOSE:
                        connection.shutdown(socket.SHUT_RDWR)
                        return
                    connection.sendall(piece)


def _read(stream: io.BufferedReader, peer: int) -> Seen | None:
    lines: list[bytes] = []
    while (line := stream.readline()) not in (b"\r\n", b""):
        lines.append(line)
    if not lines or not line:
        return None
    head = b"".join(lines)
    method, target, _ = lines[0].decode("latin-1").split(" ", 2)
    body = b""
    if length := re.search(rb"(?i)\r\ncontent-length: *(\d+)", head):
        body = stream.read(int(length[1]))
    elif re.search(rb"(?i)\r\ntransfer-encoding: *chunked", head):
        while (line := stream.readline()) and (size := int(line.split(b";")[0], 16)):
            body += stream.read(size)
            stream.readline()
        if not line:
            return None  # it was cut
        stream.readline()
    return Seen(head + b"\r\n", method, target, body, peer)


@contextlib.contextmanager
def hostile() -> Iterator[Hostile]:
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        target = Hostile(listener)
        threading.Thread(target=target.run, daemon=True).start()
        yield target
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)


def reply(
    body: bytes | str,
    kind: str | None = "application/json",
    *fields: str,
    status: str = "200 OK",
    framing: str = "length",
    step: int = 0,
) -> bytes:
    """A response; `step` is the size of its chunks, 0 for one."""
    data = body.encode() if isinstance(body, str) else body
    lines = [f"HTTP/1.1 {status}", *fields]
    if kind is not None:
        lines.append(f"Content-Type: {kind}")
    match framing:
        case "length":
            lines.append(f"Content-Length: {len(data)}")
        case "chunked":
            lines.append("Transfer-Encoding: chunked")
            data = chunked(*(cuts(data, step) if step else [data]))
        case "close":
            lines.append("Connection: close")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + data


def cuts(data: bytes, step: int) -> list[bytes]:
    return [data[at : at + step] for at in range(0, len(data), step)]


def chunked(*pieces: bytes, extension: str = "", trailers: str = "") -> bytes:
    whole = b"".join(b"%x%b\r\n%b\r\n" % (len(piece), extension.encode(), piece) for piece in pieces)
    return whole + f"0\r\n{trailers}\r\n".encode()


# --- the proxy --------------------------------------------------------------------------------------------------------


class Identities(StubDecisions):
    """A decision service that knows two clients, and remembers who asked for what."""

    def __init__(self) -> None:
        super().__init__(policy)
        self.by: list[tuple[str, Action]] = []

    async def open_session(self, login: Login) -> SessionHandle | Deny:
        who = {ALICE: "alice", BOB: "bob"}.get(login.credential.secret)  # type: ignore[union-attr]
        if who is None:
            return Deny("d-0", REVISION, (Reason("authentication-failed"),))
        party = Party("agent", who)
        return SessionHandle(
            f"s-{who}", "t", Subject(party, party), login.resource, login.protocol, input_paths=self.input_paths
        )

    async def decide(self, session: SessionHandle, actions: Sequence[Action]) -> tuple[Decision, ...]:
        self.by += ((session.subject.name, action) for action in actions)
        return await super().decide(session, actions)


@dataclass
class Attacked:
    """The proxy before a hostile target."""

    target: Hostile
    proxy: Running
    decisions: Identities

    def send(self, *requests: bytes, until: bytes | None = None) -> bytes:
        """Everything that comes back for these bytes, sent one piece after the other, until the proxy closes."""
        with self.connect() as connection:
            with contextlib.suppress(OSError):
                for piece in requests:
                    connection.sendall(piece)
            return rest(connection, until)

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.proxy.port), timeout=10)


def rest(connection: socket.socket, until: bytes | None = None) -> bytes:
    received = bytearray()
    with contextlib.suppress(ConnectionError):
        while until is None or until not in received:
            if not (data := connection.recv(1 << 16)):
                break
            received += data
    return bytes(received)


def status_of(received: bytes) -> int:
    return int(received[9:12])


def statuses(received: bytes) -> list[int]:
    return [int(part[:3]) for part in received.split(b"HTTP/1.1 ")[1:]]


def ask(
    path: str, *fields: str, method: str = "GET", body: bytes | None = None, token: str = ALICE, close: bool = True
) -> bytes:
    """A request; the connection ends with its response unless told otherwise."""
    lines = [f"{method} {path} HTTP/1.1", "Host: api.test", f"Authorization: Bearer {token}", *fields]
    lines += ["Connection: close"] if close and not any(line.startswith("Connection:") for line in fields) else []
    lines += [f"Content-Length: {len(body)}"] if body is not None else []
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + (body or b"")


@contextlib.contextmanager
def attacked(**proxy: object) -> Iterator[Attacked]:
    """A proxy in a thread of its own; its environment must hold the credential."""
    stub = Identities()
    stub.input_paths = frozenset(proxy.pop("input_paths", ()))  # type: ignore[call-overload]
    with hostile() as target:
        document = {
            "name": "attacked",
            "resource": "pay",
            "protocol": "http",
            "listen": {"address": "127.0.0.1:0", "login": ["bearer", "key", "basic"]},
            "upstream": {"addresses": [f"http://127.0.0.1:{target.port}"]},
            "credentials": {"default": {"bearer": {"env": "CHECKREIN_TEST_UPSTREAM"}}},
            "shutdown": {"drain": "1s"},
        }
        config = HttpProxy.model_validate_json(json.dumps(document | proxy))
        with running(config, serve, stub) as served:
            yield Attacked(target, served, stub)


# --- finding leaks ----------------------------------------------------------------------------------------------------

_RUN = 6
_UNDONE = 4


def leaks(data: bytes, words: Sequence[str] = MARKERS) -> list[str]:
    """Which of the words can be read out of these bytes: six characters in a row, in any writing undone here."""
    found = set()
    for reading in readings(data):
        text = reading.decode("latin-1").casefold()
        found |= {word for word in words if any(part in text for part in _parts(word.casefold()))}
    return sorted(found)


def shows(data: bytes, text: str = VISIBLE) -> bool:
    return any(text.encode() in reading for reading in readings(data))


def _parts(word: str) -> Iterator[str]:
    return (word[at : at + _RUN] for at in range(len(word) - _RUN + 1))


def readings(data: bytes) -> Iterator[bytes]:
    """The bytes, and what they say once one coding after the other is undone."""
    known, latest = {data}, [data]
    yield data
    for _ in range(_UNDONE):
        fresh = []
        for reading in latest:
            for undone in _undo(reading):
                if undone and undone not in known:
                    known.add(undone)
                    fresh.append(undone)
        yield from fresh
        latest = fresh


def _undo(data: bytes) -> Iterator[bytes]:
    yield re.sub(rb"\r\n[0-9a-fA-F]{1,8}(?:;[^\r\n]*)?\r\n", b"", data)
    yield from _unpacked(data)
    yield re.sub(rb"\\+u00([0-9a-fA-F]{2})", lambda found: bytes((int(found[1], 16),)), data).replace(b"\\", b"")
    yield re.sub(rb"\\x([0-9a-f]{2})|\\u\{([0-9a-f]+)\}", lambda found: bytes((int(found[1] or found[2], 16),)), data)
    yield unquote_to_bytes(data)
    yield html.unescape(data.decode("latin-1")).encode("latin-1", "ignore")
    yield data.replace(b"\0", b"")
    yield re.sub(rb"\r?\n(?:data: ?)?|\\r|\\n", b"", data)
    if b"+" in data:
        yield data.decode("utf-7", "ignore").encode("latin-1", "ignore")
    for found in re.findall(rb"[A-Za-z0-9+/_-]{8,}", data):
        run = found.replace(b"-", b"+").replace(b"_", b"/")
        for start in range(4):
            piece = run[start:]
            meant = base64.b64decode(piece[: len(piece) // 4 * 4])
            if meant.startswith(b"\x1f\x8b") or (meant.isascii() and meant.decode().isprintable()):
                yield meant
    yield from _listed(data)
    for found in re.findall(rb"(?:[0-9a-fA-F]{2}){6,}", data):
        yield bytes.fromhex(found.decode())


def _listed(data: bytes) -> Iterator[bytes]:
    """What lists of bytes stand for: hexadecimal and decimal ones, quoted-printable, octal."""
    for found in re.findall(rb"[0-9a-fA-F]{2}(?:[ :-][0-9a-fA-F]{2}){5,}", data):
        yield bytes.fromhex(re.sub(rb"[ :-]", b"", found).decode())
    for found in re.findall(rb"[0-9]{1,3}(?:, ?[0-9]{1,3}){5,}", data):
        yield bytes(min(int(number), 255) for number in found.split(b","))
    for pattern, base in ((rb"(?:=[0-9A-F]{2}){6,}", 16), (rb"(?:\\[0-3][0-7]{2}){6,}", 8)):
        for found in re.findall(pattern, data):
            step = 3 if base == 16 else 4
            yield bytes(int(found[at + 1 : at + step], base) for at in range(0, len(found), step))


def _unpacked(data: bytes) -> Iterator[bytes]:
    places = {0} | {found.end() for found in re.finditer(rb"\r\n\r\n|\r\n[0-9a-f]{1,8}\r\n", data)}
    for place in sorted(places):
        body = data[place:]
        for window in (31, 15, -15):
            with contextlib.suppress(zlib.error):
                yield zlib.decompressobj(window).decompress(body, 1 << 20)
        with contextlib.suppress(brotli.error):
            yield brotli.decompress(body)
        with contextlib.suppress(zstandard.ZstdError):
            yield zstandard.ZstdDecompressor().decompressobj().decompress(body)
    at = data.find(b"\x1f\x8b\x08")
    while at >= 0:
        with contextlib.suppress(zlib.error):
            yield zlib.decompressobj(31).decompress(data[at:], 1 << 20)
        at = data.find(b"\x1f\x8b\x08", at + 1)


def packed(data: bytes, *names: str) -> bytes:
    """The content codings applied, in order."""
    for name in names:
        match name:
            case "gzip":
                data = gzip.compress(data, mtime=0)
            case "deflate":
                data = zlib.compress(data)
            case "raw":
                packer = zlib.compressobj(wbits=-15)
                data = packer.compress(data) + packer.flush()
            case "br":
                data = brotli.compress(data)
            case "zstd":
                data = zstandard.ZstdCompressor().compress(data)
    return data
