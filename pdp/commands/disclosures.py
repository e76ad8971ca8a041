"""`pdp records who`: who was shown a field, in clear and masked."""

from __future__ import annotations

import datetime
from typing import Annotated, Final

import orjson
import typer

from pdp.commands.connection import Connection, acting
from pdp.commands.export import instant
from pdp.commands.failure import Failure, Status
from pdp.commands.screen import clock, console, line, show, table
from pdp.shown import shown
from pdp.v1 import disclosure_service_pb2 as pb
from pdp.v1.disclosure_service_pb2_grpc import DisclosureServiceStub

WHO_EXAMPLE: Final = (
    "Example: pdp records who public.customers.email --since 30d\n\n"
    "By classification: pdp records who --label pii --resource shop --json"
)


@acting
async def who(
    connection: Connection,
    field: Annotated[str, typer.Argument(metavar="FIELD", help="The field, its dataset before it.")] = "",
    label: Annotated[str, typer.Option(metavar="LABEL", help="Every field that was classified so.")] = "",
    since: Annotated[
        str, typer.Option(metavar="TIME", help="From an instant with its zone, or so long ago (2d).")
    ] = "",
    until: Annotated[str, typer.Option(metavar="TIME", help="And before.")] = "",
    resource: Annotated[str, typer.Option(metavar="NAME", help="Only on this resource.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="At most so many.")] = 1000,
    json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Say who was shown a field, the latest first: in clear, or masked.

    A field is public.customers.email, or "GET pay.example/customers/{} $.email". What a statement only computes with
    counts as shown; where it is not known which fields came back, each may have, and the field is "*".
    """
    if bool(field) == bool(label):
        raise Failure("give one of FIELD and --label", Status.USAGE)
    request = pb.ListDisclosuresRequest(resource=resource, limit=limit)
    if label:
        request.label = label
    else:
        request.field = field
    for text, into in ((since, "since"), (until, "until")):
        if text:
            getattr(request, into).FromDatetime(instant(text))
    answers = connection.stream("ListDisclosures", request, action="sessions.read", stub=DisclosureServiceStub)
    found: list[pb.ListDisclosuresResponse] = []
    async for answer in answers:
        if json:
            typer.echo(orjson.dumps(_document(answer)).decode())
        else:
            found.append(answer)
    if not json:
        _show(found, limit)


def _show(found: list[pb.ListDisclosuresResponse], limit: int) -> None:
    screen = console()
    if not found:
        line(screen, "nobody, as far as the records say")
        return
    rows = [
        (
            clock(each.at.ToDatetime(datetime.UTC)),
            shown(each.session_id),
            _how(each),
            shown(each.subject + (f" for {each.root}" if each.root not in ("", each.subject) else "")),
            shown(each.run),
            shown(each.resource),
            shown(_name(each)),
            str(each.rows),
            shown(", ".join(each.labels)),
        )
        for each in found
    ]
    headings = ("WHEN", "SESSION", "SHOWN", "TO", "RUN", "ON", "FIELD", "ROWS", "LABELS")
    show(screen, table(headings, rows, whole=3))
    if len(found) == limit:
        line(screen, f"These are the latest {limit}; there may be more (--limit, --until).", "yellow")


def _how(each: pb.ListDisclosuresResponse) -> str:
    return "masked" if each.shown == pb.SHOWN_MASKED else "clear"


def _name(each: pb.ListDisclosuresResponse) -> str:
    return f"{each.dataset} {each.field}" if each.field.startswith("$") else f"{each.dataset}.{each.field}"


def _document(each: pb.ListDisclosuresResponse) -> dict[str, object]:
    return {
        "at": each.at.ToDatetime(datetime.UTC).isoformat(),
        "session": each.session_id,
        "seq": each.seq,
        "shown": _how(each),
        "subject": each.subject,
        "root": each.root,
        "run": each.run,
        "resource": each.resource,
        "dataset": each.dataset,
        "field": each.field,
        "labels": list(each.labels),
        "rows": each.rows,
        "decision_id": each.decision_id,
    }
