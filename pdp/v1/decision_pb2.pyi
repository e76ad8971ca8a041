import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class OnExcess(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ON_EXCESS_UNSPECIFIED: _ClassVar[OnExcess]
    ON_EXCESS_FAIL: _ClassVar[OnExcess]
    ON_EXCESS_TRUNCATE: _ClassVar[OnExcess]
ON_EXCESS_UNSPECIFIED: OnExcess
ON_EXCESS_FAIL: OnExcess
ON_EXCESS_TRUNCATE: OnExcess

class Decision(_message.Message):
    __slots__ = ("decision_id", "policy_revision", "reasons", "allow", "mask", "require_approval", "deny", "incomplete", "valid_until", "labels")
    DECISION_ID_FIELD_NUMBER: _ClassVar[int]
    POLICY_REVISION_FIELD_NUMBER: _ClassVar[int]
    REASONS_FIELD_NUMBER: _ClassVar[int]
    ALLOW_FIELD_NUMBER: _ClassVar[int]
    MASK_FIELD_NUMBER: _ClassVar[int]
    REQUIRE_APPROVAL_FIELD_NUMBER: _ClassVar[int]
    DENY_FIELD_NUMBER: _ClassVar[int]
    INCOMPLETE_FIELD_NUMBER: _ClassVar[int]
    VALID_UNTIL_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    decision_id: str
    policy_revision: str
    reasons: _containers.RepeatedCompositeFieldContainer[Reason]
    allow: Allow
    mask: Mask
    require_approval: RequireApproval
    deny: Deny
    incomplete: Incomplete
    valid_until: _timestamp_pb2.Timestamp
    labels: _containers.RepeatedCompositeFieldContainer[FieldLabels]
    def __init__(self, decision_id: _Optional[str] = ..., policy_revision: _Optional[str] = ..., reasons: _Optional[_Iterable[_Union[Reason, _Mapping]]] = ..., allow: _Optional[_Union[Allow, _Mapping]] = ..., mask: _Optional[_Union[Mask, _Mapping]] = ..., require_approval: _Optional[_Union[RequireApproval, _Mapping]] = ..., deny: _Optional[_Union[Deny, _Mapping]] = ..., incomplete: _Optional[_Union[Incomplete, _Mapping]] = ..., valid_until: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., labels: _Optional[_Iterable[_Union[FieldLabels, _Mapping]]] = ...) -> None: ...

class FieldLabels(_message.Message):
    __slots__ = ("dataset", "field", "labels")
    DATASET_FIELD_NUMBER: _ClassVar[int]
    FIELD_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    dataset: str
    field: str
    labels: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, dataset: _Optional[str] = ..., field: _Optional[str] = ..., labels: _Optional[_Iterable[str]] = ...) -> None: ...

class Reason(_message.Message):
    __slots__ = ("policy", "code", "message", "instead")
    POLICY_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    INSTEAD_FIELD_NUMBER: _ClassVar[int]
    policy: str
    code: str
    message: str
    instead: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, policy: _Optional[str] = ..., code: _Optional[str] = ..., message: _Optional[str] = ..., instead: _Optional[_Iterable[str]] = ...) -> None: ...

class Allow(_message.Message):
    __slots__ = ("obligations",)
    OBLIGATIONS_FIELD_NUMBER: _ClassVar[int]
    obligations: _containers.RepeatedCompositeFieldContainer[Obligation]
    def __init__(self, obligations: _Optional[_Iterable[_Union[Obligation, _Mapping]]] = ...) -> None: ...

class Mask(_message.Message):
    __slots__ = ("obligations",)
    OBLIGATIONS_FIELD_NUMBER: _ClassVar[int]
    obligations: _containers.RepeatedCompositeFieldContainer[Obligation]
    def __init__(self, obligations: _Optional[_Iterable[_Union[Obligation, _Mapping]]] = ...) -> None: ...

