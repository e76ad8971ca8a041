import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pep.http.bodies import (
    Form,
    Json,
    Multipart,
    Nothing,
    Opaque,
    Text,
    Unclassifiable,
    media_type,
    read,
    read_form,
    read_json,
    read_multipart,
)
from pep.http.messages import Fields


def fields(content_type, *more):
    return Fields((("Content-Type", content_type), *more))


@pytest.mark.parametrize(
    "text",
    [
        '{"a":1,"a":2}',
        '{"op":"read","OP":"delete"}',
        '{"x":[{"deep":{"key":1,"\\u004bey":2}}]}',
        '{"k":1,"\u212a":2}',  # the Kelvin sign folds to k
        '{"s":1,"\u017f":2}',  # the long s folds to s
        "1e400",
        "-1e999",
        "1e-400",
        "9007199254740993.0",
        "0.1000000000000000055511151231257827",
        "1e99999999999999999999",
        "18446744073709551616",
        "-9223372036854775809",
        "9" * 5000,
        "NaN",
        "[Infinity]",
        '{"a":{"$int":"5"}}',
        '{"$bytes":"AA=="}',
        '"\\ud800"',
        "[" * 65 + "]" * 65,
        "[" * 100_000,
        '{"a":1',
        "{'a':1}",
        '{"a":1} {"a":2}',
        '{"a":1,}',
        '\ufeff{"a":1}',
        '{"a":1}//',
        '"\t"',
        "01",
    ],
)
def test_json_that_readers_take_differently_is_refused(text):
    with pytest.raises(Unclassifiable):
        read_json(text.encode())


@pytest.mark.parametrize("data", [b'"\xff"', b'"\xc0\xaf"', b'"\xed\xa0\x80"', '{"a":1}'.encode("utf-16")])
def test_json_that_is_not_utf8_is_refused(data):
    with pytest.raises(Unclassifiable):
        read_json(data)


def test_an_integer_that_readers_round_is_said_as_text_and_forwarded_exactly():
    body = read_json(b'{"id": [9007199254740993, 9007199254740992, -9007199254740993]}')
    assert body.shown == {"id": [{"$int": "9007199254740993"}, 9007199254740992, {"$int": "-9007199254740993"}]}
    assert body.forward == b'{"id":[9007199254740993,9007199254740992,-9007199254740993]}'


def test_json_is_forwarded_as_it_was_read_and_not_as_it_came():
    body = read_json(b' {"\\u0061" : 1.10, "b":\n[true,null,"\\u00e9\\/"]} ')
    assert body.forward == '{"a":1.1,"b":[true,null,"é/"]}'.encode()
    assert body.shown == {"a": 1.1, "b": [True, None, "é/"]}


_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=("Cs",))),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from("abcdefg"), inner, max_size=4),
    max_leaves=20,
)


@given(_JSON)
def test_what_is_forwarded_is_the_value_that_came(value):
    body = read_json(json.dumps(value).encode())
    assert json.loads(body.forward) == value == body.value


@pytest.mark.parametrize(
    ("content_type", "kind"),
    [
        ("application/json", Json),
        ("Application/JSON; Charset=UTF-8", Json),
        ('application/json;charset="utf-8"', Json),
        ("application/problem+json; profile=x", Json),
        ("text/json", Text),
        ("text/plain", Text),
        ("application/graphql", Text),
        ("application/json; charset=utf-16", Opaque),
        ("application/json; charset=latin1", Opaque),
        ("application/json; charset=utf-8; charset=utf-16", Opaque),
        ("application/json, text/plain", Opaque),
        ("application/json;", Opaque),
        ("application /json", Opaque),
        ("json", Opaque),
        ("", Opaque),
        ("application/jsonl", Opaque),
        ("application/octet-stream", Opaque),
    ],
)
def test_the_type_alone_tells_the_kind(content_type, kind):
    assert type(read(fields(content_type), b'{"a":1}')) is kind


def test_no_type_at_all_is_opaque_and_two_are_refused():
    assert type(read(Fields(), b"{}")) is Opaque
    with pytest.raises(Unclassifiable):
        read(fields("application/json", ("content-type", "text/plain")), b"{}")
    assert read(fields("application/json"), b"") == Nothing()
    assert media_type(Fields()) is None


@pytest.mark.parametrize("coding", ["gzip", "br", "identity, gzip", "x-gzip"])
def test_an_encoded_body_is_refused(coding):
    with pytest.raises(Unclassifiable):
        read(fields("application/json", ("Content-Encoding", coding)), b"{}")


