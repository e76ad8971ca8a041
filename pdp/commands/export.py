"""`pdp sessions export`: records for other systems, one event a line."""

from __future__ import annotations

import datetime
import importlib.metadata
from typing import Annotated, Literal

import orjson
import typer

from pdp.commands.connection import Connection, acting
from pdp.commands.failure import Failure, Status
from pdp.commands.ocsf import Export, refused_login
from pdp.commands.ocsf_approvals import approval_change
from pdp.commands.recorded import read
from pdp.v1 import archive_service_pb2 as pb
from pdp.v1.archive_service_pb2_grpc import ArchiveServiceStub
from pdp.v1.config_values import parse_duration

EXPORT_EXAMPLE = (
    "Example: pdp sessions export s-4qz > session.jsonl\n\nYesterday and today: pdp sessions export --since 2d"
)
_Format = Literal["ocsf"]


@acting
async def export(
    connection: Connection,
    id: Annotated[str, typer.Argument(metavar="ID", help="The session's id, or the beginning of it.")] = "",
    since: Annotated[
        str, typer.Option(metavar="TIME", help="All opened since: an instant with its zone, or so long ago (2d).")
    ] = "",
    until: Annotated[str, typer.Option(metavar="TIME", help="And before.")] = "",
    format: Annotated[_Format, typer.Option(help="The schema of the events.")] = "ocsf",  # noqa: ARG001
) -> None:
    """Print records as OCSF events, one JSON object a line: logins, statements, requests, decisions, approvals.

    Parameters and results are not among them.
    """
    if bool(id) == bool(since) or (until and not since):
        raise Failure("give one of ID and --since (with --until, if that is meant)", Status.USAGE)
    request = pb.ExportRecordsRequest(session_id=id)
    if since:
        request.since.FromDatetime(instant(since))
    if until:
        request.until.FromDatetime(instant(until))
    version = importlib.metadata.version("checkrein")
    story: Export | None = None
    answers = connection.stream("ExportRecords", request, action="records.export", stub=ArchiveServiceStub)
    async for answer in answers:
        match answer.WhichOneof("item"):
            case "session":
                _print(*(story.end() if story is not None else ()))
                story = Export(answer.session, version)
            case "event" if story is not None:
                _print(*story.feed(read(answer.event)))
            case "refused_login":
                _print(refused_login(read(answer.refused_login), version))
            case "approval":
                _print(approval_change(read(answer.approval), version))
            case _:
                pass
    _print(*(story.end() if story is not None else ()))


def _print(*events: object) -> None:
    for each in events:
        typer.echo(orjson.dumps(each).decode())


def instant(text: str) -> datetime.datetime:
    """An instant that is written with its zone, or so long ago. Raises Failure."""
    try:
        found = datetime.datetime.fromisoformat(text)
    except ValueError:
        try:
            return datetime.datetime.now(datetime.UTC) - parse_duration(text)
        except ValueError:
            raise Failure(f"{text!r} is neither an instant nor a time like 2d", Status.USAGE) from None
    if found.tzinfo is None:
        raise Failure("an instant needs its zone, like 2030-01-31T00:00:00Z", Status.USAGE)
    return found.astimezone(datetime.UTC)
