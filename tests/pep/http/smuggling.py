"""Crafted requests, by the classes of request smuggling: what a strict reader answers to each.

Of each the whole of what a client sends, and the status of the refusal as text, or "ok" where a valid request is to
pass.
`PATHS` are refused (or not) for their path, once the head has been read. All are for the host `HOST`.
"""

from collections.abc import Iterator
from typing import NamedTuple

HOST = "api.test"
OK = "ok"


class Crafted(NamedTuple):
    name: str
    data: bytes
    expected: str


def get(*lines: str, line: str = "GET /a HTTP/1.1", host: str | None = f"Host: {HOST}", body: bytes = b"") -> bytes:
    head = [line, *([host] if host is not None else []), *lines]
    return "".join(f"{each}\r\n" for each in head).encode("latin-1") + b"\r\n" + body


def post(*lines: str, body: bytes = b"", line: str = "POST /a HTTP/1.1") -> bytes:
    return get(*lines, line=line, body=body)


CHUNKED = "Transfer-Encoding: chunked"
SMUGGLED = b"GET /admin HTTP/1.1\r\nHost: api.test\r\n\r\n"


def chunked(body: bytes) -> bytes:
    return post(CHUNKED, body=body)


def _lengths() -> Iterator[tuple[str, bytes, str]]:
    yield "CL.TE", post("Content-Length: 6", CHUNKED, body=b"0\r\n\r\nG"), "400"
    yield "TE.CL", post(CHUNKED, "Content-Length: 4", body=b"5c\r\nGPOST / HTTP/1.1\r\n\r\n0\r\n\r\n"), "400"
    yield "CL.0 and TE", post("Content-Length: 0", CHUNKED, body=b"0\r\n\r\n"), "400"
    yield "CL twice, different", post("Content-Length: 5", "Content-Length: 6", body=b"hello!"), "400"
    yield "CL twice, equal", post("Content-Length: 5", "Content-Length: 5", body=b"hello"), "400"
    yield "CL twice, other case", post("Content-Length: 5", "content-length: 5", body=b"hello"), "400"
    for value in ("5, 5", "5,6", "5,", "+5", "-5", "-0", "0x5", "5_0", "5 5", "5.0", "05", "005", "5e0", "", "five",
                  "1" * 19, "9" * 40, "\xb2", "5;", '"5"', "5\t5"):  # fmt: skip
        yield f"CL is {value!r}", post(f"Content-Length: {value}", body=b"hello"), "400"
    yield "CL with white space around", post("Content-Length: \t5 \t", body=b"hello"), OK
    yield "CL plain", post("Content-Length: 5", body=b"hello"), OK
    yield "CL of nothing", post("Content-Length: 0"), OK
    yield "CL on a GET", get("Content-Length: 5", body=b"hello"), OK
    yield "no body said", post(), OK


def _codings() -> Iterator[tuple[str, bytes, str]]:
    body = b"0\r\n\r\n"
    for value in ("xchunked", "chunked, chunked", "chunked, identity", "identity", "gzip", "gzip, chunked",
                  "chunked;q=1", "chunked;", ",chunked", "chunked,", '"chunked"', "chunked\x0b", "\x0bchunked", "",
                  "chunke\xe4d", "cow", "chunked chunked", "'chunked'", "\xa0chunked"):  # fmt: skip
        yield f"TE is {value!r}", post(f"Transfer-Encoding: {value}", body=body), "400"
    yield "TE twice", post(CHUNKED, CHUNKED, body=body), "400"
    yield "TE.TE", post(CHUNKED, "Transfer-encoding: cow", body=body), "400"
    yield "TE with HTTP/1.0", post(CHUNKED, body=body, line="POST /a HTTP/1.0"), "400"
    yield "TE white space before the colon", post("Transfer-Encoding : chunked", body=body), "400"
    yield "TE tab before the colon", post("Transfer-Encoding\t: chunked", body=body), "400"
    yield "TE on a folded line", post("Transfer-Encoding:", " chunked", body=body), "400"
    yield "TE behind a bare LF", post("X: a\nTransfer-Encoding: chunked", body=body), "400"
    yield "TE behind a bare CR", post("X: a\rTransfer-Encoding: chunked", body=body), "400"
    yield "TE with an underscore", post("Transfer_Encoding: chunked"), "400"
    yield "CL with an underscore", post("Content_Length: 5", body=b"hello"), "400"
    yield "TE with a dot", post("Transfer.Encoding: chunked"), "400"
    yield "TE with a NUL", post("Transfer-Encoding\0: chunked", body=body), "400"
    yield "TE in capitals", post("TRANSFER-ENCODING: CHUNKED", body=body), OK
    yield "TE plain", post(CHUNKED, body=body), OK


