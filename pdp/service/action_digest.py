"""The digest of an action, computed from its message: what an approval is bound to."""

from __future__ import annotations

import hashlib

import grpc

from pdp.input import InvalidAction, strict_json
from pdp.service.refusal import Refused
from pdp.v1 import access_pb2
from pdp.v1.digests import action_digest, canonical_json


def digest(action: access_pb2.Action, subject: str, resource: str) -> bytes:
    """The contract's digest; `subject` is "type:id". Refused if the action is not well formed."""
    try:
        properties = strict_json(action.properties_json)
        parameters = strict_json(action.statement.parameters_json or b"[]")
        if not isinstance(properties, dict) or not isinstance(parameters, list):
            raise InvalidAction("properties are an object, parameters an array")
        return action_digest(
            subject=subject,
            resource=resource,
            protocol=action.protocol,
            name=action.name,
            properties=properties,
            text=action.statement.text,
            parameters=parameters,
            path=action.binding.path,
            definitions=action.binding.definitions,
        )
    except (InvalidAction, TypeError, ValueError) as error:
        raise Refused(grpc.StatusCode.INVALID_ARGUMENT, f"the action is not well formed: {error}") from None


def fingerprint(action: access_pb2.Action) -> bytes:
    """What a decision was about, without the text, which Decide carries only where a policy reads it."""
    properties = canonical_json(strict_json(action.properties_json)) if action.properties_json else b""
    parts = (action.name.encode(), action.protocol.encode(), properties)
    return hashlib.sha256(b"".join(len(part).to_bytes(8, "big") + part for part in parts)).digest()
