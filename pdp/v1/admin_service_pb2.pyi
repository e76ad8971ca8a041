import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from pdp.v1 import access_pb2 as _access_pb2
from pdp.v1 import approval_service_pb2 as _approval_service_pb2
from pdp.v1 import decision_pb2 as _decision_pb2
from pdp.v1 import decision_service_pb2 as _decision_service_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Approval(_message.Message):
    __slots__ = ("approval_id", "state", "subject", "resource", "action", "requirements", "assents", "created_at", "expires_at", "action_digest", "in_transaction", "session_id", "decision_id", "comment", "alike", "sentence", "estimate", "owners", "waits_until", "grant_for", "grant_uses", "uses_left", "hidden", "max_rows")
    APPROVAL_ID_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    RESOURCE_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    REQUIREMENTS_FIELD_NUMBER: _ClassVar[int]
    ASSENTS_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_FIELD_NUMBER: _ClassVar[int]
    ACTION_DIGEST_FIELD_NUMBER: _ClassVar[int]
    IN_TRANSACTION_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    DECISION_ID_FIELD_NUMBER: _ClassVar[int]
    COMMENT_FIELD_NUMBER: _ClassVar[int]
    ALIKE_FIELD_NUMBER: _ClassVar[int]
    SENTENCE_FIELD_NUMBER: _ClassVar[int]
    ESTIMATE_FIELD_NUMBER: _ClassVar[int]
    OWNERS_FIELD_NUMBER: _ClassVar[int]
    WAITS_UNTIL_FIELD_NUMBER: _ClassVar[int]
    GRANT_FOR_FIELD_NUMBER: _ClassVar[int]
    GRANT_USES_FIELD_NUMBER: _ClassVar[int]
    USES_LEFT_FIELD_NUMBER: _ClassVar[int]
    HIDDEN_FIELD_NUMBER: _ClassVar[int]
    MAX_ROWS_FIELD_NUMBER: _ClassVar[int]
    approval_id: str
    state: _approval_service_pb2.ApprovalState
    subject: _access_pb2.Subject
    resource: str
    action: _access_pb2.Action
    requirements: _containers.RepeatedCompositeFieldContainer[_decision_pb2.Requirement]
    assents: _containers.RepeatedCompositeFieldContainer[Assent]
    created_at: _timestamp_pb2.Timestamp
    expires_at: _timestamp_pb2.Timestamp
    action_digest: bytes
    in_transaction: bool
    session_id: str
    decision_id: str
    comment: str
    alike: int
    sentence: str
    estimate: _access_pb2.Estimate
    owners: _containers.RepeatedCompositeFieldContainer[DatasetOwners]
    waits_until: _timestamp_pb2.Timestamp
    grant_for: _duration_pb2.Duration
    grant_uses: int
    uses_left: int
    hidden: str
    max_rows: int
    def __init__(self, approval_id: _Optional[str] = ..., state: _Optional[_Union[_approval_service_pb2.ApprovalState, str]] = ..., subject: _Optional[_Union[_access_pb2.Subject, _Mapping]] = ..., resource: _Optional[str] = ..., action: _Optional[_Union[_access_pb2.Action, _Mapping]] = ..., requirements: _Optional[_Iterable[_Union[_decision_pb2.Requirement, _Mapping]]] = ..., assents: _Optional[_Iterable[_Union[Assent, _Mapping]]] = ..., created_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., expires_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., action_digest: _Optional[bytes] = ..., in_transaction: _Optional[bool] = ..., session_id: _Optional[str] = ..., decision_id: _Optional[str] = ..., comment: _Optional[str] = ..., alike: _Optional[int] = ..., sentence: _Optional[str] = ..., estimate: _Optional[_Union[_access_pb2.Estimate, _Mapping]] = ..., owners: _Optional[_Iterable[_Union[DatasetOwners, _Mapping]]] = ..., waits_until: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., grant_for: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., grant_uses: _Optional[int] = ..., uses_left: _Optional[int] = ..., hidden: _Optional[str] = ..., max_rows: _Optional[int] = ...) -> None: ...

class DatasetOwners(_message.Message):
    __slots__ = ("dataset", "owners")
    DATASET_FIELD_NUMBER: _ClassVar[int]
    OWNERS_FIELD_NUMBER: _ClassVar[int]
    dataset: str
    owners: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, dataset: _Optional[str] = ..., owners: _Optional[_Iterable[str]] = ...) -> None: ...

