"""Records as events of the Open Cybersecurity Schema Framework (OCSF) 1.8.0, for those who keep such. Pure.

| on record | class |
|---|---|
| a session opened, closed, lost; a login refused | Authentication (3002) |
| a statement at a database: denied, held, or executed with its response | Datastore Activity (6005) |
| a request over HTTP: the same | HTTP Activity (4002) |

An event has the profile `security_control`: what was decided is `action_id` and `disposition_id`, by which policy is
`policy`. The agent's workflow, which the schema has no object for yet, is under `unmapped`, as are the ids that lead
back to the record. What came back is not exported, and parameters are not: only how much there was.
"""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from pdp.commands.recorded import Recorded
from pdp.v1 import admin_service_pb2 as pb
from pdp.v1.access_pb2 import Subject

VERSION: Final = "1.8.0"
_AUTHENTICATION: Final = 3002
_DATASTORE: Final = 6005
_HTTP: Final = 4002
_NAMES: Final = {
    _AUTHENTICATION: ("Authentication", 3, "Identity & Access Management"),
    _DATASTORE: ("Datastore Activity", 6, "Application Activity"),
    _HTTP: ("HTTP Activity", 4, "Network Activity"),
}
# With `host` an HTTP Activity has an actor.
_PROFILES: Final = {
    _AUTHENTICATION: ["security_control"],
    _DATASTORE: ["security_control"],
    _HTTP: ["host", "security_control"],
}
_LOGON, _LOGOFF = (1, "Logon"), (2, "Logoff")
_OTHER: Final = 99
_STATEMENTS: Final = {
    "SELECT": (4, "Query"),
    "INSERT": (5, "Write"),
    "UPDATE": (2, "Update"),
    "DELETE": (7, "Delete"),
    "CREATE": (6, "Create"),
    "COPY": (1, "Read"),
}
_METHODS: Final = {
    "CONNECT": (1, "Connect"),
    "DELETE": (2, "Delete"),
    "GET": (3, "Get"),
    "HEAD": (4, "Head"),
    "OPTIONS": (5, "Options"),
    "POST": (6, "Post"),
    "PUT": (7, "Put"),
    "TRACE": (8, "Trace"),
    "PATCH": (9, "Patch"),
}
# A verdict as action and disposition.
_VERDICTS: Final = {
    "allow": (1, "Allowed", 1, "Allowed"),
    "mask": (4, "Modified", 1, "Allowed"),
    "deny": (2, "Denied", 2, "Blocked"),
    "require_approval": (3, "Observed", 14, "Delayed"),
}
_UNKNOWN: Final = (0, "Unknown", 0, "Unknown")
_USER_TYPES: Final = {"user": (1, "User"), "service": (4, "Service")}

Json = dict[str, Any]


@dataclass(slots=True)
class _Executed:
    """What is known of an execution before its response."""

    intent: Recorded
    decisions: list[Recorded]


@dataclass(slots=True)
class Export:
    """The events of one session, fed in order. `end` gives what has no response on record."""

    session: pb.Session
    version: str
    _decisions: dict[str, Recorded] = field(default_factory=dict)
    _executing: dict[str, _Executed] = field(default_factory=dict)

    def feed(self, event: Recorded) -> Iterator[Json]:
        match event.type:
            case "session.opened":
                yield self._login(event, _LOGON)
            case "session.closed" | "session.lost":
                yield from self.end()
                yield self._login(event, _LOGOFF)
            case "decision" if event.text("verdict") in ("deny", "require_approval"):
                yield self._activity(event, _statement(event), event)
            case "decision":
                self._decisions[event.decision_id] = event
            case "intent":
                ids = [str(each) for each in event.facts.get("decision_ids") or ()]
                decisions = [self._decisions.pop(each) for each in ids if each in self._decisions]
                self._executing[event.text("execution_id")] = _Executed(event, decisions)
            case "response":
                if (executed := self._executing.pop(event.text("execution_id"), None)) is not None:
                    yield self._answered(executed, event)
            case _:
                pass

    def end(self) -> Iterator[Json]:
        for executed in self._executing.values():
            yield self._answered(executed, None)
        self._executing.clear()

    def _answered(self, executed: _Executed, response: Recorded | None) -> Json:
        decided = next((each for each in executed.decisions if each.text("verdict") == "mask"), None)
        decided = decided or (executed.decisions[0] if executed.decisions else None)
        made = self._activity(executed.intent, _statement(executed.intent), decided)
        if response is None:
            return {**made, "status_id": 0, "status": "Unknown", "status_detail": "no response is on record"}
        code = response.text("sqlstate")
        status = response.facts.get("status")
        wrong = bool(code) or (isinstance(status, int) and not 100 <= status < 400)
        made |= {"status_id": 2 if wrong else 1, "status": "Failure" if wrong else "Success"}
        if code:
            made["status_code"] = code
        began, ended = _millis(executed.intent), _millis(response)
        made |= {"start_time": began, "end_time": ended, "duration": max(0, ended - began)}
        if made["class_uid"] == _HTTP and isinstance(status, int) and status:
            made["http_response"] = {"code": status, **_length(response)}
        elif "query_info" in made and isinstance(size := response.facts.get("bytes"), int):
            made["query_info"]["bytes"] = size
        for name in ("rows", "bytes", "tags", "masked", "kept", "truncated"):
            if name in response.facts:
                made["unmapped"][name] = response.facts[name]
        return made

    def _login(self, event: Recorded, activity: tuple[int, str]) -> Json:
        made = self._event(event, _AUTHENTICATION, activity)
        made |= {
            "user": _user(self.session.subject),
            "service": {"name": self.session.resource},
            "session": {"uid": self.session.session_id},
            "status_id": 1,
            "status": "Success",
            "is_remote": True,
        }
        if reason := event.text("reason"):
            made["status_detail"] = reason
        return made

    def _activity(self, event: Recorded, text: str, decided: Recorded | None) -> Json:
        word = text.partition(" ")[0].upper()
        http = self.session.protocol == "http"
        known = (_METHODS if http else _STATEMENTS).get(word)
        # A word that is not known says nothing for sure: it may be a value.
        made = self._event(event, _HTTP if http else _DATASTORE, known or (_OTHER, "Other"))
        made["actor"] = self._actor()
        if http:
            made["http_request"] = {"uid": event.text("execution_id") or event.decision_id}
            path = text.partition(" ")[2]
            if known:
                made["http_request"]["http_method"] = word
            if path:
                made["http_request"]["url"] = {"path": path}
        else:
            made |= {
                "database": {"name": self.session.resource, "type_id": 1, "type": "Relational"},
                "type_id": 1,
                "type": "Database",
            }
            if text:
                made["query_info"] = {"uid": event.text("execution_id") or event.decision_id, "query_string": text}
        verdict = _VERDICTS.get(decided.text("verdict"), _UNKNOWN) if decided is not None else _UNKNOWN
        made |= dict(zip(("action_id", "action", "disposition_id", "disposition"), verdict, strict=True))
        if decided is not None:
            made["unmapped"] |= {"decision_id": decided.decision_id, "policy_revision": decided.policy_revision}
            reasons = decided.items("reasons")
            if reasons:
                made["policy"] = {"name": _text(reasons[0].get("policy")) or "checkrein", "is_applied": True}
                made["message"] = "; ".join(_text(each.get("message")) or _text(each.get("code")) for each in reasons)
            if decided.text("verdict") == "deny":
                made |= {"status_id": 2, "status": "Failure"}
        return made

    def _actor(self) -> Json:
        subject = self.session.subject
        actor: Json = {"user": _user(subject), "session": {"uid": self.session.session_id}}
        if subject.type != "user":
            actor["app_name"] = subject.id
        behind = f"{subject.root.type}:{subject.root.id}"
        if subject.root.id and behind != f"{subject.type}:{subject.id}":
            actor["invoked_by"] = behind
        return actor

    def _event(self, event: Recorded, class_uid: int, activity: tuple[int, str]) -> Json:
        session = self.session
        made = _base(event, class_uid, activity, self.version, session.client_address)
        made["metadata"]["correlation_uid"] = session.session_id
        made["unmapped"] |= {"proxy": session.proxy, "resource": session.resource}
        if session.subject.workflow:
            graph, _, rest = session.subject.workflow.partition("/")
            node, _, run = rest.partition("/")
            made["unmapped"]["workflow"] = {"graph": graph, "node": node, "run": run}
        return made


