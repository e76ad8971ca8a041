"""Crafted requests as a client of the proxy sends them, with a credential, and what of each may reach a target.

`granted` are the requests that are to be granted, in order, with their bodies; `answer` is what comes after them:
OK (nothing but the answers to those), REFUSED (400 and its kin) or DENIED (403). What policy allows is below /allowed.
Where `more` holds, another request can follow on the connection, and is served unless the connection was closed.
"""

from collections.abc import Iterator
from typing import NamedTuple

from tests.pep.http.smuggling import CHUNKED, HOST, OK

REFUSED, DENIED = "refused", "denied"
CREDENTIAL = "client-credential-7c1d93e5"
AUTHORIZATION = f"Authorization: Bearer {CREDENTIAL}"


class Sent(NamedTuple):
    """A request as the target is to see it; `body` as the client meant it."""

    line: str
    body: bytes = b""


class Attempt(NamedTuple):
    name: str
    data: bytes
    answer: str
    granted: tuple[Sent, ...] = ()
    more: bool = True


def ask(line: str, *fields: str, body: bytes = b"", host: str | None = HOST) -> bytes:
    """With the credential; `line` without its version is of HTTP/1.1."""
    first = line if " HTTP/" in line else f"{line} HTTP/1.1"
    lines = [first, *([f"Host: {host}"] if host is not None else []), AUTHORIZATION, *fields]
    return "".join(f"{each}\r\n" for each in lines).encode("latin-1") + b"\r\n" + body


def sized(line: str, body: bytes, *fields: str) -> bytes:
    return ask(line, f"Content-Length: {len(body)}", *fields, body=body)


def chunks(line: str, *parts: bytes, fields: tuple[str, ...] = ()) -> bytes:
    body = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
    return ask(line, CHUNKED, *fields, body=body)


GET, POST = "GET /allowed/a", "POST /allowed/a"
LAST = ask("GET /allowed/last", "Connection: close")
ADMIN = ask("GET /admin/smuggled")
HIDDEN = ask("GET /allowed/hidden")


# --- framing ----------------------------------------------------------------------------------------------------------


def _framing() -> Iterator[Attempt]:
    for size, body in ((4, b"0\r\n\r\n"), (len(ADMIN) + 5, b"0\r\n\r\n" + ADMIN), (0, b"5\r\nhello\r\n0\r\n\r\n")):
        for first, second in ((f"Content-Length: {size}", CHUNKED), (CHUNKED, f"Content-Length: {size}")):
            yield Attempt(f"{first} and {second}", ask(POST, first, second, body=body), REFUSED)
    for coding in (
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding : chunked",
        "Transfer-Encoding:\x0bchunked",
        "Transfer-Encoding: chunked, identity",
        "Transfer-Encoding: identity, chunked",
        "Transfer-Encoding: \x00chunked",
        "X: a\nTransfer-Encoding: chunked",
        "Transfer_Encoding: chunked",
        "X: a\rTransfer-Encoding: chunked",
        " Transfer-Encoding: chunked",
        "Transfer-Encoding:\r\n chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: x",
        "Transfer-Encoding\x85: chunked",
        "Transfer-Encoding: chunked;x=1",
        'Transfer-Encoding: "chunked"',
        "Transfer-Encoding: gzip",
    ):
        for length in ((), (f"Content-Length: {len(ADMIN) + 5}",)):
            data = ask(POST, *length, coding, body=b"0\r\n\r\n" + ADMIN)
            yield Attempt(f"{coding!r} beside {length}", data, REFUSED)
    for value in ("5, 5", "+5", "0x5", "5 5", "05", "5;", "\x005", "5\x0b", "-1", "18446744073709551616", "5_0", ""):
        yield Attempt(f"a length of {value!r}", ask(POST, f"Content-Length: {value}", body=b"hello"), REFUSED)
    for pair in (("5", "5"), ("5", "0"), ("0", "5")):
        fields = [f"Content-Length: {value}" for value in pair]
        yield Attempt(f"lengths {pair}", ask(POST, *fields, body=b"hello"), REFUSED)
    yield Attempt("a chunked body in HTTP/1.0", ask(f"{POST} HTTP/1.0", CHUNKED, body=b"0\r\n\r\n" + ADMIN), REFUSED)


