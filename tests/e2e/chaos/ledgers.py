"""The three ledgers side by side: what clients were told, what the records say, what the targets have executed."""

import datetime
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection

from pdp.store import checkpoints, records
from pdp.store.database import Database
from tests.e2e.chaos.targets import Executed
from tests.e2e.chaos.told import MARKER, Outcome, Statement

# A target's log says milliseconds, cut off.
_MOMENT = 0.002
_PAGE = 500
# Whoever is told that such a one succeeded has made one row.
_ONE_ROW = ("insert", "long insert", "held", "in pipeline")


@dataclass(frozen=True, slots=True)
class Recorded:
    """An event about a statement, or about the execution of one."""

    chain: str
    seq: int
    at: float
    type: str
    verdict: str
    facts: Mapping[str, Any]

    def __str__(self) -> str:
        when = datetime.datetime.fromtimestamp(self.at, datetime.UTC).strftime("%H:%M:%S.%f")
        return f"{when} {self.chain}#{self.seq} {self.type} {self.verdict} {json.dumps(dict(self.facts))[:200]}"


@dataclass(slots=True)
class OnRecord:
    """Everything of one statement."""

    events: list[Recorded] = field(default_factory=list)

    def of(self, type: str) -> list[Recorded]:
        return [event for event in self.events if event.type == type]


async def read_records(url: str) -> dict[str, OnRecord]:
    """By marker. Events without text (responses, approvals) are found by the ids that they share with others."""
    async with Database(url) as database:
        return await database.bulk.run(_read)


def _read(connection: Connection) -> dict[str, OnRecord]:
    found: dict[str, OnRecord] = {}
    for chain in list(checkpoints.chain_names(connection)):
        # Which statements a decision, an execution and an approval of this chain are about.
        about: dict[str, set[str]] = {}
        events = [(json.loads(event), texts) for event, texts in _events(connection, chain)]
        for document, texts in events:
            markers = {marker for text in texts for marker in MARKER.findall(text)}
            names = _names(document)
            for name in names:
                markers |= about.get(name, set())
            for name in names:
                about.setdefault(name, set()).update(markers)
        for document, _ in events:
            facts = document.get("facts", {})
            at = datetime.datetime.fromisoformat(document["time"]).timestamp()
            one = Recorded(chain, document["seq"], at, document["type"], str(facts.get("verdict", "")), facts)
            for marker in {marker for name in _names(document) for marker in about[name]}:
                found.setdefault(marker, OnRecord()).events.append(one)
    return found


def _names(document: Mapping[str, Any]) -> list[str]:
    facts = document.get("facts", {})
    return [
        str(each) for each in (document.get("decision_id"), facts.get("execution_id"), facts.get("approval_id")) if each
    ]


def _events(connection: Connection, chain: str) -> Iterator[tuple[bytes, list[str]]]:
    start = 0
    while page := records.page(connection, chain, start, _PAGE):
        for stored in page:
            yield stored.event, [body.decode("utf-8", "replace") for body in stored.bodies.values()]
        start = page[-1].seq + 1


