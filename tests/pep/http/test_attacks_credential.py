# ruff: noqa: E501 - a table reads best with one attempt to a line
"""Attempts to get at the credential that the proxy shows the target, by what a target may echo. See `tests.http_attacks`."""

import base64
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from urllib.parse import quote

import pytest

from tests.http_attacks import (
    ALICE,
    BOB,
    CLOSE,
    SECRET,
    Attacked,
    Seen,
    ask,
    attacked,
    chunked,
    cuts,
    leaks,
    packed,
    reply,
    shows,
)

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"
CHUNKS = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"


@pytest.fixture(scope="module")
def proxy() -> Iterator[Attacked]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CHECKREIN_TEST_UPSTREAM", SECRET)
        with attacked(http={"decoded_limit": 1 << 20}) as running:
            yield running


@dataclass(frozen=True)
class Echo:
    """How the target writes the credential, and what becomes of the answer: "shown" (the rest of it) or "withheld"."""

    name: str
    outcome: str
    says: Callable[[str], tuple[bytes, ...]]
    method: str = "GET"
    path: str = "/open/echo"


def echo(
    name: str, outcome: str, says: Callable[[str], tuple[bytes, ...]], method: str = "GET", path: str = "/open/echo"
) -> Echo:
    return Echo(name, outcome, says, method, path)


def written(
    name: str, write: Callable[[str], str | bytes], kind: str = "text/plain", outcome: str = "shown", **more: str
) -> Echo:
    """A body that holds the credential in that writing, between what may be seen."""

    def says(secret: str) -> tuple[bytes, ...]:
        text = write(secret)
        data = text.encode() if isinstance(text, str) else text
        return (reply(b"plainly-seen " + data + b" plainly-seen", kind),)

    return echo(name, outcome, says, **more)


def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def units(text: str) -> str:
    return "".join(f"\\u{ord(character):04x}" for character in text)


WRITINGS = [
    written("in clear", str),
    written("in JSON", lambda secret: json.dumps({"authorization": f"Bearer {secret}"}), "application/json"),
    written("with JSON's escapes", units, "application/json"),
    written("with JSON's escapes, in a string in a string", lambda secret: json.dumps(json.dumps(json.dumps(secret)[0:1] + units(secret)))),
    written("one character escaped", lambda secret: secret[:9] + units(secret[9]) + secret[10:]),
    written("every second character escaped", lambda secret: "".join(units(c) if n % 2 else c for n, c in enumerate(secret))),
    written("as JavaScript", lambda secret: "".join(f"\\x{ord(c):02x}" for c in secret)),
    written("as JavaScript, in braces", lambda secret: "".join(f"\\u{{{ord(c):x}}}" for c in secret)),
    written("percent-encoded", lambda secret: "".join(f"%{ord(c):02X}" for c in secret)),
    written("percent-encoded twice", lambda secret: "".join(f"%25{ord(c):02x}" for c in secret)),
    written("as HTML, decimal", lambda secret: "".join(f"&#{ord(c)};" for c in secret), "text/html"),
    written("as HTML, hexadecimal", lambda secret: "".join(f"&#x{ord(c):x};" for c in secret), "text/html"),
    written("as HTML, without semicolons", lambda secret: "".join(f"&#{ord(c)}" for c in secret), "text/html"),
    written("as HTML in HTML", lambda secret: "".join(f"&amp;#{ord(c)};" for c in secret), "text/html"),
    written("base64", b64),
    written("base64, one byte before", lambda secret: b64("a" + secret)),
    written("base64, two bytes before", lambda secret: b64("ab" + secret)),
    written("base64 for addresses", lambda secret: base64.urlsafe_b64encode(f"?>{secret}".encode()).decode()),
    written("base64 of the field", lambda secret: b64(f"Authorization: Bearer {secret}"), "application/json"),
    written("base64 in lines", lambda secret: base64.encodebytes(f"{'x' * 24}Authorization: Bearer {secret}".encode()).decode()),
    written("base64 in lines, in JSON", lambda secret: json.dumps(base64.encodebytes(f"{'x' * 45}{secret}{'x' * 60}".encode()).decode())),
    written("base64 in lines that end with CRLF", lambda secret: base64.encodebytes(f"{'x' * 50}{secret}".encode()).decode().replace("\n", "\r\n")),
    written("base64 in lines, percent-encoded", lambda secret: quote(base64.encodebytes(f"{'x' * 50}{secret}".encode()).decode(), safe="")),
    written("base64 percent-encoded", lambda secret: quote(b64(secret + "??>"), safe="")),
    written("base64 of JSON with escapes", lambda secret: b64(secret) + units(secret)),
    written("hexadecimal", lambda secret: secret.encode().hex()),
    written("hexadecimal in capitals", lambda secret: secret.encode().hex().upper()),
    written("bytes in hexadecimal", lambda secret: secret.encode().hex(" ")),
    written("bytes with colons", lambda secret: secret.encode().hex(":").upper()),
    written("a buffer of Node", lambda secret: json.dumps({"type": "Buffer", "data": list(secret.encode())}), "application/json"),
    written("a buffer of Node, in short", lambda secret: json.dumps(list(secret.encode()), separators=(",", ":")), "application/json"),
    written("quoted-printable", lambda secret: "".join(f"={ord(c):02X}" for c in secret)),
    written("octal", lambda secret: "".join(f"\\{ord(c):03o}" for c in secret)),
    written("base64 of base64", lambda secret: b64(b64(secret))),
    written("UTF-16", lambda secret: secret.encode("utf-16")),
    written("UTF-16, big endian", lambda secret: secret.encode("utf-16-be")),
    written("in bytes", lambda secret: b"\x00\xff\x0a" + secret.encode() + b"\xfe", "application/octet-stream"),
    written("in protobuf", lambda secret: b"\x0a" + bytes((len(secret),)) + secret.encode(), "application/x-protobuf"),
    written("in a part", lambda secret: f"--b\r\nX: {secret}\r\n\r\n{secret}\r\n--b--", "multipart/mixed; boundary=b"),
    written("in events", lambda secret: f"\ndata: {secret}\n\n", "text/event-stream"),
    written("twice", lambda secret: secret * 2),
    written("far behind", lambda secret: "x" * 300_000 + " " + secret),
    written("in JSON that is masked", lambda secret: secret, "application/json", outcome="withheld", path="/masked/echo"),
]  # fmt: skip

