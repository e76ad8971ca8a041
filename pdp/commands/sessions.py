"""`pdp sessions`: who is and was connected, what they did, and ending it."""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.text import Text

from pdp.commands.approval_view import party
from pdp.commands.connection import Connection, Reach, acting, connected, reaching
from pdp.commands.export import EXPORT_EXAMPLE, export
from pdp.commands.failure import Failure, Status
from pdp.commands.recorded import Recorded, read
from pdp.commands.records import (
    AnchorsOption,
    AuthorityOption,
    KeysOption,
    StoreOption,
    bring,
    conclude,
    copy_of,
    prove,
    say,
)
from pdp.commands.replay import Replay, Step, indented
from pdp.commands.screen import VERDICT_WORDS, clock, console, facts, line, show, span, table
from pdp.commands.search import found
from pdp.shown import shown
from pdp.v1 import admin_service_pb2 as pb

app = typer.Typer(no_args_is_help=True, help="See what happened; end a session.")
app.command("export", epilog=EXPORT_EXAMPLE)(export)

# Nobody wants to sit through a night; the time that really passed stands before each line.
LONGEST_PAUSE: Final = 3.0

_Id = Annotated[str, typer.Argument(metavar="ID", help="The session's id, or the beginning of it.")]
Sleep = Callable[[float], Awaitable[None]]