class RequireApproval(_message.Message):
    __slots__ = ("requirements", "wait")
    REQUIREMENTS_FIELD_NUMBER: _ClassVar[int]
    WAIT_FIELD_NUMBER: _ClassVar[int]
    requirements: _containers.RepeatedCompositeFieldContainer[Requirement]
    wait: _duration_pb2.Duration
    def __init__(self, requirements: _Optional[_Iterable[_Union[Requirement, _Mapping]]] = ..., wait: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class Requirement(_message.Message):
    __slots__ = ("policy", "code", "approvers", "count", "about", "message")
    POLICY_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    APPROVERS_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    ABOUT_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    policy: str
    code: str
    approvers: _containers.RepeatedScalarFieldContainer[str]
    count: int
    about: str
    message: str
    def __init__(self, policy: _Optional[str] = ..., code: _Optional[str] = ..., approvers: _Optional[_Iterable[str]] = ..., count: _Optional[int] = ..., about: _Optional[str] = ..., message: _Optional[str] = ...) -> None: ...

class Deny(_message.Message):
    __slots__ = ("retry",)
    RETRY_FIELD_NUMBER: _ClassVar[int]
    retry: bool
    def __init__(self, retry: _Optional[bool] = ...) -> None: ...

class Incomplete(_message.Message):
    __slots__ = ("needs",)
    NEEDS_FIELD_NUMBER: _ClassVar[int]
    needs: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, needs: _Optional[_Iterable[str]] = ...) -> None: ...

class Obligation(_message.Message):
    __slots__ = ("mask_fields", "limit_rows", "time_limit", "read_only", "redact_text", "set_headers", "remove_headers", "record", "limit_affected", "unsupported")
    MASK_FIELDS_FIELD_NUMBER: _ClassVar[int]
    LIMIT_ROWS_FIELD_NUMBER: _ClassVar[int]
    TIME_LIMIT_FIELD_NUMBER: _ClassVar[int]
    READ_ONLY_FIELD_NUMBER: _ClassVar[int]
    REDACT_TEXT_FIELD_NUMBER: _ClassVar[int]
    SET_HEADERS_FIELD_NUMBER: _ClassVar[int]
    REMOVE_HEADERS_FIELD_NUMBER: _ClassVar[int]
    RECORD_FIELD_NUMBER: _ClassVar[int]
    LIMIT_AFFECTED_FIELD_NUMBER: _ClassVar[int]
    UNSUPPORTED_FIELD_NUMBER: _ClassVar[int]
    mask_fields: MaskFields
    limit_rows: LimitRows
    time_limit: TimeLimit
    read_only: ReadOnly
    redact_text: RedactText
    set_headers: SetHeaders
    remove_headers: RemoveHeaders
    record: RecordSession
    limit_affected: LimitAffected
    unsupported: str
    def __init__(self, mask_fields: _Optional[_Union[MaskFields, _Mapping]] = ..., limit_rows: _Optional[_Union[LimitRows, _Mapping]] = ..., time_limit: _Optional[_Union[TimeLimit, _Mapping]] = ..., read_only: _Optional[_Union[ReadOnly, _Mapping]] = ..., redact_text: _Optional[_Union[RedactText, _Mapping]] = ..., set_headers: _Optional[_Union[SetHeaders, _Mapping]] = ..., remove_headers: _Optional[_Union[RemoveHeaders, _Mapping]] = ..., record: _Optional[_Union[RecordSession, _Mapping]] = ..., limit_affected: _Optional[_Union[LimitAffected, _Mapping]] = ..., unsupported: _Optional[str] = ...) -> None: ...

class MaskFields(_message.Message):
    __slots__ = ("fields",)
    FIELDS_FIELD_NUMBER: _ClassVar[int]
    fields: _containers.RepeatedCompositeFieldContainer[FieldMask]
    def __init__(self, fields: _Optional[_Iterable[_Union[FieldMask, _Mapping]]] = ...) -> None: ...

class FieldMask(_message.Message):
    __slots__ = ("dataset", "field", "null", "constant", "partial", "partial_email", "hash", "generalize")
    DATASET_FIELD_NUMBER: _ClassVar[int]
    FIELD_FIELD_NUMBER: _ClassVar[int]
    EXCEPT_FIELD_NUMBER: _ClassVar[int]
    NULL_FIELD_NUMBER: _ClassVar[int]
    CONSTANT_FIELD_NUMBER: _ClassVar[int]
    PARTIAL_FIELD_NUMBER: _ClassVar[int]
    PARTIAL_EMAIL_FIELD_NUMBER: _ClassVar[int]
    HASH_FIELD_NUMBER: _ClassVar[int]
    GENERALIZE_FIELD_NUMBER: _ClassVar[int]
    dataset: str
    field: str
    null: NullMask
    constant: ConstantMask
    partial: PartialMask
    partial_email: PartialEmailMask
    hash: HashMask
    generalize: GeneralizeMask
    def __init__(self, dataset: _Optional[str] = ..., field: _Optional[str] = ..., null: _Optional[_Union[NullMask, _Mapping]] = ..., constant: _Optional[_Union[ConstantMask, _Mapping]] = ..., partial: _Optional[_Union[PartialMask, _Mapping]] = ..., partial_email: _Optional[_Union[PartialEmailMask, _Mapping]] = ..., hash: _Optional[_Union[HashMask, _Mapping]] = ..., generalize: _Optional[_Union[GeneralizeMask, _Mapping]] = ..., **kwargs) -> None: ...

