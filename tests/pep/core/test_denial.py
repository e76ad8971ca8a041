import json

from pep.core.denial import MESSAGE_LIMIT, explain
from pep.core.model import Deny, Reason, local_deny
from tests.playbook import held

DDL = Reason("no-ddl", "Agents do not change schemas.", "no_ddl", ("ask a schema owner", "use the orders view"))


def members(detail: str) -> dict:
    document = json.loads(detail)
    assert list(document) == ["checkrein"]
    return document["checkrein"]


def test_the_first_line_of_a_refusal_is_complete_in_itself():
    told = explain(Deny("d-7", "r-1", (DDL,)))
    assert told.first_line == (
        "this statement is refused by policy no_ddl: Agents do not change schemas; allowed instead: "
        "ask a schema owner; use the orders view; do not repeat it unchanged [decision d-7]"
    )
    assert "d-7" in told.hint
    assert members(told.detail) == {
        "v": 1,
        "verdict": "deny",
        "id": "d-7",
        "policy": "no_ddl",
        "code": "no-ddl",
        "allowed": ["ask a schema owner", "use the orders view"],
        "retry": False,
    }


def test_a_refusal_that_may_pass_later_says_so():
    told = explain(
        local_deny("local-1", "decision-unavailable", "no decision could be made in time", retry=True), "GET /x"
    )
    assert told.first_line.startswith(
        "GET /x is refused: no decision could be made in time; it may be tried again later"
    )
    assert members(told.detail)["retry"] is True


def test_a_held_command_says_who_is_waited_for_and_not_to_send_it_again():
    told = explain(held("a-1"))
    assert told.first_line == (
        "this statement waits for approval by policy tests: an owner has to agree; waiting for group:owners; "
        "do not send it again, it goes on by itself once approved [approval a-1]"
    )
    assert "http://127.0.0.1/a-1" in told.hint
    said = members(told.detail)
    assert (said["verdict"], said["poll"], said["url"], said["approval"]) == (
        "require_approval",
        5,
        "http://127.0.0.1/a-1",
        "a-1",
    )


def test_further_reasons_are_in_the_hint_and_their_alternatives_among_the_rest():
    more = Reason("office-hours", "Only from nine to five.", "hours", ("use the orders view", "wait until nine"))
    told = explain(Deny("d-7", "r-1", (DDL, more)))
    assert "Only from nine to five" in told.hint
    assert members(told.detail)["allowed"] == ["ask a schema owner", "use the orders view", "wait until nine"]


def test_a_message_stays_on_one_line_that_a_terminal_shows_as_it_is():
    told = explain(Deny("d", "r", (Reason("c", "one\r\ntwo\x1b[31m\u202ethree" + "x" * 1000),)))
    assert told.first_line.isprintable()
    assert len(told.first_line) < MESSAGE_LIMIT + 100


def test_a_deny_without_a_reason_is_still_a_whole_sentence():
    assert explain(Deny("d-1", "r-1", ())).first_line == (
        "this statement is refused: denied; do not repeat it unchanged [decision d-1]"
    )