PLACES = [
    echo("a field", "shown", lambda s: (reply("plainly-seen", "text/plain", f"X-Auth: Bearer {s}"),)),
    echo("a field in base64", "shown", lambda s: (reply("plainly-seen", "text/plain", f"X-Auth: {b64('Bearer ' + s)}"),)),
    echo("a field's name", "shown", lambda s: (reply("plainly-seen", "text/plain", f"X-{s}: 1"),)),
    echo("a field's name in capitals", "shown", lambda s: (reply("plainly-seen", "text/plain", f"X-{s.upper()}: 1"),)),
    echo("a cookie", "shown", lambda s: (reply("plainly-seen", "text/plain", f"Set-Cookie: t={quote(s)}; Path=/"),)),
    echo("an address", "shown", lambda s: (reply("plainly-seen", "text/plain", f"Location: /?t={s}", status="302 Found"),)),
    echo("a tag", "shown", lambda s: (reply("plainly-seen", "text/plain", f'ETag: "{s}"'),)),
    echo("a type", "shown", lambda s: (reply("plainly-seen", f"text/plain; x={s}"),)),
    echo("a challenge", "shown", lambda s: (reply("plainly-seen", "text/plain", f'WWW-Authenticate: Bearer error="{s}"', status="401 No"),)),
    echo("the words of the status", "shown", lambda s: (reply("plainly-seen", status=f"200 {s}"),)),
    echo("the words of the status in base64", "shown", lambda s: (reply("plainly-seen", status=f"200 {b64(s)}"),)),
    echo("an early hint", "shown", lambda s: (f"HTTP/1.1 103 {s}\r\nLink: <{s}>\r\n\r\n".encode() + reply("plainly-seen"),)),
    echo("an error's page", "shown", lambda s: (reply(f"plainly-seen {s}", "text/html", status="500 Oops"),)),
    echo("trailers", "shown", lambda s: (CHUNKS + chunked(b"plainly-seen", trailers=f"X-T: {s}\r\n"),)),
    echo("chunk extensions", "shown", lambda s: (CHUNKS + chunked(b"plainly-seen", extension=f";x={s}"),)),
    echo("a body of 205", "shown", lambda s: (reply(f"plainly-seen {s}", status="205 Reset Content"),)),
    echo("partial content", "withheld", lambda s: (reply(s, "text/plain", "Content-Range: bytes 0-23/24", status="206 Partial"),)),
    echo("fields of HEAD", "bare", lambda s: (reply(b"", None, f"X-Auth: {s}"),), method="HEAD"),
    echo("a body of HEAD", "bare", lambda s: (reply(s, None),), method="HEAD"),
    echo("fields of 304", "bare", lambda s: (f"HTTP/1.1 304 Not Modified\r\nX-Auth: {s}\r\n\r\n".encode(),)),
    echo("a field that is broken", "withheld", lambda s: (f"HTTP/1.1 200 OK\r\nX Auth: {s}\r\n\r\n".encode(),)),
    echo("no HTTP", "withheld", lambda s: (f"Bearer {s}\r\n\r\n".encode(), CLOSE)),
    echo("a second response", "shown", lambda s: (reply("plainly-seen") + reply(s),)),
]  # fmt: skip

