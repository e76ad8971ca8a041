import hashlib

import pytest

from pep.http.bodies import Unclassifiable
from pep.http.graphql import MOST_TOKENS, document, read


def asked(text, **more):
    return read({"query": text, **more})


def test_fields_are_paths_of_schema_names_and_aliases_lead_to_them():
    found = asked("query Q($i: ID) { me: user(id: $i) { id s: ssn address { city } } }", variables={"i": 1})
    assert (found.operation, found.name, found.opaque) == ("query", "Q", "")
    assert found.fields == ("user", "user.id", "user.ssn", "user.address", "user.address.city")
    assert found.aliases == {
        "me": "user",
        "me.id": "user.id",
        "me.s": "user.ssn",
        "me.address": "user.address",
        "me.address.city": "user.address.city",
    }
    assert found.properties()["operation"] == "query"


def test_fragments_are_followed_whatever_their_condition():
    found = asked(
        "{ user { ...F ... on Admin @include(if: false) { secret } ... { plain } } }"
        " fragment F on User { s: ssn ...G } fragment G on User { name @skip(if: true) }"
    )
    assert found.fields == ("user", "user.ssn", "user.name", "user.secret", "user.plain")
    assert found.aliases == {"user.s": "user.ssn"}


def test_introspection_is_a_field_like_any_other():
    assert asked("{ __schema { types { name } } __typename }").fields == (
        "__schema",
        "__schema.types",
        "__schema.types.name",
        "__typename",
    )


def test_the_operation_is_the_one_that_is_named():
    text = "query A { a } mutation B { b } subscription C { c }"
    assert asked(text, operationName="B").operation == "mutation"
    assert asked(text, operationName="C").fields == ("c",)
    assert asked("mutation { b }", operationName=None).operation == "mutation"
    assert asked("query A { a }", operationName="").name == "A"


@pytest.mark.parametrize(
    "request_",
    [
        {"query": "query A { a } mutation B { b }"},
        {"query": "query A { a } mutation B { b }", "operationName": ""},
        {"query": "query A { a }", "operationName": "B"},
        {"query": "query A { a } mutation A { b }", "operationName": "A"},
        {"query": "{ a"},
        {"query": ""},
        {"query": "{ ...F } fragment F on T { ...F }"},
        {"query": "{ ...F } fragment F on T { ...G } fragment G on T { a { ...F } }"},
        {"query": "{ ...Missing }"},
        {"query": "{ ...F } fragment F on T { a } fragment F on T { b }"},
        {"query": "type T { a: Int } query { a }"},
        {"query": "{ u { ... on A { x: ssn } ... on B { x: name } } }"},
        {"query": "{ u { ... on A { name: ssn } ... on B { name } } }"},
        {"query": "fragment F on T { a }"},
        {"query": "{" + "a " * MOST_TOKENS + "}"},
        {"query": "{a" * 3000 + "}" * 3000},
        {"query": "{a" * 66 + "}" * 66},
        {"query": ["{ a }"]},
        {"query": "{ a }", "variables": [1]},
        {"query": "{ a }", "operationName": 1},
        {"query": "{ a }", "OperationName": "B"},
        {"Query": "mutation { a }", "variables": {}},
        "text",
        None,
        [],
        ["{ a }"],
        [{"query": "{ a }"}, {"query": "mutation { b }"}],
        [{"query": "{ x: a }"}, {"query": "{ x: b }"}],
    ],
)
def test_what_cannot_be_told_is_refused(request_):
    with pytest.raises(Unclassifiable):
        read(request_)


def test_fragments_that_multiply_are_not_followed_to_the_end():
    doubling = " ".join(
        f"fragment F{i} on T {{ a{i}: a {{ ...F{i + 1} }} b{i}: a {{ ...F{i + 1} }} }}" for i in range(30)
    )
    with pytest.raises(Unclassifiable, match="too much"):
        asked("{ ...F0 } " + doubling + " fragment F30 on T { a }")


def test_a_batch_is_all_of_its_requests():
    found = read([{"query": "query A { x: a }"}, {"query": "query B { b a }"}])
    assert (found.operation, found.name, found.fields, found.aliases) == ("query", "", ("a", "b"), {"x": "a"})


@pytest.mark.parametrize(
    "request_",
    [
        {"extensions": {"persistedQuery": {"version": 1, "sha256Hash": "ab"}}},
        {"query": "{ a }", "extensions": {"persistedQuery": {"version": 1, "sha256Hash": "ab"}}},
        {"query": "{ a }", "extensions": {"PersistedQuery": {}}},
        {"query": "{ a }", "extensions": []},
        {"query": "{ a }", "documentId": "x"},
        {"id": "x", "variables": {}},
        [{"query": "{ a }"}, {"documentId": "x"}],
    ],
)
def test_a_document_that_is_kept_elsewhere_is_opaque(request_):
    found = read(request_)
    assert found.opaque
    assert found.aliases is None
    assert found.fields == ()


def test_a_persisted_query_that_is_registered_is_the_one_it_holds():
    digest = hashlib.sha256(b"{ a }").hexdigest()
    found = asked("{ a }", extensions={"persistedQuery": {"version": 1, "sha256Hash": digest}})
    assert (found.opaque, found.fields) == ("", ("a",))


def test_a_document_by_itself():
    assert document("{ a }", None).fields == ("a",)
