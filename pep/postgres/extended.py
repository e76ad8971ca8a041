"""The extended query protocol: Parse, Bind, Describe, Execute, Close; one step for each (see `stepping`)."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from pep.core.model import Grant
from pep.core.wire import Continuation, Housekeeping, Own
from pep.postgres import affected, denial, parameters, secrets
from pep.postgres.backend import RowDescription
from pep.postgres.classification import Classification, merge
from pep.postgres.conversation import Conversation, Skipping
from pep.postgres.effects import Effects, not_reserved
from pep.postgres.frames import Frame
from pep.postgres.frontend import Bind, Describe, Execute, Kind, Parse
from pep.postgres.frontend import Close as CloseMessage
from pep.postgres.names import UNCONFIRMED, Change, Names, Portal, Prepared
from pep.postgres.permits import Permits
from pep.postgres.planner import Planned
from pep.postgres.replies import Capture, Expected, Owed
from pep.postgres.resolution import Resolution
from pep.postgres.resolver import Resolver
from pep.postgres.results import Execution
from pep.postgres.stepping import Refused, Step, Wait


class ExtendedQuery:
    """The steps, for one session."""

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

    def parse(self, frame: Frame) -> Step:
        message = Parse.decode(frame.payload)
        not_reserved(message.name)
        self._effects.room(message.name)

        def prepare() -> Step:
            planned = yield from self._resolver.plan(message.text, message.parameter_oids)
            if len(planned.statements) > 1:
                raise Refused(
                    denial.error(denial.SYNTAX_ERROR, "cannot insert multiple commands into a prepared statement")
                )
            if planned.statements[0].runs_when_parsed:
                # What may be prepared may not be run yet.
                words = "its constants call functions of the database while it is prepared; send it as a simple query"
                raise Refused(denial.error(denial.INSUFFICIENT_PRIVILEGE, f"this statement is refused: {words}"))
            return planned

        grant, planned = yield from self._permits.permit(
            prepare, "prepare", parameters.unknown(len(message.parameter_oids)), execution=False
        )
        entry = Prepared(
            message.name,
            planned.parsed[0],
            message.parameter_oids,
            grant,
            planned.statements[0],
            self._resolution.key,
        )
        change = Change(self._talk.group, "statement", message.name, entry)
        self._talk.forward(frame.encode(), grant, Expected(Owed.PARSE, self._talk.group, change=change))

    def bind(self, frame: Frame) -> Step:
        message = Bind.decode(frame.payload)
        not_reserved(message.portal)
        prepared = yield from self._prepared(message.statement)
        values = _withheld(parameters.readable(message, prepared.parameter_oids or prepared.declared), prepared)

        def prepare() -> Step:
            return (yield from self._resolver.plan_prepared(prepared))

        grant, planned = yield from self._permits.permit(prepare, "query", values)
        portal = Portal(
            message.portal,
            planned.statements[0],
            grant,
            self._talk.group,
            parameters=values,
            text=planned.texts[0],
            prepared=prepared,
            epoch=self._resolution.key,
            result_formats=message.result_formats,
        )
        portal.execution = self._permits.execution(grant, planned)
        change = Change(self._talk.group, "portal", message.portal, portal)
        self._talk.forward(frame.encode(), grant, Expected(Owed.BIND, self._talk.group, change=change))

    def describe(self, frame: Frame) -> Step:
        message = Describe.decode(frame.payload)
        if message.kind is Kind.STATEMENT:
            prepared = yield from self._prepared(message.name)
            by = Own("describe") if prepared.grant is None else prepared.grant
            expected = Expected(Owed.DESCRIBE_STATEMENT, self._talk.group, prepared=prepared)
        else:
            portal = yield from self._portal(message.name)
            by = Own("describe") if portal.grant is None else portal.grant
            expected = Expected(Owed.DESCRIBE_PORTAL, self._talk.group, portal=portal)
        self._talk.forward(frame.encode(), by, expected)

    def execute(self, frame: Frame) -> Step:
        message = Execute.decode(frame.payload)
        portal = yield from self._portal(message.portal)
        execution, by = yield from self._executable(portal)
        with self._effects.timed(execution):
            expected = yield from self._send(message, portal, execution, by)
        yield from self._attend(expected, execution, portal.classification)

    def _send(
        self, message: Execute, portal: Portal, execution: Execution, by: Grant | Continuation
    ) -> Generator[Wait, Any, Expected]:
        """Forward it, after the checks and what the proxy itself has to ask the server first."""
        if execution.duties.masking and portal.classification.returns_rows:
            yield from self._check_portal(portal, execution)
        if not execution.duties.masking and not execution.started:
            _note(portal, execution)
        if execution.withholds and message.max_rows and portal.classification.returns_rows:
            raise self._permits.not_executed(execution.grant, affected.in_slices(execution.grant))
        execution.cursor = self._effects.fetched(portal.classification)
        statement = portal.classification
        parsed = portal.prepared.parsed if portal.prepared is not None and statement.name_change is not None else None
        change = self._effects.name_change(statement, parsed)
        expected = Expected(
            Owed.EXECUTE,
            self._talk.group,
            changes={} if change is None else {0: change},
            execution=execution,
            portal=portal,
            steps=(statement,),
            barrier=self._effects.barrier((statement,)),
        )
        self._effects.listen(parsed)
        execution.started = True
        self._talk.forward(message.encode(), by, expected)
        return expected

    def _attend(self, expected: Expected, execution: Execution, statement: Classification) -> Step:
        """Some executions have to be seen through before anything behind them may go on."""
        if statement.copy == "in":
            self._talk.flush()
            while not execution.copying_in and expected in self._talk.replies:
                yield Wait.UPSTREAM
        elif execution.duties.limit is not None or execution.duties.masking or execution.withholds:
            self._talk.flush()
            while expected in self._talk.replies:
                yield Wait.UPSTREAM
            if execution.refusal is not None and self._talk.skipping is Skipping.NOT:
                raise Refused(execution.refusal)

    def _executable(self, portal: Portal) -> Generator[Wait, Any, tuple[Execution, Grant | Continuation]]:
        """The execution that a portal's Execute belongs to, and the right by which it goes upstream."""
        execution = portal.execution
        if execution is not None and execution.started:
            yield from self._slice_answered(execution)
            # A cursor that was read to its end may have been moved since: that is another execution.
            if not execution.over and self._talk.in_force(execution.grant):
                return execution, Continuation(execution.grant)
        if (
            execution is not None
            and not execution.over
            and portal.group == self._talk.group
            and self._means_the_same(portal)
        ):
            return execution, execution.grant

        def prepare() -> Step:
            if portal.prepared is not None:
                planned = yield from self._resolver.plan_prepared(portal.prepared)
                statement = merge([portal.classification, planned.statements[0]])
                return Planned((statement,), planned.texts, planned.parsed, planned.path)
            reason = yield from self._resolver.settle()
            if reason is not None:
                raise Refused(denial.error(denial.INSUFFICIENT_PRIVILEGE, f"this statement is refused: {reason}"))
            facts = self._resolution.facts(self._resolver.in_transaction)
            return Planned((portal.classification,), (portal.text,), (None,), facts.search_path)

        grant, planned = yield from self._permits.permit(prepare, "query", portal.parameters)
        portal.classification = planned.statements[0]
        portal.grant = grant
        self._forget_description(portal)
        portal.execution = self._permits.execution(grant, planned)
        if execution is not None:
            # A limit of rows holds for all slices together.
            portal.execution.rows_of_statement = execution.rows_of_statement
        return portal.execution, grant

    def _slice_answered(self, execution: Execution) -> Step:
        """Until it is known whether an earlier Execute left anything for this one."""
        self._talk.flush()
        while any(expected.execution is execution for expected in self._talk.replies):
            yield Wait.UPSTREAM

    def _forget_description(self, portal: Portal) -> None:
        """What it names may be another cursor or statement than the one that was described, or is being described."""
        portal.described = None
        for expected in self._talk.replies:
            if expected.portal is portal and expected.owed is Owed.DESCRIBE_PORTAL:
                expected.portal = None

    def _means_the_same(self, portal: Portal) -> bool:
        """Whether what its Bind was decided on still holds.

        The server resolves EXECUTE and FETCH, the query of a COPY and some others when they run, not when they are
        bound, so what stands between the two messages counts.
        """
        barrier = self._talk.replies.barrier_in(self._talk.group)
        return portal.classification.uses is None and not barrier and portal.epoch == self._resolution.key

    def _check_portal(self, portal: Portal, execution: Execution) -> Step:
        """While a mask is in force, rows are never rewritten from an older description than this portal's own."""
        if portal.described is None:
            if not any(e.portal is portal and e.owed is Owed.DESCRIBE_PORTAL for e in self._talk.replies):
                describe = Describe(Kind.PORTAL, portal.name).encode()
                expected = Expected(
                    Owed.DESCRIBE_PORTAL, self._talk.group, portal=portal, capture=Capture(in_client_group=True)
                )
                self._talk.forward(describe, Own("describe portal"), expected)
            self._talk.flush()
            while portal.described is None:
                yield Wait.UPSTREAM
        if portal.described == "nothing":
            return
        if not execution.started and not execution.describe(portal.described):
            assert execution.refusal is not None
            raise Refused(execution.refusal)

    def close(self, frame: Frame) -> None:
        message = CloseMessage.decode(frame.payload)
        not_reserved(message.name)
        kind: Any = "statement" if message.kind is Kind.STATEMENT else "portal"
        change = Change(self._talk.group, kind, message.name, None)
        self._talk.forward(frame.encode(), Housekeeping(), Expected(Owed.CLOSE, self._talk.group, change=change))

    # --- names --------------------------------------------------------------------------------------------------------

    def _prepared(self, name: str) -> Generator[Wait, Any, Prepared]:
        while (found := self._names.statement(name, self._talk.group)) is UNCONFIRMED:
            yield Wait.UPSTREAM
        if not isinstance(found, Prepared):
            quoted = (
                f'prepared statement "{name}" does not exist' if name else "unnamed prepared statement does not exist"
            )
            raise Refused(denial.error(denial.INVALID_STATEMENT_NAME, quoted))
        return found

    def _portal(self, name: str) -> Generator[Wait, Any, Portal]:
        while (found := self._names.portal(name, self._talk.group)) is UNCONFIRMED:
            yield Wait.UPSTREAM
        if not isinstance(found, Portal):
            raise Refused(denial.error(denial.INVALID_CURSOR_NAME, f'portal "{name}" does not exist'))
        return found


def _note(portal: Portal, execution: Execution) -> None:
    """Where the server has said what the rows come from, it has to be what was decided about."""
    if not isinstance(portal.described, RowDescription):
        execution.note(portal.columns())
    elif not execution.describe(portal.described):
        assert execution.refusal is not None
        raise Refused(execution.refusal)


def _withheld(values: tuple[Any, ...], prepared: Prepared) -> tuple[Any, ...]:
    """The parameters as records, policies and people may see them: those in secret positions replaced."""
    hidden = frozenset(prepared.hidden_parameters)
    return tuple(
        "***" if number in hidden else secrets.redact_value(value) if isinstance(value, str) else value
        for number, value in enumerate(values, start=1)
    )
