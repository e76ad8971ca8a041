"""`pdp approvals withdraw`, `notifications` and `retry`: what people do about approvals beside answering them."""

from __future__ import annotations

import datetime
from typing import Annotated

import typer

from pdp.commands.approval_view import state_name
from pdp.commands.connection import Connection, acting
from pdp.commands.screen import clock, console, line, show, table
from pdp.shown import shown
from pdp.v1 import approval_admin_service_pb2 as pb
from pdp.v1.approval_admin_service_pb2_grpc import ApprovalAdminServiceStub


@acting
async def withdraw(
    connection: Connection,
    id: Annotated[str, typer.Argument(metavar="ID", help="The approval's id, or the beginning of it.")],
    comment: Annotated[str, typer.Option(metavar="TEXT", help="Why; it is on record.")] = "",
) -> None:
    """Take back a yes that is not used up. What has been executed with it stays executed."""
    request = pb.WithdrawApprovalRequest(approval_id=id, comment=comment)
    answer = await connection.call(
        "WithdrawApproval", request, action="approvals.withdraw", stub=ApprovalAdminServiceStub
    )
    line(console(), f"{shown(answer.approval.approval_id)} is {state_name(answer.approval.state)}")


@acting
async def notifications(
    connection: Connection,
    every: Annotated[bool, typer.Option("--all", help="Also those that were delivered.")] = False,
) -> None:
    """List the notifications that wait to be delivered or were given up, newest first."""
    states = [name for name, number in pb.NotificationState.items() if number] if every else []
    request = pb.ListNotificationsRequest(states=states)
    answer = await connection.call(
        "ListNotifications", request, action="notifications.read", stub=ApprovalAdminServiceStub
    )
    screen = console()
    if not answer.notifications:
        line(screen, "no notifications" if every else "every notification was delivered")
        return
    headings = ("ID", "STATE", "TO", "APPROVAL", "MADE", "TRIED", "NEXT", "LAST ERROR")
    show(screen, table(headings, map(_row, answer.notifications)))


@acting
async def retry(
    connection: Connection,
    id: Annotated[str, typer.Argument(metavar="ID", help="One notification; without it all that were given up.")] = "",
) -> None:
    """Try notifications again that were given up."""
    request = pb.RetryNotificationRequest(notification_id=id)
    answer = await connection.call(
        "RetryNotification", request, action="notifications.retry", stub=ApprovalAdminServiceStub
    )
    line(console(), f"{answer.retried} tried again")


def _row(notification: pb.Notification) -> tuple[str, ...]:
    waits = notification.state == pb.NOTIFICATION_STATE_WAITING
    return (
        shown(notification.notification_id),
        pb.NotificationState.Name(notification.state).removeprefix("NOTIFICATION_STATE_").lower(),
        shown(notification.destination),
        shown(notification.approval_id),
        clock(notification.created_at.ToDatetime(datetime.UTC)),
        str(notification.attempts),
        clock(notification.next_at.ToDatetime(datetime.UTC)) if waits else "",
        shown(notification.last_error),
    )
