"""What a session's policy says of the record holds for every result, however it was asked for."""

import json

import pytest

from pep.core.keeping import Keeping
from pep.core.model import RecordLevel, RecordSession
from pep.core.records import Event, EventType
from tests.fix_session import Setting
from tests.pep.postgres.conversations import ORDERS, Driven, drive, m

NOTHING = RecordSession(RecordLevel.NONE)
ONE = RecordSession(RecordLevel.ROWS, 1)
EVERYTHING = RecordSession(RecordLevel.EVERYTHING)


def response(driven: Driven, extended: bool) -> Event:
    """The record of one select of orders, which the client gets whole."""
    driven.recorded.clear()
    if extended:
        bind = m.Bind("", "", (), (), ())
        said = driven.says(m.Parse("", ORDERS.text, ()), bind, m.Execute("", 0), m.Sync())
    else:
        said = driven.says(m.Query(ORDERS.text))
    assert said.count(b"SELECT") == 1
    (event,) = [each for each in driven.recorded if each.type is EventType.RESPONSE]
    return event


def rows_of(event: Event) -> int:
    return sum(len(result["rows"]) for body in event.bodies for result in json.loads(body.content)["results"])


@pytest.mark.parametrize("extended", [False, True])
def test_nothing_some_rows_or_all_of_a_result_is_kept(session_setting: Setting, extended: bool) -> None:
    whole = response(drive(session_setting), extended)
    all_rows = rows_of(whole)
    assert all_rows == whole.facts["rows"] > 1
    assert "kept" not in whole.facts
    nothing = response(drive(session_setting, keeping=Keeping((NOTHING,))), extended)
    assert (nothing.bodies, nothing.facts["kept"], nothing.facts["rows"]) == ((), "none", all_rows)
    one = response(drive(session_setting, keeping=Keeping((ONE,))), extended)
    assert (rows_of(one), one.facts["kept"], one.facts["truncated"]) == (1, "1 rows", "rows")
    every = response(drive(session_setting, keeping=Keeping((ONE, EVERYTHING))), extended)
    assert (rows_of(every), every.facts["kept"]) == (all_rows, "everything")
    assert "truncated" not in every.facts


def test_a_decision_may_ask_for_more_than_its_session(session_setting: Setting) -> None:
    driven = drive(session_setting, keeping=Keeping((NOTHING,)))
    driven.duties = lambda asked: (ONE,)
    assert rows_of(response(driven, extended=False)) == 1


def test_what_a_session_may_leave_on_record_is_used_up(session_setting: Setting) -> None:
    driven = drive(session_setting, keeping=Keeping((EVERYTHING,), left=1))
    event = response(driven, extended=False)
    assert (event.bodies, event.facts["truncated"]) == ((), "session")
