"""The messages of the decision service's calls, made of the values of `decision_client` and `shipments`, and read back.

Pure. Actions, decisions and obligations, which several calls have in them, are in `translate`.
"""

from __future__ import annotations

from typing import Final, assert_never

from google.protobuf.timestamp_pb2 import Timestamp

from pdp.v1 import approval_service_pb2, audit_service_pb2, decision_service_pb2
from pep.core import translate
from pep.core.decision_client import (
    ApprovalRequest,
    ApprovalUpdate,
    Bearer,
    ClientCertificate,
    Jwt,
    Login,
    PendingApproval,
    StaticKey,
)
from pep.core.errors import DecisionUnavailable
from pep.core.model import Allow, Deny, Mask, Reason, RequireApproval
from pep.core.sessions import SessionEnded, SessionHandle, Token, WatchNews
from pep.core.shipments import Countersign, Mark, Shipment, Spooled
from pep.core.signer import Signed

_STATES: Final = {
    approval_service_pb2.APPROVAL_STATE_PENDING: "pending",
    approval_service_pb2.APPROVAL_STATE_APPROVED: "approved",
    approval_service_pb2.APPROVAL_STATE_DENIED: "denied",
    approval_service_pb2.APPROVAL_STATE_EXPIRED: "expired",
    approval_service_pb2.APPROVAL_STATE_CANCELLED: "cancelled",
    approval_service_pb2.APPROVAL_STATE_REDEEMED: "redeemed",
    approval_service_pb2.APPROVAL_STATE_WITHDRAWN: "withdrawn",
}


def opening(login: Login) -> decision_service_pb2.OpenSessionRequest:
    request = decision_service_pb2.OpenSessionRequest(
        resource=login.resource,
        protocol=login.protocol,
        client_address=login.client_address,
        labels=login.labels,
        supported_obligations=login.supported,
    )
    match login.credential:
        case Jwt(token):
            request.jwt = token
        case StaticKey(key):
            request.static_key = key
        case Bearer(secret):
            request.bearer = secret
        case ClientCertificate(chain):
            request.certificate.chain.extend(chain)
        case never:
            assert_never(never)
    return request


def opened(answer: decision_service_pb2.OpenSessionResponse, login: Login) -> SessionHandle | Deny:
    decision = translate.decision(answer.decision)
    match decision:
        case Deny():
            return decision
        case RequireApproval() | Mask():
            words = "a connection can only be allowed or denied"
            return Deny(decision.decision_id, decision.policy_revision, (Reason("connect-not-allowed", words),))
        case Allow():
            pass
    if not (answer.session_id and answer.token and answer.subject.id):
        raise DecisionUnavailable("the decision service opened a session without saying which or whose")
    duties = dict.fromkeys((*translate.obligations(answer.obligations), *decision.obligations))
    return SessionHandle(
        session_id=answer.session_id,
        token=answer.token,
        subject=translate.subject(answer.subject),
        resource=login.resource,
        protocol=login.protocol,
        decision_id=decision.decision_id,
        policy_revision=decision.policy_revision,
        obligations=tuple(duties),
        input_paths=frozenset(answer.input_paths),
        input_paths_revision=answer.input_paths_revision or decision.policy_revision,
        credential_expires_at=translate.epoch(answer.credential_expires_at),
        token_expires_at=translate.epoch(answer.token_expires_at),
    )


def refreshed(answer: decision_service_pb2.RefreshSessionResponse) -> Token | str:
    """The new token, or why the session has to end."""
    if answer.ended_because or not answer.token:
        return answer.ended_because or "the session was not renewed"
    expires = translate.epoch(answer.token_expires_at)
    return Token(answer.token, expires, frozenset(answer.input_paths), answer.input_paths_revision)


def asking(session: SessionHandle, request: ApprovalRequest) -> approval_service_pb2.RequestApprovalRequest:
    message = approval_service_pb2.RequestApprovalRequest(
        token=session.token,
        decision_id=request.decision_id,
        idempotency_key=request.key,
        action=translate.action_message(request.action, translate.EVERYTHING),
        action_digest=request.digest,
        in_transaction=request.in_transaction,
        detached=request.detached,
    )
    if request.hold is not None:
        message.hold.CopyFrom(translate.duration(request.hold))
    if request.estimate is not None:
        message.estimate.CopyFrom(translate.estimate(request.estimate))
    return message


def pending(answer: approval_service_pb2.RequestApprovalResponse) -> PendingApproval:
    if not answer.approval_id:
        raise DecisionUnavailable("the decision service named no approval")
    expires = translate.epoch(answer.expires_at)
    approved = answer.state == approval_service_pb2.APPROVAL_STATE_APPROVED
    return PendingApproval(answer.approval_id, answer.url, expires, tuple(answer.approvers), approved)


def update(answer: approval_service_pb2.AwaitApprovalResponse) -> ApprovalUpdate:
    return ApprovalUpdate(_STATES.get(answer.state, "unknown"), answer.comment)


def news(answer: decision_service_pb2.WatchResponse) -> WatchNews:
    match answer.WhichOneof("event"):
        case "snapshot":
            ended = tuple(SessionEnded(each.session_id, each.reason) for each in answer.snapshot.sessions_ended)
            return WatchNews(answer.snapshot.policy_revision, ended)
        case "policy_revision":
            return WatchNews(answer.policy_revision)
        case "session_ended":
            return WatchNews(ended=(SessionEnded(answer.session_ended.session_id, answer.session_ended.reason),))
        case _:
            return WatchNews()


def acknowledgement(number: int, stands: Spooled | None) -> decision_service_pb2.WatchRequest:
    """Of the news with that number; with it, how the records stand, where that is to be said."""
    request = decision_service_pb2.WatchRequest(acknowledged=number)
    if stands is not None:
        request.spool.bytes, request.spool.limit = stands.size, stands.limit
        request.spool.trouble, request.spool.failed = stands.trouble, stands.failed
        request.spool.age.CopyFrom(translate.duration(stands.age))
    return request


def record(item: Shipment | Countersign | Mark) -> audit_service_pb2.RecordRequest:
    """What is shipped as a message; the bytes of a spooled record are unchanged."""
    match item:
        case Mark():
            until = Timestamp()
            until.FromMicroseconds(int(item.complete_until * 1_000_000))
            mark = audit_service_pb2.Mark(complete_until=until, sessions=item.sessions, refused=item.refused)
            return audit_service_pb2.RecordRequest(session_id=item.process, mark=mark)
        case Countersign():
            message = audit_service_pb2.RecordRequest(session_id=item.session, seq=item.seq)
        case Shipment():
            message = audit_service_pb2.RecordRequest(session_id=item.session, seq=item.seq)
            if item.body is None:
                message.event = item.data
            else:
                message.body.index, message.body.salt, message.body.content = item.body, item.salt, item.data
        case never:
            assert_never(never)
    if item.signed is not None:
        message.checkpoint.CopyFrom(_checkpoint(item.signed))
    return message


def _checkpoint(signed: Signed) -> audit_service_pb2.Checkpoint:
    return audit_service_pb2.Checkpoint(hash=signed.hash, certificates=signed.certificates, signature=signed.signature)
