"""The digests of the contract against vectors that were computed without them."""

import hashlib
from typing import Any

import pytest

from pdp.v1.digests import GENESIS, action_digest, body_digest, canonical_json, chain_hash

ACTION: dict[str, Any] = {
    "subject": "agent:planner",
    "resource": "shop",
    "protocol": "postgres",
    "name": "query",
    "properties": {"kind": "delete", "class": "write"},
    "text": "delete from orders where id = $1",
    "parameters": [7, "é", None],
    "path": ["public", "extensions"],
    "definitions": ["trigger t"],
}


def field(value: bytes) -> bytes:
    return len(value).to_bytes(8, "big") + value


def test_an_action_is_the_listed_fields_with_their_lengths():
    written = b"".join(
        [
            field(b"checkrein.action.v1"),
            field(b"agent:planner"),
            field(b"shop"),
            field(b"postgres"),
            field(b"query"),
            field(b'{"class":"write","kind":"delete"}'),
            field(b"delete from orders where id = $1"),
            field(b'[7,"\xc3\xa9",null]'),
            (2).to_bytes(8, "big"),
            field(b"public"),
            field(b"extensions"),
            (1).to_bytes(8, "big"),
            field(b"trigger t"),
        ]
    )
    assert action_digest(**ACTION) == hashlib.sha256(written).digest()


def test_the_digests_do_not_change_between_versions():
    action = "0601b83cf5387fc286ec0d6d00de72bddaa0568fc38e12f3f882ff5179763f9f"
    chain = "52e5a6375586b20af6e6174cd2e22762b03a03a40745f80373abe99ff722e49a"
    body = "53c97b62c705ffe15ec35b7e0cccc47112b89bb95a5da1732f09e2095ff7ce7b"
    assert action_digest(**ACTION).hex() == action
    assert chain_hash(GENESIS, "s-1", 0, b"{}").hex() == chain
    assert body_digest(bytes(32), b"select 1").hex() == body


@pytest.mark.parametrize(
    "other",
    [
        {"subject": "agent:planner2"},
        {"subject": "user:planner"},
        {"resource": "pay"},
        {"protocol": "http"},
        {"name": "prepare"},
        {"properties": {"kind": "delete", "class": "read"}},
        {"text": "delete from orders where id = $1 "},
        {"parameters": [7, "é"]},
        {"parameters": ["7", "é", None]},
        {"path": ["extensions", "public"]},
        {"path": ["public"], "definitions": ["extensions", "trigger t"]},
        {"path": ["public", "extensions", "trigger t"], "definitions": []},
        {"definitions": []},
    ],
)
def test_whatever_differs_gives_another_digest(other: dict[str, Any]):
    assert action_digest(**ACTION) != action_digest(**(ACTION | other))


def test_the_order_of_keys_does_not_matter():
    assert action_digest(**ACTION) == action_digest(**(ACTION | {"properties": {"class": "write", "kind": "delete"}}))
    assert canonical_json({"b": 1, "a": [1.5, True]}) == b'{"a":[1.5,true],"b":1}'


def test_the_chain_depends_on_everything_before():
    first = chain_hash(GENESIS, "s-1", 0, b"{}")
    assert chain_hash(first, "s-1", 1, b"{}") != chain_hash(GENESIS, "s-1", 1, b"{}")
    assert first != chain_hash(GENESIS, "s-2", 0, b"{}")
    assert first != chain_hash(GENESIS, "s-1", 1, b"{}")
    assert first == hashlib.sha256(bytes(32) + b"s-1" + bytes(8) + b"{}").digest()
