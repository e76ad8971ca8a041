import gzip
import json
from dataclasses import dataclass

import brotli
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from pep.core.model import (
    FieldMask,
    LimitRows,
    MaskFields,
    NullMask,
    OnExcess,
    PartialMask,
    ReadOnly,
    RedactText,
    RemoveHeaders,
    SetHeaders,
    TimeLimit,
    Unsupported,
)
from pep.http.messages import Chunked, Fields, Length, NoBody, ResponseHead, UntilClose
from pep.http.obligations import CannotMask, Duties, duties_of, plan
from pep.http.scrub import Scrub
from pep.http.transforms import Identity
from tests.strategies import chunkings

MARKER = "PLANTED-4711"
LIMIT = 256 * 1024
SSN = FieldMask("users", "ssn", NullMask())
MASKING = Duties(masks=(SSN,))
REDACTING = Duties(redact=RedactText(frozenset({"email"}), (r"PLANTED-\d+",)))
CLEAN = Scrub(())
SECRET = b"s3cr3t-of-the-target"
JSON = "application/json"


@dataclass(frozen=True)
class Document:
    """What a GraphQL request asked for."""

    aliases: dict[str, str] | None


def head(content_type=JSON, *fields, status=200, framing=None, reason="OK"):
    items = (("Content-Type", content_type), *fields) if content_type else fields
    return ResponseHead(status, reason, 1, Fields(items), framing or Chunked(), keep_alive=True)


def planned(duties=MASKING, *args, method="GET", scrub=CLEAN, **kwargs):
    graphql = kwargs.pop("graphql", None)
    return plan(head(*args, **kwargs), method, duties, scrub, decoded_limit=LIMIT, graphql=graphql)


def through(made, *pieces):
    return b"".join(made.body.feed(piece) for piece in pieces) + made.body.finish()


def sent(body, duties=MASKING, *args, **kwargs):
    return through(planned(duties, *args, **kwargs), body)


# --- duties -----------------------------------------------------------------------------------------------------------


def test_the_obligations_of_all_actions_are_merged():
    other = FieldMask("users", "email", PartialMask(1, "*", 1))
    duties = duties_of(
        (
            (MaskFields((SSN, other)), LimitRows(10), TimeLimit(5.0), RedactText(frozenset({"email"}), ("a",))),
            (MaskFields((SSN,)), LimitRows(5), TimeLimit(3.0), RedactText(frozenset({"ssn"}), ("b", "a"))),
            (SetHeaders((("X-Tenant", "acme"),)), RemoveHeaders(frozenset({"X-Debug"}))),
            (SetHeaders((("x-tenant", "acme"),)),),
        )
    )
    assert duties.masks == (SSN, other)
    assert set(duties.rows) == {LimitRows(10), LimitRows(5)}
    assert duties.seconds == 3.0
    assert duties.redact == RedactText(frozenset({"email", "ssn"}), ("a", "b"))
    assert duties.set_headers == (("X-Tenant", "acme"),)
    assert duties.remove_headers == {"x-debug"}
    assert duties.rewrites


def test_without_obligations_there_is_nothing_to_do():
    assert duties_of(()) == Duties()
    assert not Duties(seconds=1.0).rewrites


@pytest.mark.parametrize(
    "obligations",
    [
        (SetHeaders((("X-A", "1"),)), SetHeaders((("x-a", "2"),))),
        (SetHeaders((("X-A", "1"),)), RemoveHeaders(frozenset({"x-a"}))),
        (ReadOnly(),),
        (Unsupported("something"),),
    ],
)
def test_what_contradicts_itself_or_cannot_be_done_is_refused(obligations):
    with pytest.raises(CannotMask):
        duties_of((obligations,))