FRAMINGS = [
    echo("a chunk for each byte", "shown", lambda s: (reply(f"plainly-seen {s}", framing="chunked", step=1),)),
    echo("pieces of one byte", "shown", lambda s: tuple(cuts(reply(f"plainly-seen {s} ", framing="chunked", step=5), 1))),
    echo("two halves", "shown", lambda s: (CHUNKS + f"18\r\nplainly-seen{s[:12]}\r\n".encode(), f"c\r\n{s[12:]}\r\n0\r\n\r\n".encode())),
    echo("base64 in pieces", "shown", lambda s: tuple(cuts(reply("plainly-seen " + b64("a" + s), framing="chunked", step=3), 2))),
    echo("escapes in pieces", "shown", lambda s: tuple(cuts(reply("plainly-seen " + units(s), framing="chunked", step=4), 9))),
    echo("until the end", "shown", lambda s: (reply(f"plainly-seen {s}", framing="close"), CLOSE)),
    *(
        echo(f"packed by {' '.join(names)}", "shown", lambda s, names=names: (reply(packed(f"plainly-seen {s}".encode(), *names), "text/plain", f"Content-Encoding: {', '.join(names)}", framing="chunked", step=7),))
        for names in (("gzip",), ("deflate",), ("br",), ("zstd",), ("gzip", "br"))
    ),
    echo("packed in another way", "withheld", lambda s: (reply(s, "text/plain", "Content-Encoding: compress"),)),
    echo("packed, and damaged", "cut", lambda s: (reply(packed(b"x" * 70000 + s.encode(), "gzip")[:-8] + s.encode(), "text/plain", "Content-Encoding: gzip", framing="chunked"),)),
    echo("packed, and more behind", "cut", lambda s: (reply(packed(b"x" * 70000, "br") + s.encode(), "text/plain", "Content-Encoding: br", framing="chunked"),)),
]  # fmt: skip


@pytest.mark.parametrize("tried", [*WRITINGS, *PLACES, *FRAMINGS], ids=lambda tried: tried.name)
def test_the_credential_does_not_come_back(proxy: Attacked, tried: Echo) -> None:
    said: list[bytes] = []

    def script(seen: Seen) -> tuple[bytes, ...]:
        pieces = tried.says(seen.field("Authorization").removeprefix("Bearer "))
        said.extend(pieces)
        return pieces

    proxy.target.follows(script)
    received = proxy.send(ask(tried.path, method=tried.method))
    assert leaks(b"".join(said)) == [SECRET], "the target shows nothing, so this proves nothing"
    assert leaks(received) == [], received
    match tried.outcome:
        case "shown":
            assert shows(received), received
        case "withheld":
            assert received[9:12] in (b"403", b"502"), received
        case "cut":
            assert not received.endswith(b"0\r\n\r\n"), "what was cut looks whole"


