import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class PolicyChange(_message.Message):
    __slots__ = ("at", "change", "revision", "by", "changes", "problems", "kept")
    AT_FIELD_NUMBER: _ClassVar[int]
    CHANGE_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    BY_FIELD_NUMBER: _ClassVar[int]
    CHANGES_FIELD_NUMBER: _ClassVar[int]
    PROBLEMS_FIELD_NUMBER: _ClassVar[int]
    KEPT_FIELD_NUMBER: _ClassVar[int]
    at: _timestamp_pb2.Timestamp
    change: str
    revision: str
    by: str
    changes: _containers.RepeatedScalarFieldContainer[str]
    problems: str
    kept: bool
    def __init__(self, at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., change: _Optional[str] = ..., revision: _Optional[str] = ..., by: _Optional[str] = ..., changes: _Optional[_Iterable[str]] = ..., problems: _Optional[str] = ..., kept: _Optional[bool] = ...) -> None: ...

class ListPolicyChangesRequest(_message.Message):
    __slots__ = ("limit",)
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    limit: int
    def __init__(self, limit: _Optional[int] = ...) -> None: ...

class ListPolicyChangesResponse(_message.Message):
    __slots__ = ("changes",)
    CHANGES_FIELD_NUMBER: _ClassVar[int]
    changes: _containers.RepeatedCompositeFieldContainer[PolicyChange]
    def __init__(self, changes: _Optional[_Iterable[_Union[PolicyChange, _Mapping]]] = ...) -> None: ...

class DiffPoliciesRequest(_message.Message):
    __slots__ = ("before", "after")
    BEFORE_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    before: str
    after: str
    def __init__(self, before: _Optional[str] = ..., after: _Optional[str] = ...) -> None: ...

class DiffPoliciesResponse(_message.Message):
    __slots__ = ("lines",)
    LINES_FIELD_NUMBER: _ClassVar[int]
    lines: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, lines: _Optional[_Iterable[str]] = ...) -> None: ...

class RollBackRequest(_message.Message):
    __slots__ = ("revision",)
    REVISION_FIELD_NUMBER: _ClassVar[int]
    revision: str
    def __init__(self, revision: _Optional[str] = ...) -> None: ...

class RollBackResponse(_message.Message):
    __slots__ = ("revision",)
    REVISION_FIELD_NUMBER: _ClassVar[int]
    revision: str
    def __init__(self, revision: _Optional[str] = ...) -> None: ...

class ResumeRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ResumeResponse(_message.Message):
    __slots__ = ("revision", "policy_error")
    REVISION_FIELD_NUMBER: _ClassVar[int]
    POLICY_ERROR_FIELD_NUMBER: _ClassVar[int]
    revision: str
    policy_error: str
    def __init__(self, revision: _Optional[str] = ..., policy_error: _Optional[str] = ...) -> None: ...

class KeptDecision(_message.Message):
    __slots__ = ("decision_id", "at", "session_id", "subject", "resource", "action", "verdict", "policies", "revision")
    DECISION_ID_FIELD_NUMBER: _ClassVar[int]
    AT_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    RESOURCE_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    POLICIES_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    decision_id: str
    at: _timestamp_pb2.Timestamp
    session_id: str
    subject: str
    resource: str
    action: str
    verdict: str
    policies: _containers.RepeatedScalarFieldContainer[str]
    revision: str
    def __init__(self, decision_id: _Optional[str] = ..., at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., session_id: _Optional[str] = ..., subject: _Optional[str] = ..., resource: _Optional[str] = ..., action: _Optional[str] = ..., verdict: _Optional[str] = ..., policies: _Optional[_Iterable[str]] = ..., revision: _Optional[str] = ...) -> None: ...

