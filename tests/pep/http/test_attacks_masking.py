# ruff: noqa: E501 - a table reads best with one attempt to a line
"""Attempts to see what a mask hides, by every way in which a target may write its answer. See `tests.http_attacks`."""

import base64
import codecs
import dataclasses
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import quote

import pytest

from tests.http_attacks import (
    ALICE,
    CLOSE,
    CUSTOMER,
    DOCUMENT,
    EMAIL,
    SECRET,
    SHAPED,
    SSN,
    VISIBLE,
    Attacked,
    ask,
    attacked,
    chunked,
    cuts,
    leaks,
    packed,
    reply,
    shows,
)
from tests.pep.http.frames import Frames, request


@pytest.fixture(scope="module")
def proxy() -> Iterator[Attacked]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CHECKREIN_TEST_UPSTREAM", SECRET)
        listen = {"address": "127.0.0.1:0", "login": ["bearer"], "http2": True}
        with attacked(http={"decoded_limit": 1 << 20, "graphql": ["/masked/graphql"]}, listen=listen) as running:
            yield running


@pytest.fixture(scope="module")
def streams(proxy: Attacked) -> Iterator[Frames]:
    """One client of HTTP/2 for all attempts."""
    with Frames(proxy.proxy.port) as client:
        yield client


@dataclass(frozen=True)
class Attempt:
    """What the target says, and what becomes of it: "masked" (the rest is shown), "withheld" (nothing), "cut"."""

    name: str
    outcome: str
    pieces: tuple[bytes, ...]
    path: str = "/masked/customers"
    method: str = "GET"
    fields: tuple[str, ...] = field(default=())


def attempt(
    name: str,
    outcome: str,
    *pieces: bytes,
    path: str = "/masked/customers",
    method: str = "GET",
    fields: tuple[str, ...] = (),
) -> Attempt:
    return Attempt(name, outcome, pieces, path, method, fields)


def run(proxy: Attacked, tried: Attempt) -> bytes:
    proxy.target.says(*tried.pieces)
    received = proxy.send(ask(tried.path, *tried.fields, method=tried.method))
    assert len(proxy.target.seen) == 1, received
    assert leaks(b"".join(tried.pieces)), "the target shows nothing, so this proves nothing"
    assert leaks(received) == [], received
    status = received[9:12]
    match tried.outcome:
        case "masked":
            assert status not in (b"403", b"502"), received
            assert shows(received), received
        case "withheld":
            assert status in (b"403", b"502"), received
            assert not shows(received), received
        case "bare":
            assert status not in (b"403", b"502"), received
            assert b"\r\n\r\n" in received, received
        case "cut":
            assert status == b"200", received
            assert not received.endswith(b"0\r\n\r\n"), "what was cut looks whole"
    return received


# Of a connection in HTTP/1.1, and in HTTP/2 no fields at all.
OF_A_CONNECTION = {"connection", "upgrade", "http2-settings"}


def run_in_a_stream(proxy: Attacked, streams: Frames, tried: Attempt) -> None:
    proxy.target.says(*tried.pieces)
    fields = [(name.lower(), value) for name, _, value in (each.partition(": ") for each in tried.fields)]
    more = [field for field in fields if field[0] not in OF_A_CONNECTION]
    answer = streams.answer(request(tried.path, *more, method=tried.method, token=ALICE))
    assert len(proxy.target.seen) == 1, answer
    assert leaks(b"".join(tried.pieces)), "the target shows nothing, so this proves nothing"
    assert leaks(answer.text) == [], answer
    match tried.outcome:
        case "masked":
            assert answer.status not in (403, 502), answer
            assert shows(answer.text), answer
            assert answer.ended, answer
        case "withheld":
            assert answer.status in (403, 502), answer
            assert not shows(answer.text), answer
        case "bare":
            assert answer.status not in (403, 502), answer
            assert answer.ended, answer
        case "cut":
            assert answer.status == 200, answer
            assert answer.reset is not None, answer
            assert not answer.ended, "what was cut looks whole"


def variant(**more: object) -> str:
    return json.dumps(CUSTOMER | more)


def wrapped(levels: int) -> str:
    text = json.dumps({"ssn": SSN, "email": EMAIL})
    for _ in range(levels):
        text = json.dumps({"log": text})
    return text


def plain(text: str) -> str:
    """One document with that text in a string, and a cell that is to be seen."""
    return json.dumps({"name": "plainly-seen", "text": text})