def _chunks() -> Iterator[Attempt]:
    """The head is granted and the target has it; what it never gets is a whole request."""
    for size in (
        b"0x5",
        b"+5",
        b" 5",
        b"5 ",
        b"5\t",
        b"5\n",
        b"\n5",
        b"5;\n",
        b"",
        b"-5",
        b"5\x00",
        b"f" * 17,
        b"5;a\rb",
        b'5;a="b',
        b"5;" + b"a" * 4000,
        b"5,5",
        b"5\r",
    ):
        data = ask(POST, PLAIN, CHUNKED, body=size + b"\r\nhello\r\n0\r\n\r\n" + ADMIN)
        yield Attempt(f"chunk size {size[:20]!r}", data, REFUSED, (Sent(POST, b"cut"),))
    for name, body in (
        ("a chunk that ends in LF", b"5\r\nhello\n0\r\n\r\n"),
        ("a chunk that is longer", b"5\r\nhello, world\r\n0\r\n\r\n"),
        ("a chunk that ends in other bytes", b"5\r\nhelloXX0\r\n\r\n"),
        ("a last chunk that ends in LF", b"5\r\nhello\r\n0\n\n"),
        ("a last line that is a bare LF", b"5\r\nhello\r\n0\r\n\n"),
        ("a last line that is a bare CR", b"5\r\nhello\r\n0\r\n\rX"),
        ("a trailer Content-Length", b"0\r\nContent-Length: 5\r\n\r\n"),
        ("a trailer Transfer-Encoding", b"0\r\nTransfer-Encoding: chunked\r\n\r\n"),
        ("a trailer Host", b"0\r\nHost: other\r\n\r\n"),
        ("a trailer Authorization", b"0\r\nAuthorization: Bearer x\r\n\r\n"),
        ("a trailer X-HTTP-Method-Override", b"0\r\nX-HTTP-Method-Override: DELETE\r\n\r\n"),
        ("a folded trailer", b"0\r\nX: a\r\n b\r\n\r\n"),
        ("a request in the trailers", b"0\r\nGET /admin HTTP/1.1\r\n\r\n"),
    ):
        yield Attempt(name, ask(POST, PLAIN, CHUNKED, body=body + ADMIN), REFUSED, (Sent(POST, b"cut"),))
    for name, body, whole in (
        ("chunks", b"5\r\nhello\r\n1\r\n!\r\n0\r\n\r\n", b"hello!"),
        ("chunk sizes with zeros", b"0005\r\nhello\r\n000\r\n\r\n", b"hello"),
        ("chunk extensions", b'5;a=b;c="d e"\r\nhello\r\n0;x\r\n\r\n', b"hello"),
        ("a trailer", b"5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n", b"hello"),
        ("no chunk", b"0\r\n\r\n", b""),
    ):
        yield Attempt(name, ask(POST, PLAIN, CHUNKED, body=body), OK, (Sent(POST, whole),))
    yield Attempt("chunks that hold a request", chunks(POST, ADMIN, fields=(PLAIN,)), OK, (Sent(POST, ADMIN),))
    body = b"0\r\n\r\n" + ADMIN
    yield Attempt("chunks that hold a last chunk", chunks(POST, body, fields=(PLAIN,)), OK, (Sent(POST, body),))


# --- lines ------------------------------------------------------------------------------------------------------------


