"""How a refusal looks on a PostgreSQL connection: ErrorResponse and NoticeResponse, and nothing else.

Implements "Error and Notice Message Fields" (PostgreSQL documentation). A refusal never closes the connection: severity
ERROR, SQLSTATE 42501 for every verdict (a private class makes some drivers give the connection up).
"""

from __future__ import annotations

from typing import Final

from pep.core.denial import Denial, explain
from pep.core.model import Deny, Held
from pep.postgres.backend import ErrorField, ErrorResponse, NoticeResponse

INSUFFICIENT_PRIVILEGE: Final = "42501"
QUERY_CANCELED: Final = "57014"
IN_FAILED_TRANSACTION: Final = "25P02"
PROGRAM_LIMIT_EXCEEDED: Final = "54000"
FEATURE_NOT_SUPPORTED: Final = "0A000"
SYNTAX_ERROR: Final = "42601"
INVALID_STATEMENT_NAME: Final = "26000"
INVALID_CURSOR_NAME: Final = "34000"
RESERVED_NAME: Final = "42939"
ADMIN_SHUTDOWN: Final = "57P01"
IDLE_SESSION_TIMEOUT: Final = "57P05"
CONNECTION_FAILURE: Final = "08006"
TOO_MANY_CONNECTIONS: Final = "53300"
PROTOCOL_VIOLATION: Final = "08P01"
SYSTEM_ERROR: Final = "58000"


def error(sqlstate: str, message: str, *, severity: str = "ERROR", detail: str = "", hint: str = "") -> ErrorResponse:
    """An error in the proxy's own words."""
    return ErrorResponse(_fields(severity, sqlstate, message, detail, hint))


def fatal(sqlstate: str, message: str, *, hint: str = "") -> ErrorResponse:
    """An error after which the connection ends."""
    return error(sqlstate, message, severity="FATAL", hint=hint)


def refused(decision: Deny, what: str = "this statement") -> ErrorResponse:
    """What a client is told when its statement is denied."""
    denial = explain(decision, what)
    return error(INSUFFICIENT_PRIVILEGE, denial.first_line, detail=denial.detail, hint=denial.hint)


def over_limit(decision: Deny) -> ErrorResponse:
    """What a client is told whose statement went past a limit that the proxy itself watches."""
    denial = explain(decision, "this statement")
    return error(PROGRAM_LIMIT_EXCEEDED, denial.first_line, detail=denial.detail, hint=denial.hint)


def held(waiting: Held) -> NoticeResponse:
    """What a client is told, again and again, while its statement waits for people."""
    denial: Denial = explain(waiting)
    return NoticeResponse(_fields("NOTICE", "00000", denial.first_line, denial.detail, denial.hint))


def warning(message: str) -> NoticeResponse:
    """A warning in the proxy's own words (SQLSTATE 01000)."""
    return NoticeResponse(_fields("WARNING", "01000", message, "", ""))


def failed_transaction() -> ErrorResponse:
    """The server's own answer to a statement inside an aborted transaction."""
    return error(
        IN_FAILED_TRANSACTION, "current transaction is aborted, commands ignored until end of transaction block"
    )


def _fields(severity: str, sqlstate: str, message: str, detail: str, hint: str) -> dict[str, str]:
    fields: dict[str, str] = {
        ErrorField.SEVERITY: severity,
        ErrorField.SEVERITY_NONLOCALIZED: severity,
        ErrorField.CODE: sqlstate,
        ErrorField.MESSAGE: message,
    }
    if detail:
        fields[ErrorField.DETAIL] = detail
    if hint:
        fields[ErrorField.HINT] = hint
    return {code: text.replace("\0", " ") for code, text in fields.items()}
