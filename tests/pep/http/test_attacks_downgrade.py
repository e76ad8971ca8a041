"""Requests in HTTP/2, crafted frame by frame, on their way to targets of HTTP/1.1: none arrives that was not decided.

As in `test_attacks_smuggling`: what a target saw must be what was granted, in order, and nothing else. Behind every
attempt an ordinary request follows on the same connection, and gets its own answer.
"""

import contextlib
import dataclasses
from collections.abc import Iterator

import pytest
from hyperframe.frame import DataFrame

from tests.http_readers import READERS
from tests.http_relay import SECRET, http_relay
from tests.pep.http.frames import Frames
from tests.pep.http.smuggling_attempts import CREDENTIAL
from tests.pep.http.test_attacks_smuggling import Lane, policy, recorded, same

RESET = "reset"  # of the stream: malformed
ENDS = "ends"  # the connection does, by h2's own word
REFUSED = "refused"  # answered with a status from 400
OK = "ok"
Field = tuple[bytes, bytes]
BYTES = (b"content-type", b"application/octet-stream")
INJECTED = b"x\r\n\r\nGET /admin HTTP/1.1\r\nHost: api.test\r\nX: "
LANES = {
    "recorder": ("recorder", {}),
    "http.server": ("http.server", {}),
    "body read": ("recorder", {"input_paths": ["action.properties.http.body"]}),
}


@dataclasses.dataclass(frozen=True)
class Attempt:
    name: str
    expected: str
    fields: tuple[Field, ...]
    body: tuple[bytes, ...] | None = None
    trailers: tuple[Field, ...] | None = None


def head(*more: Field, **pseudo: bytes | None) -> tuple[Field, ...]:
    """An ordinary request with the fields `more`; a pseudo-header field may be another one, or None."""
    values = {"method": b"GET", "scheme": b"http", "authority": b"api.test", "path": b"/allowed/a"} | pseudo
    named = tuple((b":" + name.encode(), value) for name, value in values.items() if value is not None)
    return (*named, (b"authorization", b"Bearer " + CREDENTIAL.encode()), *more)


def post(*more: Field, **pseudo: bytes | None) -> tuple[Field, ...]:
    return head(BYTES, *more, **{"method": b"POST"} | pseudo)


def attempts() -> Iterator[Attempt]:
    yield from _request_lines()
    yield from _fields()
    yield from _authorities()
    yield from _lengths()
    yield from _trailers()
    yield from _ordinary()


def _request_lines() -> Iterator[Attempt]:
    for what, method in {
        "a request line": b"GET /admin HTTP/1.1\r\nX: ",
        "a second request": b"GET /allowed/a HTTP/1.1\r\nHost: a\r\n\r\nGET",
        "a space": b"GET /admin",
        "a tab": b"GET\t/admin",
        "a line feed": b"GET\n",
        "NUL": b"GET\0",
        "nothing": b"",
        "a colon": b"GET:",
    }.items():
        yield Attempt(f"a method with {what}", RESET, head(method=method))
    for method in (b"get", b"PRI", b"TRACE", b"G_T", b"M-"):
        yield Attempt(f"the method {method.decode()}", REFUSED, head(method=method))
    for what, path in {
        "a version": b"/allowed/a HTTP/1.1",
        "a version and a field": b"/allowed/a HTTP/1.1\r\nX: y",
        "a second request": b"/allowed/a HTTP/1.1\r\nHost: a\r\n\r\nGET /admin",
        "a line feed": b"/allowed/a\n",
        "a carriage return": b"/allowed/a\r",
        "a tab": b"/allowed/a\t/admin",
        "NUL": b"/allowed/a\0",
        "a fragment": b"/allowed/a#/admin",
        "a byte over ASCII": b"/allowed/\xe9",
        "a scheme": b"http://api.test/allowed/a",
        "another scheme": b"file:///etc/passwd",
        "another host": b"http://other.test/allowed/a",
        "an authority alone": b"api.test:80",
        "nothing": b"",
        "a star": b"*",
        "no slash": b"allowed/a",
        "a query alone": b"?a=b",
    }.items():
        yield Attempt(f"a path with {what}", RESET, head(path=path))
    for path in (
        b"/allowed/../admin",
        b"//admin",
        b"/allowed/%2e%2e/admin",
        b"/allowed;/a",
        b"/allowed\\a",
        b"/allowed/%00",
    ):
        yield Attempt(f"the path {path.decode()}", REFUSED, head(path=path))
    for scheme in (b"", b"ftp", b"HTTP", b"http://other.test/admin?", b"http\r\nX: y", b"http ", b"ws"):
        yield Attempt(f"the scheme {scheme!r}", RESET, head(scheme=scheme))
    yield Attempt("too long a path", REFUSED, head(path=b"/allowed/" + b"a" * 9000))


