"""Crafted requests through the real proxy to targets that parse differently, each telling what it took them for.

What a target saw must be what was granted, in order, and nothing else: method, segments, query, body, Host, no field of
one hop, no credential of the client. What is refused is refused in HTTP's words and is on record.
"""

import collections
import contextlib
import dataclasses
import json
import re
import socket
from collections.abc import Iterator
from urllib.parse import unquote

import h11
import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, given, settings

from pep.core.model import Action, Decision
from tests.http_readers import READERS, Reader, Request, pairs, segments
from tests.http_relay import SECRET, HttpRelay, allow, deny, http_relay
from tests.pep.http import smuggling
from tests.pep.http.smuggling import OK
from tests.pep.http.smuggling_attempts import (
    ATTEMPTS,
    AUTHORIZATION,
    CREDENTIAL,
    DENIED,
    LAST,
    REFUSED,
    Attempt,
    Sent,
    ask,
    chunks,
    sized,
)

FORBIDDEN = frozenset(
    {
        "connection", "keep-alive", "proxy-connection", "proxy-authorization", "te", "trailer", "upgrade",
        "http2-settings", "expect", "x-private", "x-other", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host",
        "x-real-ip", "forwarded", "x-original-url", "x-rewrite-url",
    }
)  # fmt: skip
LANES = {name: (name, {}) for name in READERS} | {
    "body read": ("recorder", {"input_paths": ["action.properties.http.body"]}),
    "client's Host": ("recorder", {"http": {"preserve_host": True}}),
}


def policy(action: Action) -> Decision:
    """By the first segment of the path; what may make the target read another method or target is denied."""
    below = list(action.properties["segments"])[:1] == ["allowed"]
    return allow() if below and not action.properties["overrides"] else deny()


@dataclasses.dataclass
class Lane:
    """A proxy before one target."""

    name: str
    relay: HttpRelay
    reader: Reader
    records: list[bytes] = dataclasses.field(repr=False)
    accounted: int = 0

    def granted(self, since: int) -> list[Action]:
        asked = self.relay.decisions.asked[since:]
        return [action for action in asked if action.name != "prepare" and isinstance(policy(action), type(allow()))]

    def host(self, action: Action) -> str:
        return action.properties["host"] if self.name == "client's Host" else f"127.0.0.1:{self.reader.port}"


@pytest.fixture(scope="module")
def lanes() -> Iterator[list[Lane]]:
    with contextlib.ExitStack() as stack:
        stack.enter_context(pytest.MonkeyPatch.context()).setenv("CHECKREIN_TEST_UPSTREAM", SECRET)
        found = []
        for name, (reader_name, options) in LANES.items():
            reader = stack.enter_context(READERS[reader_name]())
            relay = stack.enter_context(http_relay(reader.url, policy, **options))
            relay.decisions.passwords = {CREDENTIAL}
            found.append(Lane(name, relay, reader, recorded(relay)))
        yield found
    # What a target came to see later than it was looked for.
    for lane in found:
        assert len(lane.reader.seen) == lane.accounted, lane.name


def recorded(relay: HttpRelay) -> list[bytes]:
    """All that is put on record, from now on."""
    records: list[bytes] = []
    append = relay.runtime.spool.append

    def noting(sealed, **options):
        append(sealed, **options)
        records.extend(each.data for each in sealed)

    relay.runtime.spool.append = noting
    return records


def converse(port: int, data: bytes, *, ends: bool, timeout: float = 10.0) -> bytes:
    """What comes back until the proxy closes; `ends`: the client will send no more, and says so."""
    received = b""
    client = socket.create_connection(("127.0.0.1", port), timeout=timeout)
    with client, contextlib.suppress(ConnectionError, TimeoutError):
        client.sendall(data)
        while more := client.recv(1 << 16):
            received += more
            if ends and received.endswith(b"seen"):
                client.shutdown(socket.SHUT_WR)
    return received


def statuses(received: bytes) -> list[int]:
    assert not received or received.startswith(b"HTTP/1.1 "), received[:40]
    return [int(code) for code in re.findall(rb"HTTP/1\.1 ([0-9]{3}) [^\r\n]*\r\n", received) if code != b"100"]


# --- the property -----------------------------------------------------------------------------------------------------


