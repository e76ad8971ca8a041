import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from pdp.v1 import admin_service_pb2 as _admin_service_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class GetLedgerRequest(_message.Message):
    __slots__ = ("chain",)
    CHAIN_FIELD_NUMBER: _ClassVar[int]
    chain: str
    def __init__(self, chain: _Optional[str] = ...) -> None: ...

class GetLedgerResponse(_message.Message):
    __slots__ = ("key", "entry", "chain")
    KEY_FIELD_NUMBER: _ClassVar[int]
    ENTRY_FIELD_NUMBER: _ClassVar[int]
    CHAIN_FIELD_NUMBER: _ClassVar[int]
    key: PublicKey
    entry: LogEntry
    chain: str
    def __init__(self, key: _Optional[_Union[PublicKey, _Mapping]] = ..., entry: _Optional[_Union[LogEntry, _Mapping]] = ..., chain: _Optional[str] = ...) -> None: ...

class PublicKey(_message.Message):
    __slots__ = ("id", "key")
    ID_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    id: str
    key: bytes
    def __init__(self, id: _Optional[str] = ..., key: _Optional[bytes] = ...) -> None: ...

class LogEntry(_message.Message):
    __slots__ = ("number", "chain", "document", "signature")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    CHAIN_FIELD_NUMBER: _ClassVar[int]
    DOCUMENT_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    number: int
    chain: str
    document: bytes
    signature: bytes
    def __init__(self, number: _Optional[int] = ..., chain: _Optional[str] = ..., document: _Optional[bytes] = ..., signature: _Optional[bytes] = ...) -> None: ...

class ReadChainRequest(_message.Message):
    __slots__ = ("chain",)
    CHAIN_FIELD_NUMBER: _ClassVar[int]
    chain: str
    def __init__(self, chain: _Optional[str] = ...) -> None: ...

class ReadChainResponse(_message.Message):
    __slots__ = ("facts", "signature", "event")
    FACTS_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    EVENT_FIELD_NUMBER: _ClassVar[int]
    facts: ChainFacts
    signature: ProxySignature
    event: _admin_service_pb2.RecordedEvent
    def __init__(self, facts: _Optional[_Union[ChainFacts, _Mapping]] = ..., signature: _Optional[_Union[ProxySignature, _Mapping]] = ..., event: _Optional[_Union[_admin_service_pb2.RecordedEvent, _Mapping]] = ...) -> None: ...

class ChainFacts(_message.Message):
    __slots__ = ("begins", "state")
    class BeginsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    BEGINS_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    begins: _containers.ScalarMap[str, str]
    state: str
    def __init__(self, begins: _Optional[_Mapping[str, str]] = ..., state: _Optional[str] = ...) -> None: ...

class ProxySignature(_message.Message):
    __slots__ = ("seq", "signature", "certificates")
    SEQ_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATES_FIELD_NUMBER: _ClassVar[int]
    seq: int
    signature: bytes
    certificates: bytes
    def __init__(self, seq: _Optional[int] = ..., signature: _Optional[bytes] = ..., certificates: _Optional[bytes] = ...) -> None: ...

class GetMissingRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetMissingResponse(_message.Message):
    __slots__ = ("proxies", "missing")
    PROXIES_FIELD_NUMBER: _ClassVar[int]
    MISSING_FIELD_NUMBER: _ClassVar[int]
    proxies: _containers.RepeatedCompositeFieldContainer[ProxyRecords]
    missing: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, proxies: _Optional[_Iterable[_Union[ProxyRecords, _Mapping]]] = ..., missing: _Optional[_Iterable[str]] = ...) -> None: ...

class ProxyRecords(_message.Message):
    __slots__ = ("proxy", "complete_until", "running", "sessions")
    PROXY_FIELD_NUMBER: _ClassVar[int]
    COMPLETE_UNTIL_FIELD_NUMBER: _ClassVar[int]
    RUNNING_FIELD_NUMBER: _ClassVar[int]
    SESSIONS_FIELD_NUMBER: _ClassVar[int]
    proxy: str
    complete_until: _timestamp_pb2.Timestamp
    running: int
    sessions: int
    def __init__(self, proxy: _Optional[str] = ..., complete_until: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., running: _Optional[int] = ..., sessions: _Optional[int] = ...) -> None: ...
