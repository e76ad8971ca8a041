"""Properties of the codec, the table of crafted requests, and two other readers of what it writes: llhttp and h11."""

from collections.abc import Callable, Iterator
from itertools import groupby

import h11
import httptools
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pep.core.errors import ClientProtocolError, UpstreamProtocolError
from pep.http.codec import (
    LAST_CHUNK,
    RequestCodec,
    ResponseCodec,
    chunk,
    encode_request,
    encode_response,
    end_to_end,
)
from pep.http.framing import HOP_BY_HOP
from pep.http.messages import (
    BodyData,
    Chunked,
    EndOfMessage,
    Fields,
    Framing,
    Length,
    NoBody,
    RequestHead,
    ResponseHead,
    UntilClose,
)
from tests.pep.http.smuggling import HOST, OK, PATHS, REQUESTS, Crafted, chunked, get, post
from tests.strategies import chunkings

Part = RequestHead | ResponseHead | BodyData | EndOfMessage


def whole_bodies(parts: list[Part]) -> list[Part]:
    """With neighbouring pieces of a body put together."""
    joined: list[Part] = []
    for is_data, run in groupby(parts, lambda part: isinstance(part, BodyData)):
        pieces = list(run)
        joined += [BodyData(b"".join(p.data for p in pieces if isinstance(p, BodyData)))] if is_data else pieces
    return joined


def requests(chunks: list[bytes]) -> tuple[list[Part], str]:
    """The parts, and the code of the error behind them."""
    codec, parts = RequestCodec(), list[Part]()
    try:
        for data in chunks:
            codec.feed(data)
            while (part := codec.next()) is not None:
                parts.append(part)
    except ClientProtocolError as error:
        return whole_bodies(parts), error.code
    return whole_bodies(parts), OK


def responses(chunks: list[bytes], method: str = "GET", *, closed: bool = False) -> list[Part]:
    codec, parts = ResponseCodec(), list[Part]()
    codec.expect(method)
    for data in chunks:
        codec.feed(data)
        while (part := codec.next()) is not None:
            parts.append(part)
    if closed:
        codec.eof()
        while (part := codec.next()) is not None:
            parts.append(part)
    return whole_bodies(parts)


def single_bytes(data: bytes) -> list[bytes]:
    return [data[i : i + 1] for i in range(len(data))]


# --- the table --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("crafted", REQUESTS, ids=lambda crafted: crafted.name)
def test_crafted_requests(crafted: Crafted) -> None:
    parts, code = requests([crafted.data])
    assert code == crafted.expected
    if code == OK:
        assert isinstance(parts[-1], EndOfMessage)
    assert requests(single_bytes(crafted.data)) == (parts, code)


@pytest.mark.parametrize("crafted", PATHS, ids=lambda crafted: crafted.name)
def test_paths_reach_the_one_who_decides_as_they_were_sent(crafted: Crafted) -> None:
    parts, code = requests([crafted.data])
    head = parts[0] if parts else None
    if code == OK:
        assert isinstance(head, RequestHead)
        assert head.path == crafted.name.removeprefix("path: ")
    else:
        assert crafted.expected == code


def test_the_table_is_large_and_its_names_are_distinct() -> None:
    names = [crafted.name for crafted in (*REQUESTS, *PATHS)]
    assert len(set(names)) == len(names) >= 150


# --- heads ------------------------------------------------------------------------------------------------------------


def head_of(data: bytes) -> RequestHead:
    parts, code = requests([data])
    assert code == OK
    assert isinstance(parts[0], RequestHead)
    return parts[0]