class ListDecisionsRequest(_message.Message):
    __slots__ = ("limit", "session_id", "verdict", "policy", "subject")
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    POLICY_FIELD_NUMBER: _ClassVar[int]
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    limit: int
    session_id: str
    verdict: str
    policy: str
    subject: str
    def __init__(self, limit: _Optional[int] = ..., session_id: _Optional[str] = ..., verdict: _Optional[str] = ..., policy: _Optional[str] = ..., subject: _Optional[str] = ...) -> None: ...

class ListDecisionsResponse(_message.Message):
    __slots__ = ("decisions",)
    DECISIONS_FIELD_NUMBER: _ClassVar[int]
    decisions: _containers.RepeatedCompositeFieldContainer[KeptDecision]
    def __init__(self, decisions: _Optional[_Iterable[_Union[KeptDecision, _Mapping]]] = ...) -> None: ...

class ExplainDecisionRequest(_message.Message):
    __slots__ = ("decision_id", "trace")
    DECISION_ID_FIELD_NUMBER: _ClassVar[int]
    TRACE_FIELD_NUMBER: _ClassVar[int]
    decision_id: str
    trace: bool
    def __init__(self, decision_id: _Optional[str] = ..., trace: _Optional[bool] = ...) -> None: ...

class ExplainDecisionResponse(_message.Message):
    __slots__ = ("decision", "answer_json", "input_json", "not_repeated", "again_json", "same", "contributed", "missed", "trace")
    DECISION_FIELD_NUMBER: _ClassVar[int]
    ANSWER_JSON_FIELD_NUMBER: _ClassVar[int]
    INPUT_JSON_FIELD_NUMBER: _ClassVar[int]
    NOT_REPEATED_FIELD_NUMBER: _ClassVar[int]
    AGAIN_JSON_FIELD_NUMBER: _ClassVar[int]
    SAME_FIELD_NUMBER: _ClassVar[int]
    CONTRIBUTED_FIELD_NUMBER: _ClassVar[int]
    MISSED_FIELD_NUMBER: _ClassVar[int]
    TRACE_FIELD_NUMBER: _ClassVar[int]
    decision: KeptDecision
    answer_json: bytes
    input_json: bytes
    not_repeated: str
    again_json: bytes
    same: bool
    contributed: _containers.RepeatedCompositeFieldContainer[RuleReached]
    missed: _containers.RepeatedCompositeFieldContainer[RuleReached]
    trace: str
    def __init__(self, decision: _Optional[_Union[KeptDecision, _Mapping]] = ..., answer_json: _Optional[bytes] = ..., input_json: _Optional[bytes] = ..., not_repeated: _Optional[str] = ..., again_json: _Optional[bytes] = ..., same: _Optional[bool] = ..., contributed: _Optional[_Iterable[_Union[RuleReached, _Mapping]]] = ..., missed: _Optional[_Iterable[_Union[RuleReached, _Mapping]]] = ..., trace: _Optional[str] = ...) -> None: ...

class RuleReached(_message.Message):
    __slots__ = ("policy", "kind", "code", "file", "line", "stopped_at")
    POLICY_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    FILE_FIELD_NUMBER: _ClassVar[int]
    LINE_FIELD_NUMBER: _ClassVar[int]
    STOPPED_AT_FIELD_NUMBER: _ClassVar[int]
    policy: str
    kind: str
    code: str
    file: str
    line: int
    stopped_at: _containers.RepeatedCompositeFieldContainer[Condition]
    def __init__(self, policy: _Optional[str] = ..., kind: _Optional[str] = ..., code: _Optional[str] = ..., file: _Optional[str] = ..., line: _Optional[int] = ..., stopped_at: _Optional[_Iterable[_Union[Condition, _Mapping]]] = ...) -> None: ...

class Condition(_message.Message):
    __slots__ = ("file", "line", "text")
    FILE_FIELD_NUMBER: _ClassVar[int]
    LINE_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    file: str
    line: int
    text: str
    def __init__(self, file: _Optional[str] = ..., line: _Optional[int] = ..., text: _Optional[str] = ...) -> None: ...
