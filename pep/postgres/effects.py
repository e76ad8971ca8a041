"""What the execution of a granted statement changes about names and resolution, entered before it is sent."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from pep.core.wire import SetTimer
from pep.postgres import denial
from pep.postgres.classification import (
    RESERVED_PREFIX,
    Classification,
    CloseCursor,
    DeallocateName,
    DeclareCursor,
    Discard,
    FetchCursor,
    PrepareName,
)
from pep.postgres.classification import (
    Change as Barrier,
)
from pep.postgres.conversation import Conversation, timer_of
from pep.postgres.names import Change, Names, Portal, Prepared
from pep.postgres.parser import ParsedStatement
from pep.postgres.resolution import Resolution
from pep.postgres.results import Cursor, Execution
from pep.postgres.stepping import Refused


class Effects:
    """For one session."""

    def __init__(self, talk: Conversation, names: Names, resolution: Resolution) -> None:
        self._talk = talk
        self._names = names
        self._resolution = resolution

    def name_change(self, statement: Classification, parsed: ParsedStatement | None) -> Change | None:
        """What the statement changes about names once the server has carried it out."""
        group = self._talk.group
        if isinstance(statement.name_change, PrepareName | DeclareCursor):
            self.room(statement.name_change.name)
        match statement.name_change:
            case PrepareName(name=name, statement=inner_parsed, inner=inner):
                entry = Prepared(name, inner_parsed, (), None, inner, self._resolution.key)
                return Change(group, "statement", name, entry)
            case DeallocateName(name=name):
                return Change(group, "statement", name, None)
            case DeclareCursor(name=name, inner=inner, holdable=holdable):
                text = parsed.redacted if parsed is not None else ""
                return Change(group, "portal", name, Portal(name, inner, None, group, text=text, holdable=holdable))
            case CloseCursor(name=name):
                return Change(group, "portal", name, None)
            case Discard(what="all"):
                return Change(group, "statement", None, None)
            case _:
                return None

    def room(self, name: str) -> None:
        """Raises Refused if the session has as many names as it may."""
        if name and self._names.full:
            raise Refused(
                denial.error(
                    denial.PROGRAM_LIMIT_EXCEEDED,
                    "this statement is refused: the session has too many prepared statements and cursors",
                    hint="Deallocate some of them, or use the unnamed statement.",
                )
            )

    def fetched(self, statement: Classification) -> Cursor | None:
        """The cursor that the statement fetches from: its limits hold for all its FETCHes together."""
        if not isinstance(statement.uses, FetchCursor):
            return None
        found = self._names.portal(statement.uses.name, self._talk.group)
        return found.fetched if isinstance(found, Portal) else None

    def listen(self, parsed: ParsedStatement | None) -> None:
        if parsed is not None and "ListenStmt" in parsed.node:
            self._talk.listening.add(parsed.node["ListenStmt"].get("conditionname", ""))

    def barrier(self, statements: tuple[Classification, ...]) -> frozenset[Barrier]:
        return frozenset().union(*(self._resolution.barrier(statement) for statement in statements))

    @contextlib.contextmanager
    def timed(self, execution: Execution) -> Iterator[None]:
        """What is sent in here counts for the limit of time, the proxy's own questions to the server before it too.

        The end of the execution stops the timer; if it is not sent, nothing else would.
        """
        self.start_timer(execution)
        try:
            yield
        except BaseException:
            if execution.duties.seconds is not None:
                self._talk.emit(SetTimer(timer_of(execution.grant), None))
            raise

    def start_timer(self, execution: Execution) -> None:
        if execution.duties.seconds is not None:
            self._talk.emit(SetTimer(timer_of(execution.grant), execution.duties.seconds))


def not_reserved(name: str) -> None:
    if name.startswith(RESERVED_PREFIX):
        raise Refused(denial.error(denial.RESERVED_NAME, f'names that begin with "{RESERVED_PREFIX}" are reserved'))