# --- parts of an echo -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/open/echo", "/masked/echo"])
@pytest.mark.parametrize("field", ["Range: bytes=0-9", "Range: bytes=10-", "If-Range: x", "Request-Range: bytes=0-9"])
def test_no_part_of_an_echo_can_be_asked_for(proxy: Attacked, path: str, field: str) -> None:
    def page(seen: Seen) -> tuple[bytes, ...]:
        asked = seen.field("Range") or seen.field("Request-Range")
        if not asked:
            return (reply(json.dumps({"auth": seen.field("Authorization")})),)
        first, _, last = asked.removeprefix("bytes=").partition("-")
        part = SECRET[int(first) : int(last) + 1 if last else None]
        return (reply(part, "text/plain", "Content-Range: bytes 0-9/24", status="206 Partial Content"),)

    proxy.target.follows(page)
    received = proxy.send(ask(path, field))
    assert len(proxy.target.seen) == 1
    assert leaks(received) == [], received


@pytest.mark.parametrize("method", ["TRACE", "TRACK", "CONNECT"])
def test_methods_that_echo_or_tunnel_are_not_served(proxy: Attacked, method: str) -> None:
    proxy.target.follows(lambda seen: (reply(seen.raw, "message/http"),))
    received = proxy.send(ask("/open/echo", "Max-Forwards: 0", method=method))
    assert received.startswith(b"HTTP/1.1 405"), received
    assert proxy.target.seen == []


# --- WebSocket --------------------------------------------------------------------------------------------------------

UPGRADE = (
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
)
SWITCHED = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"


def frame(data: str | bytes, opcode: int = 1, *, final: bool = True, mask: bytes = b"") -> bytes:
    payload = data.encode() if isinstance(data, str) else data
    if mask:
        payload = bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))
    return bytes((opcode | (0x80 if final else 0), len(payload) | (0x80 if mask else 0))) + mask + payload


def messages(received: bytes) -> bytes:
    """The payloads of the data frames and, behind them, those of the control frames."""
    data, control, at = b"", b"", 0
    while at + 2 <= len(received):
        opcode, size = received[at] & 15, received[at + 1] & 127
        start = at + 2 + (4 if received[at + 1] & 128 else 0)
        payload = received[start : start + size]
        if received[at + 1] & 128:
            payload = bytes(byte ^ received[start - 4 + n % 4] for n, byte in enumerate(payload))
        if opcode < 8:
            data += payload
        else:
            control += payload
        at = start + size
    return data + b"|" + control


FRAMES: dict[str, Callable[[str], tuple[bytes, ...]]] = {
    "in one": lambda s: (frame(s),),
    "in JSON": lambda s: (frame(json.dumps({"t": s})),),
    "in base64": lambda s: (frame(b64(s), 2),),
    "escaped": lambda s: (frame(units(s)[:120]), frame(units(s)[120:], 0)),
    "masked": lambda s: (frame(s, mask=b"\x11\x22\x33\x44"),),
    "in a ping": lambda s: (frame(s, 9),),
    "in the words of the end": lambda s: (frame(b"\x03\xe8" + s.encode(), 8),),
    "in fragments": lambda s: (frame(s[:7], final=False), frame(s[7:15], 0, final=False), frame(s[15:], 0)),
    "a fragment for each byte": lambda s: (frame(s[0], final=False), *(frame(c, 0, final=False) for c in s[1:])),
    "in fragments with a ping between": lambda s: (frame(s[:12], final=False), frame("hello", 9), frame(s[12:], 0)),
    "in fragments with pings between": lambda s: tuple(frame(c, 0 if n else 1, final=False) + frame("xy", 9) for n, c in enumerate(s)),
    "in messages": lambda s: (frame(s[:12]), frame(s[12:])),
    "in pieces of one byte": lambda s: tuple(cuts(frame(s), 1)),
}  # fmt: skip


@pytest.mark.parametrize("name", FRAMES)
def test_the_credential_does_not_come_back_in_frames(proxy: Attacked, name: str) -> None:
    said: list[bytes] = []

    def script(seen: Seen) -> Iterator[bytes]:
        yield f"{SWITCHED}\r\n".encode() + frame("plainly-seen")
        frames = FRAMES[name](seen.field("Authorization").removeprefix("Bearer "))
        said.extend(frames)
        yield from frames
        yield CLOSE

    proxy.target.follows(script)
    received = proxy.send(ask("/open/socket", *UPGRADE))
    head, _, tail = received.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101"), received
    assert leaks(messages(b"".join(said))) == [SECRET], "the target shows nothing, so this proves nothing"
    assert leaks(tail) == leaks(messages(tail)) == [], tail