INNER = json.dumps({"ssn": SSN})
DOCUMENTS = [
    attempt(name, outcome, reply(body))
    for name, outcome, body in [
        ("as it is", "masked", DOCUMENT),
        ("key escaped", "masked", f'{{"name":"plainly-seen","s\\u0073n":"{SSN}"}}'),
        ("key escaped whole", "masked", f'{{"name":"plainly-seen","\\u0073\\u0073\\u006E":"{SSN}"}}'),
        ("key in capitals", "masked", f'{{"name":"plainly-seen","SSN":"{SSN}","Email":"{EMAIL}"}}'),
        ("key with a long s", "masked", f'{{"name":"plainly-seen","\u017f\u017fn":"{SSN}"}}'),
        ("key twice", "withheld", f'{{"name":"plainly-seen","ssn":null,"ssn":"{SSN}"}}'),
        ("key twice, one escaped", "withheld", f'{{"name":"plainly-seen","ssn":null,"\\u0073sn":"{SSN}"}}'),
        ("key twice, by case", "masked", f'{{"name":"plainly-seen","ssn":"{SSN}","Ssn":"{SSN}"}}'),
        ("nested", "masked", json.dumps({"a": {"b": [{"c": CUSTOMER}]}})),
        ("array at the top", "masked", json.dumps([CUSTOMER, CUSTOMER])),
        ("arrays in arrays", "masked", json.dumps([[[[CUSTOMER]]]])),
        ("value is an array", "masked", variant(ssn=[SSN, [SSN]])),
        ("value is an object", "masked", variant(ssn={"text": SSN})),
        ("value escaped", "masked", '{"name":"plainly-seen","ssn":"' + "".join(f"\\u{ord(c):04x}" for c in SSN) + '"}'),
        ("JSON in a string", "masked", plain(wrapped(0))),
        ("JSON in a string, twice", "masked", plain(wrapped(1))),
        ("JSON in a string, three times", "masked", plain(wrapped(2))),
        ("a string alone that is JSON", "bare", json.dumps(json.dumps({"ssn": SSN}))),
        ("JSON behind words", "masked", plain(f"payload: {INNER}")),
        ("JSON behind words, twice escaped", "masked", plain(f"payload: {json.dumps(INNER)}")),
        ("JSON behind words, keys escaped", "masked", plain(f'was {{"\\u0073sn": "{SSN}"}}')),
        ("JSON behind words, keys escaped twice", "masked", plain(f'was {{\\"\\\\u0073sn\\": \\"{SSN}\\"}}')),
        ("JSON before words", "masked", plain(f"{INNER} was refused")),
        ("JSON behind a mark", "masked", plain("\ufeff" + INNER)),
        ("JSON behind a number", "masked", plain(f"1 {INNER}")),
        ("JSON on lines in a string", "masked", plain(f'{{"id": 1}}\n{INNER}\n')),
        ("JSON in a string cut short", "masked", plain(INNER[:-3])),
        ("JSON in a string with a duplicate", "withheld", plain(f'{{"ssn":1,"ssn":"{SSN}"}}')),
        ("JSON in a key", "withheld", json.dumps({"name": "plainly-seen", INNER: 1})),
        ("JSON with marks of HTML", "masked", plain(f"{{&quot;ssn&quot;:&quot;{SSN}&quot;}}")),
        ("JSON percent-encoded", "masked", plain(quote(INNER))),
        ("Python in a string", "masked", plain(f"{{'ssn': '{SSN}'}}")),
        ("JavaScript in a string", "masked", plain(f"{{\n  ssn: '{SSN}'}}")),
        ("XML in a string", "masked", plain(f"<row><ssn>{SSN}</ssn></row>")),
        ("XML with a prefix", "masked", plain(f"<c:row><c:ssn>{SSN}</c:ssn></c:row>")),
        ("XML's attribute", "masked", plain(f"<row ssn='{SSN}'/>")),
        ("XML's attribute with a prefix", "masked", plain(f'<row c:ssn="{SSN}"/>')),
        ("YAML in a string", "masked", plain(f"name: x\nssn: {SSN}\n")),
        ("a list of YAML in a string", "masked", plain(f"people:\n  - ssn: {SSN}\n")),
        ("TOML in a string", "masked", plain(f'name = "x"\nssn = "{SSN}"\n')),
        ("a log's line", "masked", plain(f'level=info ssn="{SSN}"')),
        ("what Go shows", "masked", plain(f"{{ID:1 SSN:{SSN}}}")),
        ("a map of Go", "masked", plain(f"map[id:1 ssn:{SSN}]")),
        ("what Java shows", "masked", plain(f"Customer[ssn={SSN}, id=1]")),
        ("what Python shows", "masked", plain(f"Customer(ssn='{SSN}', id=1)")),
        ("what Ruby shows", "masked", plain(f'{{:ssn=>"{SSN}"}}')),
        ("what JavaScript shows", "masked", plain(f"[{{ id: 1, ssn: '{SSN}' }}]")),
        ("a form's nested field", "masked", plain(f"/next?user[ssn]={SSN}")),
        ("a form's nested field, encoded", "masked", plain(f"/next?user%5Bssn%5D={SSN}")),
        ("a form's field with a dot", "masked", plain(f"/next?user.ssn={SSN}")),
        ("JSON behind words, a long s", "masked", plain(f'was {{"\u017f\u017fn": "{SSN}"}}')),
        ("JSON behind a guard", "masked", plain(f"while(1);{INNER}")),
        ("JSON behind a slash", "masked", plain(f"//{INNER}")),
        ("JSON on lines that end with CRLF", "masked", plain(f'{{"id": 1}}\r\n{INNER}\r\n')),
        ("JSON in strings in an array", "masked", json.dumps({"name": VISIBLE, "log": [["a", INNER], {"b": INNER}]})),
        ("JSON in a string of a string alone", "masked", json.dumps([VISIBLE, json.dumps(json.dumps({"ssn": SSN}))])),
        ("an address in a string", "masked", plain(f"https://x.test/?a=1&ssn={SSN}")),
        ("a database's message", "masked", plain(f"duplicate key: Key (ssn)=({SSN}) exists")),
        ("e-mail in words", "masked", plain(f"sent to {EMAIL}")),
        ("number in words", "masked", plain(f"the number is {SHAPED}.")),
        ("e-mail as a key", "masked", json.dumps({"name": "plainly-seen", EMAIL: 1})),
        ("a token that holds the e-mail", "masked", plain("eyJhbGciOiJub25lIn0." + base64.urlsafe_b64encode(wrapped(0).encode()).decode().rstrip("=") + ".c2ln")),
        ("a message in words", "masked", plain(f"Invalid ssn: {SSN}")),
        ("a table of CSV", "masked", plain(f"id,name,ssn\n1,x,{SSN}")),
        ("a table of Markdown", "masked", plain(f"| id | ssn |\n|---|---|\n| 1 | {SSN} |")),
        ("Markdown in bold", "masked", plain(f"**SSN**: {SSN}")),
        ("a form of HTML", "masked", plain(f'<input name="ssn" value="{SSN}">')),
        ("a table of HTML", "masked", plain(f"<td>ssn</td><td>{SSN}</td>")),
        ("SQL", "masked", plain(f"INSERT INTO c (id, ssn) VALUES (1, '{SSN}')")),
        ("a key that is there twice", "masked", plain(f"Duplicate entry '{SSN}' for key 'users.ssn'")),
        ("JSON in base64", "masked", plain(base64.b64encode(wrapped(0).encode()).decode())),
        ("JSON in a token", "masked", plain("eyJhbGciOiJub25lIn0." + base64.urlsafe_b64encode(INNER.encode()).decode().rstrip("=") + ".c2ln")),
        ("escapes of JavaScript", "masked", plain(f"\\x22ssn\\x22:\\x22{SSN}\\x22")),
        ("columns and rows", "masked", json.dumps({"columns": ["name", "ssn"], "rows": [[VISIBLE, SSN]]})),
        ("columns that are described", "masked", json.dumps({"meta": [{"name": "name"}, {"name": "ssn"}], "data": [[VISIBLE, SSN]]})),
        ("a patch", "masked", json.dumps([{"op": "add", "path": "/ssn", "value": SSN}, VISIBLE])),
        ("a name and a value", "masked", json.dumps([{"field": "ssn", "old": SSN, "new": SSN, "by": VISIBLE}])),
        ("pairs", "masked", json.dumps([["name", VISIBLE], ["ssn", SSN]])),
        ("NaN beside", "withheld", f'{{"name":"plainly-seen","x":NaN,"ssn":"{SSN}"}}'),
        ("a comment", "withheld", f'{{"name":"plainly-seen",/* */"ssn":"{SSN}"}}'),
        ("a comma at the end", "withheld", f'{{"name":"plainly-seen","ssn":"{SSN}",}}'),
        ("names without quotes", "withheld", f'{{name:"plainly-seen",ssn:"{SSN}"}}'),
        ("two documents", "withheld", f'{{"name":"plainly-seen"}}{{"ssn":"{SSN}"}}'),
        ("a guard in front", "withheld", b")]}',\n" + DOCUMENT),
        ("a callback", "withheld", b"callback(" + DOCUMENT + b")"),
        ("cut short", "withheld", DOCUMENT[:-1]),
        ("nested deeper than is followed", "withheld", b"[" * 500 + DOCUMENT + b"]" * 500),
        ("nested beyond any stack", "withheld", b"[" * 200000 + DOCUMENT + b"]" * 200000),
        ("a byte order mark", "withheld", codecs.BOM_UTF8 + DOCUMENT),
        ("UTF-16, not said", "withheld", DOCUMENT.decode().encode("utf-16")),
        ("UTF-16 without a mark", "withheld", DOCUMENT.decode().encode("utf-16-le")),
        ("Latin-1, not said", "withheld", f'{{"name":"plainly-seen","é":1,"ssn":"{SSN}"}}'.encode("latin-1")),
        ("a zero at the end", "withheld", DOCUMENT + b"\0"),
    ]
]  # fmt: skip

