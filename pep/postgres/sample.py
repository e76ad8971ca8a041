"""What came back, as the client saw it: the part of a response that is kept for the record.

How much of an execution, `pep.core.keeping` says; how much there was in all is in the event, not here. Values that
people can read are text, numbers and booleans; others are `{"$bytes": base64}`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from pep.core.keeping import Keeping, Kept
from pep.core.records import Body
from pep.postgres.backend import Column, DataRow
from pep.postgres.codec import Run
from pep.postgres.parameters import readable_value

_TEXT: Final = 0


@dataclass(slots=True)
class _Result:
    columns: tuple[Column, ...] = ()
    rows: list[bytes] = field(default_factory=list)
    tag: str = ""


class Sample:
    """The results of one execution, in order."""

    def __init__(self, kept: Kept | None = None) -> None:
        self._kept = kept or Keeping().begin()
        self._results: list[_Result] = []
        self._copied: list[bytes] = []

    @property
    def facts(self) -> Mapping[str, Any]:
        """How much of it is kept."""
        return self._kept.facts()

    @property
    def tags(self) -> list[str]:
        return [result.tag for result in self._results if result.tag]

    def forget(self) -> None:
        """The client has seen none of it."""
        for result in self._results:
            result.columns, result.rows = (), []
        self._copied.clear()

    def describe(self, columns: tuple[Column, ...]) -> None:
        """The next result has these columns."""
        self._results.append(_Result(columns))

    def rows(self, run: Run) -> None:
        """Whole DataRow messages, as they went to the client."""
        if self._kept.full:
            return
        result = self._current()
        for row in run.frames():
            if not self._kept.row(len(row.payload)):
                return
            result.rows.append(row.payload)

    def copied(self, raw: bytes) -> None:
        """Bytes of a COPY TO STDOUT."""
        if kept := self._kept.lines(raw):
            self._copied.append(kept)

    def complete(self, tag: str) -> None:
        """The server finished one statement."""
        self._current().tag = tag

    def _current(self) -> _Result:
        if not self._results or self._results[-1].tag:
            self._results.append(_Result())
        return self._results[-1]

    def take(self) -> tuple[Body, ...]:
        """The body for the record, if there is anything to show; what is taken is not kept."""
        document: dict[str, Any] = {"results": [_document(result) for result in self._results]}
        copied, self._copied = b"".join(self._copied), []
        if copied:
            document["copied_out"] = readable_value(copied, 0, _TEXT)
        worth_it = copied or any(result.rows for result in self._results)
        self._results = [_Result(result.columns) for result in self._results[-1:] if not result.tag]
        return (Body.of_json("result", document),) if worth_it else ()


def _document(result: _Result) -> dict[str, Any]:
    return {
        "columns": [column.name for column in result.columns],
        "rows": [_readable(row, result.columns) for row in result.rows],
        "tag": result.tag,
    }


def _readable(payload: bytes, columns: Sequence[Column]) -> list[Any]:
    cells = DataRow.decode(payload).values
    if len(cells) != len(columns):
        # Not described to the proxy: nothing is known of their types.
        return [None if cell is None else readable_value(cell, 0, _TEXT) for cell in cells]
    return [
        None if cell is None else readable_value(cell, column.type_oid, column.format)
        for cell, column in zip(cells, columns, strict=True)
    ]