def test_the_credential_does_not_come_back_with_the_new_protocol(proxy: Attacked) -> None:
    proxy.target.follows(lambda seen: (f"{SWITCHED}X: {seen.field('Authorization')}\r\n\r\n".encode(), CLOSE))
    assert leaks(proxy.send(ask("/open/socket", *UPGRADE))) == []


def test_what_is_compressed_in_frames_is_not_asked_for(proxy: Attacked) -> None:
    proxy.target.says(f"{SWITCHED}\r\n".encode(), CLOSE)
    proxy.send(ask("/open/socket", *UPGRADE, "Sec-WebSocket-Extensions: permessage-deflate"))
    assert b"permessage-deflate" not in proxy.target.received
    assert proxy.target.seen


def test_compressed_frames_that_nobody_asked_for_are_not_passed_on(proxy: Attacked) -> None:
    switched = f"{SWITCHED}Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n".encode()
    squeezed = packed(SECRET.encode(), "raw")
    proxy.target.says(switched + frame(squeezed, 0x41), CLOSE)
    received = proxy.send(ask("/open/socket", *UPGRADE))
    assert squeezed not in received, received


# --- the client's own -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/open/x", "/masked/x"])
@pytest.mark.parametrize(
    "fields",
    [
        (f"Authorization: Bearer {BOB}",),
        (f"authorization: bearer  {BOB}",),
        (f"X-Checkrein-Key: {BOB}",),
        (f"Authorization: Basic {b64('any:' + BOB)}",),
        (f"Authorization: Bearer {BOB}", f"Proxy-Authorization: Bearer {BOB}"),
        (f"Authorization: Bearer {BOB}", f"Connection: close, x-y\r\nX-Y: {BOB}"),
    ],
    ids=["bearer", "small letters", "key", "basic", "for a proxy", "nominated"],
)  # fmt: skip
def test_the_clients_credential_does_not_reach_the_target(proxy: Attacked, fields: tuple[str, ...], path: str) -> None:
    proxy.target.says(reply(b"{}"))
    lines = [f"GET {path} HTTP/1.1", "Host: api.test", *fields, "", ""]
    if not any("Connection" in field for field in fields):
        lines.insert(2, "Connection: close")
    received = proxy.send("\r\n".join(lines).encode())
    assert received.startswith(b"HTTP/1.1 200"), received
    assert leaks(proxy.target.received, (ALICE, BOB)) == [], proxy.target.received
    assert SECRET.encode() in proxy.target.received


@pytest.mark.parametrize(
    "more",
    [f"Authorization: Bearer {BOB}", f"X-Checkrein-Key: {BOB}", f"X_Checkrein_Key: {BOB}", f"Connection: Authorization\r\nX: {BOB}"],
    ids=["two", "two kinds", "underscores", "nominated"],
)  # fmt: skip
def test_who_shows_two_credentials_is_not_served(proxy: Attacked, more: str) -> None:
    proxy.target.says(reply(b"{}"))
    received = proxy.send(ask("/open/x", more))
    assert received.startswith(b"HTTP/1.1 400"), received
    assert proxy.target.seen == []


# --- a credential in the query ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def by_query() -> Iterator[Attacked]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CHECKREIN_TEST_UPSTREAM", SECRET)
        credential = {"query": "api_key", "value": {"env": "CHECKREIN_TEST_UPSTREAM"}}
        with attacked(credentials={"default": credential}) as running:
            yield running