# --- nothing due ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("framing", [Length(5), Chunked(), UntilClose(), NoBody()])
@pytest.mark.parametrize("duties", [Duties(), Duties(seconds=3.0, set_headers=(("A", "b"),))])
def test_with_nothing_due_a_response_stays_as_it_is(framing, duties):
    made = planned(duties, "image/png", ("ETag", '"x"'), ("Content-Encoding", "gzip"), framing=framing, status=206)
    assert made.head == head("image/png", ("ETag", '"x"'), ("Content-Encoding", "gzip"), framing=framing, status=206)
    assert isinstance(made.body, Identity)
    assert through(made, b"by", b"tes") == b"bytes"
    assert made.body.summary() == {}


def test_fields_of_one_connection_stay_there():
    fields = (("Connection", "close, X-Hop"), ("Keep-Alive", "5"), ("X-Hop", "1"), ("Upgrade", "h2c"), ("X-End", "2"))
    assert planned(Duties(), JSON, *fields).head.fields == Fields((("Content-Type", JSON), ("X-End", "2")))


# --- secrets ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("framing", [Length(200), Length(200_000), Chunked(), UntilClose()])
@pytest.mark.parametrize("content_type", ["text/html", JSON, "application/octet-stream", None])
def test_the_targets_credential_does_not_come_back(framing, content_type):
    body = b"x" * 30 + SECRET + b"y" * 30
    made = planned(Duties(), content_type, ("X-Echo", SECRET.decode()), scrub=Scrub((SECRET,)), framing=framing)
    out = b"".join([*(made.body.feed(body[at : at + 7]) for at in range(0, len(body), 7)), made.body.finish()])
    assert SECRET not in out
    assert out.startswith(b"x" * 30)
    assert out.endswith(b"y" * 30)
    assert SECRET.decode() not in str(made.head)
    assert made.head.framing == Chunked()
    assert made.body.held == (framing == Length(200))


@pytest.mark.parametrize(("name", "encode"), [("gzip", gzip.compress), ("br", brotli.compress)])
def test_a_credential_is_found_in_a_coded_body(name, encode):
    made = planned(Duties(), "text/html", ("Content-Encoding", name), scrub=Scrub((SECRET,)))
    assert SECRET not in through(made, encode(b"<p>" + SECRET + b"</p>"))
    assert made.head.fields.first("Content-Encoding") is None


@pytest.mark.parametrize("more", [{"status": 206}, {"coding": "compress"}])
def test_what_cannot_be_searched_for_a_credential_is_refused(more):
    fields = (("Content-Encoding", more.pop("coding")),) if "coding" in more else ()
    with pytest.raises(CannotMask):
        planned(Duties(), JSON, *fields, scrub=Scrub((SECRET,)), **more)


def test_a_credential_in_a_masked_document_is_removed_too():
    body = json.dumps({"ssn": MARKER, "echo": f"Bearer {SECRET.decode()}"}).encode()
    out = sent(body, MASKING, scrub=Scrub((SECRET,)))
    assert SECRET not in out
    assert MARKER.encode() not in out


# --- what can be masked, by its type ----------------------------------------------------------------------------------

DOCUMENT = json.dumps({"ssn": MARKER, "n": 1}).encode()


@pytest.mark.parametrize(
    "content_type",
    [
        JSON, "Application/JSON", "application/json;charset=utf-8", 'application/json; charset="UTF-8"', "text/json",
        "application/problem+json", "application/vnd.api+json", "image/x+json", "application/json; profile=\"a;b\"",
        "application/json ; Charset=utf8 ; x=y", "application/json;",
    ],
)  # fmt: skip
@pytest.mark.parametrize("status", [200, 201, 404, 500])
def test_json_is_masked_whatever_the_status(content_type, status):
    made = planned(MASKING, content_type, status=status)
    assert made.body.held
    assert made.head.framing == Chunked()
    assert json.loads(through(made, DOCUMENT)) == {"ssn": None, "n": 1}
    assert made.body.summary() == {"masked": 1, "rows": 0}