def _chunks() -> Iterator[tuple[str, bytes, str]]:
    for size in (b"+5", b"-5", b"0x5", b"5_0", b" 5", b"5 ", b"5\t", b"\t5", b"", b"g", b"5\0", b"1" + b"0" * 15,
                 b"f" * 16, b"f" * 200, b"0" * 20 + b"5", b"5,5", b"5.0", b"\xb2", b"5;", b"5; a", b"5 ;a", b"5;a=",
                 b"5;=b", b"5;a=b c", b'5;a="b', b"5;a\nb", b"5;a\rb", b"5;" + b"a" * 200):  # fmt: skip
        yield f"chunk size {size[:24]!r}", chunked(size + b"\r\nhello\r\n0\r\n\r\n"), "400"
    yield "chunk size ends in LF", chunked(b"5\nhello\r\n0\r\n\r\n"), "400"
    yield "chunk size ends in CR", chunked(b"5\rhello\r\n0\r\n\r\n"), "400"
    yield "chunk ends in LF", chunked(b"5\r\nhello\n0\r\n\r\n"), "400"
    yield "chunk longer than said", chunked(b"5\r\nhello!\r\n0\r\n\r\n"), "400"
    yield "chunk ends in other bytes", chunked(b"5\r\nhelloXX0\r\n\r\n"), "400"
    yield "last chunk ends in LF", chunked(b"5\r\nhello\r\n0\n\n"), "400"
    yield "last line ends in LF", chunked(b"5\r\nhello\r\n0\r\n\n"), "400"
    yield (
        "many extensions",
        chunked(b"1;" + b"a" * 100 + b"\r\nx\r\n" + (b"1;" + b"a" * 100 + b"\r\nx\r\n") * 20),
        "400",
    )
    yield "trailer folded", chunked(b"0\r\nX: a\r\n b\r\n\r\n"), "400"
    yield "trailer without a colon", chunked(b"0\r\nX\r\n\r\n"), "400"
    yield "trailer ends in LF", chunked(b"0\r\nX: a\n\r\n"), "400"
    yield "trailer holds a NUL", chunked(b"0\r\nX: a\0\r\n\r\n"), "400"
    for name in (b"Content-Length: 5", b"Transfer-Encoding: chunked", b"Host: other.test", b"Authorization: Bearer x",
                 b"Cookie: a=b", b"X-Forwarded-For: ::1", b"Content_Length: 5", b"Connection: close"):  # fmt: skip
        yield f"trailer {name.decode()}", chunked(b"0\r\n" + name + b"\r\n\r\n"), "400"
    yield "trailers too long", chunked(b"0\r\nX: " + b"a" * 9000 + b"\r\n\r\n"), "400"
    yield "chunks plain", chunked(b"5\r\nhello\r\nA\r\n0123456789\r\n0\r\n\r\n"), OK
    yield "chunks with small extensions", chunked(b'5;a=b;c="d e"\r\nhello\r\n0;x\r\n\r\n'), OK
    yield "a trailer", chunked(b"5\r\nhello\r\n000\r\nX-Sum: 1\r\n\r\n"), OK


