"""`pdp runs`: what one run of a workflow did, over every resource that it used."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Sequence
from typing import Annotated

import typer

from pdp.commands.connection import Connection, acting
from pdp.commands.recorded import Recorded, read
from pdp.commands.screen import VERDICT_WORDS, clock, console, facts, line, show, table
from pdp.shown import shown
from pdp.v1 import admin_service_pb2, archive_service_pb2
from pdp.v1.archive_service_pb2_grpc import ArchiveServiceStub

app = typer.Typer(no_args_is_help=True, help="See what a run of a workflow did everywhere.")


@app.command("list", epilog="Example: pdp runs list --limit 10")
@acting
async def list_(
    connection: Connection,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="At most so many.")] = 50,
) -> None:
    """List runs, the latest first: how many sessions on which resources, by whom, with which verdicts."""
    request = archive_service_pb2.ListRunsRequest(limit=limit)
    answer = await connection.call("ListRuns", request, action="sessions.read", stub=ArchiveServiceStub)
    screen = console()
    if not answer.runs:
        line(screen, "no runs")
        return
    rows = [
        (
            shown(each.run),
            clock(each.first.ToDatetime(datetime.UTC)),
            clock(each.last.ToDatetime(datetime.UTC)),
            f"{each.sessions}" + (f" ({each.open} open)" if each.open else ""),
            shown(", ".join(each.resources)),
            shown(", ".join(each.subjects)),
            _verdicts(each.verdicts),
        )
        for each in answer.runs
    ]
    show(screen, table(("RUN", "FIRST", "LAST", "SESSIONS", "ON", "WHO", "VERDICTS"), rows))


@app.command("show", epilog="Example: pdp runs show r-17")
@acting
async def show_(connection: Connection, run: Annotated[str, typer.Argument(metavar="RUN", help="Its name.")]) -> None:
    """Show everything that one run did, on every resource, in the order of time: what was asked, decided, came back."""
    request = archive_service_pb2.GetRunRequest(run=run)
    answers = connection.stream("GetRun", request, action="sessions.read", stub=ArchiveServiceStub)
    sessions: list[admin_service_pb2.Session] = []
    happened: list[tuple[str, int, Recorded, admin_service_pb2.Session]] = []
    async for answer in answers:
        if answer.WhichOneof("item") == "session":
            sessions.append(answer.session)
        elif sessions:
            event = read(answer.event)
            happened.append((event.session, event.seq, event, sessions[-1]))
    screen = console()
    show(screen, facts(_pairs(run, sessions)))
    beginning = datetime.datetime.fromtimestamp(0, datetime.UTC)
    # By each proxy's own clock; within a session by number.
    happened.sort(key=lambda each: (each[2].time or beginning, each[0], each[1]))
    rows = [
        (
            "" if event.time is None else event.time.astimezone(datetime.UTC).strftime("%H:%M:%S.%f")[:-3],
            shown(session.resource),
            shown(event.session),
            shown(_what(event)),
            shown(_in_short(event), limit=200),
        )
        for _, _, event, session in happened
        if event.type not in ("intent", "approval.requested")
    ]
    show(screen, table(("TIME", "ON", "SESSION", "EVENT", "WHAT"), rows, whole=3))


def _pairs(run: str, sessions: Sequence[admin_service_pb2.Session]) -> Iterator[tuple[str, str]]:
    yield "Run", shown(run)
    yield "Who", shown(", ".join(sorted({f"{each.subject.type}:{each.subject.id}" for each in sessions})))
    roots = {f"{each.subject.root.type}:{each.subject.root.id}" for each in sessions}
    yield "Answerable", shown(", ".join(sorted(roots)))
    yield "On", shown(", ".join(sorted({each.resource for each in sessions})))
    yield "Sessions", str(len(sessions))


def _what(event: Recorded) -> str:
    verdict = event.text("verdict") if event.type == "decision" else ""
    return VERDICT_WORDS.get(verdict, verdict) if verdict else event.type


def _in_short(event: Recorded) -> str:
    """A line about an event; foreign."""
    texts = [body.content.decode("utf-8", "backslashreplace") for body in event.of_kind("statement") if body.content]
    reasons = ", ".join(str(each.get("code", "")) for each in event.items("reasons"))
    names = ("subject", "approval_id", "state", "rows", "tags", "status", "sqlstate", "reason", "error")
    said = [f"{name} {event.text(name)}" for name in names if event.text(name)]
    return "  ".join([*texts, *([f"({reasons})"] if reasons else []), *said])


def _verdicts(verdicts: object) -> str:
    assert hasattr(verdicts, "items")
    named = sorted(verdicts.items())
    return ", ".join(f"{count} {VERDICT_WORDS.get(name) or shown(name)}" for name, count in named)
