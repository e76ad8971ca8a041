"""What became of approvals as events of OCSF 1.8.0: Entity Management (3004), the entity being the approval. Pure.

| on record | activity |
|---|---|
| `approval.requested` | Create |
| `assented`, `refused` | Update; the second has the status Failure: somebody answered who may not |
| `approved` | Activate |
| `denied`, `expired`, `cancelled` | Deactivate |
| `withdrawn` | Disable |
| `redeemed` | Other ("Redeem") |

The actor is who asked, who answered, or the session that used it; where nobody did anything, the service. Ids that lead
back to the record are under `unmapped`. What was asked for is in the session's own events.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pdp.commands.ocsf import VERSION
from pdp.commands.recorded import Recorded

Json = dict[str, Any]

CLASS: Final = 3004
_NAME: Final = "Entity Management"
_DEACTIVATED: Final = (11, "Deactivate")
_ACTIVITIES: Final[Mapping[str, tuple[int, str]]] = {
    "requested": (1, "Create"),
    "assented": (3, "Update"),
    "refused": (3, "Update"),
    "approved": (10, "Activate"),
    "denied": _DEACTIVATED,
    "expired": _DEACTIVATED,
    "cancelled": _DEACTIVATED,
    "withdrawn": (9, "Disable"),
    "redeemed": (99, "Redeem"),
}
_OTHER: Final = (99, "Other")
# As action and disposition.
_DELAYED: Final = (3, "Observed", 14, "Delayed")
_ALLOWED: Final = (1, "Allowed", 1, "Allowed")
_BLOCKED: Final = (2, "Denied", 2, "Blocked")
_UNKNOWN: Final = (0, "Unknown", 0, "Unknown")
_OUTCOMES: Final = {
    "requested": _DELAYED,
    "assented": _DELAYED,
    "approved": _ALLOWED,
    "denied": _BLOCKED,
    "expired": _BLOCKED,
    "cancelled": _BLOCKED,
    "withdrawn": _BLOCKED,
    "refused": _BLOCKED,
}
_VERDICTS: Final = {"allow": _ALLOWED, "mask": (4, "Modified", 1, "Allowed"), "deny": _BLOCKED}
_USER_TYPES: Final = {"user": (1, "User"), "service": (4, "Service")}
_KEPT: Final = (
    "session",
    "resource",
    "digest",
    "expires",
    "until",
    "was",
    "uses",
    "uses_left",
    "for",
    "by",
    "execution",
    "max_rows",
)


def approval_change(event: Recorded, version: str) -> Json:
    """One change of one approval."""
    what = event.type.removeprefix("approval.")
    number, name = _ACTIVITIES.get(what, _OTHER)
    outcome = _VERDICTS.get(event.text("verdict"), _UNKNOWN) if what == "redeemed" else _OUTCOMES.get(what, _UNKNOWN)
    failed = what == "refused"
    made: Json = {
        "activity_id": number,
        "activity_name": name,
        "category_uid": 3,
        "category_name": "Identity & Access Management",
        "class_uid": CLASS,
        "class_name": _NAME,
        "type_uid": CLASS * 100 + number,
        "type_name": f"{_NAME}: {name}",
        "severity_id": 1,
        "severity": "Informational",
        "time": 0 if event.time is None else int(event.time.timestamp() * 1000),
        "metadata": {
            "version": VERSION,
            "product": {"name": "Checkrein", "vendor_name": "Checkrein", "version": version},
            "profiles": ["security_control"],
            "uid": f"{event.session}:{event.seq}",
            "sequence": event.seq,
        },
        "entity": {"uid": event.text("approval"), "name": event.text("approval"), "type_id": 99, "type": "Approval"},
        "actor": _actor(event),
        "status_id": 2 if failed else 1,
        "status": "Failure" if failed else "Success",
        "status_detail": event.text("why") or what,
        "unmapped": {"hash": event.hash.hex(), "event": event.type},
    }
    if session := event.text("session"):
        made["metadata"]["correlation_uid"] = session
    made |= dict(zip(("action_id", "action", "disposition_id", "disposition"), outcome, strict=True))
    made["unmapped"] |= {key: event.facts[key] for key in _KEPT if event.facts.get(key) is not None}
    if event.decision_id:
        made["unmapped"]["decision_id"] = event.decision_id
    if event.policy_revision:
        made["unmapped"]["policy_revision"] = event.policy_revision
    requirements = event.facts.get("requirements")
    if isinstance(requirements, list) and requirements and isinstance(requirements[0], str):
        made["policy"] = {"name": requirements[0].partition("/")[0], "is_applied": True}
    comments = [body.content.decode("utf-8", "replace") for body in event.of_kind("comment") if body.content]
    if comments:
        made["comment"] = "; ".join(comments)
    return made


def _actor(event: Recorded) -> Json:
    """Whoever made the change: of several people the last, whose yes was enough."""
    by = event.facts.get("by")
    who = event.text("subject") or (by if isinstance(by, str) else "")
    if isinstance(by, list) and by and isinstance(by[-1], str):
        who = by[-1]
    if not who:
        session = event.text("by_session")
        return {"session": {"uid": session}} if session else {"app_name": "checkrein"}
    kind, _, name = who.partition(":")
    number, word = _USER_TYPES.get(kind, (99, "Agent" if kind == "agent" else kind or "unknown"))
    actor: Json = {"user": {"uid": who, "name": name or who, "type_id": number, "type": word}}
    root = event.text("root")
    if root and root != who:
        actor["invoked_by"] = root
    return actor