def refused_login(event: Recorded, version: str) -> Json:
    """A login that was refused: who it was is not known."""
    made = _base(event, _AUTHENTICATION, _LOGON, version, event.text("client_address"))
    made |= {
        "user": {"name": "unknown", "type_id": 0, "type": "Unknown"},
        "service": {"name": event.text("resource") or "unknown"},
        "status_id": 2,
        "status": "Failure",
        "status_detail": ", ".join(map(str, event.facts.get("codes") or ())) or "refused",
        "action_id": 2,
        "action": "Denied",
        "disposition_id": 2,
        "disposition": "Blocked",
    }
    made["unmapped"]["proxy"] = event.text("proxy")
    return made


def _base(event: Recorded, class_uid: int, activity: tuple[int, str], version: str, address: str) -> Json:
    name, category, category_name = _NAMES[class_uid]
    return {
        "activity_id": activity[0],
        "activity_name": activity[1],
        "category_uid": category,
        "category_name": category_name,
        "class_uid": class_uid,
        "class_name": name,
        "type_uid": class_uid * 100 + activity[0],
        "type_name": f"{name}: {activity[1]}",
        "severity_id": 1,
        "severity": "Informational",
        "time": _millis(event),
        "metadata": {
            "version": VERSION,
            "product": {"name": "Checkrein", "vendor_name": "Checkrein", "version": version},
            "profiles": _PROFILES[class_uid],
            "uid": f"{event.session}:{event.seq}",
            "sequence": event.seq,
        },
        "src_endpoint": _endpoint(address),
        "unmapped": {"hash": event.hash.hex()},
    }


def _endpoint(address: str) -> Json:
    host, _, port = address.rpartition(":")
    for text in (address, host.strip("[]")):
        try:
            found: Json = {"ip": str(ipaddress.ip_address(text))}
        except ValueError:
            continue
        return found | ({"port": int(port)} if text != address and port.isdecimal() and int(port) < 1 << 16 else {})
    return {"name": address or "unknown"}


def _user(subject: Subject) -> Json:
    number, name = _USER_TYPES.get(subject.type, (_OTHER, "Agent" if subject.type == "agent" else subject.type))
    user: Json = {
        "uid": f"{subject.type}:{subject.id}",
        "name": subject.id or "unknown",
        "type_id": number,
        "type": name,
    }
    if subject.groups:
        user["groups"] = [{"name": each} for each in subject.groups]
    return user


def _statement(event: Recorded) -> str:
    texts = [body.content.decode("utf-8", "replace") for body in event.of_kind("statement") if body.content]
    return "; ".join(texts)


def _length(event: Recorded) -> Mapping[str, int]:
    size = event.facts.get("bytes")
    return {"body_length": size} if isinstance(size, int) else {}


def _millis(event: Recorded) -> int:
    time = event.time or datetime.datetime.fromtimestamp(0, datetime.UTC)
    return int(time.timestamp() * 1000)


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
