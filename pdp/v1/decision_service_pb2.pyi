import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from pdp.v1 import access_pb2 as _access_pb2
from pdp.v1 import decision_pb2 as _decision_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class RequestMeta(_message.Message):
    __slots__ = ("request_id", "sent_at", "timeout")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    SENT_AT_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    sent_at: _timestamp_pb2.Timestamp
    timeout: _duration_pb2.Duration
    def __init__(self, request_id: _Optional[str] = ..., sent_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., timeout: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class OpenSessionRequest(_message.Message):
    __slots__ = ("meta", "jwt", "static_key", "bearer", "certificate", "resource", "protocol", "client_address", "labels", "supported_obligations")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    META_FIELD_NUMBER: _ClassVar[int]
    JWT_FIELD_NUMBER: _ClassVar[int]
    STATIC_KEY_FIELD_NUMBER: _ClassVar[int]
    BEARER_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_FIELD_NUMBER: _ClassVar[int]
    RESOURCE_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    CLIENT_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    SUPPORTED_OBLIGATIONS_FIELD_NUMBER: _ClassVar[int]
    meta: RequestMeta
    jwt: str
    static_key: str
    bearer: str
    certificate: ClientCertificate
    resource: str
    protocol: str
    client_address: str
    labels: _containers.ScalarMap[str, str]
    supported_obligations: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, meta: _Optional[_Union[RequestMeta, _Mapping]] = ..., jwt: _Optional[str] = ..., static_key: _Optional[str] = ..., bearer: _Optional[str] = ..., certificate: _Optional[_Union[ClientCertificate, _Mapping]] = ..., resource: _Optional[str] = ..., protocol: _Optional[str] = ..., client_address: _Optional[str] = ..., labels: _Optional[_Mapping[str, str]] = ..., supported_obligations: _Optional[_Iterable[str]] = ...) -> None: ...

class ClientCertificate(_message.Message):
    __slots__ = ("chain",)
    CHAIN_FIELD_NUMBER: _ClassVar[int]
    chain: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, chain: _Optional[_Iterable[bytes]] = ...) -> None: ...

class OpenSessionResponse(_message.Message):
    __slots__ = ("decision", "session_id", "token", "subject", "obligations", "input_paths", "credential_expires_at", "token_expires_at", "input_paths_revision")
    DECISION_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    OBLIGATIONS_FIELD_NUMBER: _ClassVar[int]
    INPUT_PATHS_FIELD_NUMBER: _ClassVar[int]
    CREDENTIAL_EXPIRES_AT_FIELD_NUMBER: _ClassVar[int]
    TOKEN_EXPIRES_AT_FIELD_NUMBER: _ClassVar[int]
    INPUT_PATHS_REVISION_FIELD_NUMBER: _ClassVar[int]
    decision: _decision_pb2.Decision
    session_id: str
    token: str
    subject: _access_pb2.Subject
    obligations: _containers.RepeatedCompositeFieldContainer[_decision_pb2.Obligation]
    input_paths: _containers.RepeatedScalarFieldContainer[str]
    credential_expires_at: _timestamp_pb2.Timestamp
    token_expires_at: _timestamp_pb2.Timestamp
    input_paths_revision: str
    def __init__(self, decision: _Optional[_Union[_decision_pb2.Decision, _Mapping]] = ..., session_id: _Optional[str] = ..., token: _Optional[str] = ..., subject: _Optional[_Union[_access_pb2.Subject, _Mapping]] = ..., obligations: _Optional[_Iterable[_Union[_decision_pb2.Obligation, _Mapping]]] = ..., input_paths: _Optional[_Iterable[str]] = ..., credential_expires_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., token_expires_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., input_paths_revision: _Optional[str] = ...) -> None: ...

class RefreshSessionRequest(_message.Message):
    __slots__ = ("meta", "token")
    META_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    meta: RequestMeta
    token: str
    def __init__(self, meta: _Optional[_Union[RequestMeta, _Mapping]] = ..., token: _Optional[str] = ...) -> None: ...

class RefreshSessionResponse(_message.Message):
    __slots__ = ("ended_because", "token", "token_expires_at", "input_paths", "input_paths_revision")
    ENDED_BECAUSE_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    TOKEN_EXPIRES_AT_FIELD_NUMBER: _ClassVar[int]
    INPUT_PATHS_FIELD_NUMBER: _ClassVar[int]
    INPUT_PATHS_REVISION_FIELD_NUMBER: _ClassVar[int]
    ended_because: str
    token: str
    token_expires_at: _timestamp_pb2.Timestamp
    input_paths: _containers.RepeatedScalarFieldContainer[str]
    input_paths_revision: str
    def __init__(self, ended_because: _Optional[str] = ..., token: _Optional[str] = ..., token_expires_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., input_paths: _Optional[_Iterable[str]] = ..., input_paths_revision: _Optional[str] = ...) -> None: ...