def _lines() -> Iterator[Attempt]:
    for field in (
        "X: a\n b",
        "X: a\r\n b",
        "X: a\r\n\tb",
        "X: a\rb",
        "X: a\nGET /admin HTTP/1.1",
        "X: a\0b",
        "X : b",
        "X\t: b",
        "X",
        ": b",
        "X Y: b",
        "X\x01: b",
        "X: \x7f",
        "X: \x1b[0m",
        "X_Y: b",
        "X.Y: b",
        "Content_Length: 5",
        "Content-Length_: 5",
        "X(y): b",
        "X\xa0: b",
        "\x0bX: b",
    ):
        yield Attempt(f"field {field!r}", ask(GET, field), REFUSED)
    yield Attempt("bare LF everywhere", LAST.replace(b"\r\n", b"\n"), REFUSED)
    # The head never ends for a strict reader: it is refused at once, not when the time is up.
    yield Attempt("bare LF everywhere, and no more", LAST.replace(b"\r\n", b"\n"), REFUSED, more=False)
    yield Attempt("bare CR everywhere", LAST.replace(b"\r\n", b"\r"), REFUSED)
    yield Attempt("LF LF ends the head", ask(GET)[:-4] + b"\n\n" + ADMIN, REFUSED)
    yield Attempt("CRLF LF ends the head", ask(GET)[:-2] + b"\n" + ADMIN, REFUSED)
    yield Attempt("LF CRLF ends the head", ask(GET)[:-4] + b"\n\r\n" + ADMIN, REFUSED)
    yield Attempt("CR CRLF", ask(GET).replace(b"\r\n", b"\r\r\n", 1), REFUSED)
    yield Attempt("a NUL between two requests", ask(GET) + b"\0" + ADMIN, REFUSED, (Sent(GET),))
    yield Attempt("a second empty line between", ask(GET) + b"\r\n\r\n" + ADMIN, REFUSED, (Sent(GET),))
    yield Attempt("a blank between two requests", ask(GET) + b" " + ADMIN, REFUSED, (Sent(GET),))
    yield Attempt("many fields", ask(GET, *(f"X-{number}: a" for number in range(200))), REFUSED)
    yield Attempt("a field of 40 KB", ask(GET, "X: " + "a" * 40_000), REFUSED)
    yield Attempt("a head of 200 KB", ask(GET, *["X: " + "a" * 10_000] * 20), REFUSED)
    yield Attempt("a target of 20 KB", ask(GET + "a" * 20_000), REFUSED)
    yield Attempt("an empty line in front", b"\r\n" + ask(GET), OK, (Sent(GET),))
    yield Attempt("an empty value", ask(GET, "X:"), OK, (Sent(GET),))
    yield Attempt("a value in Latin-1", ask(GET, "X: \xe4\xff"), OK, (Sent(GET),))
    yield Attempt("white space around a value", ask(GET, "X:\t a \t"), OK, (Sent(GET),))


def _request_lines() -> Iterator[Attempt]:
    for version in ("HTTP/0.9", "HTTP/1.2", "HTTP/2.0", "HTTP/1.10", "http/1.1", "HTTP/1.1 ", "HTTP/11", "ICY/1.0"):
        data = ask(GET).replace(b"HTTP/1.1", version.encode(), 1)
        yield Attempt(f"version {version!r}", data, REFUSED)
    for line in (
        "GET  /allowed/a HTTP/1.1",
        "GET\t/allowed/a HTTP/1.1",
        "GET /allowed/a b HTTP/1.1",
        "GET /allowed/a\x0bHTTP/1.1",
        " GET /allowed/a HTTP/1.1",
        "GET allowed/a HTTP/1.1",
        "GET /allowed/a\xe4 HTTP/1.1",
        "G\0T /allowed/a HTTP/1.1",
        "GET /allowed/a HTTP/1.1 HTTP/1.1",
        "GET * HTTP/1.1",
        "get /allowed/a HTTP/1.1",
        "PRI * HTTP/2.0",
        "CONNECT api.test:80 HTTP/1.1",
        "CONNECT /allowed HTTP/1.1",
        "TRACE /allowed/a HTTP/1.1",
        "GET api.test:80 HTTP/1.1",
        "GET\x85/allowed/a HTTP/1.1",
        "GET /allowed/a\0 HTTP/1.1",
        "GET ?/allowed HTTP/1.1",
    ):
        yield Attempt(f"line {line!r}", ask(line), REFUSED)
    yield Attempt("HTTP/0.9", b"GET /allowed/a\r\n\r\n", REFUSED)
    yield Attempt("the preface of HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", REFUSED)
    yield Attempt("HTTP/1.0", ask(f"{GET} HTTP/1.0"), OK, (Sent(GET),), more=False)
    yield Attempt("HTTP/1.0 that is kept", ask(f"{GET} HTTP/1.0", "Connection: keep-alive"), OK, (Sent(GET),))
    for method in ("HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND"):
        yield Attempt(f"method {method}", ask(f"{method} /allowed/a"), OK, (Sent(f"{method} /allowed/a"),))
    yield Attempt("OPTIONS *", ask("OPTIONS *"), DENIED)


