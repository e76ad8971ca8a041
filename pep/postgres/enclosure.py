"""A transaction of the proxy's own around one simple Query, so that what it did can still be undone.

Only where the client has none: inside the client's transaction, and in the extended protocol up to Sync, a refusal that
the server carries out undoes the statement together with what it was sent with, as any error there does. Nothing of
the own BEGIN, COMMIT and ROLLBACK reaches the client, who is told the end of its Query when they have been answered.
If the server does not do as it is told, the session ends, and with it the transaction.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, Final

from pep.core.errors import UpstreamProtocolError
from pep.core.wire import Own, Record
from pep.postgres import affected, denial
from pep.postgres.backend import ReadyForQuery, TransactionStatus
from pep.postgres.conversation import Conversation
from pep.postgres.frontend import Query
from pep.postgres.replies import Capture, Expected, Owed
from pep.postgres.results import Execution
from pep.postgres.stepping import Refused, Step, Wait

OWN: Final = Own("own transaction")


class Enclosure:
    """The steps, for one session."""

    def __init__(self, talk: Conversation) -> None:
        self._talk = talk

    def begin(self, execution: Execution) -> Step:
        """Until it is known how the server stands, and it stands in a transaction. Raises Refused."""
        while self._talk.replies:
            yield Wait.UPSTREAM
        if self._is(TransactionStatus.FAILED):
            raise Refused(denial.failed_transaction())
        if self._is(TransactionStatus.IN_TRANSACTION):
            return
        capture = yield from self._own("begin", execution)
        if capture.error is not None:
            self._talk.emit(Record(execution.response()))
            raise Refused(capture.error)
        if not self._is(TransactionStatus.IN_TRANSACTION):
            raise _astray()
        execution.enclosed = True

    def end(self, execution: Execution) -> Step:
        """The Query has been answered: keep what it did, or undo it; then tell the client."""
        good = execution.keeps and self._is(TransactionStatus.IN_TRANSACTION)
        told = bool(execution.sqlstate)
        if self._is(TransactionStatus.IDLE):
            raise _astray()
        capture = yield from self._own("commit" if good else "rollback", execution)
        error = capture.error
        if error is not None and self._is(TransactionStatus.FAILED):
            # A cancel request met the proxy's own message instead of the statement: nothing has ended yet.
            yield from self._own("rollback", execution)
        if not self._is(TransactionStatus.IDLE):
            raise _astray()
        if good and error is None and capture.tag != "COMMIT":
            error = denial.error(denial.SYSTEM_ERROR, "the server did not commit the statement; it had no effect")
            execution.sqlstate = denial.SYSTEM_ERROR
        self._talk.finish(execution)
        if not good:
            refusal = execution.refusal or affected.too_many(execution.grant, None, execution.duties.affected or 0)
            error = None if told else refusal
        if error is not None:
            self._talk.send(error.encode())
        elif good:
            self._talk.send(execution.release())
        self._talk.send(ReadyForQuery(self._talk.status).encode())

    def _is(self, status: TransactionStatus) -> bool:
        return self._talk.status is status

    def _own(self, verb: str, execution: Execution) -> Generator[Wait, Any, Capture]:
        capture = Capture()
        execution.own.append(verb)
        expected = Expected(Owed.QUERY, self._talk.group, execution=execution, capture=capture)
        self._talk.forward(Query(verb).encode(), OWN, expected)
        self._talk.end_group()
        while not capture.done:
            yield Wait.UPSTREAM
        return capture


def _astray() -> UpstreamProtocolError:
    return UpstreamProtocolError(
        denial.PROTOCOL_VIOLATION, "the server is not in the transaction that a limited statement needs"
    )
