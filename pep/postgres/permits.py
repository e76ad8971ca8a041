"""Steps that ask for a grant, wait for people, and ask again.

A grant of the enforcer releases the message that was asked about; everything else ends the step with `Refused`.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, Final

from pep.core.model import Action, Deny, Grant, Held
from pep.core.records import Event, EventType
from pep.core.wire import Approved, Ask, CancelAsk, CancelRequested, Record, SetTimer
from pep.postgres import denial
from pep.postgres.backend import ErrorResponse, TransactionStatus
from pep.postgres.classification import Classification
from pep.postgres.conversation import Conversation, timer_of
from pep.postgres.obligations import Duties, duties, objection_before
from pep.postgres.planner import Planned
from pep.postgres.resolution import Resolution
from pep.postgres.results import Execution
from pep.postgres.sample import Sample
from pep.postgres.stepping import Exchanges, Refused, Settings, Step, Wait

NOTICE_EVERY: Final = 20.0  # seconds; shorter than the idle time-out of middleboxes


class Permits:
    """The steps, for one session."""

    def __init__(self, talk: Conversation, resolution: Resolution, exchanges: Exchanges, settings: Settings) -> None:
        self._talk = talk
        self._resolution = resolution
        self._exchanges = exchanges
        self._settings = settings
        self._held: Held | None = None

    def remind(self) -> None:
        """Tell a waiting client again what it waits for."""
        if self._held is not None:
            self._talk.send(denial.held(self._held).encode())
            self._talk.emit(SetTimer("held", NOTICE_EVERY))

    def withdraw(self, reason: str) -> None:
        """The step that asks is given up."""
        if self._exchanges.asking:
            self._talk.emit(CancelAsk(self._exchanges.current, reason))
            self._exchanges.asking = False
        self._let_go()

    def permit(
        self,
        prepare: Callable[[], Step],
        name: str,
        values: tuple[Any, ...] = (),
        *,
        execution: bool = True,
    ) -> Generator[Wait, Any, tuple[Grant, Planned]]:
        """A grant for what `prepare` plans; raises Refused. After a hold, everything is resolved again."""
        planned: Planned = yield from prepare()
        outcome = yield from self._ask(planned.actions(name, values), execution=execution)
        if isinstance(outcome, Approved):
            self._resolution.catalog_due = self._resolution.force = True
            planned = yield from prepare()
            outcome = yield from self._ask(planned.actions(name, values), redeem=outcome)
        match outcome:
            case Grant():
                for statement, granted in zip(planned.statements, outcome.obligations, strict=True):
                    reason = objection_before(self._settings.duties, granted, statement)
                    if reason is not None:
                        raise self.not_executed(outcome, denial.error(denial.INSUFFICIENT_PRIVILEGE, reason))
                return outcome, planned
            case Deny():
                raise Refused(denial.refused(outcome))
            case CancelRequested():
                raise Refused(denial.error(denial.QUERY_CANCELED, "canceling statement due to user request"))
            case _:
                raise Refused(
                    denial.error(
                        denial.INSUFFICIENT_PRIVILEGE, "this statement is refused: its approval was not enough"
                    )
                )

    def _ask(
        self, actions: tuple[Action, ...], *, execution: bool = True, redeem: Approved | None = None
    ) -> Generator[Wait, Any, Grant | Deny | Approved | CancelRequested]:
        # An approval belongs to the exchange that asked for it.
        exchange = self._exchanges.next() if redeem is None else redeem.exchange
        self._exchanges.current, self._exchanges.asking = exchange, True
        in_transaction = self._talk.status is not TransactionStatus.IDLE or not self._talk.idle
        hold = self._settings.hold_in_transaction if in_transaction else self._settings.hold
        approval = None if redeem is None else redeem.approval_id
        self._talk.emit(Ask(exchange, actions, execution, approval, hold, in_transaction))
        answer = yield Wait.ANSWER
        while isinstance(answer, Held):
            self._held = answer
            self.remind()
            answer = yield Wait.ANSWER
        self._exchanges.asking = False
        self._let_go()
        if isinstance(answer, CancelRequested):
            self._talk.emit(CancelAsk(exchange, "canceled by the client"))
        assert isinstance(answer, Grant | Deny | Approved | CancelRequested)
        return answer

    def _let_go(self) -> None:
        if self._held is not None:
            self._held = None
            self._talk.emit(SetTimer("held", None))

    def not_executed(self, grant: Grant, error: ErrorResponse) -> Refused:
        """It was granted, and is refused here all the same; that is on record."""
        facts = {"execution_id": grant.execution_id, "executed": False, "reason": error.fields["M"]}
        self._talk.emit(Record(Event(EventType.RESPONSE, grant.decision_ids[0], grant.policy_revision, facts)))
        return Refused(error)

    def execution(self, grant: Grant, planned: Planned) -> Execution:
        granted = [obligation for action in grant.obligations for obligation in action]
        sample = Sample(self._settings.keeping.begin(granted))
        resolved = self._duties(grant, planned.statements)
        execution = Execution(grant, planned.statements, resolved, self._settings.hash_keys, sample, planned=planned)
        self._talk.redact_for(execution)
        return execution

    def again(self, execution: Execution) -> Step:
        """A grant of the policies that decide now for what is still to come of an execution. Raises Refused.

        The names in it have been resolved by the server, which holds their locks: only the policies are new.
        """

        def known() -> Step:
            yield from ()
            assert execution.planned is not None
            return execution.planned

        grant, planned = yield from self.permit(known, "query")
        self._talk.emit(Record(execution.response(over=False)))
        if execution.duties.seconds is not None:
            self._talk.emit(SetTimer(timer_of(execution.grant), None))
        execution.grant, execution.duties = grant, self._duties(grant, planned.statements)
        self._talk.redact_for(execution)

    def _duties(self, grant: Grant, statements: tuple[Classification, ...]) -> Duties:
        granted = (obligation for action in grant.obligations for obligation in action)
        return duties(granted, statements, self._resolution.catalog)
