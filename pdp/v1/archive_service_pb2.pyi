import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from pdp.v1 import admin_service_pb2 as _admin_service_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class EraseRecordsRequest(_message.Message):
    __slots__ = ("session_id", "subject", "bodies_only")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    BODIES_ONLY_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    subject: str
    bodies_only: bool
    def __init__(self, session_id: _Optional[str] = ..., subject: _Optional[str] = ..., bodies_only: _Optional[bool] = ...) -> None: ...

class EraseRecordsResponse(_message.Message):
    __slots__ = ("sessions", "bodies", "texts", "open", "refused")
    SESSIONS_FIELD_NUMBER: _ClassVar[int]
    BODIES_FIELD_NUMBER: _ClassVar[int]
    TEXTS_FIELD_NUMBER: _ClassVar[int]
    OPEN_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    sessions: int
    bodies: int
    texts: int
    open: _containers.RepeatedScalarFieldContainer[str]
    refused: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, sessions: _Optional[int] = ..., bodies: _Optional[int] = ..., texts: _Optional[int] = ..., open: _Optional[_Iterable[str]] = ..., refused: _Optional[_Iterable[str]] = ...) -> None: ...

class ExportRecordsRequest(_message.Message):
    __slots__ = ("session_id", "since", "until")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    SINCE_FIELD_NUMBER: _ClassVar[int]
    UNTIL_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    since: _timestamp_pb2.Timestamp
    until: _timestamp_pb2.Timestamp
    def __init__(self, session_id: _Optional[str] = ..., since: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., until: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class ExportRecordsResponse(_message.Message):
    __slots__ = ("session", "event", "refused_login", "approval")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    EVENT_FIELD_NUMBER: _ClassVar[int]
    REFUSED_LOGIN_FIELD_NUMBER: _ClassVar[int]
    APPROVAL_FIELD_NUMBER: _ClassVar[int]
    session: _admin_service_pb2.Session
    event: _admin_service_pb2.RecordedEvent
    refused_login: _admin_service_pb2.RecordedEvent
    approval: _admin_service_pb2.RecordedEvent
    def __init__(self, session: _Optional[_Union[_admin_service_pb2.Session, _Mapping]] = ..., event: _Optional[_Union[_admin_service_pb2.RecordedEvent, _Mapping]] = ..., refused_login: _Optional[_Union[_admin_service_pb2.RecordedEvent, _Mapping]] = ..., approval: _Optional[_Union[_admin_service_pb2.RecordedEvent, _Mapping]] = ...) -> None: ...

class ListRunsRequest(_message.Message):
    __slots__ = ("limit",)
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    limit: int
    def __init__(self, limit: _Optional[int] = ...) -> None: ...

class ListRunsResponse(_message.Message):
    __slots__ = ("runs",)
    RUNS_FIELD_NUMBER: _ClassVar[int]
    runs: _containers.RepeatedCompositeFieldContainer[Run]
    def __init__(self, runs: _Optional[_Iterable[_Union[Run, _Mapping]]] = ...) -> None: ...

class Run(_message.Message):
    __slots__ = ("run", "first", "last", "sessions", "open", "resources", "subjects", "verdicts")
    class VerdictsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    RUN_FIELD_NUMBER: _ClassVar[int]
    FIRST_FIELD_NUMBER: _ClassVar[int]
    LAST_FIELD_NUMBER: _ClassVar[int]
    SESSIONS_FIELD_NUMBER: _ClassVar[int]
    OPEN_FIELD_NUMBER: _ClassVar[int]
    RESOURCES_FIELD_NUMBER: _ClassVar[int]
    SUBJECTS_FIELD_NUMBER: _ClassVar[int]
    VERDICTS_FIELD_NUMBER: _ClassVar[int]
    run: str
    first: _timestamp_pb2.Timestamp
    last: _timestamp_pb2.Timestamp
    sessions: int
    open: int
    resources: _containers.RepeatedScalarFieldContainer[str]
    subjects: _containers.RepeatedScalarFieldContainer[str]
    verdicts: _containers.ScalarMap[str, int]
    def __init__(self, run: _Optional[str] = ..., first: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., last: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., sessions: _Optional[int] = ..., open: _Optional[int] = ..., resources: _Optional[_Iterable[str]] = ..., subjects: _Optional[_Iterable[str]] = ..., verdicts: _Optional[_Mapping[str, int]] = ...) -> None: ...

class GetRunRequest(_message.Message):
    __slots__ = ("run",)
    RUN_FIELD_NUMBER: _ClassVar[int]
    run: str
    def __init__(self, run: _Optional[str] = ...) -> None: ...

class GetRunResponse(_message.Message):
    __slots__ = ("session", "event")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    EVENT_FIELD_NUMBER: _ClassVar[int]
    session: _admin_service_pb2.Session
    event: _admin_service_pb2.RecordedEvent
    def __init__(self, session: _Optional[_Union[_admin_service_pb2.Session, _Mapping]] = ..., event: _Optional[_Union[_admin_service_pb2.RecordedEvent, _Mapping]] = ...) -> None: ...
