"""A session as it went, from its record: what was asked, what was decided and why, what came back. Pure.

The record is in the order in which the proxy wrote it, decisions before the intent that holds the statement. People
read it the other way round, so a decision without a text waits here for the intent of the same exchange. Every text of
an event is foreign, whatever its name: it goes through `shown`.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from pdp.commands.approval_view import GUTTER, parameters
from pdp.commands.recorded import Body, Recorded
from pdp.commands.screen import VERDICT_STYLES, VERDICT_WORDS, table
from pdp.shown import shown

_CELL: Final = 80
_STATEMENT: Final = 4000
_NAMES: Final = 12


@dataclass(frozen=True, slots=True)
class Step:
    """Something that happened, and when."""

    at: datetime.datetime | None
    what: Text
    below: RenderableType | None = None


class Replay:
    """Reads events in order. `rows` is how many rows of a result are shown."""

    def __init__(self, *, rows: int = 20) -> None:
        self._rows = rows
        # Decisions that wait for the intent with their statements, and what each exchange asked last.
        self._waiting: list[Recorded] = []
        self._asked: dict[str, tuple[tuple[str, bytes | None], ...]] = {}
        self._intents: dict[str, datetime.datetime] = {}

    def feed(self, event: Recorded) -> Iterator[Step]:
        """What can be told now."""
        if event.type == "decision" and event.facts.get("execution") is True and not event.bodies and _granted(event):
            self._waiting.append(event)
            return
        if event.type == "intent":
            yield from self._intent(event)
            return
        yield from self.end()
        yield from self._one(event)

    def end(self) -> Iterator[Step]:
        """What still waits: decisions whose intent has not come."""
        waiting, self._waiting = self._waiting, []
        for event in waiting:
            yield from self._decision(event)

    def _one(self, event: Recorded) -> Iterator[Step]:
        if not event.readable:
            yield Step(event.time, Text("unreadable event", "bold red"), _foreign(event.data))
            return
        match event.type:
            case "decision":
                yield from self._ask(event)
                yield from self._decision(event)
            case "response":
                yield self._response(event)
            case "approval.requested":
                yield self._requested(event)
            case "approval.resolved":
                yield self._resolved(event)
            case "approval.redeemed":
                verdict = event.text("verdict")
                what = Text(f"approval {shown(event.text('approval_id'))} is used; decided again: ")
                yield Step(event.time, what + _verdict(verdict))
            case "session.opened":
                yield Step(event.time, Text("session opened", "bold"), _facts(event.facts))
            case "session.closed" | "session.lost":
                yield Step(event.time, Text(event.type.replace(".", " "), "bold"), _facts(event.facts))
            case _:
                yield Step(event.time, Text(shown(event.type or "event without a type"), "bold"), self._rest(event))

    def _intent(self, event: Recorded) -> Iterator[Step]:
        yield from self._ask(event)
        yield from self.end()
        execution = event.text("execution_id")
        if event.time is not None:
            self._intents[execution] = event.time
        yield Step(event.time, Text(f"forwarded as execution {shown(execution)}", "dim"))

    def _ask(self, event: Recorded) -> Iterator[Step]:
        """The statements and parameters that came with an event, unless they were told for this exchange just now."""
        said = tuple((body.kind, body.content) for body in event.bodies)
        exchange = event.text("exchange")
        if not said or self._asked.get(exchange) == said:
            return
        self._asked[exchange] = said
        blocks = [part for body in event.bodies for part in _body(body)]
        word = "prepares" if event.facts.get("execution") is False else "asks"
        yield Step(event.time, Text(word, "bold"), Text("\n".join(blocks)))

    def _decision(self, event: Recorded) -> Iterator[Step]:
        what = _verdict(event.text("verdict"))
        what.append(f"  {shown(event.text('action'))}", "bold")
        what.append(f"  {shown(event.decision_id)}", "dim")
        lines = [_reason(reason) for reason in event.items("reasons")]
        lines += [f"must {_duty(duty)}" for duty in event.items("obligations")]
        yield Step(event.time, what, Text("\n".join(lines)) if lines else None)

    def _requested(self, event: Recorded) -> Step:
        what = Text(f"waits for approval {shown(event.text('approval_id'))}", "yellow")
        lines = [
            f"{shown(_of(each, 'policy'))}/{shown(_of(each, 'code'))} needs {shown(_of(each, 'count'))}"
            f" of {', '.join(shown(str(name)) for name in _values(each.get('approvers')))}"
            for each in event.items("requirements")
        ]
        if event.facts.get("in_transaction") is True:
            lines.append("inside an open transaction")
        return Step(event.time, what, Text("\n".join(lines)) if lines else None)

    def _resolved(self, event: Recorded) -> Step:
        state, comment = event.text("state"), event.text("comment")
        what = Text(f"approval {shown(event.text('approval_id'))}: ")
        what.append(shown(state), "green" if state == "approved" else "red")
        return Step(event.time, what, Text(shown(comment)) if comment else None)

    def _response(self, event: Recorded) -> Step:
        if event.facts.get("executed") is False:
            return Step(event.time, Text("not executed", "yellow"), Text(shown(event.text("reason"))))
        parts = [", ".join(shown(str(tag)) for tag in _values(event.facts.get("tags")))]
        if sqlstate := event.text("sqlstate"):
            parts.append(f"error {shown(sqlstate)}")
        parts += [_counted(event, name) for name in ("rows", "bytes") if name in event.facts]
        started = self._intents.pop(event.text("execution_id"), None)
        if started is not None and event.time is not None:
            parts.append(f"after {_milliseconds(event.time - started)}")
        what = Text("came back", "bold")
        what.append(f"  {', '.join(part for part in parts if part)}", "red" if sqlstate else "")
        below: list[RenderableType] = []
        if masked := _values(event.facts.get("masked")):
            below.append(Text(f"masked: {', '.join(shown(str(each)) for each in masked)}", "cyan"))
        kept, cut = event.text("kept"), event.text("truncated")
        if kept or cut:
            words = [*([f"policy: {shown(kept)}"] if kept else []), *([f"cut at: {shown(cut)}"] if cut else [])]
            below.append(Text(f"kept of it: {', '.join(words)}", "dim"))
        for body in event.bodies:
            below += self._result(body) if body.kind == "result" else [Text("\n".join(_body(body)))]
        return Step(event.time, what, Group(*below) if below else None)

    def _result(self, body: Body) -> list[RenderableType]:
        """The rows as the client saw them."""
        if body.content is None:
            return [_erased(body)]
        document = _json(body.content)
        if not isinstance(document, dict):
            return [_foreign(body.content)]
        made: list[RenderableType] = []
        for result in _values(document.get("results")):
            if isinstance(result, dict) and (rows := _values(result.get("rows"))):
                made += self._rows_of(_values(result.get("columns")), rows)
        if (copied := document.get("copied_out")) is not None:
            made.append(Text(shown(_cell(copied), limit=_STATEMENT, gutter=GUTTER)))
        return made

    def _rows_of(self, columns: Sequence[Any], rows: Sequence[Any]) -> list[RenderableType]:
        width = max([len(columns), *(len(_values(row)) for row in rows[: self._rows])])
        headings = [shown(str(columns[index]), limit=_CELL) if index < len(columns) else "" for index in range(width)]
        cells = [[_shown_cell(value) for value in _values(row)] for row in rows[: self._rows]]
        made: Table = table(headings, cells, whole=0)
        more = len(rows) - self._rows
        return [made, *([Text(f"and {more:,} more rows on record (--rows {len(rows)})", "dim")] if more > 0 else [])]

    def _rest(self, event: Recorded) -> RenderableType | None:
        parts: list[RenderableType] = [_facts(event.facts)] if event.facts else []
        parts += [Text("\n".join(_body(body))) for body in event.bodies]
        return Group(*parts) if parts else None


def indented(step: Step) -> RenderableType | None:
    """What stands below a step, in its place."""
    return None if step.below is None else Padding(step.below, (0, 0, 0, _NAMES), expand=False)


def _granted(event: Recorded) -> bool:
    return event.text("verdict") in ("allow", "mask")


def _verdict(name: str) -> Text:
    return Text(VERDICT_WORDS.get(name, shown(name or "no verdict")), VERDICT_STYLES.get(name, "bold red"))


def _reason(reason: Mapping[str, Any]) -> str:
    policy = _of(reason, "policy")
    text = f"{shown(policy)}/{shown(_of(reason, 'code'))}" if policy else shown(_of(reason, "code"))
    if message := _of(reason, "message"):
        text += f": {shown(message)}"
    if instead := _values(reason.get("instead")):
        text += f" (instead: {'; '.join(shown(str(each)) for each in instead)})"
    return text


def _counted(event: Recorded, name: str) -> str:
    number = event.text(name)
    return f"{shown(number)} {name.removesuffix('s') if number == '1' else name}"


def _duty(duty: Mapping[str, Any]) -> str:
    name = _of(duty, "name")
    if name == "mask":
        fields = [each for each in _values(duty.get("fields")) if isinstance(each, dict)]
        named = [f"{_of(each, 'dataset')}.{_of(each, 'field')} by {_of(each, 'method')}" for each in fields]
        return f"mask {', '.join(shown(each) for each in named)}"
    values = ", ".join(f"{shown(key)} {shown(_cell(value))}" for key, value in duty.items() if key != "name")
    return f"{shown(name.replace('_', ' '))}{f' ({values})' if values else ''}"


def _body(body: Body) -> Iterator[str]:
    """A statement as a block, parameters one a line."""
    if body.content is None:
        yield _erased(body).plain
    elif body.kind == "parameters":
        yield from parameters(body.content, limit=_STATEMENT)
    else:
        yield shown(body.content, limit=_STATEMENT, gutter=GUTTER)


def _erased(body: Body) -> Text:
    return Text(f"({shown(body.kind)} of {body.size:,} bytes: not kept)", "dim")


def _foreign(data: bytes) -> Text:
    return Text(shown(data, limit=_STATEMENT, gutter=GUTTER))


def _facts(values: Mapping[str, Any]) -> Text:
    return Text(", ".join(f"{shown(key)} {shown(_cell(value), limit=200)}" for key, value in values.items()))


def _shown_cell(value: object) -> Text:
    """A cell. What is nothing is told from a text that says so: that stands in quotation marks."""
    if value is None:
        return Text("NULL", "dim italic")
    text = _cell(value)
    return Text(shown(f'"{text}"' if text.strip('"') == "NULL" else text, limit=_CELL))


def _cell(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _of(values: Mapping[str, Any], name: str) -> str:
    value = values.get(name)
    return "" if value is None else _cell(value)


def _values(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _json(content: bytes) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None


def _milliseconds(length: datetime.timedelta) -> str:
    return f"{length.total_seconds() * 1000:,.1f} ms"
