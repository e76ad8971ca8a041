"""For each relation a sound superset of the columns that a statement can read, and which of them are plain output."""

import pytest

from tests.fix_classify import Classifier, columns, reached, relations

EVERY_CUSTOMER_COLUMN = {f"public.customers.{name}" for name in ("id", "name", "email", "ssn", "created")}


@pytest.mark.parametrize(
    "text",
    [
        "SELECT ssn FROM customers",
        "SELECT ssn AS harmless FROM customers",
        "SELECT (ssn) FROM customers",
        "SELECT c.ssn FROM customers c",
        "SELECT c.ssn FROM customers AS c",
        "SELECT public.customers.ssn FROM public.customers",
        "SELECT classified.public.customers.ssn FROM classified.public.customers",
        "SELECT x.d FROM customers x(a, b, c, d)",
        "SELECT s.ssn FROM (SELECT id, ssn FROM customers) s",
        "SELECT s.x FROM (SELECT ssn AS x FROM customers LIMIT 3) s",
        "SELECT s.b FROM (SELECT id, ssn FROM customers) s(a, b)",
        "WITH c AS (SELECT ssn FROM customers) SELECT ssn FROM c",
        "WITH c(x) AS (SELECT ssn FROM customers) SELECT x FROM c",
        "SELECT j.ssn FROM (customers c JOIN orders o ON true) j",
        "SELECT l.ssn FROM orders o, LATERAL (SELECT ssn FROM customers) l",
        "SELECT ssn FROM customers TABLESAMPLE system (10)",
        "SELECT ssn FROM ONLY customers",
        "DELETE FROM customers RETURNING ssn",
        "INSERT INTO customers (id) VALUES (1) RETURNING ssn",
        'SELECT U&"\\0073sn" FROM customers',
    ],
)
def test_a_plain_column_is_output_and_nothing_else(of: Classifier, text: str) -> None:
    assert columns(of(text))["public.customers.ssn"] == "output"


@pytest.mark.parametrize(
    "expression",
    [
        "ssn || ''",
        "ssn::varchar",
        "ssn::short",
        'ssn COLLATE "C"',
        "coalesce(ssn, '')",
        "nullif(ssn, '')",
        "greatest(ssn, '')",
        "CASE WHEN true THEN ssn END",
        "CASE ssn WHEN 'x' THEN 1 END",
        "upper(ssn)",
        "min(ssn)",
        "first_value(ssn) OVER ()",
        "row_number() OVER (ORDER BY ssn)",
        "row_number() OVER (PARTITION BY ssn)",
        "count(*) FILTER (WHERE ssn > 'x')",
        "string_agg(name, ',' ORDER BY ssn)",
        "percentile_disc(0.5) WITHIN GROUP (ORDER BY ssn)",
        "unnest(ARRAY[ssn])",
        "row_to_json(customers)",
        "to_jsonb(customers) ->> 'ssn'",
        "customers::text",
        "format('%s', customers)",
        "customers",
        "customers.row_to_json",
        "ssn(customers)",
        "(customers).ssn",
        "(customers).*",
        "ROW(customers.*)",
        "ssn IN ('x')",
        "ssn LIKE 'x%'",
        "ssn BETWEEN 'a' AND 'b'",
        "ssn IS NULL",
        "ssn IS DISTINCT FROM name",
        "(name, ssn) = ('a', 'b')",
        "ssn = ANY (ARRAY['x'])",
        "name IN (SELECT ssn)",
        "EXISTS (SELECT 1 WHERE ssn = 'x')",
        "ARRAY(SELECT ssn)",
        "(SELECT ssn)",
        "json_build_object('a', ssn)",
        "JSON_OBJECT('a': ssn)",
        "JSON_ARRAY(ssn)",
        "JSON_ARRAYAGG(ssn)",
        "JSON_OBJECTAGG('a': ssn)",
        "JSON_VALUE('{}'::jsonb, '$' PASSING ssn AS x)",
        "JSON_SCALAR(ssn)",
        "ssn IS JSON",
        "xmlelement(NAME x, ssn)",
        "xmlforest(ssn AS x)",
        "xmlserialize(CONTENT ssn::xml AS text)",
        "set_config('app.x', ssn, false)",
        "trim(ssn)",
        "ssn SIMILAR TO 'x'",
        "substring(ssn FROM 1 FOR 2)",
        "overlay(ssn PLACING 'x' FROM 1)",
        "ssn::int",
        "ssn::regclass",
    ],
)
def test_an_expression_reads_its_columns_as_other(of: Classifier, expression: str) -> None:
    found = of(f"SELECT {expression} FROM customers")
    assert columns(found)["public.customers.ssn"] == "other"