ROWS = f"id,name,ssn\n1,plainly-seen,{SSN}\n"
TYPES = [
    attempt(f"type {kind or 'missing'}", "withheld", reply(body, kind))
    for kind, body in [
        (None, DOCUMENT),
        ("", DOCUMENT),
        ("text/plain", DOCUMENT),
        ("text/html", f"<td>plainly-seen</td><td>{SSN}</td>"),
        ("text/csv", ROWS),
        ("application/xml", f"<c><name>plainly-seen</name><ssn>{SSN}</ssn></c>"),
        ("application/soap+xml", f"<c><name>plainly-seen</name><ssn>{SSN}</ssn></c>"),
        ("application/yaml", f"name: plainly-seen\nssn: {SSN}\n"),
        ("application/x-protobuf", b"\x0a\x0cplainly-seen\x12\x0d" + SSN.encode()),
        ("application/msgpack", b"\x82\xa4name\xacplainly-seen\xa3ssn\xad" + SSN.encode()),
        ("application/cbor", b"\xa2\x64name\x6cplainly-seen\x63ssn\x6d" + SSN.encode()),
        ("application/vnd.apache.arrow.stream", b"ARROW1" + SSN.encode()),
        ("application/octet-stream", DOCUMENT),
        ("application/pdf", b"%PDF-1.7 " + SSN.encode()),
        ("application/javascript", b"callback(" + DOCUMENT + b")"),
        ("application/x-www-form-urlencoded", f"name=plainly-seen&ssn={SSN}"),
        ("multipart/mixed; boundary=b", b"--b\r\nContent-Type: application/json\r\n\r\n" + DOCUMENT + b"\r\n--b--\r\n"),
        ("multipart/byteranges; boundary=b", b"--b\r\nContent-Range: bytes 0-9/20\r\n\r\n" + DOCUMENT + b"\r\n--b--\r\n"),
        ("application/graphql-response+json", json.dumps({"data": {"x": CUSTOMER["ssn"], "name": "plainly-seen"}})),
        ("application/json; charset=utf-16", DOCUMENT.decode().encode("utf-16")),
        ("application/json; charset=utf-7", DOCUMENT.decode().encode("utf-7")),
        ("application/json; charset=iso-8859-1", DOCUMENT),
        ("application/json; charset=utf-8; charset=utf-7", DOCUMENT),
        ('application/json; charset="utf\\-7"', DOCUMENT),
        ("application/json; charset*=utf-8''utf-7", DOCUMENT),
        ("application/json, text/html", DOCUMENT),
        ("application/json text/html", DOCUMENT),
        ("application /json", DOCUMENT),
    ]
]  # fmt: skip
TYPES += [
    attempt("type twice", "withheld", reply(DOCUMENT, "application/json", "Content-Type: text/html")),
    attempt("type with capitals", "masked", reply(DOCUMENT, "Application/JSON ;Charset=UTF-8")),
    attempt(
        "type of a problem", "masked", reply(DOCUMENT, "application/problem+json", status="500 Internal Server Error")
    ),
]

