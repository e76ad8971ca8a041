"""Takes the stored values out of what a server says beside its rows, while any mask is in force.

Errors, notices, notifications and parameter reports are result channels: a failed cast, a violated constraint or a
RAISE carries a value, or whatever text its author chose, in any field. So nothing is searched for; what stays is what
comes from a closed list or is already known to the client.
"""

from __future__ import annotations

from typing import Final

from pep.postgres.backend import ErrorField, ErrorResponse, NoticeResponse, NotificationResponse, ParameterStatus
from pep.postgres.sqlstates import CONDITION_NAMES

WITHHELD: Final = "(details are withheld while masks are in force)"

_INTERNAL_ERROR: Final = "XX000"
# For a notice without a known code: a warning's text would be read as one, this says nothing.
_SUCCESSFUL_COMPLETION: Final = "00000"

_ERROR_SEVERITIES: Final = frozenset({"ERROR", "FATAL", "PANIC"})
_NOTICE_SEVERITIES: Final = frozenset({"WARNING", "NOTICE", "DEBUG", "INFO", "LOG"})

_NAME_FIELDS: Final = (
    ErrorField.SCHEMA,
    ErrorField.TABLE,
    ErrorField.COLUMN,
    ErrorField.DATATYPE,
    ErrorField.CONSTRAINT,
)

# Reported parameters whose value a session cannot choose, or only from a handful of words that drivers depend on.
_CLOSED_PARAMETERS: Final = frozenset(
    {
        "client_encoding",
        "default_transaction_read_only",
        "in_hot_standby",
        "integer_datetimes",
        "is_superuser",
        "server_encoding",
        "server_version",
        "standard_conforming_strings",
    }
)


def redact_error(response: ErrorResponse, allowed_names: frozenset[str]) -> ErrorResponse:
    """The error with its SQLSTATE and severity, its condition's name for a message, and nothing that is data.

    A name field stays only if its value is in `allowed_names`, the objects of the statement itself; a SQLSTATE only if
    the server's list has it (`RAISE ... USING` takes any text for either).
    """
    return ErrorResponse(_redact(response.fields, allowed_names, _ERROR_SEVERITIES, "ERROR", _INTERNAL_ERROR))


def redact_notice(response: NoticeResponse, allowed_names: frozenset[str]) -> NoticeResponse:
    """The same for a notice."""
    return NoticeResponse(_redact(response.fields, allowed_names, _NOTICE_SEVERITIES, "NOTICE", _SUCCESSFUL_COMPLETION))


def redact_notification(response: NotificationResponse, channels: frozenset[str]) -> NotificationResponse | None:
    """The notification without its payload, or None where its channel is not one that the session listens to by name.

    `channels` are the constants of this session's own LISTEN statements: a channel is text that a sender may compute.
    """
    return NotificationResponse(response.pid, response.channel, "") if response.channel in channels else None


def redact_parameter(status: ParameterStatus) -> ParameterStatus:
    """The report with its value blanked, unless a session has no free choice of it."""
    return status if status.name in _CLOSED_PARAMETERS else ParameterStatus(status.name, "")


def _redact(
    fields: dict[str, str], allowed_names: frozenset[str], severities: frozenset[str], severity: str, code: str
) -> dict[str, str]:
    # The untranslated severity stands for both: the other one is text in a language that the session may choose.
    received = fields.get(ErrorField.SEVERITY_NONLOCALIZED, fields.get(ErrorField.SEVERITY, ""))
    if received in severities:
        severity = received
    if fields.get(ErrorField.CODE) in CONDITION_NAMES:
        code = fields[ErrorField.CODE]
    kept: dict[str, str] = {
        ErrorField.SEVERITY: severity,
        ErrorField.SEVERITY_NONLOCALIZED: severity,
        ErrorField.CODE: code,
        ErrorField.MESSAGE: f"{CONDITION_NAMES[code]} {WITHHELD}",
    }
    kept.update((name, fields[name]) for name in _NAME_FIELDS if fields.get(name) in allowed_names)
    return kept
