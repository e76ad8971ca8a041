"""One chain of events and where it is written: a session's, or the process's own for what has no session.

The order *between* chains is wall time; within a chain it is the numbers and the hashes.
"""

from __future__ import annotations

import datetime
import time
import uuid
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from pep.core.records import Chain, Event, EventType, Sealed

PROCESS_PREFIX: Final = "process-"


class SpoolError(Exception):
    """A record could not be made durable. Nothing that depends on it may be forwarded."""


class Store(Protocol):
    """Where sealed events become durable; `pep.core.spool.Spool`."""

    def append(self, records: Sequence[Sealed], *, root: str, final: bool = False) -> None:
        """All or none. Raises SpoolError."""


class Observer(Protocol):
    """Who counts what goes on record; `pep.core.meters.Meters`."""

    def took(self, stage: str, seconds: float) -> None: ...

    def recorded(self, events: Sequence[Event]) -> None: ...

    def unrecorded(self, why: str) -> None: ...


def utc_now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="microseconds")


def is_final(type: str, what: object) -> bool:
    """Whether a chain ends with an event of this type and, for a process's own, of this `what` among its facts."""
    match type:
        case EventType.SESSION_CLOSED | EventType.SESSION_LOST:
            return True
        case EventType.PROCESS:
            return what in ("stopped", "lost")
        case _:
            return False


class Recorder:
    """One chain and where it is written: a session's, or (with an id from `process_chain`) the process's own."""

    def __init__(
        self,
        store: Store,
        session: str,
        root: str,
        now: Callable[[], str] = utc_now,
        observer: Observer | None = None,
    ) -> None:
        self._observer = observer
        self._store = store
        self._root = root
        self._chain = Chain(session, now)
        self._ended = False

    @property
    def session(self) -> str:
        return self._chain.session

    @property
    def last_seq(self) -> int:
        """The number of the last event on record; -1 before the first."""
        return self._chain.seq - 1

    def record(self, *events: Event) -> None:
        """Make the events durable, all or none, in order. Raises SpoolError, and the chain is as before.

        Nothing comes behind the event that ends a chain: what a task that outlives its session has to say is refused.
        """
        observer = self._observer
        if observer is None:
            self._append(events)
            return
        begun = time.perf_counter()
        try:
            self._append(events)
        except SpoolError as error:
            observer.unrecorded(str(error))
            raise
        finally:
            observer.took("record", time.perf_counter() - begun)
        observer.recorded(events)

    def _append(self, events: Sequence[Event]) -> None:
        if self._ended:
            raise SpoolError("the record has ended")
        seq, digest = self._chain.seq, self._chain.hash
        try:
            sealed = [self._chain.seal(event) for event in events]
            final = is_final(events[-1].type, events[-1].facts.get("what"))
            self._store.append(sealed, root=self._root, final=final)
            self._ended = final
        except SpoolError:
            self._chain.seq, self._chain.hash = seq, digest
            raise
        except (TypeError, ValueError) as error:
            self._chain.seq, self._chain.hash = seq, digest
            raise SpoolError(f"an event cannot be written down: {error}") from None


def process_chain(proxy: str) -> str:
    """A new id for the chain of what has no session: refused logins, start, stop."""
    return f"{PROCESS_PREFIX}{proxy}-{uuid.uuid4().hex}"
