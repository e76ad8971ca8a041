import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Shown(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SHOWN_UNSPECIFIED: _ClassVar[Shown]
    SHOWN_CLEAR: _ClassVar[Shown]
    SHOWN_MASKED: _ClassVar[Shown]
SHOWN_UNSPECIFIED: Shown
SHOWN_CLEAR: Shown
SHOWN_MASKED: Shown

class ListDisclosuresRequest(_message.Message):
    __slots__ = ("field", "label", "since", "until", "resource", "limit")
    FIELD_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    SINCE_FIELD_NUMBER: _ClassVar[int]
    UNTIL_FIELD_NUMBER: _ClassVar[int]
    RESOURCE_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    field: str
    label: str
    since: _timestamp_pb2.Timestamp
    until: _timestamp_pb2.Timestamp
    resource: str
    limit: int
    def __init__(self, field: _Optional[str] = ..., label: _Optional[str] = ..., since: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., until: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., resource: _Optional[str] = ..., limit: _Optional[int] = ...) -> None: ...

class ListDisclosuresResponse(_message.Message):
    __slots__ = ("at", "session_id", "seq", "subject", "root", "run", "resource", "dataset", "field", "shown", "labels", "rows", "decision_id")
    AT_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    SEQ_FIELD_NUMBER: _ClassVar[int]
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    ROOT_FIELD_NUMBER: _ClassVar[int]
    RUN_FIELD_NUMBER: _ClassVar[int]
    RESOURCE_FIELD_NUMBER: _ClassVar[int]
    DATASET_FIELD_NUMBER: _ClassVar[int]
    FIELD_FIELD_NUMBER: _ClassVar[int]
    SHOWN_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    DECISION_ID_FIELD_NUMBER: _ClassVar[int]
    at: _timestamp_pb2.Timestamp
    session_id: str
    seq: int
    subject: str
    root: str
    run: str
    resource: str
    dataset: str
    field: str
    shown: Shown
    labels: _containers.RepeatedScalarFieldContainer[str]
    rows: int
    decision_id: str
    def __init__(self, at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., session_id: _Optional[str] = ..., seq: _Optional[int] = ..., subject: _Optional[str] = ..., root: _Optional[str] = ..., run: _Optional[str] = ..., resource: _Optional[str] = ..., dataset: _Optional[str] = ..., field: _Optional[str] = ..., shown: _Optional[_Union[Shown, str]] = ..., labels: _Optional[_Iterable[str]] = ..., rows: _Optional[int] = ..., decision_id: _Optional[str] = ...) -> None: ...
