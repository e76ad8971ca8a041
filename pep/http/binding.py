"""What an approval of a request is bound to besides its action: its body, and what its fields say of it. Pure."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator
from typing import Any, Final

from pep.core.model import Statement
from pep.http.classify import Request
from pep.http.codec import end_to_end
from pep.http.identity import PRIVATE
from pep.http.messages import Fields, RequestHead

# What a client may say in another way when it sends an approved request again: it changes nothing of what is asked.
_UNBOUND: Final = (
    *PRIVATE, "Accept-Encoding", "Content-Length", "Date", "Expect", "User-Agent",
    "Baggage", "Sentry-Trace", "Traceparent", "Tracestate", "X-Correlation-Id", "X-Request-Id",
)  # fmt: skip


def bound(request: Request, digest: dict[str, Any]) -> Request:
    """The same actions, the first with what an approval has to be bound to besides."""
    action, *others = request.actions
    statement = Statement(action.statement.text, (*action.statement.parameters, digest))
    return dataclasses.replace(request, actions=(dataclasses.replace(action, statement=statement), *others))


def digest(name: str, data: bytes) -> dict[str, Any]:
    return {name: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}}


def said(head: RequestHead) -> dict[str, Any]:
    """What the fields of a request say of it; their order counts only among those of one name."""
    passing = end_to_end(head.fields)
    saying = (*passing.without((*_UNBOUND, "Prefer")), *(("prefer", each) for each in _preferences(passing)))
    fields = sorted(saying, key=lambda field: field[0].lower())
    return digest("fields", "".join(f"{name.lower()}: {value}\n" for name, value in fields).encode("latin-1"))


def _preferences(fields: Fields) -> Iterator[str]:
    """What a request prefers besides how long its client waits: a target may write otherwise for it (RFC 7240)."""
    for value in fields.all("Prefer"):
        # A comma in a quoted string parts nothing.
        for each in [value] if '"' in value else value.split(","):
            name = each.partition(";")[0].partition("=")[0].strip().lower()
            if '"' in value or name not in ("respond-async", "wait"):
                yield each.strip()