def same(action: Action, seen: Request, host: str) -> None:
    """The target took the request for what was granted."""
    granted = action.properties
    query: dict[str, list[str]] = {}
    for name, value in seen.query:
        query.setdefault(name, []).append(value)
    assert seen.disagreement == ""
    assert (seen.method, list(seen.segments), query) == (
        granted["method"],
        list(granted["segments"]),
        {name: list(values) for name, values in granted["query"].items()},
    )
    # In the spelling that was decided, not the client's.
    assert seen.target.partition("?")[0] == granted["path"]
    assert seen.all("host") == [host]
    names = [name for name, _ in seen.fields]
    if action.name == "upgrade":
        assert (seen.all("connection"), seen.all("upgrade")) == (["Upgrade"], ["websocket"])
    assert FORBIDDEN.isdisjoint(set(names) - ({"connection", "upgrade"} if action.name == "upgrade" else set()))
    assert all(re.fullmatch(r"[a-z0-9-]+", name) for name in names)
    assert seen.all("authorization") == [f"Bearer {SECRET}"]
    assert CREDENTIAL not in repr((seen.target, seen.fields))
    assert len(seen.all("content-length")) + len(seen.all("transfer-encoding")) <= 1
    assert set(readings(seen.target)) == {unquote(seen.target.partition("?")[0])}
    match granted["body"]:
        case {"kind": "json", "json": shown}:
            assert json.loads(seen.body) == shown
        case {"kind": "form", "form": form}:
            assert sorted(pairs(seen.body.decode())) == sorted((n, v) for n, values in form.items() for v in values)
        case {"kind": "none"}:
            assert seen.body == b""


def readings(target: str) -> Iterator[str]:
    """The path as servers might read it: decoded once or twice, without parameters, dots resolved, slashes turned."""
    path = target.partition("?")[0]
    once = unquote(path)
    yield once
    yield unquote(once)
    yield re.sub(r";[^/]*", "", once)
    yield once.replace("\\", "/")
    yield re.sub(r"/{2,}", "/", once)
    yield once.partition("\0")[0]
    yield "/".join(part for part in once.split("/") if part not in {".", ".."})
    yield "/".join(part.rstrip(". ") for part in once.split("/"))


def judge(lane: Lane, since: tuple[int, int], *, cut: bool) -> tuple[list[Action], list[Request]]:
    """What was granted and what was seen; of one that was cut, the last is granted and never complete."""
    actions = lane.granted(since[0])
    seen = lane.reader.seen[since[1] :]
    lane.accounted = since[1] + len(seen)
    assert len(actions) - cut <= len(seen) <= len(actions), (actions, seen)
    for action, request in zip(actions, seen, strict=False):
        same(action, request, lane.host(action))
    return actions, seen


def attempt_on(lane: Lane, data: bytes, *, more: bool, cut: bool) -> tuple[list[int], list[Action], list[Request], str]:
    since = len(lane.relay.decisions.asked), lane.accounted
    lane.records.clear()
    codes = statuses(converse(lane.relay.port, data + (LAST if more else b""), ends=not more))
    actions, seen = judge(lane, since, cut=cut)
    recorded = b"".join(lane.records).decode("latin-1")
    return codes, actions, seen, recorded


def refusals(codes: list[int], recorded: str) -> list[int]:
    """The refusals; there is a record of each."""
    found = [code for code in codes if not 200 <= code < 300]
    assert all(400 <= code < 600 and code != 500 for code in found)
    assert len(re.findall(r'"request refused"|"verdict":"deny"', recorded)) >= len(found)
    return found


@pytest.mark.parametrize("attempt", ATTEMPTS, ids=[attempt.name[:70] for attempt in ATTEMPTS])
def test_a_target_sees_what_was_granted(lanes: list[Lane], attempt: Attempt):
    for lane in lanes:
        cut = attempt.answer is REFUSED and bool(attempt.granted)
        codes, actions, seen, recorded = attempt_on(lane, attempt.data, more=attempt.more, cut=cut)
        refused = refusals(codes, recorded)
        what = (lane.name, codes)
        assert len(refused) == (attempt.answer is not OK), what
        if attempt.answer is DENIED:
            assert refused == [403], what
        elif attempt.answer is REFUSED:
            assert refused[0] in {400, 401, 405, 414, 417, 431, 501, 505}, what
        whole = tuple(sent for sent in attempt.granted if sent.body != b"cut")
        extra = seen[len(whole) :]
        assert [request.target for request in extra] in ([], ["/allowed/last"]), what
        assert len(seen) == codes.count(200), what
        if attempt.answer is OK and attempt.more:
            assert extra, what
        if lane.name != "body read":
            assert len(actions) == len(attempt.granted) + len(extra), what
        for sent, request in zip(whole, seen, strict=False):
            expected(sent, request)
        assert len(seen) >= len(whole), what


def expected(sent: Sent, seen: Request) -> None:
    method, target = sent.line.split(" ")
    path, _, query = target.partition("?")
    assert (seen.method, seen.segments, seen.query) == (method, segments(unquote(path)), pairs(query))
    assert seen.body == sent.body


# --- the codec's own table --------------------------------------------------------------------------------------------