@pytest.mark.parametrize(
    "clauses",
    [
        "WHERE ssn > 'S'",
        "ORDER BY ssn",
        "ORDER BY ssn USING <",
        "GROUP BY id, ssn",
        "GROUP BY GROUPING SETS ((id), (ssn))",
        "GROUP BY ROLLUP (id, ssn)",
        "GROUP BY id HAVING max(ssn) > 'x'",
        "WINDOW w AS (ORDER BY ssn)",
        "LIMIT (SELECT length(ssn) FROM customers LIMIT 1)",
        "JOIN orders o ON o.note = ssn",
        "JOIN (SELECT 'x' AS ssn) x USING (ssn)",
        "NATURAL JOIN (SELECT 'x' AS ssn) x",
        "NATURAL JOIN jsonb_to_record('{}') AS x(ssn text)",
        ", LATERAL (SELECT ssn || '') l",
        ", LATERAL generate_series(1, length(ssn)) g",
        ", XMLTABLE('/a' PASSING (ssn::xml) COLUMNS x int) x",
        ", JSON_TABLE(ssn::jsonb, '$' COLUMNS (x int)) x",
        "CROSS JOIN ROWS FROM (unnest(ARRAY[ssn]), generate_series(1, 2)) r",
    ],
)
def test_a_clause_reads_its_columns_as_other(of: Classifier, clauses: str) -> None:
    assert columns(of(f"SELECT 1 FROM customers {clauses}"))["public.customers.ssn"] == "other"


@pytest.mark.parametrize(
    "text",
    [
        "SELECT ssn FROM customers ORDER BY 1",
        "SELECT ssn AS x FROM customers ORDER BY x",
        "SELECT ssn FROM customers GROUP BY 1",
        "SELECT ssn AS x FROM customers GROUP BY x",
        "SELECT DISTINCT ssn FROM customers",
        "SELECT DISTINCT ON (1) ssn FROM customers",
        "SELECT DISTINCT ON (x) ssn AS x FROM customers",
        "SELECT * FROM customers ORDER BY 4",
        "SELECT s.ssn FROM (SELECT DISTINCT ssn FROM customers) s",
        "SELECT s.ssn FROM (SELECT ssn FROM customers ORDER BY 1) s",
        "SELECT ssn, upper(ssn) FROM customers",
        "SELECT ssn FROM customers WHERE ssn = 'x'",
    ],
)
def test_an_output_column_that_is_also_used_has_both_usages(of: Classifier, text: str) -> None:
    assert columns(of(text))["public.customers.ssn"] == "other+output"


