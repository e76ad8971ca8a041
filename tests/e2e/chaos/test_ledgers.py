"""The comparison itself: each kind of disagreement is found, and where the ledgers agree there is none."""

from dataclasses import replace

import pytest

from tests.e2e.chaos.ledgers import Ledgers, OnRecord, Recorded
from tests.e2e.chaos.targets import Executed
from tests.e2e.chaos.told import Outcome, Statement, Wish

MARKER = "mk00000001x"
NOW = 1_700_000_000.0


def event(type: str, verdict: str = "", at: float = NOW) -> Recorded:
    return Recorded("s-1", 1, at, type, verdict, {})


def ledgers(
    *,
    kind: str = "insert",
    outcome: Outcome = Outcome.SUCCEEDED,
    wish: Wish | None = None,
    events: tuple[Recorded, ...] = (event("decision", "allow"), event("intent"), event("response")),
    runs: int = 1,
    rows: int = 1,
    agreed: bool = False,
) -> Ledgers:
    """By default of an insert that went well."""
    statement = Statement(MARKER, "sql", kind, "insert", wish, NOW, NOW + 1, outcome)
    return Ledgers(
        {MARKER: statement},
        {MARKER: OnRecord(list(events))},
        {MARKER: [Executed(NOW + 0.01, "statement: insert")] * runs},
        {MARKER: rows},
        frozenset({MARKER} if agreed else ()),
    )


HELD = (event("decision", "require_approval"), event("approval.redeemed", "allow"), event("intent"), event("response"))


@pytest.mark.parametrize(
    "agreeing",
    [
        ledgers(),
        ledgers(kind="denied", outcome=Outcome.DENIED, events=(event("decision", "deny"),), runs=0, rows=0),
        ledgers(outcome=Outcome.LATER, events=(), runs=0, rows=0),
        # Who was cut off does not know, and either may be.
        ledgers(outcome=Outcome.UNKNOWN, events=(event("decision", "allow"), event("intent")), runs=0, rows=0),
        ledgers(outcome=Outcome.UNKNOWN, events=(event("decision", "allow"), event("intent")), rows=0),
        ledgers(kind="held", wish=Wish.YES, events=HELD, agreed=True),
        ledgers(kind="held", wish=Wish.LEAVE, outcome=Outcome.LEFT, events=HELD[:1], runs=0, rows=0, agreed=True),
    ],
)
def test_what_agrees_is_not_found(agreeing: Ledgers):
    assert agreeing.disagreements() == []


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (replace(ledgers(), told={}), "the target has what no client sent"),
        (ledgers(runs=2), "executed more than once"),
        (ledgers(events=(event("decision", "allow"), event("response"))), "executed without an intent on record"),
        (
            ledgers(events=(event("decision", "allow"), event("intent", at=NOW + 1), event("response"))),
            "executed before its intent was on record",
        ),
        (
            ledgers(events=(event("decision", "deny"), event("intent"), event("response"))),
            "executed although the records say that it was denied",
        ),
        (ledgers(outcome=Outcome.DENIED), "the client was told that it is not executed, and it was"),
        (ledgers(outcome=Outcome.LATER), "the client was told that it is not executed, and it was"),
        (ledgers(outcome=Outcome.UNKNOWN, rows=2), "more rows than executions"),
        (ledgers(runs=0, rows=0), "succeeded, and was executed 0 times"),
        (ledgers(rows=0), "succeeded, and there are 0 rows of it"),
        (
            ledgers(events=(event("decision", "allow"), event("intent"))),
            "succeeded without its response on record",
        ),
        (ledgers(kind="held", wish=Wish.SILENCE, events=HELD), "executed, and nobody agreed to it"),
        (
            ledgers(kind="held", wish=Wish.LEAVE, outcome=Outcome.LEFT, events=HELD, agreed=True),
            "executed after its client had left",
        ),
        (
            ledgers(kind="held", wish=Wish.YES, agreed=True),
            "executed, and no approval was redeemed for it",
        ),
        (
            ledgers(outcome=Outcome.DENIED, events=(event("decision", "deny"),), runs=0, rows=0),
            "refused for good, though policy allows it",
        ),
        (ledgers(kind="denied"), "policy denies it, and it succeeded"),
    ],
)
def test_what_disagrees_is_found_and_shown_with_all_three_ledgers(wrong: Ledgers, said: str):
    found = wrong.disagreements()
    assert any(each.startswith(said + "\n") for each in found), found
    assert all(f"  {MARKER}" in each and "target: " in each for each in found)


def test_a_transaction_of_which_only_some_is_there_is_found():
    one, two, end = (
        Statement(f"mk0000000{number}x", "sql", kind, "", None, NOW, NOW, Outcome.SUCCEEDED, group=7)
        for number, kind in ((1, "in transaction"), (2, "in transaction"), (3, "commit"))
    )
    told = {each.marker: each for each in (one, two, end)}
    whole = OnRecord([event("decision", "allow"), event("intent"), event("response")])
    recorded = dict.fromkeys(told, whole)
    executed = {marker: [Executed(NOW + 0.01, "statement")] for marker in told}
    agreeing = Ledgers(told, recorded, executed, {one.marker: 1, two.marker: 1}, frozenset())
    assert agreeing.disagreements() == []
    torn = replace(agreeing, rows={one.marker: 1})
    assert [each.split("\n")[0] for each in torn.disagreements()] == [
        "a transaction of which some is there and some is not"
    ]
