"""What responses showed, by field and by label: an index of the records, never evidence. Functions of a connection; the
caller has the transaction.

A field is found by its name, which is its dataset's and its own as people write them. Where only "*" is known of it, it
may have been any: it is found with every field of the dataset, or with every field at all.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Select, and_, insert, select

from pdp.store import tables

ANY: Final = "*"
# Of one response; a proxy names fewer.
_MOST: Final = 1024
_LONGEST: Final = 500
_fields = tables.shown_fields.c
_labels = tables.shown_labels.c


@dataclass(frozen=True, slots=True)
class Shown:
    """One field of one response."""

    session_id: str
    seq: int
    at: datetime.datetime
    dataset: str
    field: str
    masked: bool
    labels: Sequence[str]
    rows: int
    decision_id: str


@dataclass(frozen=True, slots=True)
class Within:
    """What an answer is bounded by; `resource` empty means every one."""

    since: datetime.datetime | None
    until: datetime.datetime | None
    resource: str
    limit: int


def name_of(dataset: str, field: str) -> str:
    """How people write a field: `public.customers.email`; with a blank before a path, `GET host/path $.email`."""
    return f"{dataset} {field}" if field.startswith("$") else f"{dataset}.{field}"


def add(connection: Connection, session: str, seq: int, at: datetime.datetime, event: Mapping[str, Any]) -> None:
    """Indexes a response's event, as far as it is of the form that proxies write; once for each event."""
    facts = event.get("facts")
    said = facts.get("disclosed") if isinstance(facts, Mapping) else None
    if not isinstance(said, Mapping):
        return
    rows = said.get("rows")
    count = rows if type(rows) is int and 0 <= rows < 1 << 62 else 0
    decision = event.get("decision_id")
    fields: list[dict[str, Any]] = []
    labels: list[dict[str, Any]] = []
    for dataset, field, masked, names in _told(said)[:_MOST]:
        number = len(fields)
        fields.append(
            {
                "session_id": session,
                "seq": seq,
                "number": number,
                "at": at,
                "dataset": dataset,
                "field": field,
                "name": name_of(dataset, field),
                "masked": masked,
                "labels": names,
                "rows": count,
                "decision_id": decision[:64] if isinstance(decision, str) else "",
            }
        )
        labels += [{"session_id": session, "seq": seq, "number": number, "label": name, "at": at} for name in names]
    if fields:
        connection.execute(insert(tables.shown_fields), fields)
    if labels:
        connection.execute(insert(tables.shown_labels), labels)


def _told(said: Mapping[str, Any]) -> list[tuple[str, str, bool, list[str]]]:
    found = []
    for name, masked in (("clear", False), ("masked", True)):
        datasets = said.get(name)
        for dataset, fields in datasets.items() if isinstance(datasets, Mapping) else ():
            for field, labels in fields.items() if isinstance(fields, Mapping) else ():
                known = {each[:255] for each in labels if isinstance(each, str)} if isinstance(labels, list) else set()
                # A name that is too long to be found is none.
                found.append((_short(dataset), _short(field), masked, sorted(known)))
    return found


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST else ANY


def of_field(connection: Connection, name: str, within: Within) -> list[Shown]:
    """Where that field came back, or may have: the latest first."""
    return _found(connection, select(tables.shown_fields).where(_fields.name.in_([name, *_any_of(name)])), within)


def of_label(connection: Connection, label: str, within: Within) -> list[Shown]:
    """Where a field that was classified so came back, or may have."""
    same = [getattr(_labels, name) == getattr(_fields, name) for name in ("session_id", "seq", "number")]
    labelled = select(tables.shown_fields).join(tables.shown_labels, and_(*same)).where(_labels.label == label)
    return _found(connection, labelled.where(*_between(_labels.at, within)), within)


def _any_of(name: str) -> list[str]:
    """The names of fields that stand for any, this one among them."""
    ends = [index for index, character in enumerate(name) if character in ". " and index]
    return [name_of(ANY, ANY), *(name_of(name[:end], ANY) for end in ends)]


def _between(at: ColumnElement[Any], within: Within) -> list[ColumnElement[bool]]:
    bounds = []
    if within.since is not None:
        bounds.append(at >= within.since)
    if within.until is not None:
        bounds.append(at < within.until)
    return bounds


def _found(connection: Connection, wanted: Select[Any], within: Within) -> list[Shown]:
    sessions = tables.sessions.c
    wanted = wanted.join(tables.sessions, sessions.id == _fields.session_id).where(*_between(_fields.at, within))
    if within.resource:
        wanted = wanted.where(sessions.resource == within.resource)
    latest = (_fields.at.desc(), _fields.session_id, _fields.seq.desc(), _fields.number)
    return [
        Shown(
            session_id=row.session_id,
            seq=row.seq,
            at=row.at,
            dataset=row.dataset,
            field=row.field,
            masked=row.masked,
            labels=row.labels,
            rows=row.rows,
            decision_id=row.decision_id,
        )
        for row in connection.execute(wanted.order_by(*latest).limit(within.limit))
    ]