class RecentAction(_message.Message):
    __slots__ = ("at", "resource", "sentence", "verdict", "decision_id")
    AT_FIELD_NUMBER: _ClassVar[int]
    RESOURCE_FIELD_NUMBER: _ClassVar[int]
    SENTENCE_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    DECISION_ID_FIELD_NUMBER: _ClassVar[int]
    at: _timestamp_pb2.Timestamp
    resource: str
    sentence: str
    verdict: str
    decision_id: str
    def __init__(self, at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., resource: _Optional[str] = ..., sentence: _Optional[str] = ..., verdict: _Optional[str] = ..., decision_id: _Optional[str] = ...) -> None: ...

class Assent(_message.Message):
    __slots__ = ("subject_id", "at", "requirement_codes", "max_rows")
    SUBJECT_ID_FIELD_NUMBER: _ClassVar[int]
    AT_FIELD_NUMBER: _ClassVar[int]
    REQUIREMENT_CODES_FIELD_NUMBER: _ClassVar[int]
    MAX_ROWS_FIELD_NUMBER: _ClassVar[int]
    subject_id: str
    at: _timestamp_pb2.Timestamp
    requirement_codes: _containers.RepeatedScalarFieldContainer[str]
    max_rows: int
    def __init__(self, subject_id: _Optional[str] = ..., at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., requirement_codes: _Optional[_Iterable[str]] = ..., max_rows: _Optional[int] = ...) -> None: ...

class ListApprovalsRequest(_message.Message):
    __slots__ = ("states", "unfolded")
    STATES_FIELD_NUMBER: _ClassVar[int]
    UNFOLDED_FIELD_NUMBER: _ClassVar[int]
    states: _containers.RepeatedScalarFieldContainer[_approval_service_pb2.ApprovalState]
    unfolded: bool
    def __init__(self, states: _Optional[_Iterable[_Union[_approval_service_pb2.ApprovalState, str]]] = ..., unfolded: _Optional[bool] = ...) -> None: ...

class ListApprovalsResponse(_message.Message):
    __slots__ = ("approvals",)
    APPROVALS_FIELD_NUMBER: _ClassVar[int]
    approvals: _containers.RepeatedCompositeFieldContainer[Approval]
    def __init__(self, approvals: _Optional[_Iterable[_Union[Approval, _Mapping]]] = ...) -> None: ...

class GetApprovalRequest(_message.Message):
    __slots__ = ("approval_id",)
    APPROVAL_ID_FIELD_NUMBER: _ClassVar[int]
    approval_id: str
    def __init__(self, approval_id: _Optional[str] = ...) -> None: ...

class GetApprovalResponse(_message.Message):
    __slots__ = ("approval", "recent")
    APPROVAL_FIELD_NUMBER: _ClassVar[int]
    RECENT_FIELD_NUMBER: _ClassVar[int]
    approval: Approval
    recent: _containers.RepeatedCompositeFieldContainer[RecentAction]
    def __init__(self, approval: _Optional[_Union[Approval, _Mapping]] = ..., recent: _Optional[_Iterable[_Union[RecentAction, _Mapping]]] = ...) -> None: ...

class ResolveApprovalRequest(_message.Message):
    __slots__ = ("approval_id", "action_digest", "yes", "no")
    APPROVAL_ID_FIELD_NUMBER: _ClassVar[int]
    ACTION_DIGEST_FIELD_NUMBER: _ClassVar[int]
    YES_FIELD_NUMBER: _ClassVar[int]
    NO_FIELD_NUMBER: _ClassVar[int]
    approval_id: str
    action_digest: bytes
    yes: Yes
    no: No
    def __init__(self, approval_id: _Optional[str] = ..., action_digest: _Optional[bytes] = ..., yes: _Optional[_Union[Yes, _Mapping]] = ..., no: _Optional[_Union[No, _Mapping]] = ...) -> None: ...

class Yes(_message.Message):
    __slots__ = ("max_rows",)
    MAX_ROWS_FIELD_NUMBER: _ClassVar[int]
    max_rows: int
    def __init__(self, max_rows: _Optional[int] = ...) -> None: ...

class No(_message.Message):
    __slots__ = ("comment",)
    COMMENT_FIELD_NUMBER: _ClassVar[int]
    comment: str
    def __init__(self, comment: _Optional[str] = ...) -> None: ...

