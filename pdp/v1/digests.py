"""Digests that both sides of the contract compute: of actions, of record events, of bodies.

Part of the contract like the generated messages beside it, but written by hand; `tests/pdp/v1/test_digests.py` has
vectors.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson

GENESIS: Final = bytes(32)
SALT_SIZE: Final = 32


def canonical_json(document: object) -> bytes:
    """UTF-8 JSON with sorted keys and no white space."""
    return orjson.dumps(document, option=orjson.OPT_SORT_KEYS)


def action_digest(
    *,
    subject: str,
    resource: str,
    protocol: str,
    name: str,
    properties: Mapping[str, Any],
    text: str,
    parameters: Sequence[Any],
    path: Sequence[str],
    definitions: Sequence[str],
) -> bytes:
    """SHA-256 over length-prefixed fields, in this order: what an approval is bound to.

    Fields: "checkrein.action.v1", subject as "type:id", resource, protocol, name, properties (canonical JSON),
    statement text, statement parameters (canonical JSON), then the path and the definitions, each preceded by its
    count. A length or a count is 8 bytes, big-endian.
    """
    digest = hashlib.sha256()

    def add(value: bytes) -> None:
        digest.update(len(value).to_bytes(8, "big"))
        digest.update(value)

    for field in ("checkrein.action.v1", subject, resource, protocol, name):
        add(field.encode())
    add(canonical_json(properties))
    add(text.encode())
    add(canonical_json(list(parameters)))
    for values in (path, definitions):
        digest.update(len(values).to_bytes(8, "big"))
        for value in values:
            add(value.encode())
    return digest.digest()


def chain_hash(previous: bytes, session: str, seq: int, data: bytes) -> bytes:
    """The chain's hash after an event: SHA-256(previous || session || seq || data), seq being 8 bytes, big-endian."""
    return hashlib.sha256(previous + session.encode() + seq.to_bytes(8, "big") + data).digest()


def body_digest(salt: bytes, content: bytes) -> bytes:
    """What an event holds of a body, so that the body can be erased and its digest then says nothing."""
    return hashlib.sha256(salt + content).digest()
