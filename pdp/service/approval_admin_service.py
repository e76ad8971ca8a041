"""ApprovalAdminService of the contract: what people do about approvals beside answering them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import grpc
import grpc.aio
import structlog

from pdp.approvals.approvals import Approvals
from pdp.approvals.errors import NotPossible
from pdp.approvals.notifications import Notifications
from pdp.service.approval_messages import approval_message
from pdp.service.people import People
from pdp.service.refusal import Refused
from pdp.service.times import timestamp
from pdp.store import notifications as stored
from pdp.store.database import Database
from pdp.store.notifications import Notification, NotificationState
from pdp.v1 import approval_admin_service_pb2 as pb
from pdp.v1 import approval_admin_service_pb2_grpc

log = structlog.get_logger("pdp.admin")

Context = grpc.aio.ServicerContext[Any, Any]

_STATES: Final[Mapping[NotificationState, pb.NotificationState]] = {
    NotificationState.WAITING: pb.NOTIFICATION_STATE_WAITING,
    NotificationState.SENT: pb.NOTIFICATION_STATE_SENT,
    NotificationState.DEAD: pb.NOTIFICATION_STATE_DEAD,
    NotificationState.OVER: pb.NOTIFICATION_STATE_OVER,
}
_BY_NUMBER: Final = {number: state for state, number in _STATES.items()}
_UNDELIVERED: Final = (NotificationState.WAITING, NotificationState.DEAD)


class ApprovalAdminService(approval_admin_service_pb2_grpc.ApprovalAdminServiceServicer):
    """The calls of people."""

    def __init__(
        self, *, people: People, approvals: Approvals, notifications: Notifications, database: Database
    ) -> None:
        self._people = people
        self._approvals = approvals
        self._notifications = notifications
        self._database = database

    async def WithdrawApproval(  # noqa: N802
        self, request: pb.WithdrawApprovalRequest, context: Context
    ) -> pb.WithdrawApprovalResponse:
        found = await self._approvals.find_by_prefix(request.approval_id) if request.approval_id else []
        target = found[0].id if len(found) == 1 else request.approval_id
        who = await self._people.permitted(context, "approvals.withdraw", target)
        if len(found) != 1:
            text = "more than one approval begins with that" if found else "there is no such approval"
            raise Refused(grpc.StatusCode.NOT_FOUND, text)
        try:
            approval = await self._approvals.withdraw(target, who, request.comment)
        except NotPossible as error:
            raise Refused(grpc.StatusCode.FAILED_PRECONDITION, str(error)) from None
        return pb.WithdrawApprovalResponse(approval=approval_message(approval))

    async def ListNotifications(  # noqa: N802
        self, request: pb.ListNotificationsRequest, context: Context
    ) -> pb.ListNotificationsResponse:
        await self._people.permitted(context, "notifications.read")
        states = [_BY_NUMBER[state] for state in request.states if state in _BY_NUMBER] or _UNDELIVERED
        found = await self._database.short.run(lambda connection: stored.newest(connection, states))
        return pb.ListNotificationsResponse(notifications=map(_message, found))

    async def RetryNotification(  # noqa: N802
        self, request: pb.RetryNotificationRequest, context: Context
    ) -> pb.RetryNotificationResponse:
        who = await self._people.permitted(context, "notifications.retry", request.notification_id)
        count = await self._notifications.retry(self._database, request.notification_id)
        if request.notification_id and not count:
            raise Refused(grpc.StatusCode.NOT_FOUND, "there is no such notification that was given up")
        log.info("notifications tried again", count=count, by=who.subject.key)
        return pb.RetryNotificationResponse(retried=count)

    async def WhoAmI(self, request: pb.WhoAmIRequest, context: Context) -> pb.WhoAmIResponse:  # noqa: ARG002, N802
        who = await self._people.caller(context)
        return pb.WhoAmIResponse(
            type=who.subject.type,
            id=who.subject.id,
            groups=who.subject.groups,
            issuer=who.subject.issuer,
            expires_at=timestamp(who.expires_at),
            signed_in_at=timestamp(who.signed_in_at),
            unfit=self._approvals.unfit(who) or "",
        )


def _message(notification: Notification) -> pb.Notification:
    return pb.Notification(
        notification_id=notification.id,
        approval_id=notification.approval_id,
        destination=notification.destination,
        state=_STATES[notification.state],
        attempts=notification.attempts,
        created_at=timestamp(notification.created_at),
        next_at=timestamp(notification.next_at),
        last_error=notification.last_error,
    )
