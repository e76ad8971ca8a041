"""Field sections of HTTP/2 as heads of HTTP/1.1: what is refused before any parser sees it, and what passes."""

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from pep.core.errors import ClientProtocolError
from pep.http.codec import RequestCodec
from pep.http.http2.fields import Malformed, request_head, response_fields, trailer_fields, trailer_section
from pep.http.messages import Fields, Length, NoBody, RequestHead, ResponseHead

PSEUDO = ((b":method", b"GET"), (b":scheme", b"https"), (b":authority", b"api.test"), (b":path", b"/a?b=c"))


def pseudo(**changed: bytes | None) -> list[tuple[bytes, bytes]]:
    """The pseudo-header fields, with another value, or without the one that is None."""
    values = {name: changed.get(name.decode()[1:], value) for name, value in PSEUDO}
    return [(name, value) for name, value in values.items() if value is not None]


def read(*fields: tuple[bytes, bytes], ended: bool = True) -> RequestHead:
    codec = RequestCodec()
    codec.feed(request_head(fields, ended=ended).text)
    head = codec.next()
    assert isinstance(head, RequestHead)
    assert codec.waiting == 0
    return head


def test_a_request_is_what_the_codec_reads() -> None:
    head = read(*PSEUDO, (b"accept", b"a, b"), (b"x-empty", b""), (b"x-utf8", "é".encode()))
    assert (head.method, head.target, head.host, head.framing) == ("GET", "/a?b=c", "api.test", NoBody())
    assert head.fields.first("accept") == "a, b"
    assert head.fields.first("x-empty") == ""
    assert head.fields.first("x-utf8") == "Ã©"
    assert not head.keep_alive


def test_cookie_crumbs_are_one_cookie() -> None:
    head = read(*PSEUDO, (b"cookie", b"a=1"), (b"accept", b"*/*"), (b"cookie", b"b=2; c=3"))
    assert head.fields.all("cookie") == ("a=1; b=2; c=3",)


@pytest.mark.parametrize("host", [None, b"api.test"])
def test_a_host_field_may_stand_for_the_authority_or_repeat_it(host: bytes | None) -> None:
    if host is None:
        head = read(*pseudo(authority=None), (b"host", b"API.test:8"))
        assert head.host == "api.test:8"
    else:
        head = read(*PSEUDO, (b"host", host))
    assert len(head.fields.all("host")) == 1


def test_how_a_body_is_framed() -> None:
    post = pseudo(method=b"POST")
    assert read(*post).framing == Length(0)
    assert read(*post, (b"content-length", b"7"), ended=False).framing == Length(7)
    assert read(*post, ended=False).fields.first("transfer-encoding") == "chunked"
    assert read(*PSEUDO, (b"content-length", b"0")).framing == Length(0)


MALFORMED = {
    "no method": pseudo(method=None),
    "no scheme": pseudo(scheme=None),
    "no path": pseudo(path=None),
    "an empty path": pseudo(path=b""),
    "a method with a line in it": pseudo(method=b"GET / HTTP/1.1\r\nX: "),
    "a method with a space": pseudo(method=b"GET /admin"),
    "a path with a space": pseudo(path=b"/a HTTP/1.1"),
    "a path with a line end": pseudo(path=b"/a\r\nX: y"),
    "a path with a bare line feed": pseudo(path=b"/a\nX: y"),
    "a path with a fragment": pseudo(path=b"/a#b"),
    "a path with NUL": pseudo(path=b"/a\0"),
    "a path that is not ASCII": pseudo(path="/é".encode()),
    "an absolute path": pseudo(path=b"http://api.test/a"),
    "an authority as path": pseudo(path=b"//api.test"[1:] + b" "),
    "a star for GET": pseudo(path=b"*"),
    "another scheme": pseudo(scheme=b"ftp"),
    "a scheme with a line end": pseudo(scheme=b"https\r\nX: y"),
    "an authority with a line end": pseudo(authority=b"api.test\r\nX: y"),
    "an authority with a space": pseudo(authority=b"api.test x"),
    "an empty authority": pseudo(authority=b""),
    "two methods": [*PSEUDO, (b":method", b"GET")],
    "two paths": [*PSEUDO, (b":path", b"/b")],
    "two authorities": [*PSEUDO, (b":authority", b"api.test")],
    "two schemes": [*PSEUDO, (b":scheme", b"https")],
    "a pseudo-header field of responses": [*PSEUDO, (b":status", b"200")],
    "a protocol": [*PSEUDO, (b":protocol", b"websocket")],
    "a pseudo-header field behind a regular one": [*PSEUDO[:3], (b"a", b"b"), PSEUDO[3]],
    "another host": [*PSEUDO, (b"host", b"other.test")],
    "two hosts": [*pseudo(authority=None), (b"host", b"a"), (b"host", b"a")],
    "an upper-case name": [*PSEUDO, (b"Accept", b"*/*")],
    "an empty name": [*PSEUDO, (b"", b"x")],
    "a name with a colon": [*PSEUDO, (b"a:b", b"x")],
    "a name with a space": [*PSEUDO, (b"a ", b"x")],
    "a name with a line end": [*PSEUDO, (b"a: b\r\nx", b"y")],
    "a value with a line end": [*PSEUDO, (b"a", b"b\r\nx: y")],
    "a value with a bare line feed": [*PSEUDO, (b"a", b"b\nx: y")],
    "a value with a bare carriage return": [*PSEUDO, (b"a", b"b\rx: y")],
    "a value with NUL": [*PSEUDO, (b"a", b"b\0")],
    "a value that begins with a space": [*PSEUDO, (b"a", b" b")],
    "a value that ends with a tab": [*PSEUDO, (b"a", b"b\t")],
    "a value that is a space": [*PSEUDO, (b"a", b" ")],
    "a connection": [*PSEUDO, (b"connection", b"close")],
    "a transfer coding": [*PSEUDO, (b"transfer-encoding", b"chunked")],
    "keep-alive": [*PSEUDO, (b"keep-alive", b"5")],
    "a proxy connection": [*PSEUDO, (b"proxy-connection", b"close")],
    "an upgrade": [*PSEUDO, (b"upgrade", b"websocket")],
    "settings of an upgrade": [*PSEUDO, (b"http2-settings", b"AAMAAABk")],
    "te with a coding": [*PSEUDO, (b"te", b"trailers, chunked")],
    "two lengths": [*PSEUDO, (b"content-length", b"0"), (b"content-length", b"0")],
    "a length with a sign": [*PSEUDO, (b"content-length", b"+0")],
    "a length that is a list": [*PSEUDO, (b"content-length", b"0, 0")],
    "a length without a body": [*PSEUDO, (b"content-length", b"1")],
    "CONNECT with a path": pseudo(method=b"CONNECT"),
    "CONNECT without an authority": pseudo(method=b"CONNECT", path=None, scheme=None, authority=None),
}