@app.command("list", epilog="Example: pdp sessions list --open\n\nOne run of a workflow: pdp sessions list --run r-17")
@acting
async def list_(
    connection: Connection,
    run: Annotated[str, typer.Option(metavar="RUN", help="Only this run of a workflow.")] = "",
    open_: Annotated[bool, typer.Option("--open", help="Only those that are open.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="At most so many.")] = 50,
) -> None:
    """List sessions, newest first, with the verdicts of each."""
    request = pb.ListSessionsRequest(limit=limit, open_only=open_, run=run)
    answer = await connection.call("ListSessions", request, action="sessions.read")
    screen = console()
    if not answer.sessions:
        line(screen, "no sessions")
        return
    headings = ("ID", "STATE", "OPENED", "WHO", "NODE", "ON", "EVENTS", "VERDICTS")
    show(screen, table(headings, (_row(each) for each in answer.sessions)))


@app.command("show", epilog="Example: pdp sessions show s-4qz")
@acting
async def show_(connection: Connection, id: _Id) -> None:
    """Show one session: who, on what, how it ended, and each event of its record in a line."""
    screen = console()
    session, events = await _open(connection, id)
    show(screen, facts(_pairs(session)))
    rows = [
        (str(event.seq), _time_of(event), shown(event.type or "unreadable"), shown(_in_short(event), limit=120))
        async for event in events
    ]
    show(screen, table(("NUMBER", "TIME", "EVENT", "WHAT"), rows, whole=2))


@app.command(
    epilog="Example: pdp sessions replay s-4qz --no-wait\n\nTen times as fast: pdp sessions replay s-4qz --speed 10\n\n"
    "What had to do with orders: pdp sessions replay s-4qz --search orders --no-wait"
)
@acting
async def replay(
    connection: Connection,
    id: _Id,
    speed: Annotated[float, typer.Option(metavar="X", min=0.01, help="So many times as fast as it was.")] = 1.0,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Print all of it at once.")] = False,
    rows: Annotated[int, typer.Option(min=0, help="Show so many rows of each result.")] = 20,
    search: Annotated[str, typer.Option(metavar="TEXT", help="Only commands that have to do with this text.")] = "",
) -> None:
    """Replay a session: what was asked, by which node, what was decided and why, what came back, as the client saw it.

    Pauses are as long as they were, but never longer than three seconds. Nothing is sent to the target.
    """
    screen = console()
    session, events = await _open(connection, id)
    show(screen, facts(_pairs(session)))
    line(screen, "")
    if search:
        events = found(events, search)
    await play(screen, events, Replay(rows=rows), None if no_wait else speed, asyncio.sleep)


async def play(
    screen: Console, events: AsyncIterator[Recorded], story: Replay, speed: float | None, sleep: Sleep
) -> None:
    """Prints a record as it went; without a speed, at once."""
    first = last = None

    async def tell(steps: Iterable[Step]) -> None:
        nonlocal first, last
        for step in steps:
            first = first or step.at
            if speed is not None and step.at is not None and last is not None:
                pause = (step.at - last).total_seconds() / speed
                if pause > 0:
                    await sleep(min(pause, LONGEST_PAUSE))
            last = step.at or last
            line(screen, Text.assemble((_offset(step.at, first), "dim"), step.what))
            if (below := indented(step)) is not None:
                show(screen, below)

    async for event in events:
        await tell(story.feed(event))
    await tell(story.end())


@app.command(
    epilog="Example: pdp sessions verify s-4qz\n\n"
    "All of them, against what was anchored: pdp sessions verify --all --anchors /mnt/worm/checkpoints"
)
@reaching
async def verify(
    reach: Reach,
    id: Annotated[str, typer.Argument(metavar="ID", help="The session's id, or the beginning of it.")] = "",
    all_: Annotated[bool, typer.Option("--all", help="Every record, and the log of checkpoints.")] = False,
    store: StoreOption = None,
    keys: KeysOption = None,
    anchors: AnchorsOption = None,
    proxy_ca: AuthorityOption = None,
) -> None:
    """Compute the hash chain of a session's record again, hold it against what was signed, and say what is wrong.

    The exit status is 1 if anything is. With --store nothing is asked of the service; ID is then the whole id.
    """
    if all_ == bool(id):
        raise Failure("give one of ID and --all", Status.USAGE)
    screen = console()
    trusted = bring(reach, keys, anchors, proxy_ca)
    async with copy_of(reach, store) as copy:
        only = await _whole_id(reach, id) if id and store is None else id
        found = await prove(copy, trusted, lambda finding: say(screen, finding), only)
    if id and not found.events and not found.findings and not found.removed:
        raise Failure(f"there is no record of {shown(id)}", Status.NOT_POSSIBLE)
    conclude(screen, found)


async def _whole_id(reach: Reach, id: str) -> str:
    async with connected(reach) as connection:
        answers = connection.stream("GetSession", pb.GetSessionRequest(session_id=id), action="sessions.read")
        async for answer in answers:
            return str(answer.session.session_id)
    raise Failure("the service sent no session", Status.NOT_POSSIBLE)


@app.command(epilog='Example: pdp sessions kill s-4qz --reason "runs wild since noon"')
@acting
async def kill(
    connection: Connection,
    id: _Id,
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Why; the client is shown it.")],
) -> None:
    """End a session at its proxy, at once."""
    request = pb.KillSessionRequest(session_id=id, reason=reason)
    await connection.call("KillSession", request, action="sessions.kill")
    line(console(), f"{shown(id)} is ended")


async def _open(connection: Connection, id: str) -> tuple[pb.Session, AsyncIterator[Recorded]]:
    """The session, and its events as they come."""
    answers = connection.stream("GetSession", pb.GetSessionRequest(session_id=id), action="sessions.read")
    first = await anext(answers, None)
    if first is None or first.WhichOneof("item") != "session":
        raise Failure("the service sent no session", Status.NOT_POSSIBLE)

    async def events() -> AsyncIterator[Recorded]:
        async for answer in answers:
            if answer.WhichOneof("item") == "event":
                yield read(answer.event)

    return first.session, events()


def _row(session: pb.Session) -> Sequence[str]:
    return (
        shown(session.session_id),
        shown(session.state),
        clock(session.opened_at.ToDatetime(datetime.UTC)),
        f"{shown(session.subject.type)}:{shown(session.subject.id)}",
        shown(session.subject.workflow),
        shown(session.resource),
        str(session.events),
        _verdicts(session),
    )


def _verdicts(session: pb.Session) -> str:
    named = sorted(session.verdicts.items())
    return ", ".join(f"{count} {VERDICT_WORDS.get(name) or shown(name)}" for name, count in named)


def _pairs(session: pb.Session) -> Iterator[tuple[str, str]]:
    yield "Session", shown(session.session_id)
    yield "Who", party(session.subject)
    if session.subject.workflow:
        yield "Node", f"{shown(session.subject.workflow)} (graph/node/run)"
    yield "On", f"{shown(session.resource)} ({shown(session.protocol)}) through the proxy {shown(session.proxy)}"
    if session.client_address:
        yield "From", shown(session.client_address)
    opened = session.opened_at.ToDatetime(datetime.UTC)
    yield "Opened", clock(opened)
    if session.HasField("closed_at"):
        closed = session.closed_at.ToDatetime(datetime.UTC)
        reason = f": {shown(session.close_reason)}" if session.close_reason else ""
        yield "Ended", f"{clock(closed)} after {span(closed - opened)}, {shown(session.state)}{reason}"
    else:
        yield "State", shown(session.state)
    yield "Events", str(session.events)
    if verdicts := _verdicts(session):
        yield "Verdicts", verdicts


def _time_of(event: Recorded) -> str:
    return "" if event.time is None else event.time.astimezone(datetime.UTC).strftime("%H:%M:%S.%f")[:-3]


def _in_short(event: Recorded) -> str:
    """A line about an event; foreign."""
    reasons = ", ".join(str(reason.get("code", "")) for reason in event.items("reasons"))
    names = ("verdict", "action", "approval_id", "state", "rows", "tags", "sqlstate", "reason", "error", "comment")
    parts = [event.text(name) for name in names if event.text(name)]
    texts = [body.content.decode("utf-8", "surrogateescape") for body in event.of_kind("statement") if body.content]
    return "  ".join([*parts, *([f"({reasons})"] if reasons else []), *texts])


def _offset(at: datetime.datetime | None, first: datetime.datetime | None) -> str:
    """The time since the beginning, in a column of its own."""
    if at is None or first is None:
        return " " * 12
    return f"{f'+{(at - first).total_seconds():.3f}s':<12}"
