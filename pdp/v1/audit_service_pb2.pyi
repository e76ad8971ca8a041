import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class RecordRequest(_message.Message):
    __slots__ = ("session_id", "seq", "event", "body", "mark", "checkpoint")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    SEQ_FIELD_NUMBER: _ClassVar[int]
    EVENT_FIELD_NUMBER: _ClassVar[int]
    BODY_FIELD_NUMBER: _ClassVar[int]
    MARK_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    seq: int
    event: bytes
    body: Body
    mark: Mark
    checkpoint: Checkpoint
    def __init__(self, session_id: _Optional[str] = ..., seq: _Optional[int] = ..., event: _Optional[bytes] = ..., body: _Optional[_Union[Body, _Mapping]] = ..., mark: _Optional[_Union[Mark, _Mapping]] = ..., checkpoint: _Optional[_Union[Checkpoint, _Mapping]] = ...) -> None: ...

class Checkpoint(_message.Message):
    __slots__ = ("hash", "certificates", "signature")
    HASH_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATES_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    hash: bytes
    certificates: _containers.RepeatedScalarFieldContainer[bytes]
    signature: bytes
    def __init__(self, hash: _Optional[bytes] = ..., certificates: _Optional[_Iterable[bytes]] = ..., signature: _Optional[bytes] = ...) -> None: ...

class Mark(_message.Message):
    __slots__ = ("complete_until", "sessions", "refused")
    COMPLETE_UNTIL_FIELD_NUMBER: _ClassVar[int]
    SESSIONS_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    complete_until: _timestamp_pb2.Timestamp
    sessions: int
    refused: int
    def __init__(self, complete_until: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., sessions: _Optional[int] = ..., refused: _Optional[int] = ...) -> None: ...

class Body(_message.Message):
    __slots__ = ("index", "salt", "content")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    SALT_FIELD_NUMBER: _ClassVar[int]
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    index: int
    salt: bytes
    content: bytes
    def __init__(self, index: _Optional[int] = ..., salt: _Optional[bytes] = ..., content: _Optional[bytes] = ...) -> None: ...

class RecordResponse(_message.Message):
    __slots__ = ("session_id", "acknowledged_seq", "refused")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    ACKNOWLEDGED_SEQ_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    acknowledged_seq: int
    refused: str
    def __init__(self, session_id: _Optional[str] = ..., acknowledged_seq: _Optional[int] = ..., refused: _Optional[str] = ...) -> None: ...
