"""What a statement reads where nobody looks: subscripts of written columns, names of system columns."""

from tests.fix_classify import Classifier

SUBSCRIPT = "tags[(select ascii(ssn) from customers limit 1)]"


def fields(found: object) -> set[tuple[str, str]]:
    return {(column["dataset"], column["field"]) for column in found.properties["columns"]}  # type: ignore[attr-defined]


def test_the_subscript_of_an_inserted_column_is_read(of: Classifier) -> None:
    for text in (
        f"insert into orders ({SUBSCRIPT}) values ('x') returning tags",
        "insert into orders (tags[1:(select ascii(ssn) from customers limit 1)]) values ('{x}')",
        f"merge into orders using people on true when not matched then insert ({SUBSCRIPT}) values ('x')",
        f"update orders set (id, {SUBSCRIPT}) = (1, 'x')",
    ):
        found = of(text)
        assert ("public.customers", "ssn") in fields(found), text
        assert any(relation["name"] == "customers" for relation in found.properties["relations"]), text


def test_code_in_the_subscript_of_an_inserted_column_is_seen(of: Classifier) -> None:
    found = of("insert into orders (tags[pg_sleep(1)::text::int]) values ('x')")
    assert found.properties["reaches_beyond"] == ["function pg_sleep"]


def test_a_view_has_no_system_columns(of: Classifier) -> None:
    """So the name is that of a column further out."""
    found = of("select (select ctid from pg_catalog.pg_user limit 1) from (select ssn as ctid from customers) s")
    assert ("public.customers", "ssn") in fields(found)
    found = of("select (select ctid from customer_emails limit 1) from (select ssn as ctid from customers) s")
    assert ("public.customers", "ssn") in fields(found)


def test_a_system_column_of_a_table_is_nothing_further_out(of: Classifier) -> None:
    found = of("select (select xmin from orders limit 1) from (select ssn as xmin from customers) s")
    assert ("public.customers", "ssn") not in fields(found)
    assert not found.opaque


def test_percentiles_collect_as_many_rows_as_there_are_fractions(of: Classifier) -> None:
    found = of("select percentile_disc('{0,0.1,0.2}'::float8[]) within group (order by ssn) from customers")
    assert found.collecting
    assert not of("select percentile_disc(0.5) within group (order by total) from orders").collecting