class ResolveApprovalResponse(_message.Message):
    __slots__ = ("approval",)
    APPROVAL_FIELD_NUMBER: _ClassVar[int]
    approval: Approval
    def __init__(self, approval: _Optional[_Union[Approval, _Mapping]] = ...) -> None: ...

class Session(_message.Message):
    __slots__ = ("session_id", "subject", "resource", "protocol", "proxy", "client_address", "state", "opened_at", "closed_at", "close_reason", "events", "verdicts")
    class VerdictsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    RESOURCE_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    PROXY_FIELD_NUMBER: _ClassVar[int]
    CLIENT_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    OPENED_AT_FIELD_NUMBER: _ClassVar[int]
    CLOSED_AT_FIELD_NUMBER: _ClassVar[int]
    CLOSE_REASON_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    VERDICTS_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    subject: _access_pb2.Subject
    resource: str
    protocol: str
    proxy: str
    client_address: str
    state: str
    opened_at: _timestamp_pb2.Timestamp
    closed_at: _timestamp_pb2.Timestamp
    close_reason: str
    events: int
    verdicts: _containers.ScalarMap[str, int]
    def __init__(self, session_id: _Optional[str] = ..., subject: _Optional[_Union[_access_pb2.Subject, _Mapping]] = ..., resource: _Optional[str] = ..., protocol: _Optional[str] = ..., proxy: _Optional[str] = ..., client_address: _Optional[str] = ..., state: _Optional[str] = ..., opened_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., closed_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., close_reason: _Optional[str] = ..., events: _Optional[int] = ..., verdicts: _Optional[_Mapping[str, int]] = ...) -> None: ...

class ListSessionsRequest(_message.Message):
    __slots__ = ("limit", "open_only", "run")
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    OPEN_ONLY_FIELD_NUMBER: _ClassVar[int]
    RUN_FIELD_NUMBER: _ClassVar[int]
    limit: int
    open_only: bool
    run: str
    def __init__(self, limit: _Optional[int] = ..., open_only: _Optional[bool] = ..., run: _Optional[str] = ...) -> None: ...

class ListSessionsResponse(_message.Message):
    __slots__ = ("sessions",)
    SESSIONS_FIELD_NUMBER: _ClassVar[int]
    sessions: _containers.RepeatedCompositeFieldContainer[Session]
    def __init__(self, sessions: _Optional[_Iterable[_Union[Session, _Mapping]]] = ...) -> None: ...

class GetSessionRequest(_message.Message):
    __slots__ = ("session_id",)
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    def __init__(self, session_id: _Optional[str] = ...) -> None: ...

class GetSessionResponse(_message.Message):
    __slots__ = ("session", "event")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    EVENT_FIELD_NUMBER: _ClassVar[int]
    session: Session
    event: RecordedEvent
    def __init__(self, session: _Optional[_Union[Session, _Mapping]] = ..., event: _Optional[_Union[RecordedEvent, _Mapping]] = ...) -> None: ...

class RecordedEvent(_message.Message):
    __slots__ = ("seq", "event", "hash", "bodies", "salts", "erased")
    class BodiesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: int
        value: bytes
        def __init__(self, key: _Optional[int] = ..., value: _Optional[bytes] = ...) -> None: ...
    class SaltsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: int
        value: bytes
        def __init__(self, key: _Optional[int] = ..., value: _Optional[bytes] = ...) -> None: ...
    SEQ_FIELD_NUMBER: _ClassVar[int]
    EVENT_FIELD_NUMBER: _ClassVar[int]
    HASH_FIELD_NUMBER: _ClassVar[int]
    BODIES_FIELD_NUMBER: _ClassVar[int]
    SALTS_FIELD_NUMBER: _ClassVar[int]
    ERASED_FIELD_NUMBER: _ClassVar[int]
    seq: int
    event: bytes
    hash: bytes
    bodies: _containers.ScalarMap[int, bytes]
    salts: _containers.ScalarMap[int, bytes]
    erased: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, seq: _Optional[int] = ..., event: _Optional[bytes] = ..., hash: _Optional[bytes] = ..., bodies: _Optional[_Mapping[int, bytes]] = ..., salts: _Optional[_Mapping[int, bytes]] = ..., erased: _Optional[_Iterable[int]] = ...) -> None: ...

