from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Action(_message.Message):
    __slots__ = ("name", "protocol", "properties_json", "statement", "binding", "facts")
    NAME_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    PROPERTIES_JSON_FIELD_NUMBER: _ClassVar[int]
    STATEMENT_FIELD_NUMBER: _ClassVar[int]
    BINDING_FIELD_NUMBER: _ClassVar[int]
    FACTS_FIELD_NUMBER: _ClassVar[int]
    name: str
    protocol: str
    properties_json: bytes
    statement: Statement
    binding: Binding
    facts: Facts
    def __init__(self, name: _Optional[str] = ..., protocol: _Optional[str] = ..., properties_json: _Optional[bytes] = ..., statement: _Optional[_Union[Statement, _Mapping]] = ..., binding: _Optional[_Union[Binding, _Mapping]] = ..., facts: _Optional[_Union[Facts, _Mapping]] = ...) -> None: ...

class Facts(_message.Message):
    __slots__ = ("estimate",)
    ESTIMATE_FIELD_NUMBER: _ClassVar[int]
    estimate: Estimate
    def __init__(self, estimate: _Optional[_Union[Estimate, _Mapping]] = ...) -> None: ...

class Estimate(_message.Message):
    __slots__ = ("rows", "unavailable")
    ROWS_FIELD_NUMBER: _ClassVar[int]
    UNAVAILABLE_FIELD_NUMBER: _ClassVar[int]
    rows: float
    unavailable: str
    def __init__(self, rows: _Optional[float] = ..., unavailable: _Optional[str] = ...) -> None: ...

class Statement(_message.Message):
    __slots__ = ("text", "parameters_json")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_JSON_FIELD_NUMBER: _ClassVar[int]
    text: str
    parameters_json: bytes
    def __init__(self, text: _Optional[str] = ..., parameters_json: _Optional[bytes] = ...) -> None: ...

class Binding(_message.Message):
    __slots__ = ("path", "definitions")
    PATH_FIELD_NUMBER: _ClassVar[int]
    DEFINITIONS_FIELD_NUMBER: _ClassVar[int]
    path: _containers.RepeatedScalarFieldContainer[str]
    definitions: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, path: _Optional[_Iterable[str]] = ..., definitions: _Optional[_Iterable[str]] = ...) -> None: ...

class Party(_message.Message):
    __slots__ = ("type", "id", "groups")
    TYPE_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    GROUPS_FIELD_NUMBER: _ClassVar[int]
    type: str
    id: str
    groups: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, type: _Optional[str] = ..., id: _Optional[str] = ..., groups: _Optional[_Iterable[str]] = ...) -> None: ...

class Subject(_message.Message):
    __slots__ = ("type", "id", "groups", "root", "workflow")
    TYPE_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    GROUPS_FIELD_NUMBER: _ClassVar[int]
    ROOT_FIELD_NUMBER: _ClassVar[int]
    WORKFLOW_FIELD_NUMBER: _ClassVar[int]
    type: str
    id: str
    groups: _containers.RepeatedScalarFieldContainer[str]
    root: Party
    workflow: str
    def __init__(self, type: _Optional[str] = ..., id: _Optional[str] = ..., groups: _Optional[_Iterable[str]] = ..., root: _Optional[_Union[Party, _Mapping]] = ..., workflow: _Optional[str] = ...) -> None: ...