@dataclass(frozen=True, slots=True)
class Ledgers:
    """All of them, by marker."""

    told: Mapping[str, Statement]
    recorded: Mapping[str, OnRecord]
    executed: Mapping[str, list[Executed]]
    rows: Mapping[str, int]
    agreed: frozenset[str]

    def disagreements(self) -> list[str]:
        """What must not be, each with what the three ledgers say about it."""
        found = []
        for marker in sorted({*self.told, *self.executed}):
            found += [f"{what}\n{self.said_of(marker)}" for what in self._wrong(marker)]
        return found + self._torn_transactions()

    def said_of(self, marker: str) -> str:
        statement = self.told.get(marker)
        lines = [f"  {marker}"]
        if statement is not None:
            began, ended = (
                datetime.datetime.fromtimestamp(at, datetime.UTC).strftime("%H:%M:%S.%f")
                for at in (statement.began, statement.ended)
            )
            lines.append(f"    client: {statement.protocol}/{statement.kind} wish={statement.wish} {statement.text}")
            lines.append(f"            {began} to {ended}: {statement.outcome} ({statement.said})")
        lines += [f"    record: {event}" for event in self.recorded.get(marker, OnRecord()).events]
        times = [
            f"{datetime.datetime.fromtimestamp(each.at, datetime.UTC).strftime('%H:%M:%S.%f')} {each.what}"
            for each in self.executed.get(marker, [])
        ]
        lines += [f"    target: {each}" for each in times] or ["    target: nothing"]
        lines.append(f"    rows:   {self.rows.get(marker, 0)}; approved by people: {marker in self.agreed}")
        return "\n".join(lines)

    def _wrong(self, marker: str) -> Iterator[str]:
        statement = self.told.get(marker)
        runs = self.executed.get(marker, [])
        on_record = self.recorded.get(marker, OnRecord())
        if statement is None:
            yield "the target has what no client sent"
            return
        intents = on_record.of("intent")
        if len(runs) > 1:
            yield "executed more than once"
        if len(runs) > len(intents):
            yield "executed without an intent on record"
        elif runs and min(event.at for event in intents) > runs[0].at + _MOMENT:
            yield "executed before its intent was on record"
        if runs and self._only_denied(on_record):
            yield "executed although the records say that it was denied"
        if runs and statement.outcome in (Outcome.DENIED, Outcome.LATER):
            yield "the client was told that it is not executed, and it was"
        if self.rows.get(marker, 0) > len(runs):
            yield "more rows than executions"
        yield from self._success(statement, runs, on_record)
        yield from self._approval(statement, runs, on_record)
        if statement.outcome is Outcome.DENIED and statement.wish is None and statement.kind != "denied":
            yield "refused for good, though policy allows it"
        if statement.kind == "denied" and statement.outcome is Outcome.SUCCEEDED:
            yield "policy denies it, and it succeeded"

    def _only_denied(self, on_record: OnRecord) -> bool:
        verdicts = {event.verdict for event in on_record.events if event.type in ("decision", "approval.redeemed")}
        return bool(verdicts) and not verdicts & {"allow", "mask"}

    def _success(self, statement: Statement, runs: list[Executed], on_record: OnRecord) -> Iterator[str]:
        if statement.outcome is not Outcome.SUCCEEDED:
            return
        if len(runs) != 1 and statement.kind != "in pipeline":
            yield f"succeeded, and was executed {len(runs)} times"
        if not on_record.of("response"):
            yield "succeeded without its response on record"
        rows = self.rows.get(statement.marker, 0)
        if statement.protocol == "sql" and statement.kind in _ONE_ROW and rows != 1:
            yield f"succeeded, and there are {rows} rows of it"

    def _approval(self, statement: Statement, runs: list[Executed], on_record: OnRecord) -> Iterator[str]:
        if statement.wish is None:
            return
        if runs and statement.marker not in self.agreed:
            yield "executed, and nobody agreed to it"
        if runs and statement.outcome is Outcome.LEFT:
            yield "executed after its client had left"
        if runs and not [event for event in on_record.of("approval.redeemed") if event.verdict in ("allow", "mask")]:
            yield "executed, and no approval was redeemed for it"

    def _torn_transactions(self) -> list[str]:
        groups: dict[int, list[Statement]] = {}
        for statement in self.told.values():
            if statement.group:
                groups.setdefault(statement.group, []).append(statement)
        found = []
        for statements in groups.values():
            inserts = [each for each in statements if each.kind == "in transaction"]
            ends = [each for each in statements if each.kind == "commit"]
            rows = {self.rows.get(each.marker, 0) for each in inserts}
            committed = bool(ends) and ends[0].outcome is Outcome.SUCCEEDED
            if len(rows) > 1 or (committed and rows != {1}):
                said = "\n".join(self.said_of(each.marker) for each in statements)
                found.append(f"a transaction of which some is there and some is not\n{said}")
        return found
