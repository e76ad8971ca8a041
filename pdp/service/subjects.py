"""A subject as a message."""

from __future__ import annotations

from pdp.identity.subject import Subject
from pdp.v1 import access_pb2


def subject_message(subject: Subject) -> access_pb2.Subject:
    """The subject as proxies and people see it."""
    root = subject.root
    workflow = [str(subject.workflow.get(name, "")) for name in ("graph", "node", "run")]
    return access_pb2.Subject(
        type=subject.type,
        id=subject.id,
        groups=subject.groups,
        root=access_pb2.Party(type=root.type, id=root.id, groups=root.groups),
        workflow="/".join(workflow) if any(workflow) else "",
    )
