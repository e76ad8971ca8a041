"""What is asked, in one sentence, from the classification of the action: no statement, no value. Pure."""

from __future__ import annotations

from typing import Any

import orjson

from pdp.shown import shown
from pdp.store.approvals import Approval
from pdp.v1 import access_pb2

_LONGEST = 300


def sentence(approval: Approval) -> str:
    """Such as: agent:planner asks for delete of public.orders on shop."""
    action = access_pb2.Action.FromString(approval.action)
    try:
        properties: Any = orjson.loads(action.properties_json)
    except ValueError:
        properties = None
    known = properties if isinstance(properties, dict) else {}
    relations = known.get("relations")
    touched = sorted(
        {
            str(each.get("dataset", "?"))
            for each in (relations if isinstance(relations, list) else [])
            if isinstance(each, dict) and each.get("access") != "read"
        }
    )
    of = f" of {', '.join(touched)}" if touched else ""
    kind = known.get("kind") or known.get("method") or action.name
    return shown(f"{approval.subject.key} asks for {kind}{of} on {approval.resource}", limit=_LONGEST)
