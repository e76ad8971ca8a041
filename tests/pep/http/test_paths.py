from collections.abc import Iterator
from urllib.parse import parse_qsl, unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pep.http.paths import Ambiguous, Path, canonical_query, normalise, query_pairs
from tests.pep.http.smuggling import AMBIGUOUS_PATHS, CANONICAL_PATHS


@pytest.mark.parametrize("path", AMBIGUOUS_PATHS)
def test_what_servers_read_differently_is_refused(path: str) -> None:
    with pytest.raises(Ambiguous):
        normalise(path)


@pytest.mark.parametrize(("path", "text"), CANONICAL_PATHS.items())
def test_what_they_read_alike_is_made_canonical(path: str, text: str) -> None:
    assert normalise(path).text == text


def test_the_segments_are_decoded() -> None:
    assert normalise("/a%20b/%C3%A4/").segments == ("a b", "ä", "")
    assert normalise("/%61/b").segments == ("a", "b")
    assert normalise("/") == Path("/", ())
    assert normalise("*") == Path("*", ())


@pytest.mark.parametrize("path", ["", "a", "**", "/ä", "/a b", "/a\n", "/a?b", "/a#b"])
def test_what_is_no_path_is_refused(path: str) -> None:
    with pytest.raises(Ambiguous):
        normalise(path)


_paths = st.lists(
    st.sampled_from(["/", "a", ".", "%2e", "%2E", "%61", "%c3%a4", "%", "2f", ";", "|", "%20", "~", "%25"])
)


@given(st.one_of(st.text(max_size=20), _paths.map(lambda parts: "/" + "".join(parts))))
def test_a_canonical_path_is_its_own_reading(path: str) -> None:
    try:
        found = normalise(path)
    except Ambiguous:
        return
    assert normalise(found.text) == found
    assert found.text.isascii()
    assert not {".", ".."} & set(found.segments)
    assert not any(set("/\\\0;%") & set(segment) for segment in found.segments)


def test_the_pairs_of_a_query() -> None:
    assert query_pairs(None) == query_pairs("") == ()
    assert query_pairs("a=1&b=x+y&a=%C3%A4&c&&d==") == (("a", "1"), ("b", "x y"), ("a", "ä"), ("c", ""), ("d", "="))
    assert query_pairs("t=a%3Bb%26c%25%0A") == (("t", "a;b&c%\n"),)


@pytest.mark.parametrize(
    "query",
    ["a;b", "a=%", "a=%zz", "a=%00", "a=%ff", "a%0a=1", "=x", "+a=1", "a+=1", "a=%1b", "a=ä", "a#b", "a=%c2%85"],
)
def test_a_query_that_is_read_in_two_ways_is_refused(query: str) -> None:
    with pytest.raises(Ambiguous):
        query_pairs(query)


@pytest.mark.parametrize(
    "query",
    [
        "a=1&A=2", "user_id=1&user.id=2", "user+id=1&user_id=2", "a=1&a[]=2", "a[0]=1&a=2", "a[x]=1&A[y]=2",
        "x=1&a%5B0%5D=1&a=2",
    ],
)  # fmt: skip
def test_names_that_are_one_to_some_servers_are_refused(query: str) -> None:
    with pytest.raises(Ambiguous):
        query_pairs(query)


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("a=x+y", "a=x%20y"),
        ("a=x%2By", "a=x%2By"),
        ("%61=%7e%2d", "a=~-"),
        ("a=%c3%a4", "a=%C3%A4"),
        ('a={"b":"c|d"}', "a=%7B%22b%22:%22c%7Cd%22%7D"),
        ("a&b=&&c", "a&b=&&c"),
        ("filter[x]=1&filter[y]=2", "filter[x]=1&filter[y]=2"),
        ("a=1%26b=2%3b", "a=1%26b=2%3B"),
        ("$top=1&next=/a/b?c@d", "$top=1&next=/a/b?c@d"),
    ],
)
def test_what_is_forwarded_of_a_query_is_what_was_decided(query: str, text: str) -> None:
    assert canonical_query(query) == text
    assert query_pairs(text) == query_pairs(query)


def as_uris(query: str) -> Iterator[tuple[str, str]]:
    """As servers read a query that take a plus for a plus (RFC 3986)."""
    for part in query.split("&"):
        if part:
            name, _, value = part.partition("=")
            yield unquote(name, errors="strict"), unquote(value, errors="strict")


_queries = st.lists(
    st.sampled_from(["a", "b", "A", "=", "&", "+", "%20", "%2b", "%26", "%3D", "%61", "[", "]", ".", "_", "|", "%c3%a4",
                     "%", "{", "'", "%25", "2f"])
).map("".join)  # fmt: skip


@given(st.one_of(_queries, st.text(max_size=20)))
def test_every_reader_finds_in_a_forwarded_query_what_was_decided(query: str) -> None:
    try:
        pairs = query_pairs(query)
    except Ambiguous:
        return
    text = canonical_query(query)
    assert canonical_query(text) == text
    assert text.isascii()
    assert query_pairs(text) == pairs
    assert parse_qsl(text, keep_blank_values=True, strict_parsing=False) == list(pairs)
    assert list(as_uris(text)) == list(pairs)
