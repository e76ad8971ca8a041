"""What a session's policy says of the record holds for every response of it."""

import pytest

from pep.core import wire
from pep.core.keeping import Keeping
from pep.core.model import Obligation, RecordLevel, RecordSession
from pep.core.records import Event, EventType
from pep.http.questions import Known
from tests.pep.http.conversations import CONNECTS, SESSION, client, talk, upstream, who
from tests.playbook import Playbook, any_of, asks, decided, grant, looked_up

NOTHING = RecordSession(RecordLevel.NONE)
LINES = b"".join(b'{"id": %d}\n' % number for number in range(5))


def response(keeping: Keeping, *granted: Obligation) -> Event:
    """The record of a GET of five lines, which the client gets whole."""
    session = talk()
    book = (
        Playbook(session)
        >> client("GET /orders")
        << who()
        >> looked_up(Known(SESSION, (), frozenset(), keeping=keeping))
    )
    book = book << asks("GET /orders", session=SESSION) >> decided(grant(*granted)) << CONNECTS
    assert book >> session.connected() << any_of(wire.SendUpstream)
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nContent-Length: %d\r\n\r\n" % len(LINES)
    effects = list(session.receive(upstream(head, LINES)))
    said = b"".join(each.data for each in effects if isinstance(each, wire.SendClient))
    assert said.endswith(LINES)
    (event,) = [
        each.event for each in effects if isinstance(each, wire.Record) and each.event.type is EventType.RESPONSE
    ]
    return event


@pytest.mark.parametrize(
    ("keeping", "granted", "kept", "facts"),
    [
        (Keeping(), (), LINES, {}),
        (Keeping((NOTHING,)), (), b"", {"kept": "none"}),
        (Keeping((NOTHING,)), (RecordSession(RecordLevel.EVERYTHING),), LINES, {"kept": "everything"}),
        (Keeping(), (RecordSession(RecordLevel.ROWS, 2),), LINES[:20], {"kept": "2 rows", "truncated": "rows"}),
        (Keeping(left=7), (), LINES[:7], {"truncated": "session"}),
    ],
)
def test_nothing_some_lines_or_all_of_a_response_is_kept(
    keeping: Keeping, granted: tuple[Obligation, ...], kept: bytes, facts: dict[str, str]
) -> None:
    event = response(keeping, *granted)
    assert b"".join(body.content for body in event.bodies) == kept
    assert {name: event.facts[name] for name in ("kept", "truncated") if name in event.facts} == facts
    assert event.facts["bytes"] == len(LINES)