def _hosts() -> Iterator[Attempt]:
    yield Attempt("no Host", ask(GET, host=None), REFUSED)
    for value in (
        "",
        "a b",
        "api.test,other",
        "user@api.test",
        "api.test/x",
        "api.test:",
        "api.test:99999",
        "[::1",
        "api.test#",
        "api.test\\x",
        "\xe4pi",
        "api.test?x",
        "api%2etest",
    ):
        yield Attempt(f"Host {value!r}", ask(GET, host=value), REFUSED)
    for field in (f"Host: {HOST}", "Host: other", "host: other", "HOST: "):
        yield Attempt(f"a second {field!r}", ask(GET, field), REFUSED)
    for target in (
        "http://other/allowed/a",
        f"http://{HOST}@other/allowed",
        f"http://u@{HOST}/allowed",
        f"http:/{HOST}/allowed",
        f"ftp://{HOST}/allowed",
        f"http://{HOST}:81/allowed",
        "http:///allowed",
        f"http://{HOST}\\@other/allowed",
        f"//{HOST}/allowed",
        f"http:///{HOST}/allowed",
        "file:///allowed",
    ):
        yield Attempt(f"target {target}", ask(f"GET {target}"), REFUSED)
    yield Attempt("absolute-form, denied", ask(f"GET http://{HOST}/admin"), DENIED)
    yield Attempt("absolute-form without a path", ask(f"GET http://{HOST}"), DENIED)
    yield Attempt("absolute-form", ask(f"GET http://{HOST}/allowed/a"), OK, (Sent(GET),))
    yield Attempt("absolute-form with a query", ask("GET HTTP://API.TEST/allowed/a?b=c"), OK, (Sent(f"{GET}?b=c"),))
    yield Attempt("Host in capitals", ask(GET, host="API.TEST"), OK, (Sent(GET),))


# --- targets ----------------------------------------------------------------------------------------------------------

