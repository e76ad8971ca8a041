"""`pdp policy history`, `diff`, `rollback`, `resume`: the policies of a running service through time."""

from __future__ import annotations

import datetime
from typing import Annotated, Final

import typer

from pdp import policy_cli
from pdp.commands.connection import Connection, acting
from pdp.commands.failure import Status
from pdp.commands.screen import clock, console, line
from pdp.shown import shown
from pdp.v1 import policy_service_pb2 as pb

app = policy_cli.app

_Revision = Annotated[str, typer.Argument(metavar="REVISION", help="The revision, or the beginning of it.")]
_STYLES: Final = {"refused": "bold red", "rolled back": "yellow", "resumed": "yellow", "last good": "yellow"}
_FIRST_COLUMNS: Final = {"+": "green", "-": "red", "@": "cyan"}


@app.command(epilog="Example: pdp policy history --limit 5")
@acting
async def history(
    connection: Connection,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="At most so many.")] = 20,
) -> None:
    """Say which policies were in force when, what changed, and what was wrong with files that were refused."""
    request = pb.ListPolicyChangesRequest(limit=limit)
    answer = await connection.policies("ListPolicyChanges", request, action="policy.read")
    screen = console()
    if not answer.changes:
        line(screen, "no policies were ever in force")
    for each in answer.changes:
        by = f" by {shown(each.by)}" if each.by else ""
        gone = "" if each.kept or not each.revision else " (no longer kept)"
        at = clock(each.at.ToDatetime(datetime.UTC))
        text = f"{at}  {shown(each.revision or 'none')}  {shown(each.change)}{by}{gone}"
        line(screen, text, _STYLES.get(each.change, ""))
        for change in each.changes:
            line(screen, f"    {shown(change)}")
        if each.problems:
            line(screen, shown(each.problems, limit=None, gutter="    "))


@app.command(epilog="Example: pdp policy diff sha256:3f2a\n\nBetween two: pdp policy diff 3f2a 77c1")
@acting
async def diff(
    connection: Connection,
    before: _Revision,
    after: Annotated[str, typer.Argument(metavar="[REVISION]", help="By default what is in force.")] = "",
) -> None:
    """Say what differs between two revisions."""
    request = pb.DiffPoliciesRequest(before=before, after=after)
    answer = await connection.policies("DiffPolicies", request, action="policy.read")
    screen = console()
    for each in answer.lines:
        line(screen, shown(each, limit=None), _FIRST_COLUMNS.get(each[:1], ""))
    if not answer.lines:
        line(screen, "nothing differs")


@app.command(epilog="Example: pdp policy rollback sha256:3f2a")
@acting
async def rollback(connection: Connection, revision: _Revision) -> None:
    """Put an earlier revision in force, at once, until the policy files change or `pdp policy resume`.

    It needs the action policy.rollback, survives a restart, and is on record.
    """
    request = pb.RollBackRequest(revision=revision)
    answer = await connection.policies("RollBack", request, action="policy.rollback")
    line(console(), f"{shown(answer.revision)} is in force")


@app.command(epilog="Example: pdp policy resume")
@acting
async def resume(connection: Connection) -> None:
    """Put the policy files in force again, after a rollback."""
    answer = await connection.policies("Resume", pb.ResumeRequest(), action="policy.rollback")
    screen = console()
    line(screen, f"{shown(answer.revision)} is in force")
    if answer.policy_error:
        line(screen, "It is the last good one: the policy files are broken:", "bold red")
        line(screen, shown(answer.policy_error, limit=None, gutter="  "))
        raise typer.Exit(Status.WRONG)
