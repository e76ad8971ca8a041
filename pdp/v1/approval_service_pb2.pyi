import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from pdp.v1 import access_pb2 as _access_pb2
from pdp.v1 import decision_pb2 as _decision_pb2
from pdp.v1 import decision_service_pb2 as _decision_service_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ApprovalState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    APPROVAL_STATE_UNSPECIFIED: _ClassVar[ApprovalState]
    APPROVAL_STATE_PENDING: _ClassVar[ApprovalState]
    APPROVAL_STATE_APPROVED: _ClassVar[ApprovalState]
    APPROVAL_STATE_DENIED: _ClassVar[ApprovalState]
    APPROVAL_STATE_EXPIRED: _ClassVar[ApprovalState]
    APPROVAL_STATE_CANCELLED: _ClassVar[ApprovalState]
    APPROVAL_STATE_REDEEMED: _ClassVar[ApprovalState]
    APPROVAL_STATE_WITHDRAWN: _ClassVar[ApprovalState]
APPROVAL_STATE_UNSPECIFIED: ApprovalState
APPROVAL_STATE_PENDING: ApprovalState
APPROVAL_STATE_APPROVED: ApprovalState
APPROVAL_STATE_DENIED: ApprovalState
APPROVAL_STATE_EXPIRED: ApprovalState
APPROVAL_STATE_CANCELLED: ApprovalState
APPROVAL_STATE_REDEEMED: ApprovalState
APPROVAL_STATE_WITHDRAWN: ApprovalState

class RequestApprovalRequest(_message.Message):
    __slots__ = ("meta", "token", "decision_id", "idempotency_key", "action", "action_digest", "in_transaction", "hold", "detached", "estimate")
    META_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    DECISION_ID_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENCY_KEY_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    ACTION_DIGEST_FIELD_NUMBER: _ClassVar[int]
    IN_TRANSACTION_FIELD_NUMBER: _ClassVar[int]
    HOLD_FIELD_NUMBER: _ClassVar[int]
    DETACHED_FIELD_NUMBER: _ClassVar[int]
    ESTIMATE_FIELD_NUMBER: _ClassVar[int]
    meta: _decision_service_pb2.RequestMeta
    token: str
    decision_id: str
    idempotency_key: str
    action: _access_pb2.Action
    action_digest: bytes
    in_transaction: bool
    hold: _duration_pb2.Duration
    detached: bool
    estimate: _access_pb2.Estimate
    def __init__(self, meta: _Optional[_Union[_decision_service_pb2.RequestMeta, _Mapping]] = ..., token: _Optional[str] = ..., decision_id: _Optional[str] = ..., idempotency_key: _Optional[str] = ..., action: _Optional[_Union[_access_pb2.Action, _Mapping]] = ..., action_digest: _Optional[bytes] = ..., in_transaction: _Optional[bool] = ..., hold: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., detached: _Optional[bool] = ..., estimate: _Optional[_Union[_access_pb2.Estimate, _Mapping]] = ...) -> None: ...

class RequestApprovalResponse(_message.Message):
    __slots__ = ("approval_id", "url", "expires_at", "approvers", "state")
    APPROVAL_ID_FIELD_NUMBER: _ClassVar[int]
    URL_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_FIELD_NUMBER: _ClassVar[int]
    APPROVERS_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    approval_id: str
    url: str
    expires_at: _timestamp_pb2.Timestamp
    approvers: _containers.RepeatedScalarFieldContainer[str]
    state: ApprovalState
    def __init__(self, approval_id: _Optional[str] = ..., url: _Optional[str] = ..., expires_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., approvers: _Optional[_Iterable[str]] = ..., state: _Optional[_Union[ApprovalState, str]] = ...) -> None: ...

class AwaitApprovalRequest(_message.Message):
    __slots__ = ("token", "approval_id")
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    APPROVAL_ID_FIELD_NUMBER: _ClassVar[int]
    token: str
    approval_id: str
    def __init__(self, token: _Optional[str] = ..., approval_id: _Optional[str] = ...) -> None: ...

class AwaitApprovalResponse(_message.Message):
    __slots__ = ("state", "comment")
    STATE_FIELD_NUMBER: _ClassVar[int]
    COMMENT_FIELD_NUMBER: _ClassVar[int]
    state: ApprovalState
    comment: str
    def __init__(self, state: _Optional[_Union[ApprovalState, str]] = ..., comment: _Optional[str] = ...) -> None: ...

class CancelApprovalRequest(_message.Message):
    __slots__ = ("meta", "token", "approval_id", "reason")
    META_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    APPROVAL_ID_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    meta: _decision_service_pb2.RequestMeta
    token: str
    approval_id: str
    reason: str
    def __init__(self, meta: _Optional[_Union[_decision_service_pb2.RequestMeta, _Mapping]] = ..., token: _Optional[str] = ..., approval_id: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class CancelApprovalResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class RedeemApprovalRequest(_message.Message):
    __slots__ = ("meta", "token", "approval_id", "action_digest", "execution_id")
    META_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    APPROVAL_ID_FIELD_NUMBER: _ClassVar[int]
    ACTION_DIGEST_FIELD_NUMBER: _ClassVar[int]
    EXECUTION_ID_FIELD_NUMBER: _ClassVar[int]
    meta: _decision_service_pb2.RequestMeta
    token: str
    approval_id: str
    action_digest: bytes
    execution_id: str
    def __init__(self, meta: _Optional[_Union[_decision_service_pb2.RequestMeta, _Mapping]] = ..., token: _Optional[str] = ..., approval_id: _Optional[str] = ..., action_digest: _Optional[bytes] = ..., execution_id: _Optional[str] = ...) -> None: ...

class RedeemApprovalResponse(_message.Message):
    __slots__ = ("decision",)
    DECISION_FIELD_NUMBER: _ClassVar[int]
    decision: _decision_pb2.Decision
    def __init__(self, decision: _Optional[_Union[_decision_pb2.Decision, _Mapping]] = ...) -> None: ...
