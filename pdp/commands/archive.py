"""`pdp records erase`: what people do with what is kept, beside proving it."""

from __future__ import annotations

from typing import Annotated

import typer

from pdp.commands.connection import Connection, acting
from pdp.commands.failure import Failure, Status
from pdp.commands.screen import console, line
from pdp.shown import shown
from pdp.v1 import archive_service_pb2 as pb
from pdp.v1.archive_service_pb2_grpc import ArchiveServiceStub

ERASE_EXAMPLE = (
    "Example: pdp records erase s-4qz\n\nEverything that a person and her agents said: pdp records erase --subject"
    " user:ana"
)


@acting
async def erase(
    connection: Connection,
    id: Annotated[str, typer.Argument(metavar="SESSION", help="The session's id, or the beginning of it.")] = "",
    subject: Annotated[
        str, typer.Option(metavar="TYPE:ID", help="Every session of this subject; of a person's agents too.")
    ] = "",
    bodies: Annotated[
        bool, typer.Option("--bodies", help="Only bodies of records; not the inputs of decisions, texts of approvals.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Erase statements, parameters and results from the records. It cannot be undone.

    The events stay, the chains still hold, and that something was erased, and by whom, is on record.
    """
    if bool(id) == bool(subject):
        raise Failure("give one of SESSION and --subject", Status.USAGE)
    if not yes and not _sure(f"Erase what {shown(id or subject)} said and was told, for good?"):
        raise Failure("nothing was erased")
    request = pb.EraseRecordsRequest(bodies_only=bodies)
    if id:
        request.session_id = id
    else:
        request.subject = subject
    answer = await connection.call("EraseRecords", request, action="records.erase", stub=ArchiveServiceStub)
    screen = console()
    line(screen, f"erased {answer.bodies:,} bodies and {answer.texts:,} other texts of {answer.sessions:,} sessions")
    for each in answer.open:
        line(screen, f"left as it is, because it is open: {shown(each)}", "yellow")
    for each in answer.refused:
        line(screen, f"left as it is, because the policies do not allow it: {shown(each)}", "yellow")
    if answer.open or answer.refused:
        raise Failure(f"{len(answer.open) + len(answer.refused):,} sessions were left as they are")


def _sure(question: str) -> bool:
    try:
        return typer.confirm(question)
    except typer.Abort:
        raise Failure("no answer, so nothing was erased (--yes does it without asking)") from None