@pytest.mark.parametrize(
    "content_type",
    [
        None, "", "json", "text/csv", "text/html", "text/plain", "text/plain; charset=utf-8", "application/xml",
        "application/protobuf", "application/x-protobuf", "application/octet-stream", "multipart/form-data; boundary=x",
        "multipart/mixed+json; boundary=x", "image/png", "application/grpc", "application/msgpack", "application/cbor",
        "application/json; charset=utf-16", "application/json; charset=utf-7", "application/json; charset=latin-1",
        "application/json; charset=utf-8; charset=utf-16", "application/json; charset*=utf-16''x",
        "application/json, text/html", "application/json text/html", "text/event-stream; charset=utf-16",
        "application/json; charset", "application/x-www-form-urlencoded", "application/pdf", "application/zip",
        "*/*", "application/", "/json", "application/javascript", "application/yaml", "application/vnd.ms-excel",
    ],
)  # fmt: skip
def test_a_type_that_cannot_be_masked_is_refused(content_type):
    for duties in (MASKING, Duties(rows=(LimitRows(1),))):
        with pytest.raises(CannotMask):
            planned(duties, content_type)


def test_two_types_are_none():
    with pytest.raises(CannotMask):
        planned(MASKING, JSON, ("content-type", JSON))


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
@pytest.mark.parametrize(
    ("content_type", "status", "framing"),
    [(None, 204, NoBody()), ("image/png", 304, NoBody()), ("text/csv", 200, Length(0)), (None, 205, Length(0))],
)
def test_an_empty_body_needs_no_mask(method, content_type, status, framing):
    made = planned(MASKING, content_type, status=status, framing=framing, method=method)
    assert made.head.framing == framing
    assert through(made) == b""


def test_the_answer_to_head_says_nothing_of_the_body():
    fields = (("Content-Length", "11"), ("ETag", '"x"'), ("X-A", MARKER))
    made = planned(MASKING, f"text/csv; a={MARKER}", *fields, framing=NoBody(), method="HEAD")
    assert made.head.fields == Fields((("Content-Type", "text/csv"),))
    assert planned(MASKING, MARKER, *fields, framing=NoBody(), method="HEAD").head.fields == Fields(())


def test_a_json_body_that_turns_out_empty_stays_empty():
    assert sent(b"") == b""


@pytest.mark.parametrize(
    ("status", "field"),
    [
        (206, ("X", "y")),
        (206, ("Content-Range", "bytes 0-1/9")),
        (200, ("Content-Range", "bytes 0-1/9")),
        (101, ("Upgrade", "x")),
    ],
)
def test_a_part_of_a_body_and_another_protocol_are_refused(status, field):
    for duties in (MASKING, REDACTING):
        with pytest.raises(CannotMask):
            planned(duties, JSON, field, status=status)


def test_the_answer_to_an_impossible_range_is_masked():
    made = planned(MASKING, JSON, ("Content-Range", "bytes */4711"), status=416)
    assert made.head.fields == Fields((("Content-Type", JSON),))


# --- heads ------------------------------------------------------------------------------------------------------------

FIELDS = (
    ("Date", "Tue, 24 Nov 2026 10:00:00 GMT"), ("Server", "s"),
    ("Set-Cookie", f"a={MARKER}"), ("X-Value", MARKER), ("Location", f"/{MARKER}"),
    ("ETag", f'"{MARKER}"'), ("Last-Modified", "l"), ("Digest", MARKER), ("Content-Digest", MARKER), ("Link", MARKER),
    ("Repr-Digest", MARKER), ("Content-MD5", MARKER), ("Accept-Ranges", "bytes"), ("Content-Encoding", "gzip"),
    ("Content-Length", "99"), ("Server-Timing", "t;dur=1"), ("Content-Disposition", f"filename={MARKER}"),
    ("Cache-Control", "no-store"), ("Retry-After", "3"), ("Access-Control-Allow-Origin", "*"), ("Mcp-Session-Id", "m"),
    ("Refresh", MARKER), ("Warning", MARKER), ("Trailer", "X-T"), ("Vary", "Accept"),
)  # fmt: skip


