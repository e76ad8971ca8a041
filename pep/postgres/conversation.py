"""The upstream's half of a session: what was sent, what came back, and what of it the client sees.

Sans-I/O. `forward` is the only place that emits SendUpstream; every frame that will be answered is entered into
`Replies`. Answers are matched with the head of that queue: they confirm changes of names, feed executions, and are
masked, redacted, swallowed or passed on. What the client asks for is not known here; see `session`.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Final

from pep.core.errors import UpstreamProtocolError
from pep.core.model import Grant
from pep.core.wire import By, CancelUpstream, Effect, Housekeeping, Own, Record, SendClient, SendUpstream, SetTimer
from pep.postgres import affected, denial
from pep.postgres.backend import (
    CommandComplete,
    DataRow,
    ErrorResponse,
    FunctionCallResponse,
    NoticeResponse,
    NotificationResponse,
    ParameterDescription,
    ParameterStatus,
    ReadyForQuery,
    RowDescription,
    TransactionStatus,
)
from pep.postgres.classification import RESERVED_PREFIX, CloseCursor, TransactionVerb
from pep.postgres.codec import BackendCodec, Partial, Run
from pep.postgres.frames import BackendTag, Frame
from pep.postgres.frontend import CopyFail, Flush, Parse, Sync
from pep.postgres.names import Change, Names
from pep.postgres.redaction import redact_error, redact_notice, redact_notification, redact_parameter
from pep.postgres.replies import Capture, Expected, Owed, Replies
from pep.postgres.resolution import Resolution
from pep.postgres.results import Execution

REFUSAL_NAME: Final = f"{RESERVED_PREFIX}refusal"

FLUSH: Final = Flush().encode()
SYNC: Final = Sync().encode()

_SIMPLE: Final = {
    BackendTag.PARSE_COMPLETE: Owed.PARSE,
    BackendTag.BIND_COMPLETE: Owed.BIND,
    BackendTag.CLOSE_COMPLETE: Owed.CLOSE,
}


class Skipping(enum.Enum):
    """Why frames of the client are dropped up to its next Sync."""

    NOT = enum.auto()
    HERE = enum.auto()  # refused by the proxy alone, which also answers the Sync
    UPSTREAM = enum.auto()  # the server is skipping too, and answers the Sync


class Conversation:
    """The state of one connection as both sides see it."""

    def __init__(self, names: Names, resolution: Resolution, encodings: tuple[str, ...]) -> None:
        # The session cannot go on if the server reports another of these values: texts would be read differently.
        self._required: Mapping[str, tuple[str, ...]] = {
            "client_encoding": encodings,
            "standard_conforming_strings": ("on",),
        }
        self.names = names
        self.resolution = resolution
        self.replies = Replies()
        self.status = TransactionStatus.IDLE
        self.group = 0
        self.dirty = False
        self.skipping = Skipping.NOT
        self.copying: Execution | None = None
        self.group_failed = False
        self.fatal = False
        self.revision = ""
        self.listening: set[str] = set()
        self._codec = BackendCodec()
        self._effects: list[Effect] = []
        self._to_client: list[bytes] = []
        self._visible_names: frozenset[str] | None = None
        self._masked_once = False
        self._masked_group = -1

    # --- effects ------------------------------------------------------------------------------------------------------

    def emit(self, effect: Effect) -> None:
        self._flush_client()
        self._effects.append(effect)

    def send(self, data: bytes) -> None:
        """Bytes for the client."""
        if data:
            self._to_client.append(data)

    def take_effects(self) -> list[Effect]:
        self._flush_client()
        effects, self._effects = self._effects, []
        return effects

    def _flush_client(self) -> None:
        if self._to_client:
            self._effects.append(SendClient(b"".join(self._to_client)))
            self._to_client.clear()

    def forward(self, data: bytes, by: By, expected: Expected | None = None) -> None:
        """A frame for the upstream, by this right; `expected` if it will be answered."""
        self.emit(SendUpstream(data, by))
        self.dirty = True
        if expected is not None:
            if expected.change is not None:
                self.names.pend(expected.change)
            for change in expected.changes.values():
                self.names.pend(change)
            self.replies.push(expected)

    def flush(self) -> None:
        """Make the server answer what it has."""
        if self.replies:
            self.emit(SendUpstream(FLUSH, Housekeeping()))

    def sync(self, capture: Capture | None = None, *, own: str = "") -> None:
        """End the group."""
        self.forward(SYNC, Own(own) if own else Housekeeping(), Expected(Owed.SYNC, self.group, capture=capture))
        self.end_group()

    def end_group(self) -> None:
        self.dirty = False
        self.group += 1

    @property
    def idle(self) -> bool:
        """Nothing is on its way and no group is open."""
        return not self.replies and not self.dirty

    def in_force(self, grant: Grant) -> bool:
        """Whether the policies that granted it still decide."""
        return self.revision in ("", grant.policy_revision)

    @property
    def copy_to_come(self) -> bool:
        """Whether a command on its way may still ask for the client's COPY data."""
        executions = (expected.execution for expected in self.replies)
        return any(e is not None and any(c.copy == "in" for c in e.classifications[e.index :]) for e in executions)

    def refuse(self, error: ErrorResponse, *, ends_group: bool) -> None:
        """Deny the client's frame, so that what it depends on fails as it would if the server had refused it.

        With nothing at stake the proxy answers alone. Inside a transaction block, or behind unanswered frames, the
        server carries the refusal out: it is sent a Parse that it must refuse, and its error is replaced by this one.
        """
        if self.idle and self.status is TransactionStatus.IDLE:
            self.send(error.encode())
            if ends_group:
                self.send(ReadyForQuery(self.status).encode())
            else:
                self.skipping = Skipping.HERE
            return
        self.carry_out(error)
        if ends_group:
            self.sync(own="refusal")
        else:
            self.flush()
            self.skipping = Skipping.UPSTREAM

    def carry_out(self, error: ErrorResponse) -> None:
        """Let the server refuse, in this error's words."""
        text = f"checkrein refuses: {_one_line(error.fields['M'])}"
        self.forward(
            Parse(REFUSAL_NAME, text, ()).encode(), Own("refusal"), Expected(Owed.REFUSAL, self.group, error=error)
        )

    # --- masks in force -----------------------------------------------------------------------------------------------

    def redact_for(self, execution: Execution) -> None:
        """From now on to the end of the transaction, what the server says beside its rows may carry masked values."""
        if execution.duties.masking:
            allowed = frozenset().union(*(c.object_names for c in execution.classifications))
            self._visible_names = allowed if self._visible_names is None else self._visible_names & allowed
            self._masked_once = True
            self._masked_group = self.group

    def redacted(self, error: ErrorResponse) -> ErrorResponse:
        """The server's error as the client may see it now."""
        return error if self._visible_names is None else redact_error(error, self._visible_names)

    # --- what comes back ----------------------------------------------------------------------------------------------

    def receive(self, data: bytes) -> None:
        """Bytes of the upstream. Raises UpstreamProtocolError for what no server sends here."""
        for item in self._codec.feed(data):
            match item:
                case Frame():
                    self._frame(item)
                case Run() | Partial():
                    self._rows(item)
            self._codec.stream_large = self._may_stream()

    def _may_stream(self) -> bool:
        head = self.replies.head
        return head is not None and head.execution is not None and head.execution.passes_rows_unread

    def _rows(self, item: Run | Partial) -> None:
        head = self._expect_head(item.tag)
        if head.capture is not None:
            if not isinstance(item, Run):
                raise _unexpected(item.tag)
            head.capture.rows += [DataRow.decode(row.payload).values for row in item.frames()]
        elif head.execution is not None and not head.function_call:
            self.send(head.execution.shown(head.execution.take(item)))
            if head.execution.take_cancel():
                self.emit(CancelUpstream())
        else:
            raise _unexpected(item.tag)

    def _expect_head(self, tag: int) -> Expected:
        head = self.replies.head
        if head is None:
            raise _unexpected(tag)
        return head

    def _frame(self, frame: Frame) -> None:
        tag = frame.tag
        if tag in (BackendTag.NOTICE_RESPONSE, BackendTag.NOTIFICATION_RESPONSE, BackendTag.PARAMETER_STATUS):
            self._asynchronous(frame)
        elif tag == BackendTag.ERROR_RESPONSE:
            self._error(ErrorResponse.decode(frame.payload))
        elif tag == BackendTag.READY_FOR_QUERY:
            self._ready(ReadyForQuery.decode(frame.payload))
        elif (owed := _SIMPLE.get(BackendTag(tag)) if tag in _SIMPLE else None) is not None:
            self._confirmed(owed, frame)
        elif tag in (BackendTag.ROW_DESCRIPTION, BackendTag.NO_DATA, BackendTag.PARAMETER_DESCRIPTION):
            self._description(frame)
        elif tag in (BackendTag.COMMAND_COMPLETE, BackendTag.EMPTY_QUERY_RESPONSE, BackendTag.PORTAL_SUSPENDED):
            self._completed(frame)
        elif tag in (BackendTag.COPY_IN_RESPONSE, BackendTag.COPY_OUT_RESPONSE, BackendTag.COPY_DONE):
            self._copy(frame)
        elif tag == BackendTag.FUNCTION_CALL_RESPONSE:
            self._called(frame)
        else:
            raise _unexpected(tag)

    def _asynchronous(self, frame: Frame) -> None:
        if frame.tag == BackendTag.PARAMETER_STATUS:
            status = ParameterStatus.decode(frame.payload)
            required = self._required.get(status.name, (status.value,))
            if status.value not in required:
                raise UpstreamProtocolError(denial.FEATURE_NOT_SUPPORTED, f"{status.name} must stay {required[0]}")
            self.send((redact_parameter(status) if self._masked_once else status).encode())
        elif frame.tag == BackendTag.NOTIFICATION_RESPONSE:
            if not self._masked_once:
                self.send(frame.encode())
            else:
                redacted = redact_notification(NotificationResponse.decode(frame.payload), frozenset(self.listening))
                self.send(redacted.encode() if redacted is not None else b"")
        elif self._visible_names is None:
            self.send(frame.encode())
        else:
            self.send(redact_notice(NoticeResponse.decode(frame.payload), self._visible_names).encode())

    def _confirmed(self, owed: Owed, frame: Frame) -> None:
        head = self._expect_head(frame.tag)
        if head.owed is not owed:
            raise _unexpected(frame.tag)
        self.replies.pop()
        if head.change is not None:
            self.names.confirm(head.change)
        if head.capture is None:
            self.send(frame.encode())

    def _description(self, frame: Frame) -> None:
        head = self._expect_head(frame.tag)
        if frame.tag == BackendTag.PARAMETER_DESCRIPTION:
            if head.owed is not Owed.DESCRIBE_STATEMENT:
                raise _unexpected(frame.tag)
            if head.prepared is not None:
                head.prepared.parameter_oids = ParameterDescription.decode(frame.payload).oids
            if head.capture is None:
                self.send(frame.encode())
            return
        described = RowDescription.decode(frame.payload) if frame.tag == BackendTag.ROW_DESCRIPTION else None
        expects_rows = head.owed is Owed.QUERY and not head.function_call
        if expects_rows and head.execution is not None and described is not None:
            if head.execution.describe(described):
                self.send(head.execution.shown(frame.encode()))
            return
        if head.owed not in (Owed.DESCRIBE_STATEMENT, Owed.DESCRIBE_PORTAL):
            raise _unexpected(frame.tag)
        self.replies.pop()
        if head.portal is not None:
            head.portal.described = described or "nothing"
        if head.prepared is not None and described is not None:
            head.prepared.described = described.columns
        if head.capture is not None:
            head.capture.descriptions.append(described)
        else:
            self.send(frame.encode())

    def _copy(self, frame: Frame) -> None:
        head = self._expect_head(frame.tag)
        execution = head.execution
        if execution is None or execution.current.copy is None:
            raise _unexpected(frame.tag)
        if frame.tag == BackendTag.COPY_IN_RESPONSE:
            execution.copying_in = True
            if execution.refusal is not None:
                # The client is not asked for data any more, so nobody else would end this.
                self.fail_copy()
                return
            self.copying = execution
        if execution.refusal is None:
            self.send(frame.encode())

    def fail_copy(self) -> None:
        """End a COPY from the client, which is told the refusal of its execution."""
        self.copying = None
        self.emit(SendUpstream(CopyFail("checkrein refuses").encode(), Own("refusal")))

    def _completed(self, frame: Frame) -> None:
        head = self._expect_head(frame.tag)
        execution = head.execution
        if head.capture is not None:
            head.capture.tag = _tag(frame)
            if head.owed is Owed.EXECUTE:
                self.replies.pop()
            return
        if execution is None or head.function_call:
            raise _unexpected(frame.tag)
        tag = _tag(frame)
        if frame.tag != BackendTag.PORTAL_SUSPENDED:
            index = execution.index
            execution.complete(tag)
            self._took_effect(head, index)
        elif execution.withholds:
            execution.refuse(affected.in_slices(execution.grant))
        if head.owed is Owed.EXECUTE:
            self.replies.pop()
            if execution.withholds and execution.refusal is not None:
                execution.own.append("refusal")
            self.finish(execution, over=frame.tag != BackendTag.PORTAL_SUSPENDED)
        if execution.refusal is None:
            self.send(execution.shown(frame.encode()))
            if head.owed is Owed.EXECUTE:
                self.send(execution.release())

    def _called(self, frame: Frame) -> None:
        head = self._expect_head(frame.tag)
        execution = head.execution
        if execution is None or not head.function_call or execution.index:
            raise _unexpected(frame.tag)
        execution.returned(FunctionCallResponse.decode(frame.payload).value)
        execution.complete("")
        self._took_effect(head, 0)
        self.send(frame.encode())

    def _took_effect(self, head: Expected, index: int) -> None:
        """A statement was carried out: names, transaction and resolution change with it."""
        change = head.changes.pop(index, None)
        if change is not None:
            self.names.confirm(change)
        if index >= len(head.steps):
            return
        statement = head.steps[index]
        if statement.transaction is not None and statement.transaction.verb in (
            TransactionVerb.COMMIT,
            TransactionVerb.ROLLBACK,
        ):
            self.names.end_transaction()
        if isinstance(statement.name_change, CloseCursor) and statement.name_change.name is None:
            self.names.confirm(Change(head.group, "portal", None, None))
        self.resolution.changed(self.resolution.barrier(statement))

    def finish(self, execution: Execution, *, over: bool = True) -> None:
        """An execution, or one slice of it, came to its end."""
        execution.over = over
        self.copying = None if self.copying is execution else self.copying
        if execution.duties.seconds is not None:
            self.emit(SetTimer(_timer(execution), None))
        if not execution.recorded:
            self.emit(Record(execution.response(over=over)))

    def _error(self, error: ErrorResponse) -> None:
        head = self.replies.head
        if head is None or error.fields.get("V", error.fields.get("S")) in ("FATAL", "PANIC"):
            self.fatal = True
            self.send(self._shown(error, head).encode())
            return
        self.copying = None
        if head.owed is Owed.QUERY and head.execution is not None:
            self._failed_execution(head, error)
            if head.capture is not None:
                # Of a transaction of the proxy's own. What may be shown of it is another question once it has ended.
                head.capture.error = self._shown(error, head)
            else:
                self.send(self._shown(error, head).encode())
            return
        if head.capture is not None:
            head.capture.error = error
        if head.capture is None or head.capture.in_client_group:
            self.send(self._shown(error, head).encode())
        if head.owed is Owed.SYNC:
            return
        skipped, synced = self.replies.skip_to_sync()
        for expected in skipped:
            self._skipped(expected, error)
        if not synced:
            self.skipping = Skipping.UPSTREAM
            self.group_failed = True

    def _shown(self, error: ErrorResponse, head: Expected | None) -> ErrorResponse:
        """What the client sees of an error of the server."""
        if head is not None:
            if head.error is not None:
                return head.error
            if head.execution is not None and head.execution.refusal is not None:
                return head.execution.refusal
            if head.execution is not None and head.execution.timed_out:
                return denial.error(
                    denial.QUERY_CANCELED, "this statement is canceled: it took longer than policy allows"
                )
        return self.redacted(error)

    def _failed_execution(self, head: Expected, error: ErrorResponse) -> None:
        execution = head.execution
        assert execution is not None
        execution.sqlstate = error.fields.get("C", "")
        for change in head.changes.values():
            self.names.drop(change)
        head.changes.clear()
        self.resolution.changed(head.barrier)
        head.barrier = frozenset()

    def _skipped(self, expected: Expected, error: ErrorResponse) -> None:
        """The server refused this frame, or skips it."""
        if expected.change is not None:
            self.names.drop(expected.change)
        if expected.execution is not None:
            self._failed_execution(expected, error)
            self.finish(expected.execution)
        if expected.capture is not None:
            expected.capture.error = expected.capture.error or error

    def _ready(self, ready: ReadyForQuery) -> None:
        head = self._expect_head(BackendTag.READY_FOR_QUERY)
        if head.owed not in (Owed.SYNC, Owed.QUERY):
            raise _unexpected(BackendTag.READY_FOR_QUERY)
        self.replies.pop()
        self.status = ready.status
        if head.execution is not None and head.owed is Owed.QUERY and head.capture is None:
            for change in head.changes.values():
                self.names.drop(change)
            if head.execution.enclosed:
                # Its end is that of the transaction around it, which is still open.
                return
            if head.execution.withholds and head.execution.refusal is not None:
                head.execution.own.append("refusal")
            self.finish(head.execution)
            if head.execution.keeps:
                self.send(head.execution.release())
        if ready.status is TransactionStatus.IDLE:
            self.names.end_transaction()
            self.resolution.transaction_ended()
            if head.group >= self._masked_group:
                self._visible_names = None
        if head.capture is not None:
            head.capture.done = True
        elif not self._late_refusal(head):
            self.send(ready.encode())

    def _late_refusal(self, head: Expected) -> bool:
        """The rest of a simple Query that was cut off after the server had carried it out."""
        execution = head.execution
        if head.owed is not Owed.QUERY or execution is None or execution.refusal is None or execution.sqlstate:
            return False
        if self.status is TransactionStatus.IDLE:
            self.send(execution.refusal.encode())
            return False
        if self.replies:
            # It would be refused behind what is on its way, and be answered in another order than it was sent.
            raise UpstreamProtocolError(execution.refusal.fields["C"], execution.refusal.fields["M"])
        self.carry_out(execution.refusal)
        self.sync(own="refusal")
        return True


def timer_of(grant: Grant) -> str:
    """The name of the timer that bounds this grant's execution."""
    return f"limit:{grant.execution_id}"


def _timer(execution: Execution) -> str:
    return timer_of(execution.grant)


def _tag(frame: Frame) -> str:
    return CommandComplete.decode(frame.payload).tag if frame.tag == BackendTag.COMMAND_COMPLETE else ""


def _unexpected(tag: int) -> UpstreamProtocolError:
    return UpstreamProtocolError(denial.PROTOCOL_VIOLATION, f"the server sent an unexpected message 0x{tag:02X}")


def _one_line(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text)[:200]
