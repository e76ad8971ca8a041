"""Which columns a statement is said to have shown: each that it reads, whatever it makes of it."""

import pytest

from pep.core.disclosed import Disclosed
from pep.core.model import FieldMask, MaskFields, NullMask
from pep.postgres.backend import Column, DataRow, RowDescription
from pep.postgres.codec import Run
from pep.postgres.frames import BackendTag
from pep.postgres.obligations import duties
from pep.postgres.results import Execution
from pep.postgres.shown import shown
from tests.fix_classify import Classifier
from tests.playbook import grant

CUSTOMERS = "public.customers"
SSN = frozenset({(CUSTOMERS, "ssn")})


@pytest.mark.parametrize(
    ("text", "clear", "masked"),
    [
        ("select id, ssn from customers", {"id"}, {"ssn"}),
        ("select name from customers where ssn = 'x'", {"name"}, {"ssn"}),
        ("select upper(email) from customers order by created", {"email", "created"}, set()),
        ("select count(*) from customers where name like 'a%'", {"name"}, set()),
        ("select * from customers", {"id", "name", "email", "created"}, {"ssn"}),
        ("select id from customer_emails", {"id", "email"}, {"ssn"}),
    ],
)
def test_every_column_that_is_read_counts(of: Classifier, text: str, clear: set[str], masked: set[str]):
    said = shown([of(text)], SSN, 3)
    assert {field for dataset, field in said.clear if dataset == CUSTOMERS} >= clear
    assert not {field for dataset, field in said.clear if dataset == CUSTOMERS} & {"ssn"}
    assert {field for dataset, field in said.masked if dataset == CUSTOMERS} == masked
    assert said.rows == 3


def test_what_is_not_understood_may_have_shown_anything(of: Classifier):
    assert ("*", "*") in shown([of("do $$ begin end $$")], frozenset(), 0).clear
    assert shown([of("select 1")], frozenset(), 1) == Disclosed(rows=1)


def test_an_event_names_them_once_something_came_back(of: Classifier):
    statement = of("select id, ssn from customers")
    table = next(iter(statement.origins))
    mask = MaskFields((FieldMask(CUSTOMERS, "ssn", NullMask()),))
    execution = Execution(grant(mask), (statement,), duties([mask], [statement], of.catalog))
    assert "disclosed" not in execution.response(over=False).facts
    columns = (_column("id", table, 1), _column("ssn", table, 4))
    assert execution.describe(RowDescription(columns))
    execution.take(Run(BackendTag.DATA_ROW, 1, DataRow((b"1", b"078-05-1120")).encode()))
    assert execution.response().facts["disclosed"] == {
        "rows": 1,
        "clear": {CUSTOMERS: {"id": []}},
        "masked": {CUSTOMERS: {"ssn": []}},
    }


def test_an_error_may_hold_a_value_unless_it_was_redacted(of: Classifier):
    statement = of("select name::int from customers")
    plain = Execution(grant(), (statement,), duties([], [statement], of.catalog))
    plain.sqlstate = "22P02"
    assert plain.response().facts["disclosed"]["clear"] == {CUSTOMERS: {"name": []}}
    mask = MaskFields((FieldMask(CUSTOMERS, "ssn", NullMask()),))
    redacted = Execution(grant(mask), (statement,), duties([mask], [statement], of.catalog))
    redacted.sqlstate = "22P02"
    assert "disclosed" not in redacted.response().facts


def _column(name: str, table: int, attribute: int) -> Column:
    return Column(name, table, attribute, 25, -1, -1, 0)