def test_under_a_mask_only_known_fields_reach_the_client():
    made = planned(MASKING, f"application/json; v={MARKER}", *FIELDS, reason=f"OK {MARKER}")
    assert {name for name, _ in made.head.fields} == {
        "Content-Type", "Date", "Server", "Cache-Control", "Retry-After", "Access-Control-Allow-Origin",
        "Mcp-Session-Id", "Vary",
    }  # fmt: skip
    assert MARKER not in str(made.head)
    assert made.head.reason == "OK"


def test_under_redaction_what_is_no_longer_true_goes_and_the_rest_is_redacted():
    made = planned(REDACTING, JSON, *FIELDS)
    names = {name for name, _ in made.head.fields}
    assert {"Set-Cookie", "Server-Timing", "Location", "X-Value"} <= names
    assert not {"ETag", "Digest", "Content-MD5", "Accept-Ranges", "Content-Encoding", "Content-Length"} & names
    assert MARKER not in str(made.head)


def test_redaction_of_fields_reads_utf8_and_other_bytes():
    utf8 = "ünal@exämple.de".encode().decode("latin-1")
    made = planned(REDACTING, JSON, ("X-A", utf8), ("X-B", "caf\xe9 alice@example.com"))
    assert made.head.fields.first("X-A") == "[redacted email]"
    assert made.head.fields.first("X-B") == "caf\xe9 [redacted email]"


# --- codings ----------------------------------------------------------------------------------------------------------

# Without the time: it would be in the names of tests, and another one in each process that collects them.
GZIPPED = gzip.compress(DOCUMENT, mtime=0)


@pytest.mark.parametrize(
    ("names", "body"),
    [
        ("gzip", GZIPPED),
        ("br", brotli.compress(DOCUMENT)),
        ("zstd", zstandard.compress(DOCUMENT)),
        ("gzip, br", brotli.compress(GZIPPED)),
        ("identity", DOCUMENT),
    ],
)
def test_a_coded_body_is_masked_and_goes_out_plain(names, body):
    made = planned(MASKING, JSON, ("Content-Encoding", names))
    assert json.loads(through(made, body)) == {"ssn": None, "n": 1}
    assert made.head.fields.first("Content-Encoding") is None


@pytest.mark.parametrize("names", ["compress", "gzip, gzip, gzip", "unknown"])
def test_a_coding_that_cannot_be_undone_is_refused(names):
    with pytest.raises(CannotMask):
        planned(MASKING, JSON, ("Content-Encoding", names))


@pytest.mark.parametrize("body", [DOCUMENT, GZIPPED[:-3], GZIPPED + b"x", b"\x1f\x8b"])
def test_a_body_in_another_coding_than_it_says_is_refused(body):
    with pytest.raises(CannotMask):
        sent(body, MASKING, JSON, ("Content-Encoding", "gzip"))


def test_a_coding_that_is_not_said_is_refused():
    with pytest.raises(CannotMask):
        sent(gzip.compress(DOCUMENT))


def test_a_document_beyond_the_limit_is_refused():
    for body, fields in (
        (b"[" + b"1," * LIMIT + b"1]", ()),
        (gzip.compress(bytes(LIMIT * 2), mtime=0), (("Content-Encoding", "gzip"),)),
    ):
        with pytest.raises(CannotMask, match="larger"):
            sent(body, MASKING, JSON, *fields)


# --- records ----------------------------------------------------------------------------------------------------------

RECORDS = b'{"ssn":"%s","n":1}\n\n{"n":2}\r\n[{"SSN":"%s"}]' % (MARKER.encode(), MARKER.encode())


@pytest.mark.parametrize("content_type", ["application/x-ndjson", "application/jsonl", "application/stream+json"])
def test_each_line_is_masked_as_it_comes(content_type):
    made = planned(MASKING, content_type)
    assert not made.body.held
    assert made.body.feed(RECORDS[:-5]) == b'{"ssn":null,"n":1}\n\n{"n":2}\n'
    assert made.body.feed(RECORDS[-5:]) == b""
    assert made.body.finish() == b'[{"SSN":null}]'