@pytest.mark.parametrize(
    "text",
    [
        "SELECT ssn FROM customers UNION SELECT note FROM orders",
        "SELECT note FROM orders UNION ALL SELECT ssn FROM customers",
        "SELECT ssn FROM customers INTERSECT SELECT 'x'",
        "SELECT ssn FROM customers EXCEPT SELECT 'x'",
        "WITH RECURSIVE r AS (SELECT ssn FROM customers UNION SELECT ssn FROM r) SELECT ssn FROM r",
        "WITH RECURSIVE a AS (SELECT x FROM b), b AS (SELECT ssn AS x FROM customers) SELECT x FROM a",
        "VALUES ((SELECT ssn FROM customers))",
        "SELECT x FROM (VALUES ((SELECT ssn FROM customers))) v(x)",
        "WITH d AS (DELETE FROM customers RETURNING ssn) SELECT ssn FROM d",
        "SELECT unnest((SELECT array_agg(ssn) FROM customers))",
        "INSERT INTO orders (id, note) SELECT id, ssn FROM customers",
        "UPDATE orders SET note = ssn FROM customers",
        "UPDATE orders SET (id, note) = (SELECT id, ssn FROM customers)",
        "UPDATE customers SET name = ssn",
        "DELETE FROM orders USING customers WHERE note = ssn",
        "MERGE INTO orders o USING customers c ON o.note = c.ssn WHEN MATCHED THEN DELETE",
        "MERGE INTO orders o USING customers c ON false WHEN NOT MATCHED THEN INSERT (id, note) VALUES (1, c.ssn)",
        "CREATE TABLE copy AS SELECT ssn FROM customers",
        "CREATE TEMP TABLE copy AS SELECT ssn FROM customers",
        "SELECT ssn INTO copy FROM customers",
        "CREATE VIEW copy AS SELECT ssn FROM customers",
        "CREATE MATERIALIZED VIEW copy AS SELECT ssn FROM customers",
        "COPY customers TO STDOUT",
        "COPY customers (ssn) TO STDOUT",
        "COPY (SELECT ssn FROM customers) TO STDOUT",
        "EXPLAIN SELECT ssn FROM customers",
        "EXPLAIN ANALYZE SELECT ssn FROM customers",
        "ALTER TABLE customers RENAME COLUMN ssn TO harmless",
        "CREATE INDEX ON customers (upper(ssn))",
        "CREATE STATISTICS s ON name, ssn FROM customers",
        "INSERT INTO customers (id) VALUES (1) ON CONFLICT (ssn) DO NOTHING",
        "INSERT INTO customers (id) VALUES (1) ON CONFLICT DO NOTHING",
        "INSERT INTO customers (id) VALUES (1) ON CONFLICT ON CONSTRAINT customers_ssn_key DO NOTHING",
        "INSERT INTO customers (id) VALUES (1) ON CONFLICT (id) DO UPDATE SET name = customers.ssn",
        "UPDATE customers SET name = 'x' RETURNING old.ssn",
        "UPDATE customers SET name = 'x' RETURNING new.ssn",
        "UPDATE customers SET name = 'x' RETURNING WITH (OLD AS before) before.ssn",
        "SELECT mark, ssn || '' FROM customers c, invoices WHERE c.ssn = 'x'",
    ],
)
def test_what_flows_elsewhere_is_other(of: Classifier, text: str) -> None:
    assert columns(of(text))["public.customers.ssn"] == "other"


@pytest.mark.parametrize(
    "text",
    [
        "SELECT * FROM customers",
        "SELECT customers.* FROM customers",
        "SELECT c.* FROM customers c, orders o",
        "SELECT public.customers.* FROM customers",
        "TABLE customers",
        "SELECT * FROM (SELECT * FROM customers) s",
        "WITH c AS (TABLE customers) TABLE c",
        "DELETE FROM customers RETURNING *",
    ],
)
def test_a_star_is_every_column(of: Classifier, text: str) -> None:
    found = columns(of(text))
    assert {name: found[name] for name in EVERY_CUSTOMER_COLUMN} == dict.fromkeys(EVERY_CUSTOMER_COLUMN, "output")