def test_identity_encodes_nothing():
    assert type(read(fields("application/json", ("Content-Encoding", "identity")), b"{}")) is Json


def test_a_form_is_decoded_and_written_again():
    form = read_form(b"a=1&b=x+y%21&a=%32&c%5Bd%5D=%c3%a9&e=")
    assert form == Form(
        (("a", "1"), ("b", "x y!"), ("a", "2"), ("c[d]", "é"), ("e", "")),
        b"a=1&b=x+y%21&a=2&c%5Bd%5D=%C3%A9&e=",
    )


@pytest.mark.parametrize(
    "data",
    [
        b"a=1;b=2",
        b"a=%",
        b"a=%4",
        b"a=%zz",
        b"a=%u0041",
        b"a=1&A=2",
        b"a=1&&b=2",
        b"a=1&",
        b"a",
        b"=1",
        b"a=%ff",
        b"a=%c0%af",
        b"a=%00",
        b"a=\x00",
        b"a=1\r\n",
        b"a=\xc3\xa9",
        b"a=1 2",
        b"_charset_=utf-7&a=1",
    ],
)
def test_a_form_that_servers_read_differently_is_refused(data):
    with pytest.raises(Unclassifiable):
        read_form(data)


@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"))),
        min_size=1,
    )
)
def test_a_form_that_was_written_is_read_alike(pairs):
    from urllib.parse import urlencode

    form = read_form(urlencode(pairs).encode())
    assert form.pairs == tuple(pairs)
    assert read_form(form.forward) == form


def part(head, content=b"x"):
    return b"--B\r\n" + head + b"\r\n\r\n" + content + b"\r\n"


NAMED = b'Content-Disposition: form-data; name="a"'
END = b"--B--\r\n"


def test_a_multipart_form_is_its_names():
    file = b'content-disposition:form-data; name="f"; filename="x.png"\r\nContent-Type: image/png\r\nContent-Length: 5'
    data = part(NAMED) + part(NAMED) + part(file, b"\x00\r\n\xff-") + b"--B--"
    body = read_multipart(data, "B")
    assert body.names == ("a", "a", "f")
    assert (
        body.forward
        == part(NAMED)
        + part(NAMED)
        + part(
            b'Content-Disposition: form-data; name="f"; filename="x.png"\r\nContent-Type: image/png', b"\x00\r\n\xff-"
        )
        + END
    )
    assert type(read(fields("multipart/form-data; boundary=B"), data)) is Multipart


@pytest.mark.parametrize(
    "data",
    [
        b"preamble\r\n" + part(NAMED) + END,
        part(NAMED) + END + b"epilogue",
        part(NAMED),
        END,
        b"--B\n" + NAMED + b"\n\nx\n--B--\n",
        part(NAMED, b"x\n--B\nContent-Disposition: form-data; name=b\n\ny") + END,
        part(NAMED, b"--BB") + END,
        part(NAMED) + part(NAMED.replace(b'"a"', b'"A"')) + END,
        part(NAMED + b'; name="b"') + END,
        part(NAMED + b"; filename*=utf-8''x") + END,
        part(b"Content-Disposition: form-data; name=a") + END,
        part(b'Content-Disposition: form-data; name="a\\"b"') + END,
        part(b'Content-Disposition: form-data; filename="a"') + END,
        part(b'Content-Disposition: attachment; name="a"') + END,
        part(NAMED + b"\r\n" + NAMED) + END,
        part(NAMED + b"\r\n folded") + END,
        part(NAMED + b"\r\nX-Other: 1") + END,
        part(NAMED + b"\r\nContent-Transfer-Encoding: base64") + END,
        part(NAMED + b"\rContent-Type: text/plain") + END,
        part(b'Content-Disposition: form-data; name="\xff"') + END,
        part(b'Content-Disposition: form-data; name="_charset_"', b"utf-7") + END,
        part(b"Content-Type: text/plain") + END,
        b"--B\r\n" + NAMED + b"\r\n--B--\r\n",
    ],
)
def test_a_multipart_form_that_servers_read_differently_is_refused(data):
    with pytest.raises(Unclassifiable):
        read_multipart(data, "B")


@pytest.mark.parametrize("boundary", ["", "x" * 71, "a ", 'a"b', "é"])
def test_a_boundary_that_cannot_be_is_refused(boundary):
    with pytest.raises(Unclassifiable):
        read_multipart(part(NAMED) + END, boundary)
