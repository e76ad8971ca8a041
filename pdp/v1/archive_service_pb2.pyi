from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable
from typing import ClassVar as _ClassVar, Optional as _Optional

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
