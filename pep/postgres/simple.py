"""The simple query protocol: one message, any number of statements, decided whole (see `stepping`)."""

from __future__ import annotations

from pep.core.model import Grant
from pep.postgres import denial
from pep.postgres.conversation import Conversation
from pep.postgres.effects import Effects
from pep.postgres.enclosure import Enclosure
from pep.postgres.frames import Frame
from pep.postgres.frontend import Query
from pep.postgres.names import Names
from pep.postgres.permits import Permits
from pep.postgres.planner import Planned
from pep.postgres.replies import Expected, Owed
from pep.postgres.resolution import Resolution
from pep.postgres.resolver import Resolver
from pep.postgres.results import Execution
from pep.postgres.stepping import Refused, Step, Wait


class SimpleQuery:
    """The step, for one session."""

    def __init__(
        self,
        talk: Conversation,
        names: Names,
        resolution: Resolution,
        resolver: Resolver,
        permits: Permits,
        effects: Effects,
    ) -> None:
        self._talk = talk
        self._names = names
        self._resolution = resolution
        self._resolver = resolver
        self._permits = permits
        self._effects = effects
        self._enclosure = Enclosure(talk)

    def query(self, frame: Frame) -> Step:
        text = Query.decode(frame.payload).text

        def prepare() -> Step:
            return (yield from self._resolver.plan(text))

        grant, planned = yield from self._permits.permit(prepare, "query")
        execution = self._permits.execution(grant, planned)
        with self._effects.timed(execution):
            yield from self._send(frame, planned, execution)
        if execution.duties.limit is not None or execution.duties.masking or execution.withholds:
            # A COPY from the client goes on only with the client's next messages.
            while self._talk.replies and self._talk.copying is None:
                yield Wait.UPSTREAM
        if execution.enclosed:
            yield from self._enclosure.end(execution)

    def _send(self, frame: Frame, planned: Planned, execution: Execution) -> Step:
        """Forward it, after the checks and what the proxy itself has to ask the server first."""
        grant = execution.grant
        if execution.duties.masking and any(s.returns_rows for s in planned.statements):
            yield from self._check_origins(planned, execution)
            # The end of the proxy's own group ended the redaction that the grant began.
            self._talk.redact_for(execution)
        # Rows of tables and cursors are counted over a whole execution; what drivers send to reset a session has none.
        counted = any(s.writes or s.reached or s.uses is not None for s in planned.statements)
        if execution.duties.limit is not None and len(planned.statements) > 1 and counted:
            raise Refused(
                denial.error(
                    denial.INSUFFICIENT_PRIVILEGE,
                    "this query is refused: under a limit of rows send one statement at a time",
                )
            )
        if execution.duties.affected is not None:
            self._check_counted(planned, grant)
        if execution.withholds:
            yield from self._enclosure.begin(execution)
        self._names.forget_unnamed()
        if len(planned.statements) == 1:
            execution.cursor = self._effects.fetched(planned.statements[0])
        for parsed in planned.parsed:
            self._effects.listen(parsed)
        changes = {
            index: change
            for index, (statement, parsed) in enumerate(zip(planned.statements, planned.parsed, strict=True))
            if (change := self._effects.name_change(statement, parsed)) is not None
        }
        self._talk.forward(
            frame.encode(),
            grant,
            Expected(
                Owed.QUERY,
                self._talk.group,
                changes=changes,
                execution=execution,
                steps=planned.statements,
                barrier=self._effects.barrier(planned.statements),
            ),
        )
        self._talk.end_group()

    def _check_counted(self, planned: Planned, grant: Grant) -> None:
        """Under a limit of changed rows the server counts one statement, and can undo that one."""
        words = ""
        if len(planned.statements) > 1 and any(statement.writes for statement in planned.statements):
            words = "under a limit of changed rows send one statement at a time"
        elif self._talk.dirty and any(statement.writes for statement in planned.statements):
            words = "under a limit of changed rows, send Sync before a simple query"
        if words:
            error = denial.error(denial.INSUFFICIENT_PRIVILEGE, f"this query is refused: {words}")
            raise self._permits.not_executed(grant, error)

    def _check_origins(self, planned: Planned, execution: Execution) -> Step:
        """Ask the server, without executing anything, where the output columns come from."""
        if self._talk.dirty:
            raise Refused(denial.error(denial.FEATURE_NOT_SUPPORTED, "under a mask, send Sync before a simple query"))
        while self._talk.replies:
            yield Wait.UPSTREAM
        for statement, parsed in zip(planned.statements, planned.parsed, strict=True):
            if parsed is None or not statement.returns_rows:
                continue
            capture = yield from self._resolver.own_describe(parsed.text)
            if capture.error is not None:
                raise Refused(self._talk.redacted(capture.error))
            for description in capture.descriptions:
                reason = description and execution.duties.objection(description.columns, statement)
                if reason:
                    raise Refused(denial.error(denial.INSUFFICIENT_PRIVILEGE, reason))