def _lines() -> Iterator[tuple[str, bytes, str]]:
    yield "bare LF everywhere", b"GET /a HTTP/1.1\nHost: api.test\n\n", "400"
    yield "bare LF after the request line", b"GET /a HTTP/1.1\nHost: api.test\r\n\r\n", "400"
    yield "bare LF ends the head", b"GET /a HTTP/1.1\r\nHost: api.test\r\n\n", "400"
    yield "bare LF, then CRLF", b"GET /a HTTP/1.1\r\nHost: api.test\n\r\n" + SMUGGLED, "400"
    yield "bare CR ends a line", b"GET /a HTTP/1.1\r\nHost: api.test\rX: a\r\n\r\n", "400"
    yield "bare CR in a value", get("X: a\rb"), "400"
    yield "CR CR LF", b"GET /a HTTP/1.1\r\r\nHost: api.test\r\n\r\n", "400"
    yield "folded", get("X: a", " b"), "400"
    yield "folded with a tab", get("X: a", "\tb"), "400"
    yield "white space before the first field", b"GET /a HTTP/1.1\r\n Host: api.test\r\nHost: api.test\r\n\r\n", "400"
    yield "a line of white space", get(" "), "400"
    yield "no colon", get("X"), "400"
    yield "no name", get(": a"), "400"
    yield "white space in a name", get("X Y: a"), "400"
    yield "white space before the colon", get("X : a"), "400"
    for code in (0, 1, 8, 11, 12, 27, 31, 127):
        yield f"control character {code} in a value", get(f"X: a{chr(code)}b"), "400"
    for name in ("X\0", "X\x7f", "X(a)", "X/a", "X@", "X[", 'X"', "X\xe4", "X{}", "X=a", "X,Y", "X;Y", "X?", "X\\Y"):
        yield f"name {name!r}", get(f"{name}: a"), "400"
    for name in ("X_Role", "X.Role", "X$Role", "Checkrein_Token", "Content_Type", "X!", "X+Y", "X'", "X`"):
        yield f"name {name!r} a gateway takes for another", get(f"{name}: a"), "400"
    yield "two empty lines in front", b"\r\n\r\n" + get(), "400"
    yield "an LF in front", b"\n" + get(), "400"
    yield "white space in front", b" " + get(), "400"
    yield "a NUL in front", b"\0" + get(), "400"
    yield "a TLS hello", bytes.fromhex("1603010200010001fc0303") + bytes(40), "400"
    yield "a byte order mark", b"\xef\xbb\xbf" + get(), "400"
    yield "too many fields", get(*["X: a"] * 200), "431"
    yield "a line too long", get("X: " + "a" * 20_000), "431"
    yield "a head too long", get(*["X: " + "a" * 10_000] * 8), "431"
    yield "one empty line in front", b"\r\n" + get(), OK
    yield "obs-text in a value", get("X: \xe4\xff"), OK
    yield "no white space after the colon", get("X:a"), OK
    yield "an empty value", get("X:"), OK