def _fields() -> Iterator[Attempt]:
    for what, value in {
        "a second request": INJECTED,
        "a line end": b"y\r\nX-Role: admin",
        "a line feed": b"y\nX-Role: admin",
        "a carriage return": b"y\rX-Role: admin",
        "NUL": b"y\0",
        "DEL": b"y\x7f",
        "a space in front": b" y",
        "a tab behind": b"y\t",
    }.items():
        yield Attempt(f"a value with {what}", RESET, head((b"x-note", value)))
        yield Attempt(f"a cookie with {what}", RESET, head((b"cookie", value)))
    for what, name in {
        "a field": b"x-note: y\r\nx-role",
        "a second request": INJECTED,
        "an upper-case letter": b"X-note",
        "upper case throughout": b"CONTENT-LENGTH",
        "a colon": b"x-note:",
        "a colon inside": b"transfer-encoding: chunked\r\nx",
        "a space": b"x-note ",
        "a space in front": b" transfer-encoding",
        "NUL": b"x\0",
        "a byte over ASCII": b"x-\xe9",
        "nothing": b"",
    }.items():
        yield Attempt(f"a name with {what}", RESET, head((name, b"0")))
    for name in (b"content_length", b"x.role", b"transfer_encoding"):
        yield Attempt(f"the name {name.decode()}", REFUSED, head((name, b"0")))
    for name, value in {
        b"transfer-encoding": b"chunked",
        b"connection": b"keep-alive, x-note",
        b"keep-alive": b"timeout=5",
        b"proxy-connection": b"keep-alive",
        b"upgrade": b"h2c",
        b"http2-settings": b"AAMAAABk",
        b"te": b"chunked",
    }.items():
        yield Attempt(f"{name.decode()} of HTTP/1.1", RESET, head((name, value)))
        yield Attempt(
            f"{name.decode()} of HTTP/1.1, with a body", RESET, post((name, value)), (b"0\r\n\r\nGET /admin",)
        )
    yield Attempt(
        "transfer-encoding and content-length",
        RESET,
        post((b"content-length", b"5"), (b"transfer-encoding", b"chunked")),
        (b"0\r\n\r\n",),
    )
    yield Attempt("another transfer-encoding", RESET, post((b"transfer-encoding", b"xchunked")), (b"0\r\n\r\n",))
    yield Attempt("a method in a field", REFUSED, head((b"x-http-method-override", b"DELETE")))
    yield Attempt("two credentials", REFUSED, head((b"authorization", b"Bearer other")))


