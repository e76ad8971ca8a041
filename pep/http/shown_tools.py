"""What a client gets to see of lists of tools: the tools that policy would let it call.

Everything that an endpoint of MCP sends is looked at (see `mcp_lists`): an answer to tools/list and what may hold one
in JSON is held whole, a stream goes on event by event. What needs approval can be called, and then waits: it is shown.
"""

from __future__ import annotations

from dataclasses import replace
from http import HTTPStatus

from pep.core.model import Allow, Mask, RequireApproval
from pep.http import mcp, mcp_lists
from pep.http.classify import Request
from pep.http.coding import CannotMask
from pep.http.connection import Connection
from pep.http.mcp_sessions import Place
from pep.http.messages import Chunked, Fields, Length, ResponseHead
from pep.http.obligations import OF_THE_WHOLE
from pep.http.questions import WhatIf
from pep.http.stepping import Step

EVENTS = "text/event-stream"


class ShownTools:
    """One response of an endpoint of MCP. Everything raises CannotMask."""

    def __init__(self, connection: Connection, request: Request, place: Place) -> None:
        self._connection = connection
        self._place = place
        self._asked = any(call.method == "tools/list" for call in request.calls)
        self._events: mcp_lists.Events | None = None
        self.collects = False  # nothing of it may be sent before it is there whole
        self._fields = Fields()
        self._succeeded = False

    def begin(self, head: ResponseHead) -> ResponseHead:
        """The head as it may be sent: nothing in it speaks of the whole, of which something may go."""
        if head.status == HTTPStatus.PARTIAL_CONTENT:
            raise CannotMask("a part of an answer of MCP cannot be looked at")
        self._fields, self._succeeded = head.fields, 200 <= head.status < 300
        if self._asked:
            self.collects = True
        elif mcp_lists.is_stream(head.fields):
            self._events = mcp_lists.Events(self._connection.settings.decoded_limit)
        else:
            self.collects = mcp_lists.is_json(head.fields)
        if not self.collects and self._events is None:
            return head
        framing = Chunked() if isinstance(head.framing, Length) and head.framing.size else head.framing
        return replace(head, fields=head.fields.without(OF_THE_WHOLE), framing=framing)

    def passing(self, data: bytes) -> Step[bytes]:
        """What may go on of what has arrived: of a stream its whole events."""
        if self._events is None:
            return data
        events: list[bytes] = []
        for event in self._events.feed(data):
            listing = mcp_lists.event_may_list(event)
            events.append((yield from self._shown(event, EVENTS)) if listing else event)
        return b"".join(events)

    def rest(self) -> bytes:
        """What is left of a stream that has ended."""
        return b"" if self._events is None else self._events.rest()

    def whole(self, data: bytes) -> Step[bytes]:
        """All of what was collected, with the tools that are not shown left out."""
        if not data or not ((self._asked and self._succeeded) or mcp_lists.may_list(data)):
            return data
        return (yield from self._shown(data, self._fields.first("Content-Type") or ""))

    def _shown(self, data: bytes, content_type: str) -> Step[bytes]:
        if len(data) > mcp_lists.MOST:
            raise CannotMask("the list of tools is longer than what is looked at")
        listing = mcp_lists.Listing.read(data, content_type)
        if listing is None:
            raise CannotMask("the list of tools is not understood")
        if not (names := tuple(listing.tools)):
            return data
        settings = self._connection.settings
        actions = tuple(mcp.tool_action(name, settings.classify) for name in names)
        decisions = yield from self._connection.look_up(WhatIf(self._connection.session, actions))
        allowed = {
            name
            for name, decision in zip(names, decisions, strict=True)
            if isinstance(decision, Allow | Mask | RequireApproval)
        }
        settings.mcp_sessions.listed(self._place, {name: listing.tools[name] for name in names if name in allowed})
        return listing.write(allowed)