_REFUSED_PATHS = (
    "/allowed/../admin", "/allowed/%2e%2e/admin", "/allowed/%2E./admin", "/allowed/..;/admin", "/allowed/..%2fadmin",
    "/allowed/%2e%2e%2fadmin", "/allowed/..%5cadmin", "/allowed\\..\\admin", "/allowed/..%00/admin", "/allowed/x%00.",
    "/allowed/%252e%252e/admin", "/allowed/..%252fadmin", "/allowed/%25252e%25252e/admin", "//admin/allowed",
    "/allowed//admin", "/allowed;/../admin", "/allowed;x=y/a", "/allowed/;/a", "/allowed/a%3bb", "/./allowed/a",
    "/allowed/.", "/allowed/..", "/allowed/...", "/allowed/a.", "/allowed/a./b", "/allowed/a%20", "/allowed/a%20/b",
    "/allowed/%c0%ae%c0%ae/admin", "/allowed/%e0%80%ae/admin", "/allowed/..%c0%afadmin", "/allowed/%ff", "/allowed/%80",
    "/allowed/%ed%a0%80", "/allowed/%ef%bc%8e%ef%bc%8e/admin", "/allowed/..%ef%bc%8fadmin", "/allowed/%e2%80%a5/admin",
    "/allowed/%e2%80%a4%e2%80%a4/admin", "/allowed/%0d%0aX:%20y", "/allowed/a%09b", "/allowed/a%0ab", "/allowed/a%7fb",
    "/allowed/%u002e%u002e/admin", "/allowed/%", "/allowed/%2", "/allowed/%zz", "/allowed/a#/../x", "/allowed/a%3fb",
    "/allowed/a%c2%85b", "/allowed/%2e", "/allowed/%2f", "/allowed%2f..%2fadmin", "/allowed/%5c..%5cadmin",
)  # fmt: skip
_DENIED_PATHS = (
    "/", "/admin", "/Allowed/a", "/ALLOWED", "/%41llowed/a", "/allowedx", "/allowed.x", "/allowed-/a", "/admin/allowed",
    "/admin?/allowed", "/%61dmin", "/allowed%20x", "/allow%C3%A8d", "/all%D0%BEwed/a", "/?path=/allowed",
    "/%EF%BD%81llowed/a",
)  # fmt: skip
_GRANTED_PATHS = (
    "/allowed", "/allowed/", "/%61llowed/x", "/allowed/a%2eb", "/allowed/%7euser", "/allowed/a%20b", "/allowed/%c3%a4",
    "/allowed/a+b", "/allowed/a:b@c", "/allowed/a%2Cb", "/allowed/a=b&c", "/allowed/.well-known", "/allowed/a..b",
    "/allowed/[0]", "/allowed/a|b", "/allowed/%e2%82%ac/", "/allowed/%2b", "/allowed/a!$'()*,b", "/allowed/a%23b",
)  # fmt: skip
_REFUSED_QUERIES = (
    "a=1;b=2", "a=%zz", "a=%", "a=%00", "%00=1", "=1", "a%20=1", "+a=1", "a=%ff", "a=b#c", "a%0a=1", "a=%c0%af",
    "a=%ed%a0%80", "a=\xe4", "a=%1b", "a=%7f", "A=1&a=2", "a.b=1&a_b=2", "a=1&a[]=2",
)  # fmt: skip
_GRANTED_QUERIES = (
    "a=1&a=2", "a", "a=", "", "a=b=c", "a=%26b", "a=%3Bb", "a=+b", "a=%2Bb", "a=?b", "a[]=1&a[]=2", "a=1&&b=2",
    "a=%0a", "a=http://x/../y", "%61=1", "a=%252e", "a=%c3%a4", "&a=1&", "a=../../admin",
)  # fmt: skip


def _targets() -> Iterator[Attempt]:
    for path in _REFUSED_PATHS:
        yield Attempt(f"path {path}", ask(f"GET {path}"), REFUSED)
    for path in _DENIED_PATHS:
        yield Attempt(f"path {path}", ask(f"GET {path}"), DENIED)
    for path in _GRANTED_PATHS:
        yield Attempt(f"path {path}", ask(f"GET {path}"), OK, (Sent(f"GET {path}"),))
    for query in _REFUSED_QUERIES:
        yield Attempt(f"query {query}", ask(f"{GET}?{query}"), REFUSED)
    for query in _GRANTED_QUERIES:
        yield Attempt(f"query {query}", ask(f"{GET}?{query}"), OK, (Sent(f"{GET}?{query}"),))


# --- fields -----------------------------------------------------------------------------------------------------------

FORM = "Content-Type: application/x-www-form-urlencoded"


