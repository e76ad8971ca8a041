"""An approval as policies see it. Pure."""

from __future__ import annotations

import datetime
from typing import Any

from pdp.store.approvals import Approval


def context_document(approval: Approval) -> dict[str, Any]:
    """`context.approval` of the input document: the requirements exactly as the policies gave them."""
    document: dict[str, Any] = {
        "id": approval.id,
        "state": approval.state.value,
        "requirements": [dict(each) for each in approval.requirements],
        "by": [
            {"id": assent.subject_id, "groups": list(assent.groups), "at": text_of(assent.at)}
            for assent in approval.assents
        ],
    }
    if approval.max_rows is not None:
        document["max_rows"] = approval.max_rows
    if approval.grant_expires_at is not None:
        document["expires"] = text_of(approval.grant_expires_at)
    return document


def text_of(instant: datetime.datetime) -> str:
    return instant.astimezone(datetime.UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