def test_a_request_is_read() -> None:
    data = post("X-A: b ", "Content-Length: 5", "Expect: 100-continue", line="POST /a/b?c=d?e HTTP/1.1", body=b"hello")
    assert requests([data])[0] == [
        RequestHead(
            "POST",
            "/a/b?c=d?e",
            "/a/b",
            "c=d?e",
            HOST,
            1,
            Fields((("Host", HOST), ("X-A", "b"), ("Content-Length", "5"), ("Expect", "100-continue"))),
            Length(5),
            keep_alive=True,
            expects_continue=True,
        ),
        BodyData(b"hello"),
        EndOfMessage(),
    ]


def test_absolute_form_is_handed_out_in_origin_form() -> None:
    assert head_of(get(line=f"GET http://{HOST}/a?b HTTP/1.1")).target == "/a?b"
    assert head_of(get(line=f"GET http://{HOST}?b HTTP/1.1")).target == "/?b"
    assert head_of(get(line=f"OPTIONS http://{HOST} HTTP/1.1")).target == "*"


def test_whether_the_connection_is_kept() -> None:
    assert head_of(get()).keep_alive
    assert not head_of(get("Connection: x, Close")).keep_alive
    assert not head_of(get(line="GET / HTTP/1.0")).keep_alive
    assert head_of(get("Connection: Keep-Alive", line="GET / HTTP/1.0")).keep_alive


def test_which_upgrade_is_asked_for() -> None:
    assert head_of(get("Connection: Upgrade", "Upgrade: WebSocket")).upgrade == "websocket"
    assert head_of(get("Connection: Upgrade", "Upgrade: h2c")).upgrade == ""
    assert head_of(get("Connection: Upgrade", "Upgrade: h2c, websocket")).upgrade == ""
    assert head_of(get("Upgrade: websocket")).upgrade == ""
    assert head_of(get("Connection: Upgrade", "Upgrade: websocket", line="GET / HTTP/1.0")).upgrade == ""


def test_http_1_0_expects_nothing() -> None:
    assert not head_of(post("Expect: 100-continue", "Content-Length: 0", line="POST / HTTP/1.0")).expects_continue


def test_a_pipelined_request_stays_until_it_is_asked_for() -> None:
    codec = RequestCodec()
    codec.feed(get() + post("Content-Length: 9", body=b"nine"))
    assert isinstance(codec.next(), RequestHead)
    assert codec.next() == EndOfMessage()
    assert codec.waiting == len(post("Content-Length: 9", body=b"nine"))
    assert isinstance(codec.next(), RequestHead)
    assert codec.next() == BodyData(b"nine")
    assert codec.next() is None


def test_what_follows_an_upgrade_is_handed_over() -> None:
    codec = RequestCodec()
    codec.feed(get("Connection: upgrade", "Upgrade: websocket") + b"\x81\x00raw")
    assert isinstance(codec.next(), RequestHead)
    assert (codec.rest(), codec.rest(), codec.waiting) == (b"\x81\x00raw", b"", 0)


def test_an_error_stays() -> None:
    codec = RequestCodec()
    codec.feed(b"\0")
    for _ in range(2):
        with pytest.raises(ClientProtocolError, match="400"):
            codec.next()
        codec.feed(get())


# --- between the ends -------------------------------------------------------------------------------------------------


def test_fields_of_the_connection_are_stripped() -> None:
    mine = (("Accept", "a"), ("X-Kept", "b"))
    others = tuple((name.title(), "x") for name in HOP_BY_HOP if name != "connection")
    fields = Fields(
        (*others, *mine, ("Connection", "close, X-Own"), ("X-Own", "c"), ("connection", "x-more"), ("X-More", ""))
    )
    assert end_to_end(fields) == Fields(mine)


@pytest.mark.parametrize(
    "name", ["Host", "authorization", "Content-Length", "Cookie", "X-Forwarded-For", "Checkrein-Token"]
)
def test_a_field_for_the_other_end_cannot_be_nominated(name: str) -> None:
    with pytest.raises(ClientProtocolError):
        end_to_end(Fields((("Connection", f"close,{name}"),)))