def _request_lines() -> Iterator[tuple[str, bytes, str]]:
    for version in ("HTTP/2.0", "HTTP/1.2", "HTTP/0.9", "HTTP/3.0", "HTTP/9.9"):
        yield f"version {version}", get(line=f"GET /a {version}"), "505"
    for version in ("HTTP/1.10", "HTTP/01.1", "HTTP/1", "http/1.1", "HTTP/1.1 ", "HTTP/1.1 x", "HTTP /1.1", "HTTP/1,1",
                    "HTTP/\xb9.1", "HTTP/+1.1", "XTTP/1.1", "ICY/1.1", "HTTP/11", "HTTP/1.1\t",
                    "HTTP/1.1\x0b"):  # fmt: skip
        yield f"version {version!r}", get(line=f"GET /a {version}"), "400"
    yield "HTTP/0.9", b"GET /a\r\n\r\n", "400"
    yield "HTTP/0.9, one line", b"GET /a\r\n", "400"
    yield "HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "505"
    yield "HTTP/2 method", get(line="PRI * HTTP/1.1"), "501"
    for line in ("GET  /a HTTP/1.1", "GET\t/a HTTP/1.1", "GET /a  HTTP/1.1", "GET /a\tHTTP/1.1", "GET /a b HTTP/1.1",
                 "GET HTTP/1.1", "/a HTTP/1.1", "GET /a\0 HTTP/1.1", "GET /a\x7f HTTP/1.1", "GET /\xe4 HTTP/1.1",
                 "GET /a#b HTTP/1.1", "GET a HTTP/1.1", "GET * HTTP/1.1", "GET ?a HTTP/1.1", "G(T /a HTTP/1.1",
                 "G\xcbT /a HTTP/1.1", "GET\x0b/a HTTP/1.1", "GET /a\x0cHTTP/1.1", "G@T /a HTTP/1.1"):  # fmt: skip
        yield f"line {line!r}", get(line=line), "400"
    for method in ("get", "Get", "GET_", "G", "!", "G3T", "A" * 40, "GET-"):
        yield f"method {method}", get(line=f"{method} /a HTTP/1.1"), OK if method == "G" else "501"
    yield "TRACE", get(line="TRACE /a HTTP/1.1"), "405"
    yield "TRACK", get(line="TRACK /a HTTP/1.1"), "405"
    yield "CONNECT", get(line=f"CONNECT {HOST}:443 HTTP/1.1"), "405"
    yield "authority-form", get(line=f"GET {HOST}:443 HTTP/1.1"), "400"
    yield "a target too long", get(line="GET /" + "a" * 9000 + " HTTP/1.1"), "414"
    yield "a request line that never ends", b"GET /" + b"a" * 9000, "414"
    yield "OPTIONS *", get(line="OPTIONS * HTTP/1.1"), OK
    yield "HTTP/1.0", get(line="GET /a HTTP/1.0"), OK
    yield "a method of its own", get(line="M-SEARCH /a HTTP/1.1"), OK


def _hosts() -> Iterator[tuple[str, bytes, str]]:
    yield "no Host", get(host=None), "400"
    yield "no Host in HTTP/1.0", get(line="GET /a HTTP/1.0", host=None), "400"
    yield "Host twice", get(f"Host: {HOST}"), "400"
    yield "another Host second", get("Host: other.test"), "400"
    yield "Host in other case", get("host: other.test"), "400"
    for value in ("", "a b", "a,b", "a/b", "user@a", "a?b", "a#b", "a:", "a:b", "a:99999", "a:123456", "[::1", "::1",
                  "a%2eb", "\xe4", "a\\b", "[::1]x", "http://a", ".a", "a:80:80", "a\tb", "*"):  # fmt: skip
        yield f"Host is {value!r}", get(host=f"Host: {value}"), "400"
    for target in ("http://other.test/a", f"http://user@{HOST}/a", f"http://{HOST}:81/a", f"http://{HOST}@other.test/a",
                   f"ftp://{HOST}/a", f"http:/{HOST}/a", f"http:{HOST}/a", "http:///a", f"http://{HOST}\\a",
                   f"HTTP:\\\\{HOST}/a", f"http://{HOST}#/a"):  # fmt: skip
        yield f"target {target}", get(line=f"GET {target} HTTP/1.1"), "400"
    yield "absolute-form", get(line=f"GET http://{HOST}/a?b HTTP/1.1"), OK
    yield "absolute-form in capitals", get(line=f"GET HTTP://{HOST.upper()}/a HTTP/1.1"), OK
    yield "absolute-form without a path", get(line=f"GET http://{HOST} HTTP/1.1"), OK
    yield "Host in capitals", get(host=f"Host: {HOST.upper()}"), OK