class KillSessionRequest(_message.Message):
    __slots__ = ("session_id", "reason")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    reason: str
    def __init__(self, session_id: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class KillSessionResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class MintTokenRequest(_message.Message):
    __slots__ = ("subject_type", "subject_id", "groups", "audience", "on_behalf_of", "workflow", "lifetime", "once")
    class WorkflowEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    SUBJECT_TYPE_FIELD_NUMBER: _ClassVar[int]
    SUBJECT_ID_FIELD_NUMBER: _ClassVar[int]
    GROUPS_FIELD_NUMBER: _ClassVar[int]
    AUDIENCE_FIELD_NUMBER: _ClassVar[int]
    ON_BEHALF_OF_FIELD_NUMBER: _ClassVar[int]
    WORKFLOW_FIELD_NUMBER: _ClassVar[int]
    LIFETIME_FIELD_NUMBER: _ClassVar[int]
    ONCE_FIELD_NUMBER: _ClassVar[int]
    subject_type: str
    subject_id: str
    groups: _containers.RepeatedScalarFieldContainer[str]
    audience: str
    on_behalf_of: _access_pb2.Party
    workflow: _containers.ScalarMap[str, str]
    lifetime: _duration_pb2.Duration
    once: bool
    def __init__(self, subject_type: _Optional[str] = ..., subject_id: _Optional[str] = ..., groups: _Optional[_Iterable[str]] = ..., audience: _Optional[str] = ..., on_behalf_of: _Optional[_Union[_access_pb2.Party, _Mapping]] = ..., workflow: _Optional[_Mapping[str, str]] = ..., lifetime: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., once: _Optional[bool] = ...) -> None: ...

class MintTokenResponse(_message.Message):
    __slots__ = ("token", "expires_at")
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_FIELD_NUMBER: _ClassVar[int]
    token: str
    expires_at: _timestamp_pb2.Timestamp
    def __init__(self, token: _Optional[str] = ..., expires_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class GetStatusRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetStatusResponse(_message.Message):
    __slots__ = ("policy_revision", "activated_at", "in_force", "policy_error", "opa_ready", "opa_restarts", "proxies", "open_sessions", "pending_approvals", "policies_changing", "rolled_back", "notes")
    POLICY_REVISION_FIELD_NUMBER: _ClassVar[int]
    ACTIVATED_AT_FIELD_NUMBER: _ClassVar[int]
    IN_FORCE_FIELD_NUMBER: _ClassVar[int]
    POLICY_ERROR_FIELD_NUMBER: _ClassVar[int]
    OPA_READY_FIELD_NUMBER: _ClassVar[int]
    OPA_RESTARTS_FIELD_NUMBER: _ClassVar[int]
    PROXIES_FIELD_NUMBER: _ClassVar[int]
    OPEN_SESSIONS_FIELD_NUMBER: _ClassVar[int]
    PENDING_APPROVALS_FIELD_NUMBER: _ClassVar[int]
    POLICIES_CHANGING_FIELD_NUMBER: _ClassVar[int]
    ROLLED_BACK_FIELD_NUMBER: _ClassVar[int]
    NOTES_FIELD_NUMBER: _ClassVar[int]
    policy_revision: str
    activated_at: _timestamp_pb2.Timestamp
    in_force: bool
    policy_error: str
    opa_ready: bool
    opa_restarts: int
    proxies: _containers.RepeatedCompositeFieldContainer[ProxyStatus]
    open_sessions: int
    pending_approvals: int
    policies_changing: bool
    rolled_back: str
    notes: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, policy_revision: _Optional[str] = ..., activated_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., in_force: _Optional[bool] = ..., policy_error: _Optional[str] = ..., opa_ready: _Optional[bool] = ..., opa_restarts: _Optional[int] = ..., proxies: _Optional[_Iterable[_Union[ProxyStatus, _Mapping]]] = ..., open_sessions: _Optional[int] = ..., pending_approvals: _Optional[int] = ..., policies_changing: _Optional[bool] = ..., rolled_back: _Optional[str] = ..., notes: _Optional[_Iterable[str]] = ...) -> None: ...

class ProxyStatus(_message.Message):
    __slots__ = ("name", "policy_revision", "spool")
    NAME_FIELD_NUMBER: _ClassVar[int]
    POLICY_REVISION_FIELD_NUMBER: _ClassVar[int]
    SPOOL_FIELD_NUMBER: _ClassVar[int]
    name: str
    policy_revision: str
    spool: _decision_service_pb2.SpoolState
    def __init__(self, name: _Optional[str] = ..., policy_revision: _Optional[str] = ..., spool: _Optional[_Union[_decision_service_pb2.SpoolState, _Mapping]] = ...) -> None: ...
