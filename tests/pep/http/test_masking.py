import copy
import hashlib
import hmac
import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pep.core.model import (
    ConstantMask,
    FieldMask,
    GeneralizeMask,
    HashMask,
    LimitRows,
    NullMask,
    OnExcess,
    PartialEmailMask,
    PartialMask,
)
from pep.http.coding import CannotMask
from pep.http.masking import Rewriter, Rule
from pep.http.redaction import Redactor

MARKER = "PLANTED-4711"
KEYS = {"": b"the target's key", "empty": b""}


def mask(field, method=None, except_=frozenset()):
    return FieldMask("users", field, method or NullMask(), frozenset(except_))


def rewritten(document, *masks, **more):
    data = document if isinstance(document, bytes) else json.dumps(document).encode()
    return Rewriter(Rule(masks, keys=KEYS, **more)).document(data).decode()


def shown(document, *masks, **more):
    return json.loads(rewritten(document, *masks, **more))


# --- what each method makes of a value --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "value", "expected"),
    [
        (NullMask(), "x", None),
        (NullMask(), 1, None),
        (NullMask(), True, None),
        (NullMask(), None, None),
        (NullMask(), {"a": 1}, None),
        (NullMask(), [1, 2], None),
        (ConstantMask("hidden"), "x", "hidden"),
        (ConstantMask("hidden"), 1, None),
        (ConstantMask("7"), 1, 7),
        (ConstantMask("7"), "1", "7"),
        (ConstantMask("07"), 1, None),
        (ConstantMask("NaN"), 1, None),
        (ConstantMask("true"), False, True),
        (ConstantMask("1"), False, None),
        (ConstantMask("hidden"), None, None),
        (ConstantMask("hidden"), ["a"], None),
        (PartialMask(0, "***", 4), "123-45-6789", "***6789"),
        (PartialMask(0, "***", 4), 123456789, None),
        (PartialMask(3, "***", 3), "daniel", "***"),
        (PartialMask(-1, "***", 3), "daniel", None),
        (PartialMask(0, "***", 4), {"a": "b"}, None),
        (PartialEmailMask(), "alice@example.com", "al****@ex****.com"),
        (PartialEmailMask(), 5, None),
        (HashMask("empty"), "x", None),
        (HashMask("unknown"), "x", None),
        (HashMask(), True, None),
        (HashMask(), ["x"], None),
        (GeneralizeMask("10"), 37, 30),
        (GeneralizeMask("10"), -37, -40),
        (GeneralizeMask("10"), 37.9, 30),
        (GeneralizeMask("0.5"), 1.7, 1.5),
        (GeneralizeMask("1"), 37, None),
        (GeneralizeMask("0.5"), 37, None),
        (GeneralizeMask("0"), 37, None),
        (GeneralizeMask("10"), "37", None),
        (GeneralizeMask("month"), 37, None),
        (GeneralizeMask("year"), "2024-05-17", "2024-01-01"),
        (GeneralizeMask("month"), "2024-05-17", "2024-05-01"),
        (GeneralizeMask("day"), "2024-05-17", None),
        (GeneralizeMask("day"), "2024-05-17T13:14:15", "2024-05-17T00:00:00"),
        (GeneralizeMask("hour"), "2024-05-17T13:14:15.123Z", "2024-05-17T13:00:00Z"),
        (GeneralizeMask("hour"), "2024-05-17 01:14:15+02:00", "2024-05-16T23:00:00Z"),
        (GeneralizeMask("hour"), "0001-01-01T00:00:00+02:00", None),
        (GeneralizeMask("month"), "2024-02-30", None),
        (GeneralizeMask("month"), "17.5.2024", None),
        (GeneralizeMask("month"), "2024-05-17 and more", None),
        (GeneralizeMask("month"), True, None),
    ],
)
def test_what_a_method_makes_of_a_value(method, value, expected):
    found = shown({"before": 1, "f": value, "after": 2}, mask("f", method))
    assert found == {"before": 1, "f": expected, "after": 2}
    assert type(found["f"]) is type(expected)


@pytest.mark.parametrize(("text", "value"), [('"x"', "x"), ("1", "1"), ("1.50", "1.50")])
def test_a_hash_is_keyed(text, value):
    expected = hmac.new(KEYS[""], value.encode(), hashlib.sha256).hexdigest()
    assert shown(b'{"f":%s}' % text.encode(), mask("f", HashMask())) == {"f": expected}


def test_a_hash_of_half_a_character_is_null():
    assert shown(b'{"f":"\\ud800"}', mask("f", HashMask())) == {"f": None}