def _fields() -> Iterator[tuple[str, bytes, str]]:
    for name in ("Authorization", "Content-Type", "Cookie", "Range", "X-HTTP-Method-Override", "Mcp-Session-Id",
                 "Origin", "Sec-WebSocket-Key"):  # fmt: skip
        yield f"{name} twice", get(f"{name}: a", f"{name.lower()}: b"), "400"
    for value in ("200-ok", "100-continue, x", "", "100-continue;a"):
        yield f"Expect {value!r}", post(f"Expect: {value}", "Content-Length: 5"), "417"
    for name in ("Host", "Authorization", "Content-Length", "Cookie", "Content-Type", "X-Forwarded-For", "Expect",
                 "Sec-WebSocket-Key", "X-HTTP-Method-Override"):  # fmt: skip
        yield f"Connection: {name}", get(f"Connection: close, {name}"), "400"
    yield "Connection is no list of names", get("Connection: a b"), "400"
    yield (
        "Upgrade with a body",
        post("Connection: upgrade", "Upgrade: websocket", "Content-Length: 5", body=b"hello"),
        "400",
    )
    yield "Connection names a field of its own", get("Connection: close, X-Private", "X-Private: a"), OK
    yield "h2c", get("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABk"), OK
    yield "Upgrade", get("Connection: keep-alive, Upgrade", "Upgrade: websocket"), OK
    yield "Upgrade that Connection does not name", get("Upgrade: websocket"), OK
    yield "Expect", post("Expect: 100-Continue", "Content-Length: 5", body=b"hello"), OK
    yield "Method override", post("X-HTTP-Method-Override: DELETE", "Content-Length: 0"), OK


def _pipelines() -> Iterator[tuple[str, bytes, str]]:
    yield "two requests", get() + SMUGGLED, OK
    yield "a body, then a request", post("Content-Length: 5", body=b"hello") + SMUGGLED, OK
    yield "chunks, then a request", chunked(b"5\r\nhello\r\n0\r\n\r\n") + SMUGGLED, OK
    yield "a request, then junk", get() + b"\0junk", "400"
    yield "a body longer than said", post("Content-Length: 3", body=b"hello") + b"\r\n\r\n", "400"
    yield "chunks, then another last chunk", chunked(b"0\r\n\r\n0\r\n\r\n"), "400"


_CLASSES = {
    "lengths": _lengths,
    "codings": _codings,
    "chunks": _chunks,
    "lines": _lines,
    "request lines": _request_lines,
    "hosts": _hosts,
    "fields": _fields,
    "pipelines": _pipelines,
}
REQUESTS = tuple(Crafted(f"{kind}: {name}", data, code) for kind, of in _CLASSES.items() for name, data, code in of())

AMBIGUOUS_PATHS = (
    "//a", "/a//b", "/a//", "/./a", "/a/.", "/a/../b", "/..", "/a/%2e%2e/b", "/a/.%2e/b", "/a/%2E/b", "/a;b/c",
    "/..;/a",
    "/a%3bb", "/a/..%3b/b", "/a%2fb", "/a%2Fb", "/a%5cb", "/a\\b", "/a%00", "/a%0a", "/a%0d%0aX:b", "/a%7f", "/a%252fb",
    "/a%25", "/%252e%252e/a", "/a%", "/a%2", "/a%zz", "/a%u002f", "/a%c0%af", "/a%c0%ae", "/a%ff", "/a%ed%a0%80",
    "/a%ef%bc%8fb", "/a%ef%bc%8e%ef%bc%8e/b", "/%ef%bc%8e%ef%bc%8e/b", "/a%c2%85", "/...", "/a./b", "/a%20", "/a%2e",
    "/a%3fb",
)  # fmt: skip
CANONICAL_PATHS = {
    "/": "/", "/a": "/a", "/a/": "/a/", "/%61": "/a", "/%7euser": "/~user", "/a%2db": "/a-b", "/a%2eb": "/a.b",
    "/a%c3%a4": "/a%C3%A4", "/a%20b": "/a%20b", "/a+b": "/a+b", "/a%2bb": "/a%2Bb", "/a[0]": "/a%5B0%5D",
    "/a|b": "/a%7Cb",
    "/a{b}": "/a%7Bb%7D", "/a:b@c": "/a:b@c", "/a%40b": "/a%40b", "/.well-known/x": "/.well-known/x", "/a..b": "/a..b",
    "/a%23b": "/a%23b",
}  # fmt: skip
PATHS = (
    *(Crafted(f"path: {path}", get(line=f"GET {path} HTTP/1.1"), "400") for path in AMBIGUOUS_PATHS),
    *(Crafted(f"path: {path}", get(line=f"GET {path} HTTP/1.1"), OK) for path in CANONICAL_PATHS),
)
