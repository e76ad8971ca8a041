"""What one granted execution brings back: masks applied, rows counted, a sample kept for the record.

An `Execution` covers one Execute of a portal with all its slices, or one simple Query with all its results. It is fed
the upstream's messages in order and answers with the bytes for the client. It decides nothing about rows: what it may
show was settled with the grant; whatever does not keep to that is cut off.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from pep.core.model import Grant
from pep.core.records import Body, Event, EventType
from pep.postgres import denial
from pep.postgres.backend import Column, DataRow, ErrorResponse, RowDescription
from pep.postgres.classification import Classification
from pep.postgres.codec import Partial, Run
from pep.postgres.frames import BackendTag
from pep.postgres.masks import MaskedRow
from pep.postgres.obligations import Duties

SAMPLE_BYTES: Final = 64 * 1024
# How much of a response over its limit is read and dropped before the server is asked to stop.
DRAIN_BYTES: Final = 1024 * 1024

COPY_OUT: Final = "COPY OUT"


@dataclass(slots=True)
class _Result:
    """One result set as the client saw it."""

    columns: tuple[Column, ...] = ()
    rows: list[bytes] = field(default_factory=list)
    tag: str = ""


@dataclass(slots=True, eq=False)
class Execution:
    """One execution on its way. `classifications` has one entry per statement, in the order of their results."""

    grant: Grant
    classifications: tuple[Classification, ...]
    duties: Duties
    hash_keys: Mapping[str, bytes] = field(default_factory=dict)
    index: int = 0
    rows: int = 0
    size: int = 0
    rows_of_statement: int = 0
    refusal: ErrorResponse | None = None
    sqlstate: str = ""
    recorded: bool = False
    started: bool = False
    over: bool = False
    copying_in: bool = False
    timed_out: bool = False
    _cancel_wanted: bool = False
    _drained: int = 0
    _mask: MaskedRow | None = None
    _results: list[_Result] = field(default_factory=list)
    _sampled: int = 0
    _copied_out: list[bytes] = field(default_factory=list)

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
        self._results.append(_Result(description.columns))
        reason = self.duties.objection(description.columns, self.current)
        if reason is not None:
            self.refuse(denial.error(denial.INSUFFICIENT_PRIVILEGE, reason))
            return False
        cells = self.duties.cells(description.columns, self.hash_keys)
        self._mask = MaskedRow(len(description.columns), cells) if cells else None
        return True

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
        self.size += len(raw)
        if isinstance(rows, Run):
            self._sample(Run(rows.tag, rows.count, raw))
        return raw

    def _within_limit(self, count: int, raw: bytes) -> bool:
        limit = self.duties.limit
        if limit is None or self.rows_of_statement + count <= limit:
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
        if self._sampled < SAMPLE_BYTES:
            self._copied_out.append(raw[: SAMPLE_BYTES - self._sampled])
            self._sampled += len(self._copied_out[-1])
        return raw

    def _sample(self, run: Run) -> None:
        if self._sampled >= SAMPLE_BYTES:
            return
        if not self._results:
            self._results.append(_Result())
        for row in run.frames():
            if self._sampled + len(row.payload) > SAMPLE_BYTES:
                self._sampled = SAMPLE_BYTES
                return
            self._sampled += len(row.payload)
            self._results[-1].rows.append(row.payload)

    def complete(self, tag: str) -> None:
        """The server finished one statement."""
        if not self._results or self._results[-1].tag:
            self._results.append(_Result())
        self._results[-1].tag = tag
        self.index += 1
        self.rows_of_statement = 0
        self._mask = None

    def response(self) -> Event:
        """What goes on record about the response; the body is what the client saw."""
        self.recorded = True
        facts: dict[str, Any] = {
            "execution_id": self.grant.execution_id,
            "rows": self.rows,
            "bytes": self.size,
            "tags": [result.tag for result in self._results if result.tag],
        }
        if self.duties.masks:
            facts["masked"] = sorted(f"{name}" for name in self.duties.masked_names)
        sqlstate = self.refusal.fields["C"] if self.refusal is not None else self.sqlstate
        if sqlstate:
            facts["sqlstate"] = sqlstate
        return Event(
            EventType.RESPONSE,
            self.grant.decision_ids[min(self.index, len(self.grant.decision_ids) - 1)],
            self.grant.policy_revision,
            facts,
            self._bodies(),
        )

    def _bodies(self) -> tuple[Body, ...]:
        document: dict[str, Any] = {
            "results": [
                {
                    "columns": [column.name for column in result.columns],
                    "rows": [_readable(row, result.columns) for row in result.rows],
                    "tag": result.tag,
                }
                for result in self._results
            ]
        }
        if self._copied_out:
            document["copied_out"] = _text(b"".join(self._copied_out))
        if not any(result.rows for result in self._results) and not self._copied_out:
            return ()
        return (Body.of_json("result", document),)


def _readable(payload: bytes, columns: Sequence[Column]) -> list[Any]:
    """The cells of a row for people: text as text, binary as base64."""
    cells = DataRow.decode(payload).values
    return [
        None
        if cell is None
        else _text(cell)
        if index >= len(columns) or columns[index].format == 0
        else {"$bytes": base64.b64encode(cell).decode()}
        for index, cell in enumerate(cells)
    ]


def _text(raw: bytes) -> Any:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return {"$bytes": base64.b64encode(raw).decode()}
