from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class RecordRequest(_message.Message):
    __slots__ = ("session_id", "seq", "event", "body")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    SEQ_FIELD_NUMBER: _ClassVar[int]
    EVENT_FIELD_NUMBER: _ClassVar[int]
    BODY_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    seq: int
    event: bytes
    body: Body
    def __init__(self, session_id: _Optional[str] = ..., seq: _Optional[int] = ..., event: _Optional[bytes] = ..., body: _Optional[_Union[Body, _Mapping]] = ...) -> None: ...

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