def test_policy_does_not_see_what_will_be_stripped() -> None:
    assert head_of(get("Connection: X-Role", "X-Role: admin")).fields.first("X-Role") is None


# --- responses --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "data", "framing", "body"),
    [
        ("GET", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", Length(2), b"hi"),
        ("GET", b"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nhi", Length(2), b"hi"),
        ("GET", b"HTTP/1.1 200 \r\ntransfer-encoding: Chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n", Chunked(), b"hi"),
        ("GET", b"HTTP/1.0 200 \xe4\r\nX_Y: \xff\r\n\r\nhi", UntilClose(), b"hi"),
        ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", NoBody(), b""),
        ("HEAD", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", NoBody(), b""),
        ("GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 2\r\n\r\n", NoBody(), b""),
        ("GET", b"HTTP/1.1 204 No Content\r\n\r\n", NoBody(), b""),
        ("GET", b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", NoBody(), b""),
        ("GET", b"HTTP/1.1 999 Odd\r\nContent-Length: 0\r\n\r\n", Length(0), b""),
    ],
)
def test_how_a_response_is_framed(method: str, data: bytes, framing: Framing, body: bytes) -> None:
    head, *rest = responses(single_bytes(data), method, closed=True)
    assert isinstance(head, ResponseHead)
    assert head.framing == framing
    assert head.keep_alive is not isinstance(framing, UntilClose)
    assert rest == [*([BodyData(body)] if body else []), EndOfMessage()]


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Type: application/json\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\nContent-Length: 2\r\n\r\n",
        b"HTTP/1.1 200 OK\nContent-Length: 2\n\n",
        b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX : a\r\n\r\n",
        b"HTTP/1.1 20 OK\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"HTTP/1.1 099 OK\r\n\r\n",
        b"HTTP/1.1  200 OK\r\n\r\n",
        b"HTTP/2 200 OK\r\n\r\n",
        b"ICY 200 OK\r\n\r\n",
        b"\r\nHTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nConnection: content-type\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"a" * (256 * 1024) + b"\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" * 40,
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
    ],
    ids=lambda data: repr(data[:60]),
)
def test_a_response_that_is_read_in_two_ways_is_refused(data: bytes) -> None:
    with pytest.raises(UpstreamProtocolError):
        responses([data])


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"HTTP/1.1 200",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nh",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n",
    ],
)
def test_a_response_that_is_cut_is_told_from_a_whole_one(data: bytes) -> None:
    with pytest.raises(UpstreamProtocolError):
        responses([data], closed=True)


def test_the_end_of_an_idle_connection_is_none_of_a_message() -> None:
    codec = ResponseCodec()
    codec.eof()
    assert codec.next() is None


def test_interim_responses_and_a_change_of_protocol() -> None:
    codec = ResponseCodec()
    codec.expect("GET")
    codec.feed(b"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\nHTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\nraw")
    heads = [codec.next(), codec.next()]
    assert [(head.status, head.interim) for head in heads if isinstance(head, ResponseHead)] == [
        (103, True),
        (101, False),
    ]
    assert codec.next() is None
    assert codec.rest() == b"raw"


# --- properties -------------------------------------------------------------------------------------------------------

_names = st.from_regex(r"X-[A-Za-z0-9]{1,8}", fullmatch=True)
_values = st.text(
    st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_characters=[chr(code) for code in range(0x7F, 0xA0)]),
    max_size=12,
).map(lambda value: value.strip(" \t"))
_fields = st.lists(st.tuples(_names, _values), max_size=4).map(tuple)
_targets = st.from_regex(r"/[!-\"$-~]{0,12}", fullmatch=True)
_bodies = st.lists(st.binary(min_size=1, max_size=20), max_size=4)
_methods = st.sampled_from(["GET", "POST", "HEAD", "DELETE", "M-SEARCH"])


