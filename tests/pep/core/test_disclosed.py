"""What a response's event says about fields: their names, how they are classified, and never more than it can hold."""

import pytest

from pep.core.disclosed import MOST_FIELDS, Disclosed, disclosure
from pep.core.model import FieldLabels, Grant

LABELS = (
    FieldLabels("public.c", "email", ("email",)),
    FieldLabels("public.c", "ssn", ("pii", "ssn")),
    FieldLabels("public.o", "note", ("internal",)),
)


def told(said: Disclosed, *labels: FieldLabels) -> object:
    return disclosure(Grant(object(), "e", ("d",), "r", ((),), labels or LABELS), said)["disclosed"]


def test_fields_come_with_their_labels_and_clear_is_stronger_than_masked():
    said = Disclosed(
        clear=frozenset({("public.c", "email"), ("public.c", "id")}),
        masked=frozenset({("public.c", "ssn"), ("public.c", "email")}),
        rows=7,
    )
    assert told(said) == {
        "rows": 7,
        "clear": {"public.c": {"email": ["email"], "id": []}},
        "masked": {"public.c": {"ssn": ["pii", "ssn"]}},
    }


@pytest.mark.parametrize(
    ("dataset", "labels"),
    [("public.c", ["email", "pii", "ssn"]), ("*", ["email", "internal", "pii", "ssn"]), ("public.x", [])],
)
def test_a_field_that_may_be_any_has_the_labels_of_all(dataset: str, labels: list[str]):
    assert told(Disclosed(frozenset({(dataset, "*")}))) == {"rows": 0, "clear": {dataset: {"*": labels}}}


def test_labels_that_are_too_many_to_be_named_are_every_fields():
    anywhere = FieldLabels("*", "*", ("pii",))
    assert told(Disclosed(frozenset({("a", "b")})), anywhere) == {"rows": 0, "clear": {"a": {"b": ["pii"]}}}


def test_many_fields_are_named_by_their_datasets_and_many_datasets_not_at_all():
    wide = frozenset(("public.c", f"f{number}") for number in range(MOST_FIELDS + 1))
    assert told(Disclosed(wide)) == {"rows": 0, "clear": {"public.c": {"*": ["email", "pii", "ssn"]}}}
    found = {("public.c", "f7"): frozenset({"found"}), ("public.o", "f"): frozenset({"other"})}
    assert told(Disclosed(wide, labels=found)) == {
        "rows": 0,
        "clear": {"public.c": {"*": ["email", "found", "pii", "ssn"]}},
    }
    everywhere = frozenset((f"d{number}", "f") for number in range(MOST_FIELDS + 1))
    assert told(Disclosed(everywhere)) == {"rows": 0, "clear": {"*": {"*": ["email", "internal", "pii", "ssn"]}}}