CODINGS = [
    attempt(f"coding {' '.join(names)}", outcome, reply(packed(DOCUMENT, *names), "application/json", *said))
    for outcome, names, said in [
        ("masked", ("gzip",), ("Content-Encoding: gzip",)),
        ("masked", ("gzip",), ("Content-Encoding: x-gzip",)),
        ("masked", ("deflate",), ("Content-Encoding: deflate",)),
        ("withheld", ("raw",), ("Content-Encoding: deflate",)),
        ("masked", ("br",), ("Content-Encoding: br",)),
        ("masked", ("zstd",), ("Content-Encoding: zstd",)),
        ("masked", ("gzip", "br"), ("Content-Encoding: gzip, br",)),
        ("masked", ("zstd", "gzip"), ("Content-Encoding: zstd", "Content-Encoding: gzip")),
        ("withheld", ("gzip", "gzip", "gzip"), ("Content-Encoding: gzip, gzip, gzip",)),
        ("withheld", ("gzip", "gzip"), ("Content-Encoding: gzip",)),
        ("withheld", ("gzip", "br"), ("Content-Encoding: br, gzip",)),
        ("withheld", ("gzip",), ()),
        ("withheld", ("gzip",), ("Content-Encoding: identity",)),
        ("withheld", ("gzip",), ("Content-Encoding: br",)),
        ("withheld", (), ("Content-Encoding: compress",)),
        ("withheld", (), ("Content-Encoding: aes128gcm",)),
        ("withheld", (), ("Content-Encoding: dcb",)),
        ("withheld", (), ("Content-Encoding: gzip",)),
        ("withheld", ("gzip",), ("Transfer-Encoding: gzip, chunked",)),
    ]
]  # fmt: skip
GZIPPED = ("application/json", "Content-Encoding: gzip")
CODINGS += [
    attempt("garbage behind gzip", "withheld", reply(packed(DOCUMENT, "gzip") + b"\0garbage", *GZIPPED)),
    attempt("the value behind gzip", "withheld", reply(packed(b'{"name":"plainly-seen"}', "gzip") + DOCUMENT, *GZIPPED)),
    attempt("two members", "masked", reply(packed(DOCUMENT[:40], "gzip") + packed(DOCUMENT[40:], "gzip"), *GZIPPED)),
    attempt("two documents in two members", "withheld", reply(packed(DOCUMENT, "gzip") * 2, *GZIPPED)),
    attempt("gzip cut short", "withheld", reply(packed(DOCUMENT, "gzip")[:-4], *GZIPPED)),
    attempt("garbage behind br", "withheld", reply(packed(DOCUMENT, "br") + DOCUMENT, "application/json", "Content-Encoding: br")),
    attempt("two frames of zstd", "withheld", reply(packed(DOCUMENT, "zstd") * 2, "application/json", "Content-Encoding: zstd")),
    attempt("a bomb", "withheld", reply(packed(b" " * (8 << 20) + DOCUMENT, "gzip"), *GZIPPED) + DOCUMENT),
    attempt("a bomb in a bomb", "withheld", reply(packed(b" " * (8 << 20) + DOCUMENT, "gzip", "gzip"), "application/json", "Content-Encoding: gzip, gzip") + DOCUMENT),
    attempt("a bomb of zstd", "withheld", reply(packed(b" " * (8 << 20) + DOCUMENT, "zstd"), "application/json", "Content-Encoding: zstd") + DOCUMENT),
]  # fmt: skip

OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
CHUNKS = OK + b"Transfer-Encoding: chunked\r\n\r\n"
FRAMINGS = [
    attempt("a chunk for each byte", "masked", reply(DOCUMENT, framing="chunked", step=1)),
    attempt("pieces of one byte", "masked", *cuts(reply(DOCUMENT), 1)),
    attempt("chunks cut through the value", "masked", CHUNKS, *cuts(chunked(*cuts(DOCUMENT, 55)), 7)),
    attempt("until the connection ends", "masked", reply(DOCUMENT, framing="close"), CLOSE),
    attempt("HTTP/1.0", "masked", b"HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n" + DOCUMENT, CLOSE),
    attempt("extensions with the value", "masked", CHUNKS + chunked(DOCUMENT, extension=f";x={SSN}")),
    attempt("an extension quoted", "masked", CHUNKS + chunked(DOCUMENT, extension=f';x="{EMAIL}"')),
    attempt("trailers with the value", "masked", CHUNKS + chunked(DOCUMENT, trailers=f"X-Ssn: {SSN}\r\n")),
    attempt("a trailer that changes the type", "withheld", CHUNKS + chunked(DOCUMENT, trailers="Content-Type: text/html\r\n")),
    attempt("less than was promised", "withheld", OK + b"Content-Length: 500\r\n\r\n" + DOCUMENT, CLOSE),
    attempt("no last chunk", "withheld", CHUNKS + chunked(DOCUMENT)[:-5], CLOSE),
    attempt("both lengths", "withheld", OK + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(DOCUMENT)),
    attempt("two lengths", "withheld", OK + b"Content-Length: 5\r\nContent-Length: 94\r\n\r\n" + DOCUMENT),
    attempt("a list of lengths", "withheld", OK + b"Content-Length: 94, 94\r\n\r\n" + DOCUMENT),
    attempt("bare line ends", "withheld", b"HTTP/1.1 200 OK\nContent-Type: application/json\nContent-Length: 94\n\n" + DOCUMENT),
    attempt("a folded header line", "withheld", OK + f"X: a\r\n {SSN}\r\nContent-Length: 94\r\n\r\n".encode() + DOCUMENT),
    attempt("a zero in a header line", "withheld", OK + b"X: \0\r\nContent-Length: 94\r\n\r\n" + DOCUMENT),
    attempt("no header at all", "withheld", DOCUMENT, CLOSE),
    attempt("a second response behind", "masked", reply(DOCUMENT) + reply(DOCUMENT, "text/plain")),
    attempt("more than the length says", "masked", reply(DOCUMENT) + DOCUMENT),
    attempt("a body where HEAD has none", "bare", reply(DOCUMENT), method="HEAD"),
    attempt("a body behind 204", "bare", b"HTTP/1.1 204 No Content\r\n\r\n" + DOCUMENT),
    attempt("a length with 204", "withheld", reply(DOCUMENT, status="204 No Content")),
    attempt("a body behind 304", "bare", reply(DOCUMENT, status="304 Not Modified")),
    attempt("a body with 205", "masked", reply(DOCUMENT, status="205 Reset Content")),
    attempt("a body with 205, in chunks", "masked", reply(DOCUMENT, status="205 Reset Content", framing="chunked")),
    attempt("partial content", "withheld", reply(DOCUMENT, "application/json", "Content-Range: bytes 0-93/94", status="206 Partial Content")),
    attempt("a part that says it is whole", "withheld", reply(DOCUMENT, "application/json", "Content-Range: bytes 0-93/94")),
    attempt("a range that cannot be had", "masked", reply(DOCUMENT, "application/json", f"Content-Range: bytes */{SSN}", status="416 Range Not Satisfiable")),
    attempt("early hints", "masked", f"HTTP/1.1 103 Early Hints\r\nLink: </{SSN}>; rel=preload\r\n\r\n".encode() + reply(DOCUMENT)),
    attempt("processing", "masked", f"HTTP/1.1 102 {SSN}\r\nX: {EMAIL}\r\n\r\n".encode() + reply(DOCUMENT)),
    attempt("a hundred hints", "withheld", f"HTTP/1.1 103 {SSN}\r\n\r\n".encode() * 100 + reply(DOCUMENT)),
    attempt("another protocol", "withheld", f"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n{SSN}".encode()),
    attempt("HTTP/2 asked for", "withheld", b"HTTP/1.1 101 Switching\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n" + DOCUMENT, fields=("Connection: Upgrade, HTTP2-Settings, close", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAAP__")),
    attempt("an HTTP/2 response", "withheld", b"\0\0\0\4\0\0\0\0\0" + DOCUMENT, CLOSE),
]  # fmt: skip

FIELDS = [
    attempt(f"field {name}", "masked", reply(DOCUMENT, "application/json", f"{name}: {value}", *more))
    for name, value, *more in [
        ("X-Customer-Ssn", SSN),
        ("Location", f"/c?ssn={SSN}"),
        ("Content-Location", f"/c/{SSN}"),
        ("Set-Cookie", f"last={SSN}; Path=/"),
        ("Set-Cookie", f"last={quote(EMAIL, safe='')}"),
        ("Link", f"</c/{SSN}>; rel=self"),
        ("ETag", f'"{SSN}"'),
        ("Last-Modified", SSN),
        ("Digest", "sha-256=" + base64.b64encode(SSN.encode()).decode()),
        ("Content-MD5", base64.b64encode(SSN.encode()).decode()),
        ("Content-Disposition", f'attachment; filename="{SSN}.json"'),
        ("Refresh", f"0; url=/{SSN}"),
        ("Server-Timing", f'db;desc="{EMAIL}"'),
        ("Warning", f'199 - "{EMAIL}"'),
        ("Via", f"1.1 {SSN}"),
        ("Server", f"x ({SSN})"),
        ("WWW-Authenticate", f'Bearer error_description="no {SSN}"'),
        ("Access-Control-Allow-Origin", SSN),
        ("Access-Control-Expose-Headers", SSN),
        ("X-RateLimit-Key", SSN),
        ("Vary", SSN),
        ("Allow", SSN),
        ("Cache-Control", f'max-age=1, x="{SSN}"'),
        ("Connection", SSN),
        ("Keep-Alive", SSN),
        ("Trailer", SSN),
        ("Upgrade", SSN),
        (SSN, "1"),
        ("Sunset", SSN),
        ("Retry-After", SSN),
        ("Proxy-Authenticate", f'Basic realm="{SSN}"'),
        ("Mcp-Protocol-Version", SSN),
        ("Content-Language", SSN),
    ]
]  # fmt: skip
FIELDS += [
    attempt("the words of the status", "masked", reply(DOCUMENT, status=f"200 {SSN}")),
    attempt("a parameter of the type", "masked", reply(DOCUMENT, f"application/json; profile={SSN}")),
    attempt("a redirect", "bare", reply(b"", None, f"Location: /c?ssn={SSN}", status="302 Found")),
    attempt("a redirect with a page", "withheld", reply(f"<a href='/{SSN}'>plainly-seen</a>", "text/html", f"Location: /{SSN}", status="302 Found")),
    attempt("the fields of HEAD", "bare", reply(b"", None, f"X-Ssn: {SSN}", f'ETag: "{SSN}"'), method="HEAD"),
    attempt("a coding with the value", "withheld", reply(DOCUMENT, "application/json", f"Content-Encoding: {SSN}")),
]  # fmt: skip
FIELDS += [
    attempt(f"an error {status[:3]}", "masked", reply(plain(f"Key (email)=({EMAIL})"), "application/json", status=status))
    for status in ("400 Bad Request", "404 Not Found", "409 Conflict", "422 Unprocessable Content", "500 Internal Server Error", "503 Service Unavailable", "999 Strange")
]  # fmt: skip
FIELDS += [
    attempt(f"a page of an error {status[:3]}", "withheld", reply(f"<pre>plainly-seen ssn={SSN}</pre>", "text/html", status=status))
    for status in ("401 Unauthorized", "404 Not Found", "500 Internal Server Error", "502 Bad Gateway")
]  # fmt: skip

EVENTS = "text/event-stream"
LINE = json.dumps(CUSTOMER)
STREAMS = [
    attempt(f"stream: {name}", outcome, *(cuts(whole, step) if step else [whole]))
    for name, outcome, step, whole in [
        ("lines", "masked", 0, reply(f"{LINE}\n{LINE}\n", "application/x-ndjson", framing="chunked")),
        ("lines byte by byte", "masked", 1, reply(f"{LINE}\n{LINE}", "application/jsonl", framing="chunked", step=3)),
        ("a line that is no JSON", "cut", 0, reply(f"{LINE}\nssn {SSN}\n", "application/x-ndjson", framing="chunked")),
        ("lines parted by CR", "cut", 0, reply(f"{LINE}\r{LINE}\n", "application/x-ndjson", framing="chunked")),
        ("lines of lines", "masked", 0, reply(f"{plain(LINE)}\n", "application/x-ndjson", framing="chunked")),
        ("a line longer than is held", "cut", 0, reply('{"name":"plainly-seen","ssn":"' + SSN * 90000 + '"}\n', "application/x-ndjson", framing="chunked")),
        ("a text sequence", "masked", 2, reply(f"\x1e{LINE}\n\x1e{LINE}\n", "application/json-seq", framing="chunked")),
        ("a text sequence that begins before it", "cut", 0, reply(f"{LINE}\x1e{LINE}\n", "application/json-seq", framing="chunked")),
        ("events", "masked", 0, reply(f"data: {LINE}\n\ndata: {LINE}\n\n", EVENTS, framing="chunked")),
        ("events byte by byte", "masked", 1, reply(f"data: {LINE}\r\n\r\n", EVENTS, framing="chunked", step=1)),
        ("an event on two lines", "masked", 5, reply(f'data: {{"name":"plainly-seen",\ndata:"ssn":\ndata:"{SSN}"}}\n\n', EVENTS, framing="chunked")),
        ("an event ended by CR", "masked", 3, reply(f"data: {LINE}\r\rdata: {LINE}\r\r", EVENTS, framing="chunked")),
        ("an event without its end", "masked", 0, reply(f"data: {LINE}", EVENTS, framing="chunked")),
        ("comments", "masked", 0, reply(f": {SSN}\ndata: {LINE}\n\n", EVENTS, framing="chunked")),
        ("unknown fields of events", "masked", 0, reply(f"ssn: {SSN}\ndata: {LINE}\n\n", EVENTS, framing="chunked")),
        ("names and ids of events", "masked", 0, reply(f"event: to {EMAIL}\nid: {EMAIL}\nretry: {SSN}\ndata: {LINE}\n\n", EVENTS, framing="chunked")),
        ("a number as an id", "masked", 0, reply(f"id: {SHAPED}\ndata: {LINE}\n\n", EVENTS, framing="chunked")),
        ("an event of words", "cut", 0, reply(f"data: ssn is {SSN}\n\n", EVENTS, framing="chunked")),
        ("an event with white space before", "masked", 0, reply(f"data:   {LINE}\n\n", EVENTS, framing="chunked")),
        ("events behind a mark", "cut", 0, reply(f"\ufeffdata: {LINE}\n\n", EVENTS, framing="chunked")),
        ("events packed", "masked", 4, reply(packed(f"data: {LINE}\n\n".encode(), "gzip"), EVENTS, "Content-Encoding: gzip", framing="chunked")),
        ("events in another charset", "withheld", 0, reply(f"data: {LINE}\n\n".encode("utf-16"), EVENTS + "; charset=utf-16", framing="chunked")),
        ("lines in another charset", "withheld", 0, reply(f"{LINE}\n", "application/x-ndjson; charset=utf-7", framing="chunked")),
        ("events with a length", "masked", 0, reply(f"data: {LINE}\n\n", EVENTS)),
    ]
]  # fmt: skip

TEXTS = [
    attempt(f"text: {name}", outcome, *(cuts(whole, step) if step else [whole]), path="/redacted/page")
    for name, outcome, step, whole in [
        ("a page", "masked", 0, reply(f"plainly-seen {EMAIL} {SHAPED}", "text/html")),
        ("byte by byte", "masked", 1, reply(f"plainly-seen {EMAIL} {SHAPED}", "text/plain", framing="chunked", step=1)),
        ("across the steps of the search", "masked", 1000, reply(f"plainly-seen {'x' * 8150}{' ' * 30}{EMAIL} {SHAPED}\n" * 3, "text/plain", framing="chunked")),
        ("packed", "masked", 0, reply(packed(f"plainly-seen {EMAIL}".encode(), "br"), "text/plain", "Content-Encoding: br")),
        ("UTF-16", "withheld", 0, reply(f"plainly-seen {EMAIL}".encode("utf-16"), "text/plain")),
        ("a charset of its own", "withheld", 0, reply(f"plainly-seen {EMAIL}", "text/plain; charset=utf-7")),
        ("entities", "masked", 0, reply(f"plainly-seen {EMAIL.replace('@', '&#64;')} {EMAIL.replace('@', '&commat;')}", "text/html")),
        ("an address in an address", "masked", 0, reply(f"plainly-seen mailto:{EMAIL.replace('@', '%40')}", "text/html")),
        ("a field with an address in an address", "masked", 0, reply("plainly-seen", "text/plain", f"X-To: {EMAIL.replace('@', '%40')}")),
        ("bytes", "withheld", 0, reply(f"plainly-seen {EMAIL}", "application/octet-stream")),
        ("an address", "masked", 0, reply("plainly-seen", "text/plain", f"Link: <mailto:{EMAIL}>")),
        ("a field", "masked", 0, reply("plainly-seen", "text/plain", f"X-To: {EMAIL}", f"X-No: {SHAPED}")),
        ("with 205", "masked", 0, reply(f"plainly-seen {EMAIL}", "text/plain", status="205 Reset Content")),
    ]
]  # fmt: skip

ATTEMPTS = [*DOCUMENTS, *TYPES, *CODINGS, *FRAMINGS, *FIELDS, *STREAMS, *TEXTS]


# What a detector finds, and a mask, which goes by names, does not.
UNNAMED = {
    "e-mail in words",
    "number in words",
    "e-mail as a key",
    "a token that holds the e-mail",
    "stream: a number as an id",
}
NAMED = [tried for tried in [*DOCUMENTS, *FIELDS, *STREAMS] if tried.name not in UNNAMED]


@pytest.mark.parametrize("tried", NAMED, ids=lambda tried: tried.name)
def test_no_masked_value_reaches_the_client_without_a_detector(proxy: Attacked, tried: Attempt) -> None:
    run(proxy, dataclasses.replace(tried, path=tried.path.replace("/masked/", "/named/")))


@pytest.mark.parametrize("tried", NAMED, ids=lambda tried: tried.name)
def test_nor_in_a_stream(proxy: Attacked, streams: Frames, tried: Attempt) -> None:
    run_in_a_stream(proxy, streams, dataclasses.replace(tried, path=tried.path.replace("/masked/", "/named/")))


@pytest.mark.parametrize("version", ["HTTP/1.0", "HTTP/1.1"])
@pytest.mark.parametrize("connection", ["keep-alive", "close"])
def test_what_an_old_client_gets_is_masked(proxy: Attacked, version: str, connection: str) -> None:
    proxy.target.says(reply(DOCUMENT, framing="chunked", step=9))
    sent = ask("/masked/x", f"Connection: {connection}").replace(b"HTTP/1.1", version.encode(), 1)
    received = proxy.send(sent, until=b"}")
    assert leaks(received) == [], received
    assert shows(received)


def test_more_than_is_held_is_withheld(proxy: Attacked) -> None:
    proxy.target.says(reply(json.dumps([CUSTOMER] * 20_000), framing="chunked", step=60_000))
    received = proxy.send(ask("/masked/x"))
    assert received[9:12] == b"403"
    assert leaks(received) == []
    assert not shows(received)


@pytest.mark.parametrize("tried", ATTEMPTS, ids=lambda tried: tried.name)
def test_no_masked_value_reaches_the_client(proxy: Attacked, tried: Attempt) -> None:
    run(proxy, tried)


@pytest.mark.parametrize("tried", ATTEMPTS, ids=lambda tried: tried.name)
def test_no_masked_value_reaches_the_client_in_a_stream(proxy: Attacked, streams: Frames, tried: Attempt) -> None:
    run_in_a_stream(proxy, streams, tried)
