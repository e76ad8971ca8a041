"""`pdp sessions`: what happened, as it happened, and whether the record of it is what was written."""

import asyncio
import datetime
import io
import json
from collections.abc import AsyncIterator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from pdp.commands.chain import verify
from pdp.commands.recorded import Recorded, read
from pdp.commands.replay import Replay
from pdp.commands.search import found
from pdp.commands.sessions import LONGEST_PAUSE, play
from pdp.store import tables
from pdp.v1.admin_service_pb2 import RecordedEvent
from pep.core.records import Body, Chain, Event, EventType
from tests.pdp.commanding import OWNER, as_, record
from tests.pdp.serving import folder, serving
from tests.pdp.test_shown import FOREIGN


def reason(message: str, policy: str = "baseline") -> dict:
    return {"policy": policy, "code": "c", "message": message, "instead": ["ask for less"]}


def decided(verdict: str, *bodies: Body, execution: bool = True, **more) -> Event:
    facts = {"verdict": verdict, "action": "query", "execution": execution, "exchange": 1, "reasons": [reason("why")]}
    return Event(EventType.DECISION, f"d-{verdict}", "r1", facts | more, bodies)


def statement(text: str) -> Body:
    return Body("statement", text.encode())


def result(columns: Sequence[str], *rows: Sequence[object], tag: str = "SELECT 1") -> Body:
    return Body.of_json("result", {"results": [{"columns": columns, "rows": rows, "tag": tag}]})


INTENT = Event(
    EventType.INTENT,
    "d-mask",
    "r1",
    {"execution_id": "e1", "decision_ids": ["d-mask"], "exchange": 1},
    (statement("select email from customers"), Body.of_json("parameters", [5, "x"])),
)
MASKED = {
    "obligations": [{"name": "mask", "fields": [{"dataset": "public.c", "field": "email", "method": "NullMask"}]}]
}
STORY = [
    Event(EventType.SESSION_OPENED, facts={"client": "10.0.0.7"}),
    decided("mask", **MASKED),
    INTENT,
    Event(
        EventType.RESPONSE,
        "d-mask",
        "r1",
        {"execution_id": "e1", "rows": 2, "bytes": 40, "tags": ["SELECT 2"], "masked": ["public.c.email"]},
        (result(["email", "note"], [None, "[red]\x1b[31mx[/red]"], ["NULL", {"$bytes": "AA=="}], tag="SELECT 2"),),
    ),
    decided("deny", statement("drop table orders"), reasons=[reason("no\x1b changes of the schema", "no_ddl")]),
    decided("require_approval", statement("delete from orders")),
    Event(
        EventType.APPROVAL_REQUESTED,
        facts={
            "approval_id": "a-1",
            "exchange": 1,
            "requirements": [{"policy": "deletes", "code": "owners", "approvers": ["group:owners"], "count": 1}],
        },
    ),
    Event(EventType.APPROVAL_RESOLVED, facts={"approval_id": "a-1", "state": "denied", "comment": "archive them"}),
    Event(EventType.SESSION_CLOSED, facts={"reason": "the client left"}),
]


def sealed(events: Sequence[Event], session: str = "s-1", step: float = 0.1) -> list[Recorded]:
    """Events as the service sends them."""
    times = (f"2030-01-31T10:00:{number * step:09.6f}+00:00" for number in range(len(events)))
    chain = Chain(session, lambda: next(times))
    return [read(message(chain, event)) for event in events]


def message(chain: Chain, event: Event) -> RecordedEvent:
    made = chain.seal(event)
    bodies = {index: body.content for index, body in enumerate(made.bodies)}
    salts = {index: body.salt for index, body in enumerate(made.bodies)}
    return RecordedEvent(seq=made.seq, event=made.data, hash=made.hash, bodies=bodies, salts=salts)


def told(events: Sequence[Recorded], *, rows: int = 20) -> str:
    screen = Console(file=io.StringIO(), width=200, markup=False, emoji=False, highlight=False)
    asyncio.run(play(screen, coming(events), Replay(rows=rows), None, asyncio.sleep))
    return screen.file.getvalue()


async def coming(events: Sequence[Recorded]) -> AsyncIterator[Recorded]:
    for event in events:
        yield event


