"""The body of a request that nobody had to read: from the client to the target as it comes, while the answer may begin.

It is only searched for a method that it names for itself (see `overriding`).
"""

from __future__ import annotations

from typing import NoReturn

from pep.core.model import Deny, Grant
from pep.core.wire import Continuation
from pep.http import denial, overriding
from pep.http.codec import LAST_CHUNK, chunk
from pep.http.connection import Connection
from pep.http.messages import BodyData, Chunked, RequestHead, RequestPart
from pep.http.questions import Turn
from pep.http.stepping import Cut, Refused, Step


class RequestBody:
    """A request's body on its way, part by part; `going` as long as there is more of it."""

    def __init__(self, connection: Connection, head: RequestHead, grant: Grant, *, going: bool) -> None:
        self._connection = connection
        self._head = head
        self._search: overriding.Search | None = None
        self._chunked = isinstance(head.framing, Chunked)
        self._by = Continuation(grant)
        self._seen = connection.received
        self.going = going
        if going:
            connection.timer("stalled", connection.settings.stalled)

    def send(self) -> Step[bool]:
        """Forwards what has arrived; whether there was anything."""
        connection, moved = self._connection, False
        while self.going and (part := connection.requests.next()) is not None:
            moved = True
            yield from self._searched(part)
            if isinstance(part, BodyData):
                connection.forward(chunk(part.data) if self._chunked else part.data, self._by)
                continue
            connection.body_read = True
            if self._chunked:
                connection.forward(LAST_CHUNK, self._by)
            self.stop()
            self.going = False
        return moved

    def _searched(self, part: RequestPart) -> Step[None]:
        """Refuses a request whose body names a method, or may."""
        if not overriding.may_name_a_method(self._head):
            return
        decision_id = f"local-{self._connection.exchange}"
        try:
            search = self._search = self._search or overriding.Search(self._head.fields)
            if not isinstance(part, BodyData):
                search.finish()
                return
            for number, found in enumerate(search.looking(part.data)):
                if found:
                    self._refuse(overriding.denied(decision_id))
                if number:
                    yield from self._connection.look_up(Turn())
        except overriding.CannotSearch as cannot:
            self._refuse(overriding.denied(decision_id, str(cannot)))

    def _refuse(self, deny: Deny) -> NoReturn:
        """What the target has of the request is never a whole one."""
        connection, head = self._connection, self._head
        connection.closing = "the request was cut: its body names a method"
        if connection.answered:
            connection.record_denial(deny)
            raise Cut(connection.closing)
        raise Refused(denial.refused(deny, f"{head.method} {head.path}"[:120]), deny)

    def stalls(self) -> bool:
        """Whether nothing has come for too long."""
        seen = self._connection.moved(self._seen) if self.going else self._seen
        self._seen = self._seen if seen is None else seen
        return seen is None

    def stop(self) -> None:
        if self.going:
            self._connection.timer("stalled", None)