def test_two_masks_that_differ_show_nothing():
    masks = (mask("f", PartialMask(5, "*", 0)), mask("$.f", PartialMask(0, "*", 4)))
    assert shown({"f": "123-45-6789"}, *masks) == {"f": None}
    assert shown({"f": "123-45-6789"}, masks[0], masks[0]) == {"f": "123-4*"}


# --- where ------------------------------------------------------------------------------------------------------------


def test_a_container_is_masked_whole():
    assert shown({"f": {"a": [MARKER]}}, mask("f", PartialMask(1, "*", 1))) == {"f": None}


def test_everything_but():
    document = {"id": 1, "n": "x", "l": [1, {"id": 2, "z": [3]}], "tags": ["a", ["b"]], "id2": {"id": True}, "e": {}}
    assert shown(document, mask("*", NullMask(), {"id", "tags"})) == {
        "id": 1, "n": None, "l": [None, {"id": 2, "z": [None]}], "tags": ["a", ["b"]], "id2": {"id": True}, "e": {},
    }  # fmt: skip


def test_an_exception_is_exact():
    assert shown({"ID": 1, "id": 2}, mask("*", NullMask(), {"id"})) == {"ID": None, "id": 2}


@pytest.mark.parametrize("document", ['"x"', "1", "true", "[1]"])
def test_everything_is_also_a_document_that_is_one_value(document):
    assert MARKER not in rewritten(json.dumps(MARKER).encode(), mask("*"))
    assert "null" in rewritten(document.encode(), mask("*"))


@pytest.mark.parametrize("field", ["?", "$[?@.a=='x']", "a.b", "", "$.", "a b"])
def test_a_field_that_is_not_understood_is_refused(field):
    with pytest.raises(CannotMask):
        Rewriter(Rule((mask(field),)))


BYPASSES = [
    b'{"ssn":"M"}',
    b'{"SSN":"M"}',
    b'{"Ssn":"M"}',
    b'{"\\u0073sn":"M"}',
    b'{"\\u0053\\u0053\\u004e":"M"}',
    '{"ſſn":"M"}'.encode(),
    b'{"ssn":["M"]}',
    b'{"ssn":{"a":"M"}}',
    b'{"ssn":{"ssn":[[["M"]]]}}',
    b'[[[{"a":[{"ssn":"M"}]}]]]',
    b'{"ssn":{"ssn":"M"},"SSN":"M"}',
    b'  \r\n\t{"ssn"  :\t"M"}\n',
]


@pytest.mark.parametrize("body", BYPASSES)
def test_a_masked_field_is_found_however_it_is_written(body):
    out = rewritten(body.replace(b"M", MARKER.encode()), mask("ssn"))
    assert MARKER not in out
    json.loads(out)


STRINGS = [
    '{"ssn":"M"}',
    ' \n{"ssn":"M"}\n',
    '[{"SSN":"M"}]',
    '{"a":{"ssn":"M"}}',
    '{"ssn":"M"}\n{"ssn":"M"}',
    '{"ssn":"M"} and more',
    '{"\\u0073sn":"M"}',
    json.dumps(json.dumps({"ssn": "M"})),
    json.dumps({"a": json.dumps({"b": json.dumps([{"ssn": "M"}])})}),
    '{"ssn":"M","cut":',
    "{'ssn': 'M'}",
    '<pre>{"ssn": "M"}</pre>',
    'user {"id": 1, "ssn" : "M"} was not found',
    "{'ssn' => 'M'}",
    '{"s\\u0073n":"M",}',
    '{a: 1, ssn: "M"}',
    "<user><ssn>M</ssn></user>",
    '<ssn type="x">M</ssn>',
    "see /users?x=1&ssn=M",
    "SSN=M",
    "duplicate key value: Key (ssn)=(M) already exists.",
    '{"a":"\t","ssn":"M"}',
    '{\\"ssn\\":\\"M\\"}',
]


@pytest.mark.parametrize("text", STRINGS)
@pytest.mark.parametrize("field", ["ssn", "$.users[*].ssn", "$.ssn"])
def test_a_masked_field_is_found_in_json_inside_a_string(text, field):
    for document in ({"note": text.replace("M", MARKER)}, [text.replace("M", MARKER)], text.replace("M", MARKER)):
        out = rewritten(document, mask(field))
        assert MARKER not in out
        json.loads(out)


@pytest.mark.parametrize("text", ['{"ssn":"M","ssn":1}', '{"ssn":"M","b":NaN}', "[" * 5000 + '{"ssn":"M"}'])
def test_json_in_a_string_that_readers_read_differently_is_refused(text):
    with pytest.raises(CannotMask):
        rewritten({"note": text}, mask("ssn"))