@st.composite
def framed(draw: st.DrawFn, framings: tuple[type[Framing], ...]) -> tuple[Framing, bytes, bytes]:
    """A framing, the body, and the body as it stands on the wire."""
    parts = draw(_bodies)
    body = b"".join(parts)
    of = draw(st.sampled_from(framings))
    if of is Chunked:
        return Chunked(), body, b"".join(map(chunk, parts)) + LAST_CHUNK
    if of is Length:
        return Length(len(body)), body, body
    return (NoBody(), b"", b"") if of is NoBody else (UntilClose(), body, body)


def expected_body(body: bytes) -> list[Part]:
    return [*([BodyData(body)] if body else []), EndOfMessage()]


def framing_field(framing: Framing) -> Iterator[tuple[str, str]]:
    if isinstance(framing, Length):
        yield "Content-Length", str(framing.size)
    if isinstance(framing, Chunked):
        yield "Transfer-Encoding", "chunked"


@given(_methods, _targets, _fields, framed((NoBody, Length, Chunked)), chunkings())
def test_a_request_is_read_as_it_was_written(
    method: str,
    target: str,
    more: tuple[tuple[str, str], ...],
    of: tuple[Framing, bytes, bytes],
    cut: Callable[[bytes], list[bytes]],
) -> None:
    framing, body, wire = of
    fields = Fields((("Host", HOST), *more))
    data = encode_request(method, target, fields, framing) + wire
    path, mark, query = target.partition("?")
    shown = Fields((*fields, *framing_field(framing)))
    head = RequestHead(method, target, path, query if mark else None, HOST, 1, shown, framing, keep_alive=True)
    assert requests(cut(data)) == ([head, *expected_body(body)], OK)
    assert seen_by_llhttp(data) == (method.encode(), target.encode(), raw(shown), body)
    assert seen_by_h11(data) == (method.encode(), target.encode(), raw(shown), body)


@given(st.sampled_from([200, 201, 404, 500]), _values, _fields, framed((Length, Chunked, UntilClose)), chunkings())
def test_a_response_is_read_as_it_was_written(
    status: int,
    reason: str,
    more: tuple[tuple[str, str], ...],
    of: tuple[Framing, bytes, bytes],
    cut: Callable[[bytes], list[bytes]],
) -> None:
    framing, body, wire = of
    data = encode_response(status, reason, Fields(more), framing) + wire
    shown = Fields((*more, *framing_field(framing)))
    head = ResponseHead(status, reason, 1, shown, framing, not isinstance(framing, UntilClose))
    assert responses(cut(data), closed=True) == [head, *expected_body(body)]
    connection = h11.Connection(h11.CLIENT)
    connection.send(h11.Request(method="GET", target="/", headers=[("Host", HOST)]))
    connection.send(h11.EndOfMessage())
    connection.receive_data(data)
    if isinstance(framing, UntilClose):
        connection.receive_data(b"")
    seen = connection.next_event()
    assert isinstance(seen, h11.Response)
    assert (seen.status_code, seen.reason, list(seen.headers.raw_items())) == (
        status,
        reason.encode("latin-1"),
        raw(shown),
    )
    assert body_by_h11(connection) == body


def raw(fields: Fields) -> list[tuple[bytes, bytes]]:
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in fields]


class _Seen:
    """What llhttp calls back with."""

    def __init__(self) -> None:
        self.url, self.body = b"", b""
        self.headers: list[tuple[bytes, bytes]] = []
        self.complete = False

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name, value.rstrip(b" \t")))

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.complete = True


def seen_by_llhttp(data: bytes) -> tuple[bytes, bytes, list[tuple[bytes, bytes]], bytes]:
    seen = _Seen()
    parser = httptools.HttpRequestParser(seen)
    parser.feed_data(data)
    assert seen.complete
    return parser.get_method(), seen.url, seen.headers, seen.body


def body_by_h11(connection: h11.Connection) -> bytes:
    body = b""
    while isinstance(event := connection.next_event(), h11.Data):
        body += bytes(event.data)
    assert isinstance(event, h11.EndOfMessage)
    return body