@pytest.mark.parametrize(
    "text",
    [
        "SELECT id FROM customers",
        "SELECT id FROM (SELECT * FROM customers) s",
        "SELECT count(*) FROM customers",
        "SELECT 1 FROM customers",
        "SELECT ctid, tableoid FROM customers",
        "SELECT note AS ssn FROM customers c JOIN orders o ON o.id = c.id ORDER BY note",
        "SELECT (SELECT x.ssn FROM (SELECT 'x' AS ssn) x) FROM customers",
        "SELECT ssn FROM customers c(ssn, a, b, d)",
        "WITH customers AS (SELECT 1 AS id, 'x' AS ssn) SELECT ssn FROM customers",
        "SELECT (WITH customers AS (SELECT 'x' AS ssn) SELECT ssn FROM customers)",
        "INSERT INTO customers (id, ssn) VALUES (1, 'x') ON CONFLICT (id) DO UPDATE SET ssn = excluded.ssn",
        "UPDATE customers SET ssn = 'x' WHERE id = 1",
        "COPY customers (id) TO STDOUT",
    ],
)
def test_columns_that_are_not_read_are_not_listed(of: Classifier, text: str) -> None:
    found = of(text)
    assert not found.opaque
    assert "public.customers.ssn" not in columns(found)


def test_a_with_query_shadows_a_table_only_where_it_is_visible(of: Classifier) -> None:
    found = of("SELECT (WITH customers AS (SELECT 'x' AS ssn) SELECT ssn FROM customers), ssn FROM customers")
    assert columns(found)["public.customers.ssn"] == "output"
    assert relations(found) == {("public.customers", "read")}


def test_a_with_query_is_not_visible_to_itself_or_before(of: Classifier) -> None:
    found = of("WITH customers AS (SELECT ssn FROM customers) SELECT ssn FROM customers")
    assert columns(found) == {"public.customers.ssn": "output"}


def test_a_with_query_does_not_shadow_a_qualified_name_or_the_target_of_a_write(of: Classifier) -> None:
    assert relations(of("WITH customers AS (SELECT 1) SELECT * FROM public.customers")) == {
        ("public.customers", "read")
    }
    assert ("public.orders", "delete") in relations(of("WITH orders AS (SELECT 1) DELETE FROM orders"))


def test_a_subquery_that_is_not_lateral_sees_the_outer_level_and_not_its_neighbour(of: Classifier) -> None:
    text = "SELECT (SELECT s.x FROM orders c, (SELECT c.ssn AS x) s LIMIT 1) FROM customers c"
    assert columns(of(text))["public.customers.ssn"] == "other"


def test_a_join_condition_sees_its_own_sides_before_the_outer_level(of: Classifier) -> None:
    text = "SELECT (SELECT 1 FROM people, (moods m JOIN payments p ON ssn = 'x') LIMIT 1) FROM customers"
    assert columns(of(text)) == {"public.customers.ssn": "other"}


def test_the_innermost_level_that_has_the_column_wins(of: Classifier) -> None:
    text = "SELECT 1 FROM customers WHERE EXISTS (SELECT 1 FROM remote WHERE ssn = 'x')"
    assert columns(of(text)) == {"public.remote.ssn": "other"}


def test_a_name_in_order_by_is_an_output_name_first_and_in_group_by_a_column(of: Classifier) -> None:
    assert columns(of("SELECT name AS ssn FROM customers ORDER BY ssn")) == {"public.customers.name": "other+output"}
    grouped = columns(of("SELECT count(*), 1 AS ssn FROM customers GROUP BY ssn"))
    assert grouped == {"public.customers.ssn": "other"}


def test_a_row_as_a_value_is_the_row_that_it_names(of: Classifier) -> None:
    found = columns(of("SELECT ROW(o.*) FROM orders o, customers"))
    assert found["public.orders.note"] == "other"
    assert not found.keys() & EVERY_CUSTOMER_COLUMN
    assert of("SELECT ROW(x.*) FROM orders o").opaque == "unknown table: x"


def test_using_reads_the_column_on_both_sides(of: Classifier) -> None:
    found = columns(of("SELECT id FROM customers JOIN orders USING (id)"))
    assert found == {"public.customers.id": "other+output", "public.orders.id": "other+output"}