class NullMask(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ConstantMask(_message.Message):
    __slots__ = ("value",)
    VALUE_FIELD_NUMBER: _ClassVar[int]
    value: str
    def __init__(self, value: _Optional[str] = ...) -> None: ...

class PartialMask(_message.Message):
    __slots__ = ("prefix", "pad", "suffix")
    PREFIX_FIELD_NUMBER: _ClassVar[int]
    PAD_FIELD_NUMBER: _ClassVar[int]
    SUFFIX_FIELD_NUMBER: _ClassVar[int]
    prefix: int
    pad: str
    suffix: int
    def __init__(self, prefix: _Optional[int] = ..., pad: _Optional[str] = ..., suffix: _Optional[int] = ...) -> None: ...

class PartialEmailMask(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class HashMask(_message.Message):
    __slots__ = ("key",)
    KEY_FIELD_NUMBER: _ClassVar[int]
    key: str
    def __init__(self, key: _Optional[str] = ...) -> None: ...

class GeneralizeMask(_message.Message):
    __slots__ = ("step",)
    STEP_FIELD_NUMBER: _ClassVar[int]
    step: str
    def __init__(self, step: _Optional[str] = ...) -> None: ...

class LimitRows(_message.Message):
    __slots__ = ("max", "on_excess", "path")
    MAX_FIELD_NUMBER: _ClassVar[int]
    ON_EXCESS_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    max: int
    on_excess: OnExcess
    path: str
    def __init__(self, max: _Optional[int] = ..., on_excess: _Optional[_Union[OnExcess, str]] = ..., path: _Optional[str] = ...) -> None: ...

class LimitAffected(_message.Message):
    __slots__ = ("max",)
    MAX_FIELD_NUMBER: _ClassVar[int]
    max: int
    def __init__(self, max: _Optional[int] = ...) -> None: ...

class TimeLimit(_message.Message):
    __slots__ = ("limit",)
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    limit: _duration_pb2.Duration
    def __init__(self, limit: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class ReadOnly(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class RecordSession(_message.Message):
    __slots__ = ("nothing", "rows", "everything")
    NOTHING_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    EVERYTHING_FIELD_NUMBER: _ClassVar[int]
    nothing: RecordNothing
    rows: int
    everything: RecordEverything
    def __init__(self, nothing: _Optional[_Union[RecordNothing, _Mapping]] = ..., rows: _Optional[int] = ..., everything: _Optional[_Union[RecordEverything, _Mapping]] = ...) -> None: ...

class RecordNothing(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class RecordEverything(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class RedactText(_message.Message):
    __slots__ = ("detectors", "patterns")
    DETECTORS_FIELD_NUMBER: _ClassVar[int]
    PATTERNS_FIELD_NUMBER: _ClassVar[int]
    detectors: _containers.RepeatedScalarFieldContainer[str]
    patterns: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, detectors: _Optional[_Iterable[str]] = ..., patterns: _Optional[_Iterable[str]] = ...) -> None: ...

class SetHeaders(_message.Message):
    __slots__ = ("headers",)
    HEADERS_FIELD_NUMBER: _ClassVar[int]
    headers: _containers.RepeatedCompositeFieldContainer[Header]
    def __init__(self, headers: _Optional[_Iterable[_Union[Header, _Mapping]]] = ...) -> None: ...

class Header(_message.Message):
    __slots__ = ("name", "value")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    name: str
    value: str
    def __init__(self, name: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...

class RemoveHeaders(_message.Message):
    __slots__ = ("names",)
    NAMES_FIELD_NUMBER: _ClassVar[int]
    names: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, names: _Optional[_Iterable[str]] = ...) -> None: ...