def test_a_sequence_of_texts_is_masked_as_it_comes():
    made = planned(MASKING, "application/json-seq")
    assert made.body.feed(b'\x1e{"ssn":"%s"}\n\x1e{"n":' % MARKER.encode()) == b'\x1e{"ssn":null}\n'
    assert made.body.feed(b"2}\n") == b""
    assert made.body.finish() == b'\x1e{"n":2}\n'


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("application/x-ndjson", b'{"n":1}\nssn: x\n'),
        ("application/x-ndjson", b'{"n":1}\n{"ssn":'),
        ("application/x-ndjson", b'{"n":1} {"ssn":1}\n'),
        ("application/x-ndjson", b'\xef\xbb\xbf{"ssn":1}\n'),
        ("application/json-seq", b'{"ssn":1}\n'),
        ("application/json-seq", b'x\x1e{"ssn":1}\n'),
        ("application/json-seq", b'\x1e{"ssn":'),
        ("text/event-stream", b"data: x\n\n"),
        ("text/event-stream", b'data: {"ssn":\n\n'),
        ("text/event-stream", b'data: {"ssn":1}'[:-1]),
        ("text/event-stream", b'\xef\xbb\xbfdata: {"ssn":1}\n\n'),
        ("text/event-stream", b"data: \xff\n\n"),
        ("text/event-stream", b'data: {"a":1}\ndata: {"ssn":1}\n\n'),
        ("application/x-ndjson", b"1" * (LIMIT + 1)),
        ("text/event-stream", b"data: " + b"1" * (LIMIT + 1)),
        ("text/event-stream", (b"data: " + b"1" * 1000 + b"\n") * (LIMIT // 1000 + 1)),
    ],
)
def test_a_record_that_cannot_be_masked_cuts_the_stream(content_type, body):
    with pytest.raises(CannotMask):
        sent(body, MASKING, content_type)


def test_events_are_masked_as_they_come():
    made = planned(MASKING, "text/event-stream")
    assert not made.body.held
    first = b'event: message\nid: 1\ndata: {"ssn":\ndata: "%s"}\n\n' % MARKER.encode()
    assert made.body.feed(first) == b'event: message\ndata: {"ssn":null}\n\n'
    assert made.body.feed(b": " + MARKER.encode() + b"\n\n") == b":\n"
    assert made.body.feed(b"retry: 10\r\ndata:[DONE]\r\n\r\n") == b"data: [DONE]\n\n"
    assert made.body.feed(b'data:{"n":1}\rdata\r\r') == b'data: {"n":1}\n\n'
    assert made.body.feed(b'\ndata: {"SSN":"x"}\n') == b""
    assert made.body.finish() == b'data: {"SSN":null}\n'


@pytest.mark.parametrize(
    "field", [f"x: {MARKER}", f"{MARKER}", f"event: {MARKER} x", f"id: <{MARKER}>", f"retry: {MARKER}"]
)
def test_fields_of_an_event_carry_no_values(field):
    assert MARKER.encode() not in sent(f'{field}\ndata: {{"n":1}}\n\n'.encode(), MASKING, "text/event-stream")


@pytest.mark.parametrize(
    "field",
    ["id: 111-22-3333", "id:1", "retry: 111223333", "event: 111-22-3333", "event: Planted", "event: a@b", "event: a b"],
)
def test_under_a_mask_a_word_that_may_be_a_value_does_not_go_on(field):
    assert sent(f'{field}\ndata: {{"ssn":"planted"}}\n\n'.encode(), MASKING, "text/event-stream") == (
        b'data: {"ssn":null}\n\n'
    )


