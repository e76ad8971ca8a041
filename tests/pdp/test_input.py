"""The input document: what the decision service builds, and what it takes from a proxy."""

import contextlib
import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pdp.input import Context, InvalidAction, InvalidInput, Resource, build_input, strict_json
from pdp.v1 import access_pb2 as pb

SUBJECT = {"type": "agent", "id": "agent-1", "properties": {"groups": ["bots"]}}
SHOP = Resource("shop", "postgres", {"env": "prod"}, "shop_db")
NOON = datetime(2026, 11, 24, 12, 0, 0, 5, tzinfo=UTC)
READ: dict[str, Any] = {
    "opaque": False,
    "mints_access": [],
    "class": "read",
    "kind": "select",
    "reaches_beyond": [],
    "relations": [],
    "columns": [],
    "pins": [],
    "functions": [],
}


def query(properties: Any = READ, **fields: Any) -> pb.Action:
    raw = properties if isinstance(properties, bytes) else json.dumps(properties).encode()
    return pb.Action(name="query", protocol="postgres", properties_json=raw, **fields)


def build(action: pb.Action, resource: Resource = SHOP, **context: Any) -> dict[str, Any]:
    return build_input(action, SUBJECT, resource, Context(**{"time": NOON, "session": "s-1", **context}))


def test_a_connection_says_nothing_of_itself_and_what_is_not_known_is_absent():
    assert build(pb.Action(name="connect")) == {
        "subject": SUBJECT,
        "action": {"name": "connect", "properties": {}},
        "resource": {
            "type": "postgres",
            "id": "shop",
            "properties": {"labels": {"env": "prod"}, "database": "shop_db"},
        },
        "context": {"time": "2026-11-24T12:00:00.000005Z", "session": {"id": "s-1"}},
    }


def test_everything_that_is_known_is_there():
    approval = {"id": "a", "state": "approved", "requirements": [{"code": "x"}], "by": []}
    document = build(
        query(statement=pb.Statement(text="select $1", parameters_json=b'[1, {"$bytes": "AA=="}]')),
        time=NOON.astimezone(timezone(timedelta(hours=2))),
        client_address="10.0.0.1",
        batch=(1, 2),
        supported_obligations=["mask_fields"],
        labels={"application_name": "psql"},
        facts={"estimate": {"rows": 3}},
        approval=approval,
    )
    assert document["action"]["properties"] == {
        "postgres": READ,
        "statement": {"text": "select $1", "parameters": [1, {"$bytes": "AA=="}]},
    }
    assert document["context"] == {
        "time": "2026-11-24T12:00:00.000005Z",
        "session": {"id": "s-1"},
        "client": {"address": "10.0.0.1"},
        "batch": {"index": 1, "size": 2},
        "supported_obligations": ["mask_fields"],
        "labels": {"application_name": "psql"},
        "facts": {"estimate": {"rows": 3}},
        "approval": approval,
    }


def test_a_statement_without_parameters_has_none():
    document = build(query(statement=pb.Statement(text="select 1")))
    assert document["action"]["properties"]["statement"] == {"text": "select 1"}


def test_administration_is_decided_on_its_own_resource():
    action = pb.Action(name="approve", protocol="checkrein", properties_json=b'{"target": "approval-1"}')
    document = build(action, Resource("checkrein", "checkrein"))
    assert document["action"]["properties"] == {"checkrein": {"target": "approval-1"}}
    with pytest.raises(InvalidAction):
        build(action)  # on a target


REQUEST: dict[str, Any] = {
    "opaque": False,
    "mints_access": [],
    "method": "GET",
    "scheme": "https",
    "host": "pay.example",
    "path": "/orders",
    "segments": ["orders"],
    "query": {},
    "headers": {},
    "overrides": [],
    "body": {"kind": "unread"},
}
CALL: dict[str, Any] = {"opaque": False, "mints_access": [], "server": "pay", "method": "tools/call", "tool": "search"}
PAY = Resource("pay", "http")


def test_each_action_of_an_http_target_is_of_one_protocol():
    request = pb.Action(name="request", protocol="http", properties_json=json.dumps(REQUEST).encode())
    assert build(request, PAY)["action"]["properties"] == {"http": REQUEST}
    call = pb.Action(name="tool", protocol="mcp", properties_json=json.dumps(CALL).encode())
    assert build(call, PAY)["action"]["properties"] == {"mcp": CALL}
    for action in (request, call):
        with pytest.raises(InvalidAction):
            build(action)  # on another kind of target
    with pytest.raises(InvalidAction):
        build(query(), PAY)
    with pytest.raises(InvalidAction, match="must be one of"):
        build(pb.Action(name="drop", protocol="http", properties_json=json.dumps(REQUEST).encode()), PAY)


