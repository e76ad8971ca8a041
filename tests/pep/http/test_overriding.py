"""A method in a JSON body that no policy reads: the target never has such a request whole."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pep.http.messages import Fields, Length, RequestHead
from pep.http.overriding import CannotSearch, Search, may_name_a_method
from tests.http_attacks import cuts, packed

NAMED = b'{"a": 1, "_method": "DELETE"}'


@pytest.mark.parametrize(
    "body", [NAMED, b'{"\\u005fmethod":1}', b'{"_\\u006D\\u0065thod":1}', b'["_method"]', b'{ "_method" :1}']
)
@given(cut=st.integers(0, 40))
def test_the_name_is_found_however_it_is_written_and_cut(body: bytes, cut: int) -> None:
    search = Search()
    assert search.found(body[:cut]) or search.found(body[cut:])


@pytest.mark.parametrize("body", [b'{"payment_method":1}', b'{"x":"_methods"}', b'{"method":1}', b'"_" "method"'])
def test_other_names_pass(body: bytes) -> None:
    assert not Search().found(body)


@pytest.mark.parametrize(
    ("method", "type", "searched"),
    [
        ("POST", "application/json", True),
        ("POST", "application/vnd.api+JSON; charset=utf-8", True),
        ("PUT", "application/json", False),
        ("POST", "application/octet-stream", False),
    ],
)
def test_what_is_searched(method: str, type: str, searched: bool) -> None:
    head = RequestHead(method, "/", "/", None, "x", 1, Fields((("Content-Type", type),)), Length(9), keep_alive=True)
    assert may_name_a_method(head) is searched


# --- with content codings and charsets --------------------------------------------------------------------------------


def fields_of(type: str, *codings: str) -> Fields:
    return Fields((("Content-Type", type), *(("Content-Encoding", coding) for coding in codings)))


JSON = "application/json"


@pytest.mark.parametrize(
    ("fields", "body"),
    [
        *((fields_of(JSON, name), packed(NAMED, name)) for name in ("gzip", "deflate", "br", "zstd")),
        (fields_of(JSON, "X-GZIP"), packed(NAMED, "gzip")),
        (fields_of(JSON, "gzip, br"), packed(NAMED, "gzip", "br")),
        (fields_of(JSON, "gzip", "br"), packed(NAMED, "gzip", "br")),
        (fields_of(JSON, "gzip"), packed(NAMED[:15], "gzip") + packed(NAMED[15:], "gzip")),
        (fields_of(JSON, "identity"), NAMED),
        (fields_of(JSON), NAMED.upper()),
        (fields_of(JSON), b'{"\\u005f\\u004dEthod":1}'),
        (fields_of(JSON + "; charset=utf-16"), NAMED.decode().encode("utf-16")),
        (fields_of(JSON), NAMED.decode().encode("utf-16-be")),
        (fields_of(JSON), NAMED.decode().encode("utf-32")),
        (fields_of(JSON, "gzip"), packed(NAMED.decode().encode("utf-16"), "gzip")),
    ],
)
@pytest.mark.parametrize("step", [1, 7, 1000])
def test_the_name_is_found_whatever_it_is_coded_with(fields: Fields, body: bytes, step: int) -> None:
    search = Search(fields)
    assert any(search.found(piece) for piece in cuts(body, step))


@pytest.mark.parametrize(
    "fields",
    [
        fields_of(JSON, "compress"),
        fields_of(JSON, "gzip, gzip, gzip"),
        fields_of(JSON, "aes128gcm"),
        fields_of(JSON + "; charset=utf-7"),
        fields_of(JSON + '; Charset = "utf-7"'),
        fields_of(JSON + "; charset*=utf-8''utf-7"),
        fields_of(JSON + "; charset=cp037"),
    ],
)
def test_what_cannot_be_searched_is_refused(fields: Fields) -> None:
    with pytest.raises(CannotSearch):
        Search(fields)


@pytest.mark.parametrize(
    ("coding", "body"),
    [
        ("gzip", NAMED),
        ("gzip", packed(b"{}", "gzip") + b"garbage"),
        ("br", packed(b"{}", "br") + NAMED),
        ("deflate", packed(NAMED, "raw")),
        ("gzip", packed(NAMED, "br")),
        ("gzip", packed(b" " * (8 << 20), "gzip")),
        ("gzip, gzip", packed(b" " * (64 << 20), "gzip", "gzip")),
        ("gzip", packed(b'{"a": 1}', "gzip")[:-4]),
    ],
)
def test_what_is_not_what_it_says_is_refused(coding: str, body: bytes) -> None:
    search = Search(fields_of(JSON, coding))
    with pytest.raises(CannotSearch):
        assert search.found(body) or search.finish()


def test_a_large_body_that_packs_well_passes() -> None:
    lines = b"".join(b'{"at": %d, "level": "info", "text": "all is well"}\n' % number for number in range(100_000))
    search = Search(fields_of("application/x-ndjson", "gzip"))
    assert not any(search.found(piece) for piece in cuts(packed(lines, "gzip"), 1 << 16))
    search.finish()