def test_under_a_mask_the_name_of_an_event_goes_on_and_without_one_its_id_does():
    named = b'event: order.changed\ndata: {"n":1}\n\n'
    assert sent(named, MASKING, "text/event-stream") == named
    whole = b'event: a-1\nid: 7/2\nretry: 10\ndata: {"n":1}\n\n'
    assert sent(whole, REDACTING, "text/event-stream") == whole


def test_json_in_the_text_of_a_tool_is_masked():
    text = json.dumps({"users": [{"ssn": MARKER}]})
    message = {"jsonrpc": "2.0", "id": 1, "result": {"content": [{"type": "text", "text": text}]}}
    out = sent(b"data: " + json.dumps(message).encode() + b"\n\n", MASKING, "text/event-stream")
    assert MARKER.encode() not in out


# --- GraphQL ----------------------------------------------------------------------------------------------------------


def test_aliases_of_a_graphql_request_are_masked():
    body = json.dumps({"data": {"user": {"x": MARKER}}}).encode()
    for content_type in (JSON, "application/graphql-response+json"):
        out = sent(body, MASKING, content_type, graphql=Document({"user.x": "user.ssn"}))
        assert json.loads(out) == {"data": {"user": {"x": None}}}


def test_a_graphql_result_without_its_request_is_refused():
    with pytest.raises(CannotMask):
        planned(MASKING, JSON, graphql=Document(None))
    with pytest.raises(CannotMask):
        planned(MASKING, "application/graphql-response+json")


# --- text -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("content_type", ["text/plain", "text/html; charset=utf-8", "text/csv", "application/atom+xml"])
def test_text_is_redacted(content_type):
    made = planned(REDACTING, content_type)
    assert not made.body.held
    assert through(made, b"to alice@exa", b"mple.com, PLANTED", b"-12") == b"to [redacted email], [redacted]"
    assert made.body.summary() == {"masked": 0, "rows": 0, "redacted": 2}


def test_json_is_redacted_in_its_strings():
    assert json.loads(sent(b'{"a":"alice\\u0040example.com","n":1.0}', REDACTING)) == {
        "a": "[redacted email]",
        "n": 1.0,
    }


def test_events_of_text_are_redacted():
    out = sent(
        b'data: one alice@\ndata: alice@example.com\n\ndata: {"a":"PLANTED-1"}\n\n', REDACTING, "text/event-stream"
    )
    assert out == b'data: one alice@\ndata: [redacted email]\n\ndata: {"a":"[redacted]"}\n\n'


@pytest.mark.parametrize(
    "content_type", ["image/png", "application/octet-stream", "application/pdf", "text/plain; charset=utf-16", None]
)
def test_what_is_no_text_cannot_be_redacted(content_type):
    with pytest.raises(CannotMask):
        planned(REDACTING, content_type)


@pytest.mark.parametrize("body", ["alice@example.com".encode("utf-16"), b"alice@example.com \xe9"])
def test_text_in_other_characters_cannot_be_redacted(body):
    with pytest.raises(CannotMask):
        sent(body, REDACTING, "text/plain")


# --- rows -------------------------------------------------------------------------------------------------------------

TWO = Duties(rows=(LimitRows(2, OnExcess.TRUNCATE),))
AT_MOST_TWO = Duties(rows=(LimitRows(2, OnExcess.FAIL),))


