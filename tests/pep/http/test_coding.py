import gzip
import time
import zlib

import brotli
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from pep.http.coding import CannotMask, Decoder, accept_encoding, codings
from pep.http.messages import Fields
from tests.strategies import chunkings

LIMIT = 1024 * 1024

ENCODERS = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "br": brotli.compress,
    "zstd": zstandard.compress,
}


def decode(names, data, limit=LIMIT, *, total=True):
    decoder = Decoder(names, limit, total=total)
    out = decoder.feed(data)
    decoder.finish()
    return out


def field(value):
    return Fields((("Content-Encoding", value),))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("gzip", ("gzip",)),
        ("GZIP", ("gzip",)),
        ("x-gzip", ("gzip",)),
        ("identity", ()),
        ("", ()),
        ("gzip, br", ("gzip", "br")),
        ("deflate , identity", ("deflate",)),
    ],
)
def test_the_codings_of_a_body(value, expected):
    assert codings(field(value)) == expected


@pytest.mark.parametrize("value", ["compress", "exi", "gzip;q=1", "gzip br", "gzip, gzip, gzip", "aes128gcm", "dcb"])
def test_codings_that_cannot_be_undone(value):
    with pytest.raises(CannotMask):
        codings(field(value))


def test_two_fields_are_two_codings():
    assert codings(Fields((("Content-Encoding", "gzip"), ("content-encoding", "br")))) == ("gzip", "br")


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (None, "identity"),
        ("", "identity"),
        ("gzip, deflate, br, zstd", "gzip, br, zstd"),
        ("gzip;q=0, br;q=0.5", "br"),
        ("br;q=0.0", "identity"),
        ("br; Q=0", "identity"),
        ("*", "gzip, br, zstd"),
        ("*;q=0", "identity"),
        ("compress, exi", "identity"),
        ("GZIP", "gzip"),
    ],
)
def test_only_what_can_be_undone_is_asked_of_the_upstream(asked, expected):
    assert accept_encoding(asked) == expected


@given(st.sampled_from(sorted(ENCODERS)), st.binary(max_size=3000), chunkings())
def test_each_coding_is_undone_however_the_body_is_cut(name, body, cut):
    decoder = Decoder((name,), LIMIT, total=True)
    assert b"".join(decoder.feed(piece) for piece in cut(ENCODERS[name](body))) == body
    decoder.finish()


@pytest.mark.parametrize("first", ENCODERS)
@pytest.mark.parametrize("second", ENCODERS)
def test_two_codings_are_undone_in_their_order(first, second):
    body = b"marker " * 1000
    assert decode((first, second), ENCODERS[second](ENCODERS[first](body))) == body


def test_several_gzip_members_are_one_body():
    assert decode(("gzip",), gzip.compress(b"one") + gzip.compress(b"") + gzip.compress(b"two")) == b"onetwo"


@pytest.mark.parametrize("name", ENCODERS)
def test_a_body_that_is_cut_off_is_refused(name):
    whole = ENCODERS[name](b"a marker that is not repeated: 0123456789")
    for size in range(1, len(whole)):
        with pytest.raises(CannotMask):
            decode((name,), whole[:size])


@pytest.mark.parametrize("name", ENCODERS)
@pytest.mark.parametrize("more", [b"\0", b"marker", b"\x1f\x8b", b"{}"])
def test_what_follows_the_end_is_refused(name, more):
    whole = ENCODERS[name](b"body")
    with pytest.raises(CannotMask):
        decode((name,), whole + more)
    decoder = Decoder((name,), LIMIT, total=True)
    assert decoder.feed(whole) == b"body"
    with pytest.raises(CannotMask):
        decoder.finish() if decoder.feed(more) == b"" else None


@given(st.sampled_from(sorted(ENCODERS)), st.binary(min_size=1, max_size=200))
def test_other_bytes_are_refused_or_are_that_coding(name, data):
    try:
        decode((name,), data)
    except CannotMask:
        return
    assert ENCODERS[name](decode((name,), data)) is not None


BOMBS = {name: encode(bytes(20 * LIMIT)) for name, encode in ENCODERS.items() if name != "br"}
BOMBS["br"] = brotli.compress(bytes(20 * LIMIT), quality=2)


@pytest.mark.parametrize("name", ENCODERS)
@pytest.mark.parametrize("total", [True, False])
@pytest.mark.untraced
def test_a_bomb_stops_at_the_limit(name, total):
    bomb = BOMBS[name]
    begin = time.process_time()
    with pytest.raises(CannotMask, match="larger"):
        decode((name,), bomb, total=total)
    assert time.process_time() - begin < 0.5


@pytest.mark.parametrize("outer", ENCODERS)
def test_a_bomb_between_two_codings_stops_at_the_limit(outer):
    bomb = ENCODERS[outer](BOMBS["gzip"])
    with pytest.raises(CannotMask, match="larger"):
        decode(("gzip", outer), bomb)


def test_a_long_stream_is_bounded_by_its_pieces():
    decoder = Decoder(("gzip",), LIMIT, total=False)
    packed = gzip.compress(b"0123456789abcdef" * (LIMIT // 4))
    size = sum(len(decoder.feed(packed[at : at + 256])) for at in range(0, len(packed), 256))
    decoder.finish()
    assert size == 4 * LIMIT


def test_an_empty_body_has_no_coding_to_undo():
    for name in ENCODERS:
        assert decode((name,), b"") == b""