def test_a_view_lists_its_own_columns_and_all_that_it_reads(of: Classifier) -> None:
    found = of("SELECT email FROM order_emails")
    assert columns(found)["public.order_emails.email"] == "output"
    assert columns(found)["public.customers.ssn"] == "other"  # in the inner view's WHERE
    assert ("public.customers", "read", "public.order_emails") in reached(found)
    assert relations(found) == {("public.order_emails", "read")}
    assert not found.origins


def test_a_materialized_view_lists_what_it_was_made_of(of: Classifier) -> None:
    found = of("SELECT spent FROM spending")
    assert columns(found)["public.customers.ssn"] == "other"
    assert not found.origins


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("SELECT ssn FROM events", {"public.events", "public.events_old", "public.events_new"}),
        ("SELECT ssn FROM events_old", {"public.events", "public.events_old"}),
        ("SELECT ssn FROM people", {"public.people", "public.employees"}),
        ("SELECT ssn FROM employees", {"public.people", "public.employees"}),
    ],
)
def test_a_label_on_a_parent_or_partition_is_found_by_the_columns_name(
    of: Classifier, text: str, expected: set[str]
) -> None:
    found = of(text)
    assert columns(found) == {f"{dataset}.ssn": "output" for dataset in expected}
    assert {r["dataset"] for r in found.properties["relations"]} == expected
    assert len(found.origins) == 1


def test_a_generated_column_reads_what_it_is_computed_from(of: Classifier) -> None:
    assert columns(of("SELECT mark FROM invoices")) == {
        "public.invoices.mark": "output",
        "public.invoices.ssn": "other",
    }


def test_odd_names_are_quoted_in_the_dataset_and_not_in_the_field(of: Classifier) -> None:
    assert columns(of('SELECT "Mixed Case" FROM "Odd.Name"')) == {'public."Odd.Name".Mixed Case': "output"}


def test_catalog_columns_are_not_listed(of: Classifier) -> None:
    found = of("SELECT relname, * FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace")
    assert found.class_ == "catalog"
    assert relations(found) == {("pg_catalog.pg_class", "read"), ("pg_catalog.pg_namespace", "read")}
    assert columns(found) == {}


def test_where_and_limit_are_said(of: Classifier) -> None:
    assert of("SELECT 1 FROM orders WHERE id = 1 LIMIT 7").properties["limit"] == 7
    assert of("SELECT 1 FROM orders LIMIT 0").properties["limit"] == 0
    assert "limit" not in of("SELECT 1 FROM orders LIMIT $1").properties
    assert "limit" not in of("SELECT 1 FROM orders ORDER BY 1 FETCH FIRST 1 ROW WITH TIES").properties
    assert of("DELETE FROM orders WHERE id = 1").properties["has_where"] is True
    assert of("DELETE FROM orders").properties["has_where"] is False
    assert of("SELECT 1 FROM orders WHERE true UNION SELECT 1 FROM orders").properties["has_where"] is False


def test_a_delete_hidden_in_a_with_query_is_the_statements_kind(of: Classifier) -> None:
    found = of("WITH d AS (DELETE FROM orders RETURNING id) SELECT id FROM d WHERE true")
    assert (found.kind, found.class_, found.properties["has_where"]) == ("delete", "write", False)


@pytest.mark.parametrize(
    "text",
    [
        "SELECT array_agg(id) FROM customers",
        "SELECT string_agg(name, ',') FROM customers",
        "SELECT json_agg(c) FROM customers c",
        "SELECT xmlagg(xmlelement(NAME a, id)) FROM customers",
        "SELECT JSON_ARRAYAGG(id) FROM customers",
        "SELECT ARRAY(SELECT id FROM customers)",
        "SELECT JSON_ARRAY(SELECT id FROM customers)",
    ],
)
def test_collecting_aggregates_are_said(of: Classifier, text: str) -> None:
    assert of(text).collecting


def test_counting_is_not_collecting(of: Classifier) -> None:
    assert not of("SELECT count(*), max(id) FROM customers").collecting
