import json

import jsonpath
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pep.http.coding import CannotMask
from pep.http.jsonpaths import Paths, Step, floating, parse


def selected(path: str, document: object, aliases: dict[str, frozenset[str]] | None = None) -> list[object]:
    """The values that a path leads to, in the order of the document."""
    paths = Paths([parse(path)], aliases or {})
    found: list[object] = []

    def walk(value: object, step: Step) -> None:
        if step.ended:
            found.append(value)
        if isinstance(value, dict):
            for name, child in value.items():
                walk(child, paths.member(step.states, name))
        elif isinstance(value, list):
            for child, below in zip(value, paths.elements(step.states, len(value)), strict=True):
                walk(child, below)

    walk(document, paths.start())
    return found


DOCUMENT = {
    "users": [
        {"email": "a", "tags": ["x", "y", "z"], "address": {"email": "b"}},
        {"email": "c", "tags": [], "odd name": "d"},
    ],
    "email": "e",
    "é": "f",
    "o'k": "g",
}


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("$", [DOCUMENT]),
        ("$.email", ["e"]),
        ("email", ["a", "b", "c", "e"]),
        ("$..email", ["a", "b", "c", "e"]),
        ("$.users[*].email", ["a", "c"]),
        ("$.users[0].email", ["a"]),
        ("$.users[-1].email", ["c"]),
        ("$['users'][0]['address'][\"email\"]", ["b"]),
        ("$.users..address.email", ["b"]),
        ("$.users[0].tags[0:2]", ["x", "y"]),
        ("$.users[0].tags[::2]", ["x", "z"]),
        ("$.users[0].tags[::-1]", ["x", "y", "z"]),
        ("$.users[0].tags[0:2:0]", []),
        ("$.users[0].tags[0, 2]", ["x", "z"]),
        ("$.users[1]['odd name']", ["d"]),
        ("$ .users [ 1 ] [ 'email' ]", ["c"]),
        ("$.é", ["f"]),
        ("$['\\u00e9']", ["f"]),
        ("$['o\\'k']", ["g"]),
        ("$.users[*].*", ["a", ["x", "y", "z"], {"email": "b"}, "c", [], "d"]),
        ("$.nothing", []),
        ("$.email.email", []),
        ("$.users.email", []),
    ],
)
def test_where_a_path_leads(path, expected):
    assert selected(path, DOCUMENT) == expected


@pytest.mark.parametrize("name", ["email", "Email", "EMAIL", "eMaIl"])
def test_names_compare_without_case(name):
    assert selected("$.email", {name: 1}) == [1]
    assert selected(name, {"email": 1}) == [1]


def test_letters_that_fold_to_others_are_the_same_name():
    assert selected("ssn", {"ſſn": 1}) == [1]
    assert selected("key", {"\u212aey": 1}) == [1]


def test_another_name_of_a_member_selects_it():
    assert selected("$.user.email", {"user": {"x": 1, "y": 2}}, {"x": frozenset({"email"})}) == [1]


@pytest.mark.parametrize(
    "path",
    ["", "$.", "$..", "$[", "$[]", "$[?@.a == 1]", "$.a[?(@.b)]", "$.a b", "a.b", "$a", "$['a]", "$['\\x']", "$[01]",
     "$[1.5]", "$['a'", "@.a", "$.a ", "$.-a", "$.1", "$['\\ud800']", "$[a]", "$.a['b'c]", "$.a()"],
)  # fmt: skip
def test_a_path_that_is_not_understood_is_refused(path):
    with pytest.raises(CannotMask):
        parse(path)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("$.users[*].email", "$..email"),
        ("$.users[*].phones[*]", "$..phones[*]"),
        ("$.a.b[0].*", "$..b[0].*"),
        ("$[*]", "$[*]"),
        ("email", "$..email"),
    ],
)
def test_inside_a_string_a_path_begins_at_its_last_name(path, expected):
    assert floating(parse(path)) == parse(expected)


names = st.sampled_from(["a", "b", "c"])
documents = st.recursive(
    st.integers(0, 9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=3),
    max_leaves=20,
)
indices = st.integers(-4, 4).map(str)
bounds = st.none() | st.integers(-4, 4)


@st.composite
def slices(draw):
    # The other implementation does not read a slice without a start behind a comma.
    stop, step = ("" if part is None else str(part) for part in (draw(bounds), draw(bounds)))
    return f"{draw(st.integers(-4, 4))}:{stop}:{step}"


selectors = st.lists(names.map(lambda n: f"'{n}'") | indices | slices() | st.just("*"), min_size=1, max_size=2)
segments = (
    names.map(lambda n: f".{n}")
    | names.map(lambda n: f"..{n}")
    | selectors.map(lambda s: f"[{','.join(s)}]")
    | selectors.map(lambda s: f"..[{','.join(s)}]")
    | st.sampled_from([".*", "..*"])
)


@given(st.lists(segments, max_size=4).map(lambda parts: "$" + "".join(parts)), documents)
def test_it_selects_what_another_implementation_selects(path, document):
    expected = {tuple(match.parts) for match in jsonpath.finditer(path, document)}
    paths = Paths([parse(path)], {})
    found = set()

    def walk(value, step, at):
        if step.ended:
            found.add(at)
        if isinstance(value, dict):
            for name, child in value.items():
                walk(child, paths.member(step.states, name), (*at, name))
        elif isinstance(value, list):
            for index, below in enumerate(paths.elements(step.states, len(value))):
                walk(value[index], below, (*at, index))

    walk(document, paths.start(), ())
    assert found == expected, json.dumps(document)