def test_json_in_a_string_stays_json_in_a_string():
    document = {"note": json.dumps({"ssn": MARKER, "n": 1.50, "t": "é"})}
    assert json.loads(shown(document, mask("ssn"))["note"]) == {"ssn": None, "n": 1.50, "t": "é"}


@pytest.mark.parametrize(
    "text", ['{ "a" : 1 }', "[1] x", "[draft] hello", "{x}", '"quoted" text', "", " ", "{}", "the ssn", '"', "[["]
)
def test_a_string_without_a_masked_field_stays_as_it_is(text):
    assert shown({"note": text}, mask("ssn")) == {"note": text}


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b'{"a":1}x', b'{"a":1}{"b":2}', b"NaN", b'{"a":NaN}', b'{"a":Infinity}', b'{"a":-Infinity}', b"nul",
        b'{"a":1,"a":2}', b'{"a":{"b":1,"\\u0062":2}}', b"\xef\xbb\xbf{}", '{"ssn":1}'.encode("utf-16"),
        '{"ssn":1}'.encode("utf-16-le"), '{"ssn":1}'.encode("utf-32"), b'{"a":"\xff"}', b'{"a":"\n"}', b"{'a':1}",
        b'{"a":01}', b'{"a":+1}', b'{"a":.5}', b'{"a":0x1}', b'{"a":1,}', b"[1,]", b"// c\n{}", b"<html>", b"a,b\n1,2",
        b"[" * 300 + b"]" * 300, b"[" * 100_000, b'{"a":' * 200 + b"1" + b"}" * 200, b'{"a":"\\x41"}',
        b"\xed\xa0\x80", b")]}',\n{}",
    ],
)  # fmt: skip
def test_a_document_that_is_not_strict_json_is_refused(body):
    with pytest.raises(CannotMask):
        rewritten(body, mask("ssn"))


# --- GraphQL ----------------------------------------------------------------------------------------------------------

ALIASES = {"user.contact": "user.email", "user.id": "user.ssn", "u2": "user"}


@pytest.mark.parametrize("field", ["email", "$.data.user.email", "$.data.*.email"])
def test_a_field_of_graphql_is_found_under_its_alias(field):
    out = shown({"data": {"user": {"contact": MARKER, "name": "n"}}}, mask(field), aliases=ALIASES)
    assert out == {"data": {"user": {"contact": None, "name": "n"}}}


@pytest.mark.parametrize(
    "document",
    [
        {"data": {"u2": {"contact": MARKER}}},
        {"data": {"u2": [{"CONTACT": MARKER}]}},
        [{"data": {"user": {"contact": MARKER}}}],
        {"incremental": [{"path": ["user"], "data": {"contact": MARKER}}]},
        {"errors": [{"extensions": {"contact": MARKER}}]},
    ],
)
def test_an_alias_is_found_wherever_it_stands(document):
    assert MARKER not in rewritten(document, mask("$..user.email"), mask("email"), aliases=ALIASES)


def test_an_alias_makes_no_exception():
    document = {"data": {"user": {"id": MARKER, "name": "n"}}}
    out = shown(document, mask("*", NullMask(), {"id", "name"}), aliases=ALIASES)
    assert out == {"data": {"user": {"id": None, "name": "n"}}}


# --- rows -------------------------------------------------------------------------------------------------------------


def limited(document, maximum, path="", on_excess=OnExcess.TRUNCATE, **more):
    return shown(document, limits=(LimitRows(maximum, on_excess, path),), **more)


def test_rows_are_cut():
    assert limited([1, 2, 3], 2) == [1, 2]
    assert limited([1, 2], 2) == [1, 2]
    assert limited([1], 0) == []
    assert limited({"a": [1, 2, 3], "b": [1], "c": {"d": [1, 2, 3]}}, 2) == {
        "a": [1, 2],
        "b": [1],
        "c": {"d": [1, 2, 3]},
    }
    assert limited([[1, 2, 3], [4, 5, 6], [7]], 2) == [[1, 2, 3], [4, 5, 6]]
    assert limited({"c": {"d": [1, 2, 3]}}, 2, "$.c.d") == {"c": {"d": [1, 2]}}
    assert limited({"data": {"users": [1, 2, 3]}}, 2, aliases={}) == {"data": {"users": [1, 2]}}


def test_rows_of_one_place_are_added_up():
    assert limited([{"r": [1, 2]}, {"r": [3, 4]}], 3, "$[*].r") == [{"r": [1, 2]}, {"r": [3]}]