@pytest.mark.parametrize("fields", MALFORMED.values(), ids=MALFORMED.keys())
def test_a_malformed_request_becomes_nothing(fields: list[tuple[bytes, bytes]]) -> None:
    with pytest.raises(Malformed):
        request_head(fields, ended=True)


@pytest.mark.parametrize(
    "field",
    [
        (b":path", b"/"),
        (b"connection", b"close"),
        (b"content-length", b"3"),
        (b"X", b"y"),
        (b"a", b"b\r\nc: d"),
        (b"a\n", b"b"),
    ],
)
def test_malformed_trailers_become_nothing(field: tuple[bytes, bytes]) -> None:
    with pytest.raises(Malformed):
        trailer_section([field])


texts = st.one_of(
    st.sampled_from(
        [b"", b"GET", b"http", b"/a", b"*", b"api.test", b"0", b"trailers", b"\r\n\r\nGET /x HTTP/1.1\r\n"]
    ),
    st.binary(max_size=8),
    st.text("aG/:. \t\r\n\0#?", max_size=8).map(str.encode),
)
names = st.one_of(
    st.sampled_from([b"host", b"cookie", b"te", b"content-length", b"x-a", *(name for name, _ in PSEUDO)]), texts
)


@settings(deadline=None, max_examples=300)
@given(
    changed=st.dictionaries(st.sampled_from(["method", "scheme", "authority", "path"]), texts),
    more=st.lists(st.tuples(names, texts), max_size=3),
    ended=st.booleans(),
)
def test_whatever_is_sent_is_one_request_or_none(
    changed: dict[str, bytes], more: list[tuple[bytes, bytes]], ended: bool
) -> None:
    fields = [*pseudo(**changed), *more]
    try:
        head = request_head(fields, ended=ended)
    except Malformed:
        return
    codec = RequestCodec()
    codec.feed(head.text)
    try:
        read = codec.next()
    except ClientProtocolError:
        return
    assert isinstance(read, RequestHead)
    assert codec.waiting == 0
    said = dict(fields)
    assert (read.method.encode(), read.target.encode("latin-1")) == (said[b":method"], said[b":path"])
    assert read.host.encode("latin-1") == said[b":authority"].lower()
    sent = sorted((name, value) for name, value in more if name not in {b"host", b"cookie", b"content-length"})
    kept = read.fields.without(("host", "cookie", "content-length", "transfer-encoding", "connection"))
    assert sorted((name.encode("latin-1"), value.encode("latin-1")) for name, value in kept) == sent


def test_trailers_end_the_chunks() -> None:
    assert trailer_section([]) == b"0\r\n\r\n"
    assert trailer_section([(b"grpc-status", b"0")]) == b"0\r\ngrpc-status: 0\r\n\r\n"


def test_a_response_has_no_field_of_a_connection() -> None:
    fields = Fields((("Content-Type", "text/plain"), ("Connection", "close"), ("Transfer-Encoding", "chunked")))
    head = ResponseHead(200, "OK", 1, fields, NoBody(), keep_alive=False)
    assert response_fields(head) == [(b":status", b"200"), (b"content-type", b"text/plain")]
    assert trailer_fields(Fields((("Grpc-Status", "0"),))) == [(b"grpc-status", b"0")]