def test_a_session_is_listed_shown_replayed_verified_and_ended():
    async def scenario():
        with folder() as path:
            async with serving(path) as service:
                proxy = await service.proxy()
                first, second = await proxy.open(), await proxy.open()
                await record(proxy, first.session_id, STORY)
                named = first.session_id
                listed, shown, replayed, verified, other = await asyncio.gather(
                    as_(service, OWNER, "sessions", "list", "--open", "--run", "r"),
                    as_(service, OWNER, "sessions", "show", named[:12]),
                    as_(service, OWNER, "sessions", "replay", named[:12], "--speed", "100"),
                    as_(service, OWNER, "sessions", "verify", named),
                    as_(service, OWNER, "sessions", "list", "--run", "another"),
                )
                assert listed.status == shown.status == replayed.status == verified.status == 0
                assert named in listed.out
                assert second.session_id in listed.out
                assert "agent:planner" in listed.out
                assert other.out == "no sessions\n"
                for said in ("on behalf of user:alice", "g/n/r", "drop table orders", "approval.resolved"):
                    assert said in shown.out, said
                order = (
                    "select email from customers",
                    "$2 = ",
                    "mask",
                    "came back",
                    "drop table orders",
                    "archive them",
                )
                places = [replayed.out.index(said) for said in order]
                assert places == sorted(places)
                assert f"{len(STORY)} events" in verified.out
                killed = await as_(service, OWNER, "sessions", "kill", second.session_id, "--reason", "runs wild")
                assert killed.status == 0
                after = await as_(service, OWNER, "sessions", "show", second.session_id)
                assert "killed: runs wild" in after.out
                await tampered_is_found(service, named)

    async def tampered_is_found(service, named: str):
        forged = STORY[4].facts | {"verdict": "allow"}
        changed = json.dumps({"v": 1, "session": named, "seq": 4, "type": "decision", "facts": forged}).encode()
        change = tables.records.update().where(tables.records.c.session_id == named, tables.records.c.seq == 4)
        await service.inside.database.short.run(lambda connection: connection.execute(change.values(event=changed)))
        found = await as_(service, OWNER, "sessions", "verify", named)
        assert found.status == 1
        assert f"WRONG  {named}  event 4: its hash" in found.out

    asyncio.run(scenario())


def test_the_story_is_told_in_the_order_in_which_it_was_lived():
    lines = told(sealed(STORY)).splitlines()
    text = "\n".join(lines)
    assert lines[0].startswith("+0.000s     session opened")
    asked = next(index for index, line in enumerate(lines) if line.endswith("asks"))
    assert lines[asked + 1].strip() == "│ select email from customers"
    assert [line.strip() for line in lines[asked + 2 : asked + 4]] == ["│ $1 = 5", '│ $2 = "x"']
    assert "mask  query  d-mask" in lines[asked + 4]
    assert "baseline/c: why (instead: ask for less)" in lines[asked + 5]
    assert "must mask public.c.email by NullMask" in lines[asked + 6]
    assert "came back  SELECT 2, 2 rows, 40 bytes, after 100.0 ms" in text
    assert "no_ddl/c: no␛ changes of the schema" in text
    assert "waits for approval a-1" in text
    assert "deletes/owners needs 1 of group:owners" in text
    assert text.index("approval a-1: denied") < text.index("archive them")


def test_what_came_back_is_shown_as_the_client_saw_it():
    text = told(sealed(STORY))
    assert "[red]␛[31mx[/red]" in text
    assert '{"$bytes": "AA=="}' in text
    assert [line.split()[0] for line in text.splitlines() if "NULL" in line][-2:] == ["NULL", '"NULL"']
    many = result(["n"], *([str(number)] for number in range(50)))
    cut = told(sealed([Event(EventType.RESPONSE, facts={"rows": 50}, bodies=(many,))]), rows=3)
    assert "and 47 more rows" in cut


def test_a_statement_that_was_held_is_not_told_twice():
    held = [decided("require_approval", statement("delete from orders"))]
    held += [Event(EventType.APPROVAL_REDEEMED, facts={"approval_id": "a-1", "verdict": "allow"}), decided("allow")]
    held.append(Event(EventType.INTENT, "d-allow", "r1", {"execution_id": "e2", "exchange": 1}, held[0].bodies))
    text = told(sealed(held))
    assert text.count("delete from orders") == 1
    assert text.index("is used; decided again: allow") < text.index("allow  query  d-allow") < text.index("forwarded")


def test_a_decision_whose_intent_never_came_is_told_all_the_same():
    assert "mask  query" in told(sealed([decided("mask"), STORY[-1]]))
    assert "mask  query" in told(sealed([decided("mask")]))


def test_a_body_that_is_not_kept_is_said_to_be_missing():
    event = sealed([STORY[4]])[0]
    erased = read(RecordedEvent(seq=0, event=event.data, hash=event.hash))
    assert "(statement of 17 bytes: not kept)" in told([erased])


def test_it_takes_the_time_that_it_took_but_not_a_whole_night():
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    screen = Console(file=io.StringIO(), width=200)
    quick = [Event(EventType.ERROR, facts={"error": str(number)}) for number in range(3)]
    asyncio.run(play(screen, coming(sealed(quick, step=0.5)), Replay(), 2.0, sleep))
    assert slept == [0.25, 0.25]
    slept.clear()
    asyncio.run(play(screen, coming(sealed(quick, step=20)), Replay(), 1.0, sleep))
    assert slept == [LONGEST_PAUSE] * 2
    slept.clear()
    asyncio.run(play(screen, coming(sealed(quick, step=20)), Replay(), None, sleep))
    assert slept == []


