"""`pdp revoke`, `restore`, `revocations` and `keys`: who is let in no more, and what signs the tokens of sessions."""

from __future__ import annotations

import datetime
from typing import Annotated

import typer

from pdp.commands.connection import Connection, acting
from pdp.commands.failure import Failure, Status
from pdp.commands.screen import clock, console, line, show, table
from pdp.shown import shown
from pdp.v1 import revocation_service_pb2 as pb
from pdp.v1.config_values import parse_duration
from pdp.v1.revocation_service_pb2_grpc import RevocationServiceStub

keys = typer.Typer(no_args_is_help=True, help="Keys of this service.")

_Kind = Annotated[str, typer.Argument(metavar="KIND", help="subject, key, token, certificate or proxy.")]
_Name = Annotated[
    str,
    typer.Argument(
        metavar="NAME",
        help="TYPE:ID of a subject, the id of a key, ISSUER:ID of a token, SHA-256 of a certificate, name of a proxy.",
    ),
]

REVOKE_EXAMPLE = (
    'Example: pdp revoke subject user:ana --reason "left on Friday"\n\n'
    'A key for two hours: pdp revoke key ci-7 --reason "seen in a log" --until 2h'
)


@acting
async def revoke(
    connection: Connection,
    kind: _Kind,
    name: _Name,
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Why; whoever is cut off is shown it.")],
    until: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="When it ends by itself: an instant with its zone, or a time from now (2h)."),
    ] = None,
) -> None:
    """Let somebody or something in no more, and end its open sessions and pending approvals.

    A subject that is revoked takes along whoever acts for it, and the tokens that it had made.
    """
    request = pb.RevokeRequest(revoked=pb.Revoked(kind=kind, name=name), reason=reason)
    if until is not None:
        request.until.FromDatetime(_instant(until))
    answer = await connection.call("Revoke", request, action="access.revoke", stub=RevocationServiceStub)
    line(console(), f"{shown(kind)} {shown(name)} is revoked; sessions ended: {answer.sessions_ended}")


@acting
async def restore(connection: Connection, kind: _Kind, name: _Name) -> None:
    """Take a revocation back. What it ended stays ended."""
    request = pb.RestoreRequest(revoked=pb.Revoked(kind=kind, name=name))
    await connection.call("Restore", request, action="access.restore", stub=RevocationServiceStub)
    line(console(), f"{shown(kind)} {shown(name)} is let in again")


@acting
async def revocations(connection: Connection) -> None:
    """List who and what is revoked, newest first."""
    request = pb.ListRevocationsRequest()
    answer = await connection.call("ListRevocations", request, action="access.read", stub=RevocationServiceStub)
    screen = console()
    if not answer.revocations:
        line(screen, "nothing is revoked")
        return
    rows = [
        (
            shown(each.revoked.kind),
            shown(each.revoked.name),
            clock(each.revoked_at.ToDatetime(datetime.UTC)),
            clock(each.until.ToDatetime(datetime.UTC)) if each.HasField("until") else "",
            shown(each.revoked_by),
            shown(each.reason, limit=400),
        )
        for each in answer.revocations
    ]
    show(screen, table(("KIND", "NAME", "SINCE", "UNTIL", "BY", "WHY"), rows, whole=2))


@keys.command("rotate", epilog="Example: pdp keys rotate")
@acting
async def rotate(
    connection: Connection,
    checkpoints: Annotated[bool, typer.Option("--checkpoints", help="The key that signs records instead.")] = False,
) -> None:
    """Make a new key for the tokens of sessions; what the old one signed stays good to its end.

    This happens by itself, as often as pdp.session_tokens.rotate says. A key for checkpoints is made on demand alone;
    print the public keys again afterwards (pdp records keys) and keep them where the service cannot write.
    """
    if checkpoints:
        wanted = pb.RotateCheckpointKeyRequest()
        made = await connection.call("RotateCheckpointKey", wanted, action="keys.rotate", stub=RevocationServiceStub)
        line(console(), f"{shown(made.key_id)} signs checkpoints from now on")
        return
    request = pb.RotateSessionKeysRequest()
    answer = await connection.call("RotateSessionKeys", request, action="keys.rotate", stub=RevocationServiceStub)
    line(console(), f"{shown(answer.key_id)} signs from {clock(answer.signs_from.ToDatetime(datetime.UTC))} on")


def _instant(text: str) -> datetime.datetime:
    try:
        return datetime.datetime.now(datetime.UTC) + parse_duration(text)
    except ValueError:
        pass
    try:
        instant = datetime.datetime.fromisoformat(text)
    except ValueError:
        instant = None
    if instant is None or instant.tzinfo is None:
        raise Failure(
            "--until is a time from now, like 2h, or an instant with its zone, like 2030-01-31T00:00:00Z", Status.USAGE
        )
    return instant.astimezone(datetime.UTC)
