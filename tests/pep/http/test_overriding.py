"""A method in a JSON body that no policy reads: the target never has such a request whole."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pep.http.messages import Fields, Length, RequestHead
from pep.http.overriding import Search, may_name_a_method

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