def test_too_many_rows_fail():
    with pytest.raises(CannotMask, match="more than the 2 rows that policy allows"):
        limited({"rows": [1, 2, 3]}, 2, on_excess=OnExcess.FAIL)
    assert limited({"rows": [1, 2]}, 2, on_excess=OnExcess.FAIL) == {"rows": [1, 2]}


def test_of_two_limits_both_hold():
    limits = (LimitRows(2, OnExcess.TRUNCATE), LimitRows(3, OnExcess.FAIL))
    assert shown([1, 2, 3], limits=limits) == [1, 2]
    with pytest.raises(CannotMask):
        shown([1, 2, 3, 4], limits=limits)


# --- ordinary values --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "number",
    ["12345678901234567890123", "1.10", "-0", "-0.0", "1e5", "1E+400", "0.1000000000000000055511151231257827", "0"],
)
def test_a_number_stays_as_it_was_written(number):
    assert rewritten(f'{{"a":{number}}}'.encode(), mask("ssn")) == f'{{"a":{number}}}'


def test_halves_of_surrogate_pairs_stay():
    assert rewritten(b'{"a":"\\ud800x","b":"\\ud83d\\ude00"}', mask("ssn")) == '{"a":"\\ud800x","b":"\U0001f600"}'


scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
names = st.sampled_from(["a", "b", "ssn", "SSN", "email"]) | st.text(max_size=4)


def nested(leaves):
    return st.recursive(
        leaves,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=4),
        max_leaves=25,
    )


def without(document, fields):
    """The document with the values of those names null: the mask as it is meant, in four lines."""
    if isinstance(document, list):
        return [without(value, fields) for value in document]
    if isinstance(document, dict):
        return {name: None if name.casefold() in fields else without(value, fields) for name, value in document.items()}
    return document


@given(nested(scalars), st.booleans())
def test_only_masked_fields_change(document, ascii_only):
    data = json.dumps(document, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    before = copy.deepcopy(document)
    out = shown(data, mask("ssn"), mask("email"))
    assert out == without(before, {"ssn", "email"})
    assert json.dumps(out) == json.dumps(without(before, {"ssn", "email"}))


@st.composite
def planted(draw):
    """A document with markers in a field "ssn", written in many ways, at any depth, in strings in strings."""
    name = draw(st.sampled_from(["ssn", "SSN", "sSn", "ſsn"]))
    marker = draw(st.sampled_from([MARKER, [MARKER], {"x": MARKER}, [[{"y": MARKER}]]]))
    document = {name: marker}
    for _ in range(draw(st.integers(0, 5))):
        siblings = draw(
            st.dictionaries(st.sampled_from(["p", "q", "r"]), st.integers() | st.text(max_size=3), max_size=2)
        )
        match draw(st.integers(0, 3)):
            case 0:
                document = {**siblings, "in": document}
            case 1:
                document = [*siblings.values(), document]
            case 2:
                document = {"text": json.dumps(document, ensure_ascii=draw(st.booleans())), **siblings}
            case _:
                document = [json.dumps(document, indent=draw(st.sampled_from([None, 1])))]
    return document


@given(planted(), st.sampled_from(["ssn", "$..ssn", "$..['SSN']"]))
def test_a_planted_marker_never_comes_out(document, field):
    out = rewritten(document, mask(field))
    assert MARKER not in out
    json.loads(out)


# --- redaction in documents -------------------------------------------------------------------------------------------


def test_text_is_redacted_in_strings_and_names():
    document = {"a@b.org": {"t": "mail alice@example.com"}, "n": 1, "j": json.dumps({"x": "bob@example.com"})}
    out = shown(document, redactor=Redactor(["email"], []))
    assert out["[redacted email]"] == {"t": "mail [redacted email]"}
    assert json.loads(out["j"]) == {"x": "[redacted email]"}


def test_redacted_names_stay_apart():
    out = rewritten({"a@b.org": 1, "c@d.org": 2, "[redacted email]": 3}, redactor=Redactor(["email"], []))
    assert json.loads(out, object_pairs_hook=lambda pairs: len({name for name, _ in pairs})) == 3


def test_escapes_hide_nothing_from_a_detector():
    body = rb'{"a":"alice\u0040example.com","b":"{\"x\":\"alice\\u0040example.com\"}"}'
    out = rewritten(body, redactor=Redactor(["email"], []))
    assert out.count("[redacted email]") == 2


@pytest.mark.untraced
def test_a_large_document_takes_no_time_to_speak_of():
    document = [{"id": n, "ssn": MARKER, "name": "someone", "tags": ["a", "b"]} for n in range(5000)]
    begin = time.process_time()
    assert MARKER not in rewritten(document, mask("ssn"))
    assert time.process_time() - begin < 2
