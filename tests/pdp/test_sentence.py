"""The sentence that an approver reads first: every action has one, and nothing in it has power over who reads it."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pdp.approvals.sentence import decided_sentence, sentence
from pdp.approvals.unvalued import without_values
from pdp.library import library_dir
from pdp.v1 import access_pb2

SCHEMA = json.loads((library_dir() / "schemas" / "input.json").read_bytes())["$defs"]
CLASSES = SCHEMA["postgres"]["properties"]["class"]["enum"]
ACCESSES = SCHEMA["postgres"]["properties"]["relations"]["items"]["properties"]["access"]["enum"]
BODIES = SCHEMA["http"]["properties"]["body"]["properties"]["kind"]["enum"]
OWNERS = {"public.orders": ["group:order-team"], "public.audit": ["user:olga"]}


def sql(kind: str, *relations: tuple[str, str] | tuple[str, str, str], class_: str = "write", **more) -> dict:
    listed = [
        {"dataset": name, "schema": "public", "name": name, "access": access} | ({"via": via[0]} if via else {})
        for name, access, *via in relations
    ]
    known = {"opaque": False, "mints_access": [], "class": class_, "kind": kind, "reaches_beyond": [], "pins": []}
    return known | {"relations": listed, "columns": [], "functions": []} | more


def said(properties: object, protocol: str = "postgres", name: str = "query", **more) -> str:
    raw = properties if isinstance(properties, bytes) else json.dumps(properties).encode()
    return sentence(access_pb2.Action(name=name, protocol=protocol, properties_json=raw), **more)


REFUND = {"opaque": False, "mints_access": [], "server": "pay", "method": "tools/call", "tool": "refund"}
POST = {
    "opaque": False,
    "mints_access": [],
    "method": "POST",
    "host": "pay.test",
    "path": "/refunds/17",
    "segments": ["refunds", "17"],
    "route": "/refunds/{id}",
    "body": {"kind": "json", "json": {"amount": 42}},
}


@pytest.mark.parametrize(
    ("properties", "expected"),
    [
        (
            sql("delete", ("public.orders", "delete"), ("public.items", "read"), has_where=False),
            "deletes every row (no WHERE) of public.orders; about 12,400 rows (an estimate); owner order-team",
        ),
        (
            sql(
                "update",
                ("public.orders", "update"),
                has_where=True,
                pins=[{"dataset": "public.orders", "field": each, "value": 1} for each in ("status", "id")],
            ),
            "updates rows of public.orders where status = … and id = … (2 conditions); about 12,400 rows (an estimate)",
        ),
        (
            sql(
                "delete",
                ("public.orders", "delete"),
                ("public.audit", "insert"),
                ("public.items", "delete", "public.orders"),
                has_where=True,
                reaches_beyond=["trigger t on public.orders"],
            ),
            (
                "deletes rows of public.orders that fit its condition; also inserts into public.audit; "
                "also deletes from public.items (by way of public.orders); runs or reaches trigger t on public.orders; "
                "about 12,400 rows (an estimate); owners order-team, user:olga"
            ),
        ),
        (sql("drop", ("public.x", "schema"), class_="schema"), "drops public.x; about 12,400 rows (an estimate)"),
        (sql("create", class_="schema"), "creates something that is named in its text alone; about 12,400 rows"),
        (sql("select", class_="read"), "reads no table; about 12,400 rows"),
        (sql("set", class_="setting", settings=["search_path"]), "changes the session's settings (search_path)"),
        (
            sql("alter", class_="admin", mints_access=["role attributes"]),
            "alters something that is named in its text alone; gives a way around the proxy (role attributes)",
        ),
        (
            sql("frobnicate", ("a.b", "read"), class_="opaque", opaque="unknown"),
            "runs frobnicate, for which this version has no words, on a.b; NOT UNDERSTOOD in full, so it may do",
        ),
    ],
)
def test_it_says_what_a_statement_does(properties: dict, expected: str):
    assert said(properties, owners=OWNERS, estimate={"rows": 12400.0}).startswith(expected)


def test_it_says_what_a_request_and_a_call_do():
    assert said(POST, "http") == "POST /refunds/17 of pay.test (JSON body read, 13 bytes without white space)"
    assert said(POST, "http", values=False).startswith("POST /refunds/⟨U+007B⟩id⟨U+007D⟩ of pay.test (JSON body read")
    assert "17" not in said({key: value for key, value in POST.items() if key != "route"}, "http", values=False)
    call = REFUND | {"arguments": {"amount": 42}}
    assert said(call, "mcp", "tool") == "calls tool refund with amount 42 of MCP server pay"
    assert said(call, "mcp", "tool", values=False) == "calls tool refund with 1 argument of MCP server pay"
    assert said(REFUND, "mcp", "tool") == "asks for tool refund of MCP server pay"
    assert "GraphQL mutation of refund" in said(
        POST | {"body": {"kind": "graphql", "graphql": {"operation": "mutation", "fields": ["refund"]}}}, "http"
    )


def test_what_it_cannot_read_or_has_no_words_for_it_says_so():
    assert said(b"{", "postgres") == "query: the proxy's description of it cannot be read"
    assert said({"opaque": False}, "mongodb") == "query by mongodb: this version has no words for what it does"
    assert said({}, "postgres").startswith("runs a statement that does not say what it is, for which")
    assert decided_sentence("query", None, values=True) == "query: no longer kept"
    assert decided_sentence("connect", {"properties": {}}, values=True) == "connect"
    assert decided_sentence(
        "query", {"properties": {"statement": {"text": "x"}, "postgres": sql("begin")}}, values=True
    )


def test_what_leaves_the_service_names_no_file_and_no_reason():
    text = said(sql("copy", reaches_beyond=["file /etc/secret", "trigger t on x"], opaque="why: 17"), values=False)
    assert "secret" not in text
    assert "17" not in text
    assert "file, trigger t on x" in text


words = st.text(max_size=12)
scalars = st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False) | words
anything = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3))
relations = st.fixed_dictionaries(
    {"dataset": words, "access": st.sampled_from(ACCESSES) | words}, optional={"via": words, "temporary": st.booleans()}
)
statements = st.fixed_dictionaries(
    {
        "opaque": st.just(False) | words,
        "class": st.sampled_from(CLASSES),
        "kind": st.sampled_from(["select", "insert", "update", "delete", "merge", "copy", "drop", "set"]) | words,
        "relations": st.lists(relations, max_size=4),
    },
    optional={
        "mints_access": st.lists(words, max_size=3),
        "reaches_beyond": st.lists(words, max_size=9),
        "pins": st.lists(st.fixed_dictionaries({"field": words}), max_size=3),
        "has_where": st.booleans(),
        "settings": st.lists(words, max_size=3),
    },
)
requests = st.fixed_dictionaries(
    {"method": words, "path": words, "body": st.fixed_dictionaries({"kind": st.sampled_from(BODIES)}) | anything},
    optional={"host": words, "route": words, "segments": anything, "operation": words, "overrides": anything},
)
calls = st.fixed_dictionaries(
    {"server": words, "method": words}, optional={"tool": words, "arguments": anything, "uri": words}
)
FORBIDDEN = set("<>&[]`*~|\\{}")


@given(
    st.sampled_from(["postgres", "http", "mcp", "other", ""]),
    statements | requests | calls | st.dictionaries(words, anything, max_size=4) | anything,
    words,
    st.dictionaries(words, st.lists(words, max_size=3), max_size=2),
    st.booleans(),
)
def test_every_action_has_one_and_no_character_of_it_has_power(protocol, properties, name, owners, values):
    text = said(properties, protocol, name, owners=owners, estimate={"rows": 3}, values=values)
    assert text
    assert text.isprintable()
    assert not FORBIDDEN & set(text)
    assert len(text) <= 2100


@pytest.mark.parametrize("class_", CLASSES)
@pytest.mark.parametrize("access", ACCESSES)
def test_every_class_and_access_of_the_schema_is_named(class_: str, access: str):
    text = said(sql("merge", ("public.x", access), class_=class_))
    assert text.startswith("merges rows into public.x")
    via = said(sql("merge", ("public.y", "update"), ("public.x", access, "public.y"), class_=class_))
    assert ("public.x" in via) is (access != "read")


def test_the_end_of_a_long_one_is_not_cut_off():
    listed = [(f"schema_{number}.{'x' * 59}", access, f"v{number}{'y' * 50}") for number, access in enumerate(ACCESSES)]
    wide = sql("delete", *listed * 9, reaches_beyond=["\u202e" * 60 + str(number) for number in range(9)])
    text = said(wide, owners={listed[1][0]: ["group:order-team"]})
    assert "cut in the middle" in text
    assert text.endswith("owner order-team")


# ---- without values ----


def statement(text: str, parameters: bytes = b'["secret", 17]') -> access_pb2.Action:
    return access_pb2.Action(
        protocol="postgres",
        properties_json=json.dumps(
            sql("update", limit=17, pins=[{"dataset": "t", "field": "a", "value": "secret"}])
        ).encode(),
        statement=access_pb2.Statement(text=text, parameters_json=parameters),
    )


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        (
            "update \"T\" set a = 'secret' -- secret\nwhere b > 17.5 and c = $1",
            'update "T" set a = ? ? where b > ? and c = $1',
        ),
        ("select $$secret$$, E'secret', U&'secret', B'17', X'17', $x$secret$x$", "select ? , ? , ? , ? , ? , ?"),
        ("select 0x17, 1_7, '17'::int", "select ? , ? , ? :: int"),
        ("select 'secret", ""),
        ("select 1 " + "+" * 5000 + " 17", ""),
        ("select " + "'secret'," * 9000, ""),
        ("select 'secret\0'", ""),
    ],
)
def test_a_statement_without_its_values_is_its_words_and_names(text: str, kept: str):
    bare = without_values(statement(text))
    assert bare.statement.text == kept
    assert json.loads(bare.statement.parameters_json) == ["?", "?"]
    assert "secret" not in str(bare)
    assert "17" not in str(bare)


@given(st.text(alphabet="$seuUEBX&\\-/*|:. \n", max_size=40))
def test_no_literal_of_whatever_statement_is_left(noise: str):
    bare = without_values(statement(f"{noise} 'planted17' {noise}"))
    assert "planted17" not in bare.statement.text
    assert len(json.loads(bare.statement.parameters_json)) == 2


@pytest.mark.parametrize("raw", [b"{", b"[]", b'"secret"', b""])
def test_what_cannot_be_taken_apart_goes_whole(raw: bytes):
    action = access_pb2.Action(protocol="http", properties_json=raw, statement=access_pb2.Statement(text="GET /secret"))
    bare = without_values(action)
    assert (bare.properties_json, bare.statement.text) == (b"{}", "")


def test_a_request_without_its_values_is_its_method_and_route():
    action = access_pb2.Action(protocol="http", properties_json=json.dumps(POST).encode())
    assert json.loads(without_values(action).properties_json) == {
        "opaque": False,
        "mints_access": [],
        "method": "POST",
        "host": "pay.test",
        "route": "/refunds/{id}",
        "body": {"kind": "json"},
    }