# ---- arbitrary events ----

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | FOREIGN.filter(str.isascii),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)
NAMES = (
    st.sampled_from(
        ["verdict", "action", "execution", "exchange", "reasons", "obligations", "approvers", "requirements"]
    )
    | st.sampled_from(["tags", "rows", "masked", "reason", "name", "fields", "executed", "state", "comment"])
    | st.sampled_from(["in_transaction", "execution_id", "sqlstate"])
)
EVENTS = st.lists(
    st.fixed_dictionaries(
        {
            "v": st.just(1),
            "type": st.sampled_from([each.value for each in EventType]) | st.text(max_size=4),
            "facts": st.dictionaries(NAMES, JSON, max_size=6) | JSON,
            "bodies": st.lists(
                st.fixed_dictionaries({"kind": st.sampled_from(["statement", "parameters", "result", "x"]) | JSON}),
                max_size=2,
            )
            | JSON,
            "time": JSON,
        }
    ),
    max_size=4,
)
CONTENTS = st.binary(max_size=40) | JSON.map(lambda value: json.dumps(value).encode())


@given(EVENTS, st.lists(CONTENTS, max_size=2))
def test_whatever_an_event_holds_is_told_without_power_over_the_terminal(documents, contents):
    events = [
        read(RecordedEvent(seq=seq, event=json.dumps(each).encode(), bodies=dict(enumerate(contents))))
        for seq, each in enumerate(documents)
    ]
    assert all(line.isprintable() for line in told(events).split("\n"))


@given(st.binary(max_size=200))
def test_bytes_that_are_no_event_are_told_as_such(data: bytes):
    text = told([read(RecordedEvent(seq=0, event=data))])
    assert all(line.isprintable() for line in text.split("\n"))


# ---- the chain ----


def raw(events: Sequence[Recorded]) -> list[RecordedEvent]:
    return [
        RecordedEvent(
            seq=each.seq,
            event=each.data,
            hash=each.hash,
            bodies={body.index: body.content for body in each.bodies if body.content is not None},
            salts={body.index: body.salt for body in each.bodies if body.content is not None},
        )
        for each in events
    ]


def judged(events: Sequence[RecordedEvent], session: str = "s-1", *, over: bool = True):
    return verify(session, [read(each) for each in events], over=over)


def test_a_whole_record_is_found_whole():
    verdict = judged(raw(sealed(STORY)))
    assert (verdict.whole, verdict.events, verdict.bodies, verdict.erased) == (True, len(STORY), 5, 0)


@given(st.integers(0, len(STORY) - 1), st.data())
def test_any_changed_byte_names_its_event(seq: int, data):
    events = raw(sealed(STORY))
    place = data.draw(st.integers(0, len(events[seq].event) - 1))
    changed = bytearray(events[seq].event)
    changed[place] ^= data.draw(st.integers(1, 255))
    events[seq].event = bytes(changed)
    verdict = judged(events)
    assert {wrong.seq for wrong in verdict.wrong} == {seq}


@given(st.integers(0, len(STORY) - 1))
def test_a_missing_event_is_found(seq: int):
    events = raw(sealed(STORY))
    del events[seq]
    assert not judged(events).whole


def test_two_events_that_changed_places_are_found():
    events = raw(sealed(STORY))
    events[2], events[3] = events[3], events[2]
    assert not judged(events).whole


@pytest.mark.parametrize("change", ["hash", "body", "same size", "salt", "extra", "session"])
def test_other_changes_are_found(change: str):
    events, session = raw(sealed(STORY)), "s-1"
    match change:
        case "hash":
            events[3].hash = bytes(32)
        case "body":
            events[4].bodies[0] = b"drop"
        case "same size":
            events[4].bodies[0] = events[4].bodies[0][:-1] + b"~"
        case "salt":
            events[4].salts[0] = bytes(32)
        case "extra":
            events[4].bodies[7] = b"more"
        case _:
            session = "s-2"
    assert not judged(events, session).whole


def test_an_erased_body_does_not_break_the_chain():
    events = raw(sealed(STORY))
    del events[4].bodies[0]
    events[4].erased.append(0)
    verdict = judged(events)
    assert (verdict.whole, verdict.erased) == (True, 1)


def test_a_record_without_its_end_is_not_whole_once_the_session_is_over():
    events = raw(sealed(STORY))[:-1]
    assert judged(events, over=False).whole
    assert "what came last may be missing" in judged(events).unfinished


def test_times_without_a_zone_are_utc():
    event = read(RecordedEvent(event=b'{"v": 1, "time": "2030-01-31T10:00:00"}'))
    assert event.time == datetime.datetime(2030, 1, 31, 10, tzinfo=datetime.UTC)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("DROP TABLE", [4]),
        # Of a command everything: what was decided, that it was forwarded, what came back.
        ("[red]", [1, 2, 3]),
        ("archive them", [6, 7]),
        ("nowhere", []),
    ],
)
def test_a_search_finds_whole_commands(text: str, wanted: list[int]):
    async def scenario() -> list[int]:
        async def events():
            for each in sealed(STORY):
                yield each

        return [event.seq async for event in found(events(), text)]

    assert asyncio.run(scenario()) == wanted