@pytest.mark.parametrize(
    "query",
    ["api_key=mine", "API_KEY=mine", "api%5Fkey=mine", "%61pi_key=mine", "a=1&api_key=mine&api_key=mine", "api_key", "Api_Key=", "api%5fKEY=mine"],
)  # fmt: skip
def test_a_client_brings_no_credential_of_its_own(by_query: Attacked, query: str) -> None:
    by_query.target.follows(lambda seen: (reply(json.dumps({"url": seen.target, "at": quote(seen.target)})),))
    received = by_query.send(ask(f"/open/x?{query}"))
    assert received.startswith(b"HTTP/1.1 200"), received
    target = by_query.target.seen[0].target
    assert target.endswith(f"api_key={SECRET}"), target
    assert target.lower().count("key") == 1, target
    assert leaks(received) == [], received


@pytest.mark.parametrize(
    "query",
    ["a=1;api_key=mine", "api_key%00=mine", "api_key%20=mine", "%20api_key=mine", "a=%0&api_key=mine", "api_key%ff=1"],
)
def test_a_query_that_can_be_read_in_two_ways_is_refused(by_query: Attacked, query: str) -> None:
    by_query.target.says(reply(b"{}"))
    received = by_query.send(ask(f"/open/x?{query}"))
    assert received.startswith(b"HTTP/1.1 400"), received
    assert by_query.target.seen == []


# --- a credential in another field, or as user and password -----------------------------------------------------------


@pytest.fixture(scope="module")
def by_field() -> Iterator[Attacked]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CHECKREIN_TEST_UPSTREAM", SECRET)
        credential = {"header": "X-Api-Key", "value": {"env": "CHECKREIN_TEST_UPSTREAM"}, "template": "Key {value}"}
        with attacked(credentials={"default": credential}) as running:
            yield running


@pytest.mark.parametrize("field", ["X-Api-Key: mine", "x-api-key: Key mine", "X-API-KEY: mine\r\nX-Api-Key: mine"])
def test_a_client_brings_no_field_of_its_own(by_field: Attacked, field: str) -> None:
    by_field.target.follows(lambda seen: (reply(seen.raw, "text/plain"),))
    received = by_field.send(ask("/open/x", field))
    assert received.startswith(b"HTTP/1.1 200"), received
    assert by_field.target.seen[0].raw.lower().count(b"api-key:") == 1
    assert by_field.target.seen[0].field("X-Api-Key") == f"Key {SECRET}"
    assert leaks(received) == [], received


@pytest.mark.parametrize(
    "field", ["X_Api_Key: mine", "X.Api.Key: mine", "X-Api-Key : mine", "Connection: close, X-Api-Key"]
)
def test_a_field_that_passes_for_the_credentials_is_refused(by_field: Attacked, field: str) -> None:
    by_field.target.says(reply(b"{}"))
    received = by_field.send(ask("/open/x", field))
    assert received.startswith(b"HTTP/1.1 400"), received
    assert by_field.target.seen == []


@pytest.fixture(scope="module")
def by_password() -> Iterator[Attacked]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CHECKREIN_TEST_UPSTREAM", SECRET)
        credential = {"basic": {"user": "the-robot", "password": {"env": "CHECKREIN_TEST_UPSTREAM"}}}
        with attacked(credentials={"default": credential}) as running:
            yield running


@pytest.mark.parametrize("writing", ["pair", "pair packed", "pair percent-encoded", "password", "pair in base64", "hexadecimal", "words of the status"])  # fmt: skip
def test_neither_the_pair_nor_the_password_comes_back(by_password: Attacked, writing: str) -> None:
    said: list[bytes] = []

    def script(seen: Seen) -> tuple[bytes, ...]:
        pair = seen.field("Authorization").removeprefix("Basic ")
        password = base64.b64decode(pair).decode()
        match writing:
            case "pair packed":
                answer = reply(packed(pair.encode(), "gzip"), "text/plain", "Content-Encoding: gzip")
            case "words of the status":
                answer = reply(b"", status=f"200 {pair}")
            case _:
                answer = reply(
                    {
                        "pair": pair,
                        "pair percent-encoded": quote(pair, safe=""),
                        "password": password,
                        "pair in base64": b64(pair),
                        "hexadecimal": password.encode().hex(),
                    }[writing],
                    "text/plain",
                )
        said.append(answer)
        return (answer,)

    by_password.target.follows(script)
    received = by_password.send(ask("/open/x"))
    assert leaks(b"".join(said)) == [SECRET], "the target shows nothing, so this proves nothing"
    assert leaks(received) == [], received