@pytest.mark.parametrize(
    ("content_type", "body", "expected"),
    [
        (JSON, b"[1,2,3]", b"[1,2]"),
        (JSON, b'{"rows":[1,2,3]}', b'{"rows":[1,2]}'),
        ("application/x-ndjson", b"1\n\n2\n3\n4", b"1\n\n2\n"),
        ("application/x-ndjson", b'{"t":[1,2,3]}\n', b'{"t":[1,2,3]}\n'),
        ("application/json-seq", b"\x1e1\n\x1e2\n\x1e3\n", b"\x1e1\n\x1e2\n"),
        ("text/event-stream", b"data: 1\n\ndata: 2\n\ndata: 3\n\n", b"data: 1\n\ndata: 2\n\n"),
        ("text/event-stream", b"data: [1]\n\ndata: [2,3]\n\n", b"data: [1]\n\ndata: [2]\n\n"),
    ],
)
def test_rows_are_limited(content_type, body, expected):
    made = planned(TWO, content_type)
    assert through(made, body) == expected
    assert made.body.summary()["rows"] == (1 if b"t" in expected and b"[1,2,3]" in expected else 2)
    if body != expected:
        assert made.body.summary()["truncated"] is True
        with pytest.raises(CannotMask, match="more than the 2 rows that policy allows"):
            sent(body, AT_MOST_TWO, content_type)
    assert sent(expected, AT_MOST_TWO, content_type) == expected


# --- however a body is cut --------------------------------------------------------------------------------------------

values = st.recursive(
    st.sampled_from([MARKER, "alice@example.com", "é\u2028", 1, 1.5, None, True, "\r\n"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["ssn", "SSN", "a", "b"]), inner, max_size=3)
    ),
    max_leaves=8,
)
encoders = st.sampled_from(
    [("", bytes), ("gzip", gzip.compress), ("br", brotli.compress), ("zstd", zstandard.compress)]
)
line_ends = st.sampled_from(["\n", "\r\n", "\r"])


@st.composite
def bodies(draw):
    """A type, and a body of it."""
    kind = draw(st.sampled_from([JSON, "application/x-ndjson", "application/json-seq", "text/event-stream"]))
    if kind == JSON:
        return kind, json.dumps(draw(values)).encode()
    written = [json.dumps(value) for value in draw(st.lists(values, max_size=4))]
    if kind == "application/x-ndjson":
        return kind, draw(st.sampled_from(["\n", "\r\n", "\n\n"])).join(written).encode()
    if kind == "application/json-seq":
        return kind, "".join(f"\x1e{text}\n" for text in written).encode()
    end = draw(line_ends)
    events = [f"id: {n}{end}data: {text}{end}{end}:c{end}" for n, text in enumerate(written)]
    return kind, "".join(events).encode()


@given(
    bodies(),
    chunkings(),
    encoders,
    st.sampled_from([MASKING, REDACTING, TWO, Duties(masks=(SSN,), redact=REDACTING.redact)]),
)
def test_a_body_comes_out_the_same_however_it_is_cut(body, cut, encoder, duties):
    kind, data = body
    name, encode = encoder
    coded = encode(data)
    fields = (("Content-Encoding", name),)
    whole = sent(coded, duties, kind, *fields)
    assert through(planned(duties, kind, *fields), *cut(coded)) == whole
    assert b"PLANTED" not in whole or not duties.redact


planted = st.recursive(
    st.sampled_from([{"ssn": MARKER}, {"SSN": [MARKER]}, {"sSn": {"x": MARKER}}, {"t": json.dumps({"ssn": MARKER})}]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b", "ssn"]), inner, max_size=3),
    max_leaves=8,
)


@given(
    planted,
    chunkings(),
    encoders,
    st.sampled_from([JSON, "application/x-ndjson", "application/json-seq", "text/event-stream"]),
)
def test_a_planted_marker_never_comes_out(value, cut, encoder, kind):
    text = json.dumps(value)
    body = {"text/event-stream": f"data: {text}\n\n", "application/json-seq": f"\x1e{text}\n"}.get(kind, text)
    name, encode = encoder
    made = planned(MASKING, kind, ("Content-Encoding", name))
    out = through(made, *cut(encode(body.encode())))
    assert MARKER.encode() not in out
    assert out


@given(
    st.binary(max_size=100),
    st.sampled_from([JSON, "application/x-ndjson", "text/event-stream", "application/json-seq"]),
)
def test_any_bytes_are_masked_or_refused(data, kind):
    try:
        out = sent(data, MASKING, kind)
    except CannotMask:
        return
    assert isinstance(out, bytes)