def _with_credential(data: bytes) -> bytes:
    """The same request below /allowed, with a credential where a request line is followed by fields."""
    moved = re.sub(rb"/a(?=[ ?/&%;.\\\x00-\x1f#\[{|:+@]|$)", b"/allowed", data, count=1)
    line = rb"\g<1>" + AUTHORIZATION.encode() + b"\r\n"
    return re.sub(rb"\A((?:\r\n)?[^\r\n]*\r\n)(?=[A-Za-z])", line, moved, count=1)


# A method that is in nobody's list is forwarded where it is granted, and then refused by two of the targets.
TABLE = tuple(each for each in (*smuggling.REQUESTS, *smuggling.PATHS) if each.name != "request lines: method G")


@pytest.mark.parametrize("crafted", TABLE, ids=[crafted.name[:70] for crafted in TABLE])
def test_what_is_crafted_for_the_codec(lanes: list[Lane], crafted: smuggling.Crafted):
    data = _with_credential(crafted.data)
    for lane in lanes:
        codes, actions, seen, recorded = attempt_on(lane, data, more=True, cut=crafted.expected != OK)
        refused = refusals(codes, recorded)
        assert len(seen) == codes.count(200), (lane.name, codes)
        if crafted.expected != OK:
            # By the codec, or, where that takes it, for want of a credential or of a grant.
            assert refused, (lane.name, codes)
        else:
            assert actions or set(refused) <= {401, 403}, (lane.name, codes)
            if seen and AUTHORIZATION.encode() in data:
                assert seen[0].body in {read_by_h11(data), b""}, lane.name


def read_by_h11(data: bytes) -> bytes:
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(data.removeprefix(b"\r\n"))
    body = b""
    while not isinstance(event := connection.next_event(), h11.EndOfMessage):
        assert isinstance(event, h11.Request | h11.Data), event
        body += bytes(event.data) if isinstance(event, h11.Data) else b""
    return body


def test_there_are_enough_of_each_kind():
    counted = collections.Counter(attempt.answer for attempt in ATTEMPTS)
    assert counted[REFUSED] + counted[DENIED] >= 150
    assert counted[OK] >= 30
    assert len({attempt.name for attempt in ATTEMPTS}) == len(ATTEMPTS)


# --- any bytes --------------------------------------------------------------------------------------------------------

VALID = (
    ask("GET /allowed/a?b=c&d=%20e", "X: y"),
    sized("POST /allowed/a", b"hello", "Content-Type: text/plain"),
    chunks("POST /allowed/a", b"hello", b"0\r\n\r\n", fields=("Content-Type: text/plain",)),
    sized("PUT /allowed/a%2eb/", ask("GET /allowed/hidden"), "Connection: keep-alive, X-Own", "X-Own: z"),
    ask("GET http://api.test/allowed/a", "Upgrade: h2c", "Connection: upgrade") + ask("GET /admin"),
)
NASTY = tuple(
    b'\r|\n|\r\n|\n\n|\r\n\r\n|\0| |\t|\x0b|:|;|,|/|\\|%|%2f|%2e|..|.|#|?|&|0|5|-|+|_|\x7f|\x80|\xff|"|@|chunked|'
    b"HTTP/1.1|GET /admin HTTP/1.1|Host: x|\r\nHost: x|\r\nContent-Length: 3|\r\nTransfer-Encoding: chunked|"
    b"\r\nConnection: close|\r\n x|\r\n0\r\n\r\n".split(b"|")
)


@st.composite
def mutants(draw: st.DrawFn) -> bytes:
    data = draw(st.sampled_from(VALID))
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(data)))
        length = draw(st.integers(1, 6))
        piece = draw(st.sampled_from(NASTY))
        match draw(st.sampled_from(["insert", "replace", "delete", "duplicate"])):
            case "insert":
                data = data[:at] + piece + data[at:]
            case "replace":
                data = data[:at] + piece + data[at + len(piece) :]
            case "delete":
                data = data[:at] + data[at + length :]
            case "duplicate":
                data = data[: at + length] + data[at:]
    return data


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=mutants())
def test_what_is_forwarded_of_mutants(lanes: list[Lane], data: bytes):
    lane = lanes[0]
    since, start = (len(lane.relay.decisions.asked), lane.accounted), len(lane.reader.wire)
    # One that still waits for bytes, because a length grew, is left to itself.
    codes = statuses(converse(lane.relay.port, data + LAST + LAST, ends=False, timeout=1.0))
    _, seen = judge(lane, since, cut=not codes or any(code != 200 for code in codes))
    assert len(seen) == codes.count(200)
    # Of one that was cut as well.
    assert CREDENTIAL.encode() not in lane.reader.wire[start:].partition(b"\r\n\r\n")[0]
