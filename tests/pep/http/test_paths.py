import pytest
from hypothesis import given
from hypothesis import strategies as st

from pep.http.paths import Ambiguous, Path, normalise, query_pairs
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
