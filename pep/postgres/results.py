"""What one granted execution brings back: masks applied, rows counted, a sample kept for the record.

An `Execution` covers one Execute of a portal with all its slices, or one simple Query with all its results. It is fed
the upstream's messages in order and answers with the bytes for the client. It decides nothing about rows: what it may
show was settled with the grant; whatever does not keep to that is cut off.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from pep.core.disclosed import disclosure
from pep.core.model import Grant
from pep.core.records import Event, EventType
from pep.postgres import affected, denial
from pep.postgres.backend import Column, DataRow, ErrorResponse, RowDescription
from pep.postgres.classification import Classification
from pep.postgres.codec import Partial, Run
from pep.postgres.frames import BackendTag
from pep.postgres.masks import MaskedRow
from pep.postgres.obligations import Duties
from pep.postgres.planner import Planned
from pep.postgres.sample import Sample
from pep.postgres.shown import shown

# How much of a response over its limit is read and dropped before the server is asked to stop.
DRAIN_BYTES: Final = 1024 * 1024


@dataclass(slots=True, eq=False)
class Cursor:
    """What was fetched of one cursor so far, by however many FETCHes."""

    rows: int = 0


@dataclass(slots=True, eq=False)
class Execution:
    """One execution on its way. `classifications` has one entry per statement, in the order of their results.

    `planned` is what it was granted for, where it may have to be asked for again while it goes on.
    """

    grant: Grant
    classifications: tuple[Classification, ...]
    duties: Duties
    hash_keys: Mapping[str, bytes] = field(default_factory=dict)
    _sample: Sample = field(default_factory=Sample)
    index: int = 0
    rows: int = 0
    size: int = 0
    rows_of_statement: int = 0
    cursor: Cursor | None = None
    refusal: ErrorResponse | None = None
    sqlstate: str = ""
    recorded: bool = False
    started: bool = False
    over: bool = False
    copying_in: bool = False
    timed_out: bool = False
    disagreement: bool = False
    # How many rows it changed, as the server says; what the proxy sent of its own for it.
    affected: int | None = None
    own: list[str] = field(default_factory=list)
    enclosed: bool = False
    planned: Planned | None = None
    _withheld: bytearray | None = field(init=False, default=None)
    _released: bool = False
    _cancel_wanted: bool = False
    _drained: int = 0
    _mask: MaskedRow | None = None
    _described: bool = False

    def __post_init__(self) -> None:
        if (
            self.duties.affected is not None
            and len(self.classifications) == 1
            and not self.classifications[0].uncounted
        ):
            self._withheld = bytearray()

    @property
    def withholds(self) -> bool:
        """Whether nothing of it may be shown before the rows are counted that it changed."""
        return self._withheld is not None

    @property
    def keeps(self) -> bool:
        """Whether it has come to its end, and its rows may stay changed."""
        return self.affected is not None and self.refusal is None and not self.sqlstate

    def shown(self, data: bytes) -> bytes:
        """Of these bytes for the client those that it may have now."""
        if self._withheld is None or self._released or not data:
            return data
        if len(self._withheld) + len(data) > affected.MOST_HELD:
            self._withheld.clear()
            self.refuse(affected.too_long(self.grant))
        elif self.refusal is None:
            self._withheld += data
        return b""

    def release(self) -> bytes:
        """What was held back: its rows are counted, and they are few enough."""
        if self._withheld is None or self._released:
            return b""
        self._released = True
        return bytes(self._withheld)

    @property
    def current(self) -> Classification:
        """The statement whose result comes now."""
        return self.classifications[min(self.index, len(self.classifications) - 1)]

    @property
    def passes_rows_unread(self) -> bool:
        """Whether rows may be forwarded in pieces: nothing has to be masked."""
        return self._mask is None and self.refusal is None

    def describe(self, description: RowDescription) -> bool:
        """A RowDescription of this execution or its portal. False: its rows must not be shown (`refusal` is set)."""
        self.note(description.columns)
        reason = self.duties.objection(description.columns, self.current)
        if reason is not None:
            self.disagreement = bool(self.duties.strangers(description.columns, self.current))
            self.refuse(denial.error(denial.INSUFFICIENT_PRIVILEGE, reason))
            return False
        cells = self.duties.cells(description.columns, self.hash_keys)
        self._mask = MaskedRow(len(description.columns), cells) if cells else None
        self._described = True
        return True

    def note(self, columns: tuple[Column, ...]) -> None:
        """The columns of the rows that come, for the record only."""
        self._sample.describe(columns)

    def refuse(self, error: ErrorResponse) -> None:
        """Show nothing more of this execution; its end becomes this error."""
        if self.refusal is None:
            self.refusal = error

    def take(self, rows: Run | Partial) -> bytes:
        """The bytes for the client of these rows or COPY data; empty if they are cut off."""
        raw = rows.raw
        if self.refusal is not None:
            self._drain(raw)
            return b""
        if rows.tag == BackendTag.COPY_DATA:
            return self._copy(raw)
        if self.duties.masking and not self._described:
            # Where these cells come from is not known, so none of them can be shown.
            self.refuse(denial.error(denial.INSUFFICIENT_PRIVILEGE, "this statement is refused: it returns rows"))
            return b""
        count = rows.count if isinstance(rows, Run) else int(rows.last)
        if not self._within_limit(count, raw):
            return b""
        if self._mask is not None:
            if isinstance(rows, Partial):
                self.refuse(denial.error(denial.PROGRAM_LIMIT_EXCEEDED, "a row is too large to be masked"))
                return b""
            raw = self._mask.rewrite_run(raw)
        self.rows += count
        self.rows_of_statement += count
        if self.cursor is not None:
            self.cursor.rows += count
        self.size += len(raw)
        if isinstance(rows, Run):
            self._sample.rows(Run(rows.tag, rows.count, raw))
        return raw

    def returned(self, value: bytes | None) -> None:
        """A function call brought this back."""
        row = DataRow((value,)).encode()
        self.rows += 1
        self.size += len(row)
        self._sample.rows(Run(BackendTag.DATA_ROW, 1, row))

    def _within_limit(self, count: int, raw: bytes) -> bool:
        limit = self.duties.limit
        before = self.rows_of_statement if self.cursor is None else self.cursor.rows
        if limit is None or before + count <= limit:
            return True
        # Which rows come first is the server's choice, so a part of a run tells nothing that the limit would hide.
        self.refuse(
            denial.error(
                denial.PROGRAM_LIMIT_EXCEEDED,
                f"the result has more than the {limit} rows that policy allows; do not repeat it unchanged",
                hint=f"Ask for at most {limit} rows, for example with LIMIT {limit}.",
            )
        )
        self._drain(raw)
        return False

    def _drain(self, raw: bytes) -> None:
        self._drained += len(raw)
        if self._drained > DRAIN_BYTES:
            self._cancel_wanted = True

    def take_cancel(self) -> bool:
        """Whether the server should be asked to stop, said once."""
        wanted, self._cancel_wanted = self._cancel_wanted, False
        if wanted:
            self._drained = -(1 << 62)
        return wanted

    def _copy(self, raw: bytes) -> bytes:
        self.size += len(raw)
        self._sample.copied(raw)
        return raw

    def complete(self, tag: str) -> None:
        """The server finished one statement."""
        self._sample.complete(tag)
        if self.duties.affected is not None and self.withholds:
            self.affected = affected.count_of(tag)
            if self.affected is None or self.affected > self.duties.affected:
                self.refuse(affected.too_many(self.grant, self.affected, self.duties.affected))
        self.index += 1
        self.rows_of_statement = 0
        self._mask = None
        self._described = False

    @property
    def _showed(self) -> bool:
        """Whether any of the target's data came back. An error's words may hold some, unless they were redacted."""
        return bool(self.rows or self.size or (self.sqlstate and not self.duties.masking))

    def response(self, *, over: bool = True) -> Event:
        """What goes on record about the response, or a slice of it; the body is what the client saw."""
        self.recorded = over
        if self.withholds and not self._released and (self.refusal is not None or self.sqlstate):
            self.rows = self.size = 0
            self._sample.forget()
        facts: dict[str, Any] = {
            "execution_id": self.grant.execution_id,
            "rows": self.rows,
            "bytes": self.size,
            "tags": self._sample.tags,
            **self._sample.facts,
        }
        if self.duties.masks:
            facts["masked"] = sorted(f"{name}" for name in self.duties.masked_names)
        if self.withholds:
            facts |= {"limit_affected": self.duties.affected, "affected": self.affected, "own": [*self.own]}
        if self.disagreement:
            # What the server says of the columns is not what the statement's tree says: none of it was shown.
            facts["disagreement"] = True
        if self._showed:
            facts |= disclosure(self.grant, shown(self.classifications, self.duties.masked_fields, self.rows))
        sqlstate = self.refusal.fields["C"] if self.refusal is not None else self.sqlstate
        if sqlstate:
            facts["sqlstate"] = sqlstate
        return Event(
            EventType.RESPONSE,
            self.grant.decision_ids[min(self.index, len(self.grant.decision_ids) - 1)],
            self.grant.policy_revision,
            facts,
            self._sample.take(),
        )