class KeepSessionsRequest(_message.Message):
    __slots__ = ("meta", "session_ids")
    META_FIELD_NUMBER: _ClassVar[int]
    SESSION_IDS_FIELD_NUMBER: _ClassVar[int]
    meta: RequestMeta
    session_ids: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, meta: _Optional[_Union[RequestMeta, _Mapping]] = ..., session_ids: _Optional[_Iterable[str]] = ...) -> None: ...

class KeepSessionsResponse(_message.Message):
    __slots__ = ("ended_session_ids",)
    ENDED_SESSION_IDS_FIELD_NUMBER: _ClassVar[int]
    ended_session_ids: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, ended_session_ids: _Optional[_Iterable[str]] = ...) -> None: ...

class CloseSessionRequest(_message.Message):
    __slots__ = ("meta", "token", "reason", "last_seq")
    META_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    LAST_SEQ_FIELD_NUMBER: _ClassVar[int]
    meta: RequestMeta
    token: str
    reason: str
    last_seq: int
    def __init__(self, meta: _Optional[_Union[RequestMeta, _Mapping]] = ..., token: _Optional[str] = ..., reason: _Optional[str] = ..., last_seq: _Optional[int] = ...) -> None: ...

class CloseSessionResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class DecideRequest(_message.Message):
    __slots__ = ("meta", "token", "actions")
    META_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    ACTIONS_FIELD_NUMBER: _ClassVar[int]
    meta: RequestMeta
    token: str
    actions: _containers.RepeatedCompositeFieldContainer[_access_pb2.Action]
    def __init__(self, meta: _Optional[_Union[RequestMeta, _Mapping]] = ..., token: _Optional[str] = ..., actions: _Optional[_Iterable[_Union[_access_pb2.Action, _Mapping]]] = ...) -> None: ...

class DecideResponse(_message.Message):
    __slots__ = ("decisions",)
    DECISIONS_FIELD_NUMBER: _ClassVar[int]
    decisions: _containers.RepeatedCompositeFieldContainer[_decision_pb2.Decision]
    def __init__(self, decisions: _Optional[_Iterable[_Union[_decision_pb2.Decision, _Mapping]]] = ...) -> None: ...

class WatchRequest(_message.Message):
    __slots__ = ("acknowledged", "spool")
    ACKNOWLEDGED_FIELD_NUMBER: _ClassVar[int]
    SPOOL_FIELD_NUMBER: _ClassVar[int]
    acknowledged: int
    spool: SpoolState
    def __init__(self, acknowledged: _Optional[int] = ..., spool: _Optional[_Union[SpoolState, _Mapping]] = ...) -> None: ...

class SpoolState(_message.Message):
    __slots__ = ("bytes", "limit", "age", "trouble", "failed")
    BYTES_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    AGE_FIELD_NUMBER: _ClassVar[int]
    TROUBLE_FIELD_NUMBER: _ClassVar[int]
    FAILED_FIELD_NUMBER: _ClassVar[int]
    bytes: int
    limit: int
    age: _duration_pb2.Duration
    trouble: str
    failed: bool
    def __init__(self, bytes: _Optional[int] = ..., limit: _Optional[int] = ..., age: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., trouble: _Optional[str] = ..., failed: _Optional[bool] = ...) -> None: ...

class WatchResponse(_message.Message):
    __slots__ = ("number", "snapshot", "policy_revision", "session_ended", "heartbeat")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_FIELD_NUMBER: _ClassVar[int]
    POLICY_REVISION_FIELD_NUMBER: _ClassVar[int]
    SESSION_ENDED_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    number: int
    snapshot: Snapshot
    policy_revision: str
    session_ended: SessionEnded
    heartbeat: Heartbeat
    def __init__(self, number: _Optional[int] = ..., snapshot: _Optional[_Union[Snapshot, _Mapping]] = ..., policy_revision: _Optional[str] = ..., session_ended: _Optional[_Union[SessionEnded, _Mapping]] = ..., heartbeat: _Optional[_Union[Heartbeat, _Mapping]] = ...) -> None: ...

class Snapshot(_message.Message):
    __slots__ = ("policy_revision", "sessions_ended")
    POLICY_REVISION_FIELD_NUMBER: _ClassVar[int]
    SESSIONS_ENDED_FIELD_NUMBER: _ClassVar[int]
    policy_revision: str
    sessions_ended: _containers.RepeatedCompositeFieldContainer[SessionEnded]
    def __init__(self, policy_revision: _Optional[str] = ..., sessions_ended: _Optional[_Iterable[_Union[SessionEnded, _Mapping]]] = ...) -> None: ...

class SessionEnded(_message.Message):
    __slots__ = ("session_id", "reason")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    reason: str
    def __init__(self, session_id: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class Heartbeat(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...