def _overrides() -> Iterator[Attempt]:
    for field in (
        "X-HTTP-Method-Override: DELETE",
        "x-http-method: DELETE",
        "X-Method-Override: DELETE",
        "X-Forwarded-Method: DELETE",
        "X-Original-URL: /admin",
        "X-Rewrite-URL: /admin",
        "X-Forwarded-Host: other",
        "X-Forwarded-Prefix: /admin",
        "X-Original-Host: other",
        "X-Host: other",
        "Forwarded: for=127.0.0.1;host=other",
        "X-Forwarded-URI: /admin",
        "X-HTTP-Host-Override: other",
    ):
        yield Attempt(f"field {field}", sized(POST, b"", field), DENIED)
    for query in (
        "_method=DELETE",
        "_METHOD=DELETE",
        "%5fmethod=DELETE",
        "_method[]=DELETE",
        "x-http-method=DELETE",
        "x_http_method_override=DELETE",
        "a=b&.method=DELETE",
        "X-HTTP-Method-Override=DELETE",
    ):
        yield Attempt(f"query {query}", sized(f"{POST}?{query}", b""), DENIED)
    for form in (b"_method=DELETE", b"a=b&_METHOD=DELETE", b"%5fmethod=DELETE", b"_method%5B%5D=DELETE"):
        yield Attempt(f"form {form.decode()}", sized(POST, form, FORM), DENIED)
        yield Attempt(f"form in chunks {form.decode()}", chunks(POST, form[:3], form[3:], fields=(FORM,)), DENIED)
        yield Attempt(f"form without a type {form.decode()}", sized(POST, form), DENIED)
    for field in ("X-HTTP-Method-Override", "Content-Type", "Authorization", "Cookie", "Range", "Origin"):
        yield Attempt(f"{field} twice", ask(GET, f"{field}: a", f"{field.lower()}: b"), REFUSED)


def _hops() -> Iterator[Attempt]:
    for name in (
        "Host",
        "Authorization",
        "Content-Length",
        "Content-Type",
        "Cookie",
        "X-Forwarded-For",
        "X-Real-IP",
        "X-HTTP-Method-Override",
        "Range",
        "Accept",
        "Sec-Fetch-Site",
        "X-Amz-Date",
        "Checkrein-Session",
    ):
        yield Attempt(f"Connection: {name}", ask(GET, f"Connection: keep-alive, {name}"), REFUSED)
    yield Attempt("Connection that is no list", ask(GET, "Connection: keep-alive x"), REFUSED)
    for number, fields in enumerate(
        (
            ("Connection: keep-alive, X-Private", "X-Private: a"),
            ("Connection: X-Private", "Connection: X-Other", "X-Private: a", "X-Other: b"),
            ("Connection: TE", "TE: trailers"),
            ("Keep-Alive: timeout=5",),
            ("Proxy-Connection: keep-alive",),
            ("Proxy-Authorization: Basic dTpw",),
            ("Trailer: X-Sum",),
            ("X-Forwarded-For: 127.0.0.1", "X-Real-IP: 127.0.0.1", "X-Forwarded-Proto: https"),
            ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA"),
            ("Connection: Upgrade", "Upgrade: TLS/1.2"),
            ("Upgrade: websocket",),
            ("Connection: ,, keep-alive ,",),
        )
    ):
        yield Attempt(f"hop {number}: {fields}", ask(GET, *fields), OK, (Sent(GET),))
    yield Attempt(
        "h2c, then HTTP/2", ask(GET, "Connection: Upgrade", "Upgrade: h2c") + b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        REFUSED, (Sent(GET),),
    )  # fmt: skip
    yield Attempt("an upgrade with a body", sized(POST, b"hello", "Connection: upgrade", "Upgrade: websocket"), REFUSED)
    for value in ("200-ok", "100-continue, x", "100-continue;a", ""):
        yield Attempt(f"Expect {value!r}", sized(POST, b"hello", f"Expect: {value}"), REFUSED)
    yield Attempt(
        "Expect", sized(POST, b"hello", "Expect: 100-Continue", "Content-Type: text/plain"), OK, (Sent(POST, b"hello"),)
    )
    yield Attempt("Expect, denied", sized("POST /admin", ADMIN, "Expect: 100-continue"), DENIED)
    yield Attempt("Expect, denied, in chunks", chunks("POST /admin", ADMIN, fields=("Expect: 100-continue",)), DENIED)