def _authorities() -> Iterator[Attempt]:
    for name in (b":method", b":path", b":scheme", b":authority"):
        value = dict(head())[name]
        yield Attempt(f"two of {name.decode()}", RESET, ((name, value), *head()))
    yield Attempt("two different paths", RESET, ((b":path", b"/admin"), *head()))
    yield Attempt("a path behind the fields", RESET, head((b":path", b"/allowed/a"), path=None))
    yield Attempt("a pseudo-header field of responses", RESET, ((b":status", b"200"), *head()))
    yield Attempt("an unknown pseudo-header field", RESET, ((b":role", b"admin"), *head()))
    yield Attempt("a protocol", RESET, ((b":protocol", b"websocket"), *head(method=b"CONNECT")))
    for name in ("method", "scheme", "path"):
        yield Attempt(f"without {name}", RESET, head(**{name: None}))
    yield Attempt("a host that is another one", RESET, head((b"host", b"other.test")))
    yield Attempt("a host in other letters", RESET, head((b"host", b"API.TEST")))
    yield Attempt("two hosts", RESET, head((b"host", b"api.test"), (b"host", b"api.test")))
    yield Attempt("two hosts without an authority", RESET, head((b"host", b"a"), (b"host", b"b"), authority=None))
    yield Attempt("no host at all", REFUSED, head(authority=None))
    for authority in (b"", b"api.test\r\nX: y", b"api.test /admin", b"api.test\0"):
        yield Attempt(f"the authority {authority!r}", RESET, head(authority=authority))
    for authority in (b"user@api.test", b"api.test/admin", b"api.test:99999", b"api.test?", b"api.test,b"):
        yield Attempt(f"the authority {authority.decode()}", REFUSED, head(authority=authority))
    yield Attempt("CONNECT", REFUSED, head(method=b"CONNECT", scheme=None, path=None))
    yield Attempt("CONNECT with a path", RESET, head(method=b"CONNECT"))


def _lengths() -> Iterator[Attempt]:
    behind = b"GET /admin HTTP/1.1\r\nHost: a\r\n\r\n"
    yield Attempt("a body that is longer than it says", ENDS, post((b"content-length", b"3")), (b"abc" + behind,))
    yield Attempt("longer in its second frame", ENDS, post((b"content-length", b"3")), (b"abc", behind))
    yield Attempt("a body that is shorter than it says", ENDS, post((b"content-length", b"9")), (b"abc",))
    yield Attempt("a length of nothing and a body", ENDS, post((b"content-length", b"0")), (behind,))
    yield Attempt("a length without a body", RESET, post((b"content-length", b"5")))
    yield Attempt("two lengths", ENDS, post((b"content-length", b"3"), (b"content-length", b"30")), (b"abc",))
    yield Attempt("two equal lengths", RESET, post((b"content-length", b"3"), (b"content-length", b"3")), (b"abc",))
    for length in (b"+3", b"3, 3", b"0x3", b"3 3", b"", b"-3"):
        yield Attempt(f"the length {length!r}", ENDS, post((b"content-length", length)), (b"abc",))
    yield Attempt("a length with a zero in front", RESET, post((b"content-length", b"03")), (b"abc",))
    yield Attempt("chunks in a body", OK, post(), (b"0\r\n\r\n" + behind,))
    yield Attempt("the end of chunks, in frames", OK, post(), (b"0\r\n", b"\r\n", behind))
    yield Attempt("a request in a body of its length", OK, post((b"content-length", b"%d" % len(behind))), (behind,))
    yield Attempt("an empty body in frames", OK, post(), (b"", b"", b""))


def _trailers() -> Iterator[Attempt]:
    for what, trailer in {
        "a pseudo-header field": (b":path", b"/admin"),
        "a status": (b":status", b"200"),
        "an upper-case name": (b"X-Note", b"y"),
        "a line end": (b"x-note", b"y\r\n\r\nGET /admin HTTP/1.1"),
        "a name with a line end": (b"x\r\n\r\nget /admin http/1.1", b"y"),
        "a transfer coding": (b"transfer-encoding", b"chunked"),
        "a connection": (b"connection", b"close"),
    }.items():
        yield Attempt(f"trailers with {what}", RESET, post(), (b"abc",), (trailer,))
        yield Attempt(
            f"trailers behind a length, with {what}", RESET, post((b"content-length", b"3")), (b"abc",), (trailer,)
        )
    for name in (b"host", b"authorization", b"x-http-method-override", b"cookie"):
        yield Attempt(f"{name.decode()} as a trailer", REFUSED, post(), (b"abc",), ((name, b"a"),))
    yield Attempt("a length as a trailer", RESET, post(), (b"abc",), ((b"content-length", b"3"),))
    yield Attempt("a trailer", OK, post(), (b"abc",), ((b"x-checksum", b"1"),))