def seen_by_h11(data: bytes) -> tuple[bytes, bytes, list[tuple[bytes, bytes]], bytes]:
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(data)
    head = connection.next_event()
    assert isinstance(head, h11.Request)
    return head.method, head.target, list(head.headers.raw_items()), body_by_h11(connection)


@settings(deadline=None)  # the longest heads, byte by byte, on a busy machine
@given(st.sampled_from(REQUESTS), chunkings())
def test_chunking_changes_nothing(crafted: Crafted, cut: Callable[[bytes], list[bytes]]) -> None:
    assert requests(cut(crafted.data)) == requests([crafted.data])


_pieces = st.sampled_from(
    [b"GET / HTTP/1.1\r\n", b"HTTP/1.1 200 OK\r\n", b"Host: a\r\n", b"\r\n", b"\n", b"\r", b" ", b":",
     b"Content-Length: 3\r\n",
     b"Transfer-Encoding: chunked\r\n", b"3\r\nabc\r\n", b"0\r\n", b"Connection: upgrade\r\n", b"\0", b"\xff", b";a=b"]
)  # fmt: skip
_junk = st.binary(max_size=200) | st.lists(_pieces, max_size=12).map(b"".join)


@given(_junk, chunkings())
def test_any_bytes_of_a_client_are_parts_or_a_protocol_error(data: bytes, cut: Callable[[bytes], list[bytes]]) -> None:
    assert requests(cut(data)) == requests([data])


@given(_junk, chunkings())
def test_any_bytes_of_an_upstream_are_parts_or_a_protocol_error(
    data: bytes, cut: Callable[[bytes], list[bytes]]
) -> None:
    def read(chunks: list[bytes]) -> list[Part] | str:
        try:
            return responses(chunks, closed=True)
        except UpstreamProtocolError as error:
            return error.code

    assert read(cut(data)) == read([data])


# --- writing ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value"),
    [("X", "a\r\nY: b"), ("X", "a\nb"), ("X", "a\0"), ("X:", "a"), ("X Y", "a"), ("", "a"), ("X", "ł")],
)
def test_what_would_write_another_message_is_not_written(name: str, value: str) -> None:
    with pytest.raises(ValueError, match="not valid"):
        encode_request("GET", "/", Fields(((name, value),)), NoBody())
    with pytest.raises(ValueError, match="not valid"):
        encode_response(200, "OK", Fields(((name, value),)), NoBody())


@pytest.mark.parametrize(
    ("method", "target"), [("G T", "/"), ("", "/"), ("GET", "/ HTTP/1.1\r\nX: a"), ("GET", "/ä"), ("GET", "")]
)
def test_a_request_line_that_is_none_is_not_written(method: str, target: str) -> None:
    with pytest.raises(ValueError, match="not valid"):
        encode_request(method, target, Fields(), NoBody())


def test_the_framing_is_written_as_given() -> None:
    fields = Fields((("content-length", "7"), ("Transfer-Encoding", "gzip"), ("X", "a")))
    assert encode_response(200, "", fields, Length(3)) == b"HTTP/1.1 200 \r\nX: a\r\nContent-Length: 3\r\n\r\n"
    assert (
        encode_request("GET", "/", fields, Chunked()) == b"GET / HTTP/1.1\r\nX: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    with pytest.raises(ValueError, match="does not end"):
        encode_request("GET", "/", fields, UntilClose())
    with pytest.raises(ValueError, match="status"):
        encode_response(200, "a\r\nb", fields, NoBody())
    with pytest.raises(ValueError, match="empty"):
        chunk(b"")


def test_trailers_are_read() -> None:
    assert requests([chunked(b"0\r\nX-Sum: 1\r\n\r\n")])[0][-1] == EndOfMessage(Fields((("X-Sum", "1"),)))
