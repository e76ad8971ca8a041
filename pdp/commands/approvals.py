"""`pdp approvals`: what waits for people, and their answers."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from pdp.commands import approval_notices
from pdp.commands import approval_view as view
from pdp.commands.connection import Connection, acting
from pdp.commands.failure import Failure, Status
from pdp.commands.screen import console, facts, line, show, span, table
from pdp.shown import shown
from pdp.v1 import admin_service_pb2 as pb
from pdp.v1.approval_service_pb2 import APPROVAL_STATE_PENDING, ApprovalState

app = typer.Typer(no_args_is_help=True, help="Answer what waits for people.")

app.command("withdraw", epilog="Example: pdp approvals withdraw a-x3k")(approval_notices.withdraw)
app.command("notifications", epilog="Example: pdp approvals notifications")(approval_notices.notifications)
app.command("retry", epilog="Example: pdp approvals retry")(approval_notices.retry)

_Id = Annotated[str, typer.Argument(metavar="ID", help="The approval's id, or the beginning of it.")]
_Full = Annotated[bool, typer.Option("--full", help="Show everything, however long it is.")]
_ALARMING = ("NOT ", "GIVES ", "REACHES ", "EVERY ", "ALSO ")


@app.command("list", epilog="Example: pdp approvals list\n\nEverything, the past included: pdp approvals list --all")
@acting
async def list_(
    connection: Connection,
    every: Annotated[bool, typer.Option("--all", help="Also those that have been answered or have ended.")] = False,
    each: Annotated[bool, typer.Option("--each", help="Each of those that differ in values alone.")] = False,
) -> None:
    """List what waits for an answer, newest first; of one run's that differ in values alone, the oldest."""
    states = [name for name, number in ApprovalState.items() if number] if every else []
    request = pb.ListApprovalsRequest(states=states, unfolded=each)
    answer = await connection.call("ListApprovals", request, action="approvals.read")
    screen = console()
    if not answer.approvals:
        line(screen, "no approvals" if every else "nothing waits for an answer")
        return
    now = datetime.datetime.now(datetime.UTC)
    headings = ("ID", "STATE", "ASKED", "WHO", "NODE", "ON", "ACTION", "HELD BY")
    show(screen, table(headings, (_row(each, now) for each in answer.approvals)))


@app.command("show", epilog="Example: pdp approvals show a-x3k")
@acting
async def show_(connection: Connection, id: _Id, full: _Full = False) -> None:
    """Show one: who asks, from which node, what it touches, why it is held, the whole statement."""
    answer = await _get(connection, id)
    _print(console(), answer, None if full else view.STATEMENT_LIMIT)


@app.command(
    epilog="Example: pdp approvals approve a-x3k\n\nIn a script, after looking: pdp approvals approve a-x3k --yes"
)
@acting
async def approve(
    connection: Connection,
    id: _Id,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask again.")] = False,
    full: _Full = False,
    max_rows: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="At most so many rows: if it would change more, nothing happens."),
    ] = None,
) -> None:
    """Show one, ask, and say yes to exactly what was shown.

    Your yes is bound to the digest of what is on the screen: if the command has changed meanwhile, it does not count.
    It may narrow what is asked, and never widens it.
    """
    answer = await _get(connection, id)
    approval = answer.approval
    limit = None if full else view.STATEMENT_LIMIT
    _print(console(), answer, limit)
    _must_be_pending(approval)
    _must_be_what_is_shown(approval)
    if not view.is_whole(approval, limit):
        raise Failure("not everything of it is shown: look at the rest first, with --full", Status.USAGE)
    if not yes:
        _ask(
            "Approve exactly this?" if max_rows is None else f"Approve exactly this, for at most {view.rows(max_rows)}?"
        )
    await _resolve(connection, approval, pb.ResolveApprovalRequest(yes=pb.Yes(max_rows=max_rows)))


@app.command(epilog='Example: pdp approvals deny a-x3k --comment "archive them instead"')
@acting
async def deny(
    connection: Connection,
    id: _Id,
    comment: Annotated[str, typer.Option(metavar="TEXT", help="Why; the client is shown it.")],
) -> None:
    """Say no. The client is told at once, with your comment."""
    approval = (await _get(connection, id)).approval
    _must_be_pending(approval)
    await _resolve(connection, approval, pb.ResolveApprovalRequest(no=pb.No(comment=comment)))


def _row(approval: pb.Approval, now: datetime.datetime) -> Sequence[str | Text]:
    asked = span(now - approval.created_at.ToDatetime(datetime.UTC))
    held = ", ".join(f"{shown(each.policy)}/{shown(each.code)}" for each in approval.requirements)
    return (
        shown(approval.approval_id),
        view.state_name(approval.state),
        f"{asked} ago",
        f"{shown(approval.subject.type)}:{shown(approval.subject.id)}",
        shown(approval.subject.workflow),
        shown(approval.resource),
        view.summary(approval) + (f" (+{approval.alike - 1:,} alike)" if approval.alike > 1 else ""),
        held,
    )


def _print(screen: Console, answer: pb.GetApprovalResponse, limit: int | None) -> None:
    approval = answer.approval
    now = datetime.datetime.now(datetime.UTC)
    pairs = view.facts(approval, now, limit)
    show(screen, facts((name, Text(value, "bold red" if name.startswith(_ALARMING) else "")) for name, value in pairs))
    for each in (*view.recent(answer.recent), *view.statement(approval, limit)):
        line(screen, each)


def _must_be_pending(approval: pb.Approval) -> None:
    """Said before anybody is asked; the service holds it all the same."""
    if approval.state != APPROVAL_STATE_PENDING:
        state = view.state_name(approval.state)
        raise Failure(f"{shown(approval.approval_id)} is no longer pending but {state}", Status.NOT_POSSIBLE)


def _must_be_what_is_shown(approval: pb.Approval) -> None:
    """The digest that the service wants must be that of what it sent to be shown.

    Where the policies hide the values it cannot be: the service vouches for it then, and the screen says so.
    """
    if approval.hidden:
        return
    if view.digest_of(approval) != approval.action_digest:
        raise Failure(
            "the digest of the approval is not that of what is shown here, so what you would approve is not what you "
            "see; nothing was sent. Deny it, and have the decision service looked at."
        )


def _ask(question: str) -> None:
    try:
        if not typer.confirm(question):
            raise Failure("nothing was sent", Status.WRONG)
    except typer.Abort:
        raise Failure("no answer, so nothing was sent (--yes answers without asking)", Status.WRONG) from None


async def _get(connection: Connection, id: str) -> pb.GetApprovalResponse:
    request = pb.GetApprovalRequest(approval_id=id)
    answer = await connection.call("GetApproval", request, action="approval.view")
    assert isinstance(answer, pb.GetApprovalResponse)
    return answer


async def _resolve(connection: Connection, approval: pb.Approval, request: pb.ResolveApprovalRequest) -> None:
    request.approval_id = approval.approval_id
    request.action_digest = approval.action_digest
    answer = await connection.call("ResolveApproval", request, action="approve")
    state = view.state_name(answer.approval.state)
    line(console(), _outcome(answer.approval, state), "green" if state == "approved" else "")


def _outcome(approval: pb.Approval, state: str) -> str:
    named = shown(approval.approval_id)
    if state != "pending":
        return f"{named} is {state}"
    missing = ", ".join(
        f"{shown(each.policy)}/{shown(each.code)} (needs {each.count} of {', '.join(map(shown, each.approvers))})"
        for each in approval.requirements
    )
    return f"{named} is still pending: your yes counts, and more are needed for {missing}"