INVALID = {
    "not JSON": query(b"{"),
    "a byte order mark": query(b"\xef\xbb\xbf{}"),
    "not UTF-8": query(b'{"kind": "\xff"}'),
    "half a surrogate pair": query(json.dumps(READ | {"kind": "\ud800"}).encode()),
    "a key twice": query(b'{"opaque": "x", "opaque": false}'),
    "a key twice further in": query(b'{"a": [{"b": {"c": 1, "c": 1}}]}'),
    "NaN": query(b'{"limit": NaN}'),
    "an infinity": query(b'{"limit": -Infinity}'),
    "beyond every number": query(b'{"limit": 1e400}'),
    "too small to tell from zero": query(b'{"limit": 1e-400}'),
    "an integer that floats cannot hold": query(b'{"limit": 9007199254740993}'),
    "an integer of many digits": query(b'{"limit": ' + b"9" * 10_000 + b"}"),
    "digits that are lost": query(b'{"limit": 0.10000000000000000001}'),
    "nested without end": query(b"[" * 100_000 + b"]" * 100_000),
    "more than a mebibyte": query(READ | {"kind": "x" * (1 << 20)}),
    "a long text": query(statement=pb.Statement(text="x" * (1 << 20))),
    "an array": query(b"[]"),
    "null for absent": query(READ | {"has_where": None}),
    "a missing field": query({key: value for key, value in READ.items() if key != "mints_access"}),
    "an unknown field": query(READ | {"opague": False}),
    "a number for opaque": query(READ | {"opaque": 0}),
    "true for opaque": query(READ | {"opaque": True}),
    "parameters that are an object": query(statement=pb.Statement(text="x", parameters_json=b"{}")),
    "no such action": pb.Action(name="approve", protocol="postgres", properties_json=json.dumps(READ).encode()),
    "no such protocol": pb.Action(name="query", protocol="gopher", properties_json=b"{}"),
    "the statement as a protocol": pb.Action(name="query", protocol="statement", properties_json=b'{"text": ""}'),
    "another protocol than the target's": pb.Action(name="query", protocol="checkrein", properties_json=b"{}"),
    "nothing at all": pb.Action(name="query"),
    "properties without a protocol": pb.Action(name="query", properties_json=json.dumps(READ).encode()),
    "a connection with properties": pb.Action(
        name="connect", protocol="postgres", properties_json=json.dumps(READ).encode()
    ),
    "a connection with a statement": pb.Action(name="connect", statement=pb.Statement(text="")),
    "no name": pb.Action(protocol="postgres", properties_json=json.dumps(READ).encode()),
}


@pytest.mark.parametrize("case", INVALID)
def test_what_a_proxy_may_not_say_is_refused(case):
    with pytest.raises(InvalidAction):
        build(INVALID[case])


def test_a_mistake_of_the_decision_service_is_not_the_proxy_s():
    with pytest.raises(InvalidInput) as caught:
        build_input(query(), {"type": "agent", "id": "", "properties": {"groups": []}}, SHOP, Context(NOON, "s"))
    assert not isinstance(caught.value, InvalidAction)
    with pytest.raises(InvalidInput, match="time zone"):
        build(query(), time=datetime(2026, 1, 1))  # noqa: DTZ001


@given(st.binary(max_size=60))
def test_arbitrary_bytes_are_read_or_refused(raw: bytes):
    with contextlib.suppress(InvalidAction):
        strict_json(raw)


DOCUMENTS = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.text()
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(DOCUMENTS, st.booleans())
def test_what_is_read_is_what_was_said(document: Any, plain: bool):
    assert strict_json(json.dumps(document, ensure_ascii=not plain).encode("utf-8", "strict")) == document


def test_numbers_of_every_form_that_survives_are_read():
    assert strict_json(b"[0.1, 1e3, -0.5E-2, 9007199254740992, 1.50]") == [0.1, 1000.0, -0.005, 2**53, 1.5]
    assert strict_json(b"0." + b"0" * 300) == 0


@pytest.mark.parametrize("text", [b"0e-99999999999999999999", b"1e99999999999999999999", b"0." + b"0" * 500])
def test_numbers_that_nobody_needs_are_refused(text: bytes):
    with pytest.raises(InvalidAction, match="round trip"):
        strict_json(text)
