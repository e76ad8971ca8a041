"""What of a record has to do with a text: the events that hold it, and those of the same command. Pure."""

from __future__ import annotations

from collections.abc import AsyncIterator

from pdp.commands.recorded import Recorded


async def found(events: AsyncIterator[Recorded], text: str) -> AsyncIterator[Recorded]:
    """The events that hold the text, in whatever case, with what was decided and came back for the same command."""
    every = [event async for event in events]
    wanted = text.casefold()
    holding = [event for event in every if _holds(event, wanted)]
    names = frozenset().union(*(_names(event) for event in holding))
    # An intent joins the decisions of a command to its response.
    for event in every:
        if event.type == "intent" and names & _names(event):
            names |= _names(event)
    for event in every:
        if names & _names(event) or any(event is each for each in holding):
            yield event


def _holds(event: Recorded, wanted: str) -> bool:
    texts = [event.data, *(body.content for body in event.bodies if body.content)]
    return any(wanted in each.decode("utf-8", "replace").casefold() for each in texts)


def _names(event: Recorded) -> frozenset[str]:
    """Ids that events of one command have in common."""
    decisions = event.facts.get("decision_ids")
    said = [
        event.decision_id,
        event.text("execution_id"),
        event.text("approval_id"),
        *(map(str, decisions) if isinstance(decisions, list) else ()),
    ]
    return frozenset(filter(None, said)) if event.type != "session.opened" else frozenset()