# --- one request behind another ---------------------------------------------------------------------------------------

PLAIN = "Content-Type: text/plain"


def _pipelines() -> Iterator[Attempt]:
    one = Sent(GET)
    yield Attempt("two", ask(GET) + HIDDEN, OK, (one, Sent("GET /allowed/hidden")))
    yield Attempt("a denied one behind", ask(GET) + ADMIN, DENIED, (one,))
    yield Attempt("a denied one in front", ADMIN, DENIED)
    yield Attempt("a refused one behind", ask(GET) + ask("GET /allowed/../admin"), REFUSED, (one,))
    yield Attempt("a body that is a request", sized(POST, ADMIN, PLAIN), OK, (Sent(POST, ADMIN),))
    yield Attempt("a GET whose body is a request", sized(GET, ADMIN, PLAIN), OK, (Sent(GET, ADMIN),))
    yield Attempt("a DELETE whose body is a request", sized("DELETE /allowed/a", HIDDEN, PLAIN), OK,
                  (Sent("DELETE /allowed/a", HIDDEN),))  # fmt: skip
    yield Attempt("HEAD whose body is a request", sized("HEAD /allowed/a", HIDDEN, PLAIN), OK,
                  (Sent("HEAD /allowed/a", HIDDEN),))  # fmt: skip
    yield Attempt("a denied body that is a request", sized("POST /admin", HIDDEN), DENIED)
    yield Attempt("a denied body of chunks that is a request", chunks("POST /admin", HIDDEN), DENIED)
    yield Attempt("a denied body of 40 KB of requests", sized("POST /admin", HIDDEN * 300, PLAIN), DENIED)
    yield Attempt("a denied body of 1 MB of requests", sized("POST /admin", HIDDEN * 8000, PLAIN), DENIED)
    yield Attempt("a refused body that is a request", sized("POST /allowed/../a", HIDDEN), REFUSED)
    yield Attempt("a refused body of chunks that is a request", chunks("POST /allowed//a", HIDDEN), REFUSED)
    yield Attempt("without a credential, a body that is a request",
                  sized(POST, HIDDEN).replace(AUTHORIZATION.encode() + b"\r\n", b"", 1), REFUSED)  # fmt: skip
    yield Attempt("a body that is longer than said", ask(POST, PLAIN, "Content-Length: 3", body=b"abcG T"), REFUSED,
                  (Sent(POST, b"abc"),))  # fmt: skip
    yield Attempt("a body of no length", ask(POST, body=ADMIN), DENIED, (Sent(POST),))
    yield Attempt("bodies one behind the other", sized(POST, HIDDEN, PLAIN) + chunks(POST, HIDDEN, fields=(PLAIN,)), OK,
                  (Sent(POST, HIDDEN), Sent(POST, HIDDEN)))  # fmt: skip
    body = b'{"a":1,"b":["x"]}'
    yield Attempt("JSON", sized(POST, body, "Content-Type: application/json"), OK, (Sent(POST, body),))
    yield Attempt("a form", sized(POST, b"a=1&b=2", FORM), OK, (Sent(POST, b"a=1&b=2"),))
    yield Attempt("an empty line behind a body", sized(POST, b"hello", PLAIN) + b"\r\n", OK, (Sent(POST, b"hello"),))
    for number in (1, 7, 31):
        yield Attempt(f"{number} in a row", ask(GET) * number, OK, (one,) * number)


CLASSES = {
    "framing": _framing,
    "chunks": _chunks,
    "lines": _lines,
    "request lines": _request_lines,
    "hosts": _hosts,
    "targets": _targets,
    "overrides": _overrides,
    "hops": _hops,
    "pipelines": _pipelines,
}
ATTEMPTS = tuple(attempt._replace(name=f"{kind}: {attempt.name}") for kind, of in CLASSES.items() for attempt in of())
