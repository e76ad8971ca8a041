"""Which fields of its documents a response showed: their places, their labels, and never a value among the names."""

import json
from dataclasses import replace
from typing import Any

import pytest

from pep.core.model import Action, FieldLabels, FieldMask, Grant, NullMask
from pep.http.classify import Request
from pep.http.disclosed import dataset, disclosed
from pep.http.large import answer, rewriting, rewritten
from pep.http.masking import Rewriter, Rule
from pep.http.places import MOST_PLACES, labels_at
from pep.http.work import Rewrite
from tests.playbook import grant

SSN = FieldMask("customers", "$..ssn", NullMask())
TOLD = (
    FieldLabels("customers", "$..ssn", ("pii",)),
    FieldLabels("customers", "$.items[0].email", ("email",)),
    FieldLabels("customers", "mail", ("email",)),
    FieldLabels("customers", "$[?(@.x)]", ("odd",)),
)


def seen(document: Any, *masks: FieldMask) -> dict[str, tuple[bool, bool]]:
    rewriter = Rewriter(Rule(masks))
    rewriter.document(json.dumps(document).encode())
    return {place: (clear, masked) for place, clear, masked in rewriter.places.seen()}


CLEAR, MASKED = (True, False), (False, True)


@pytest.mark.parametrize(
    ("document", "found"),
    [
        ({"id": 1, "ssn": "x", "ok": True}, {"$.id": CLEAR, "$.ssn": MASKED, "$.ok": CLEAR}),
        ([{"ssn": None}, {"name": "a"}], {"$[*].ssn": MASKED, "$[*].name": CLEAR}),
        ({"a": {"ssn": {"deep": [1]}}}, {"$.a.ssn": MASKED}),
        ({"note": '{"ssn": "x", "city": "y"}'}, {"$.note": CLEAR, "$.note.ssn": MASKED, "$.note.city": CLEAR}),
        ({"note": "ssn=123"}, {"$.note": MASKED}),
        ([], {"$": CLEAR}),
        ({"rows": []}, {"$.rows": CLEAR}),
    ],
)
def test_each_place_is_clear_or_masked(document: Any, found: dict[str, tuple[bool, bool]]):
    assert seen(document, SSN) == found


def test_names_that_are_data_are_no_places():
    told = seen({"ana@example.com": {"ssn": "x", "age": 3}, "4711": {"age": 4}}, SSN)
    assert told == {"$.*.ssn": MASKED, "$.*.age": CLEAR}


def test_what_there_is_no_room_for_stands_for_any():
    told = seen({f"f{letters(number)}": number for number in range(MOST_PLACES + 5)}, SSN)
    assert len(told) == MOST_PLACES
    assert told["*"] == CLEAR


def letters(number: int) -> str:
    return "".join(chr(97 + int(digit)) for digit in str(number))


def test_what_another_process_has_seen_counts_too():
    rewriter = Rewriter(Rule((SSN,)))
    rewriter.document(b'{"id": 1}')
    wanted = Rewrite(rewriter, b'[{"ssn": "x"}, {"age": 3}]')
    assert rewritten(answer(rewriting(wanted)), rewriter) == b'[{"ssn":null},{"age":3}]'
    assert {place: rest for place, *rest in rewriter.places.seen()} == {
        "$.id": [True, False],
        "$[*].ssn": [False, True],
        "$[*].age": [True, False],
    }


def test_labels_are_those_of_every_path_that_selects_the_place_or_may():
    found = labels_at(["$.ssn", "$.items[*].email", "$.items[*].id", "$.a.*", "*"], TOLD, {})
    assert {place: sorted(labels) for place, labels in found.items()} == {
        "$.ssn": ["odd", "pii"],
        "$.items[*].email": ["email", "odd"],
        "$.items[*].id": ["odd"],
        "$.a.*": ["email", "odd", "pii"],
        "*": ["email", "odd", "pii"],
    }
    # A name in the client's query stands for the schema's.
    assert "pii" in labels_at(["$.data.x"], TOLD, {"x": frozenset({"ssn"})})["$.data.x"]


def asked(**more: Any) -> Request:
    properties = {"method": "GET", "host": "Pay.Example", "segments": ["v1", "customers", "4711", "notes"], **more}
    return Request((Action("request", "http", properties),))


def test_the_dataset_is_what_was_asked_for():
    assert dataset(asked()) == "GET pay.example/v1/customers/{}/notes"
    assert dataset(asked(route="/v1/customers/{id}/notes")) == "GET pay.example/v1/customers/{id}/notes"
    assert "ana" not in dataset(asked(segments=["customers", "ana@example.com", "a" * 99]))


def test_what_was_not_looked_into_may_have_shown_any_field():
    of = "GET pay.example/v1/customers/{}/notes"
    facts = disclosed(dataset(asked()), with_labels(), (), 0, {})
    assert facts == {"disclosed": {"rows": 0, "clear": {of: {"*": ["email", "odd", "pii"]}}}}
    unclassified = disclosed(of, replace(grant(), labels=()), (), 2, {})
    assert unclassified == {"disclosed": {"rows": 2, "clear": {of: {"*": []}}}}
    facts = disclosed(dataset(asked()), with_labels(), (("$.ssn", False, True), ("$.id", True, False)), 3, {})
    assert facts == {
        "disclosed": {"rows": 3, "clear": {of: {"$.id": ["odd"]}}, "masked": {of: {"$.ssn": ["odd", "pii"]}}}
    }


def with_labels() -> Grant:
    return replace(grant(), labels=TOLD)