def _ordinary() -> Iterator[Attempt]:
    yield Attempt("a host that is the authority", OK, head((b"host", b"api.test")))
    yield Attempt("a host alone", OK, head((b"host", b"api.test"), authority=None))
    yield Attempt("crumbs", OK, head((b"cookie", b"a=1"), (b"cookie", b"b=2")))
    yield Attempt("te", OK, head((b"te", b"trailers")))
    yield Attempt("an empty value", OK, head((b"x-note", b"")))
    yield Attempt("a query", OK, head(path=b"/allowed/a?b=c&d=%20"))
    yield Attempt("HEAD", OK, head(method=b"HEAD"))
    yield Attempt("POST without a body", OK, post())


ATTEMPTS = tuple(attempts())


@pytest.fixture(scope="module")
def lanes() -> Iterator[list[Lane]]:
    with contextlib.ExitStack() as stack:
        stack.enter_context(pytest.MonkeyPatch.context()).setenv("CHECKREIN_TEST_UPSTREAM", SECRET)
        found = []
        for name, (reader_name, options) in LANES.items():
            reader = stack.enter_context(READERS[reader_name]())
            listen = {"address": "127.0.0.1:0", "http2": True}
            relay = stack.enter_context(http_relay(reader.url, policy, listen=listen, **options))
            relay.decisions.passwords = {CREDENTIAL}
            found.append(Lane(name, relay, reader, recorded(relay)))
        yield found
    for lane in found:
        assert len(lane.reader.seen) == lane.accounted, lane.name


def test_there_are_enough_of_them() -> None:
    assert len(ATTEMPTS) >= 150
    assert len({attempt.name for attempt in ATTEMPTS}) == len(ATTEMPTS)


@pytest.mark.parametrize("attempt", ATTEMPTS, ids=lambda attempt: attempt.name)
def test_nothing_arrives_that_was_not_granted(lanes: list[Lane], attempt: Attempt) -> None:
    for lane in lanes:
        since = len(lane.relay.decisions.asked), lane.accounted
        lane.records.clear()
        with Frames(lane.relay.port) as client:
            outcome = tried(client, attempt)
            assert outcome == attempt.expected, lane.name
            if outcome != ENDS:
                assert client.answer(head(path=b"/allowed/last")).status == 200
        actions, seen = lane.granted(since[0]), lane.reader.seen[since[1] :]
        lane.accounted = since[1] + len(seen)
        if outcome != OK:
            # What was cut may have been granted by its head, and then its target never saw it whole.
            actions = [action for action in actions if action.properties["path"] == "/allowed/last"]
        assert len(actions) == len(seen), (actions, seen)
        for action, request in zip(actions, seen, strict=True):
            same(action, request, lane.host(action))
        assert len([each for each in seen if each.target == "/allowed/last"]) == (outcome != ENDS)
        if outcome == OK:
            assert len(seen) == len(actions) == 2
            sent = b"".join(attempt.body or ())
            assert (seen[0].method, seen[0].body) == (dict(attempt.fields)[b":method"].decode(), sent)
        else:
            assert [each for each in seen if each.target != "/allowed/last"] == []
            assert b"request refused" in b"".join(lane.records) or b'"deny"' in b"".join(lane.records)


def tried(client: Frames, attempt: Attempt) -> str:
    number = client.open(attempt.fields, end=attempt.body is None)
    for place, piece in enumerate(attempt.body or (), 1):
        last = place == len(attempt.body or ()) and attempt.trailers is None
        client.send(DataFrame(number, piece, flags=["END_STREAM"] if last else []))
    if attempt.trailers is not None:
        client.trailers(number, attempt.trailers)
    answer = client.wait(number)
    if client.closed or (client.goaway is not None and not answer.over):
        return ENDS
    if answer.status:
        return OK if answer.status == 200 else REFUSED
    return RESET
