package checkrein.postgres_test

import data.checkrein.postgres as pg
import data.checkrein.testing as t

_bot := t.agent("bot", [])

_relation(dataset, access) := relation if some relation in t.relations({dataset}, access)

_orders := _relation("public.orders", "read")

_select := t.select(_bot, {"public.orders"})

_sql(facts) := t.sql(_bot, object.union({"relations": [_orders]}, facts))

_absent(path) := json.remove(_select, [concat("/", ["/action/properties/postgres", path])])

# what the statement is said to be, of everything that lets something through
_holds contains "understood" if pg.understood

_holds contains "only_computes" if pg.only_computes

_holds contains "only_reads" if pg.only_reads

_holds contains "touches_nothing" if pg.touches_nothing

_holds contains "housekeeping" if pg.housekeeping

_holds contains "catalog_only" if pg.catalog_only

_holds contains "changes_rows" if pg.changes_rows

_computing := {"understood", "only_computes"}

_of(request) := holds if holds := _holds with input as request

test_a_select_only_reads if {
	_of(_select) == _computing | {"only_reads"}
	_of(_sql({"functions": ["pg_catalog.lower", "count", "information_schema._pg_expandarray"]})) == _computing | {"only_reads"}
}

test_nothing_that_lets_through_holds_of_what_was_not_understood if {
	every facts in [
		{"opaque": "x"}, {"opaque": null}, {"opaque": true}, {"reaches_beyond": ["a file"]}, {"reaches_beyond": null},
		{"relations": null}, {"relations": {}}, {"relations": [{}]}, {"relations": [object.remove(_orders, ["access"])]},
		{"relations": [object.union(_orders, {"dataset": null})]}, {"relations": [null]}, {"columns": null}, {"columns": [{}]},
		{"columns": [{"dataset": "a.b", "field": "c"}]}, {"columns": [{"dataset": "a.b", "field": "c", "usage": []}]},
		{"columns": [{"dataset": "a.b", "field": "c", "usage": [null]}]}, {"columns": [{"dataset": "a.b", "field": "c", "usage": null}]},
		{"columns": [{"dataset": null, "field": "c", "usage": ["output"]}]}, {"functions": null}, {"functions": [null]},
	] {
		_of(_sql(facts)) == set()
	}
	every path in ["opaque", "reaches_beyond", "relations", "columns", "functions"] { _of(_absent(path)) == set() }
	_of({}) == set()
}

test_nothing_that_lets_through_holds_of_a_function_that_does_more_than_compute if {
	every f in ["pg_catalog.pg_read_file", "pg_read_file", "query_to_xml", "public.lower", "nextval", "pg_sleep", "set_config", "lo_get", ""] {
		_of(_sql({"functions": ["pg_catalog.lower", f]})) == {"understood"}
	}
}

test_a_select_that_writes_does_not_only_read if {
	every access in ["insert", "update", "delete", "truncate", "schema", "lock", "", "sorcery"] {
		not "only_reads" in _of(_sql({"relations": [_orders, _relation("public.items", access)]}))
	}
}

test_another_class_does_not_only_read if {
	every class in ["write", "schema", "transaction", "setting", "admin", "opaque", "", null] {
		not "only_reads" in _of(_sql({"class": class}))
	}
	not "only_reads" in _of(_absent("class"))
}

test_a_select_of_no_table_only_reads_if_its_functions_only_compute if {
	_of(t.sql(_bot, {"functions": ["pg_catalog.version"]})) == _computing | {"only_reads", "touches_nothing"}
	_of(t.sql(_bot, {"functions": ["pg_catalog.pg_read_file"]})) == {"understood"}
	_of(t.sql(_bot, {"columns": [{"dataset": "a.b", "field": "c", "usage": ["output"]}]})) == _computing | {"only_reads"}
}

test_to_begin_and_end_a_transaction_is_housekeeping if {
	_of(t.sql(_bot, {"class": "transaction", "kind": "begin"})) == _computing | {"housekeeping"}
	_of(t.sql(_bot, {"class": "transaction", "kind": "rollback_prepared", "reaches_beyond": ["gid"]})) == set()
	not "housekeeping" in _of(_sql({"class": "transaction"}))
}

_setting(facts) := "housekeeping" in _of(t.sql(_bot, object.union({"class": "setting", "kind": "set"}, facts)))

test_settings_that_concern_only_the_session_are_housekeeping if {
	_setting({"settings": ["DateStyle", "search_path"]})
	_setting({"kind": "select", "settings": ["search_path"], "functions": ["pg_catalog.set_config"]})
	_setting({"kind": "reset", "settings": []})
	_setting({"settings": ["timezone"], "functions": ["pg_catalog.lower"]})
}

test_show_and_the_empty_statement_are_housekeeping if {
	_setting({"class": "catalog", "kind": "show", "settings": ["data_directory"]})
	_setting({"class": "catalog", "kind": "empty"})
	not _setting({"class": "catalog", "kind": "select"})
	not _setting({"class": "catalog", "kind": "show", "relations": [_orders]})
}

test_settings_that_do_more_are_no_housekeeping if {
	not _setting({"kind": "select", "settings": ["role"], "functions": ["pg_catalog.set_config"]})
	not _setting({"kind": "select", "settings": ["timezone"], "functions": ["public.set_config"]})
	every name in ["role", "session_authorization", "session_replication_role", "row_security", "app.tenant", "", null] {
		not _setting({"settings": ["timezone", name]})
		not _setting({"kind": "reset", "settings": ["timezone", name]})
	}
	not _setting({})
	not _setting({"settings": []})
	not _setting({"settings": null})
	not _setting({"settings": ["timezone"], "relations": [_orders]})
	not _setting({"settings": ["timezone"], "functions": ["pg_read_file"]})
}

_catalog(datasets) := "catalog_only" in _of(t.select(_bot, datasets))

test_the_structural_catalog_is_catalog_only if {
	_catalog({"pg_catalog.pg_class", "pg_catalog.pg_attribute", "information_schema.columns", "pg_catalog.pg_roles"})
	"catalog_only" in _of(t.sql(_bot, {"class": "catalog", "relations": t.relations({"pg_catalog.pg_class"}, "read")}))
}

test_the_catalog_that_holds_data_is_not if {
	every name in [
		"pg_stats", "pg_statistic", "pg_stat_activity", "pg_statio_user_tables", "pg_authid", "pg_shadow", "pg_user_mappings",
		"pg_subscription", "pg_largeobject", "pg_hba_file_rules", "pg_file_settings", "pg_prepared_statements", "pg_cursors",
		"pg_locks", "pg_replication_slots", "pg_sequences", "pg_db_role_setting", "pg_foreign_server", "pg_of_tomorrow",
	] {
		not _catalog({concat(".", ["pg_catalog", name])})
		not _catalog({concat(".", ["pg_catalog", name]), "pg_catalog.pg_class"})
	}
	not _catalog({"public.pg_class"})
	not _catalog({"information_schema.user_mapping_options"})
	not _catalog({"public.orders", "pg_catalog.pg_class"})
	not _catalog(set())
}

test_a_change_of_the_catalog_is_not if {
	not "catalog_only" in _of(t.sql(_bot, {"relations": t.relations({"pg_catalog.pg_class"}, "update")}))
	not "catalog_only" in _of(t.sql(_bot, {"class": "write", "relations": t.relations({"pg_catalog.pg_class"}, "read")}))
	not "catalog_only" in _of(t.sql(_bot, {"relations": t.relations({"pg_catalog.pg_class"}, "read"), "functions": ["pg_sleep"]}))
}

_behind(view) := object.union(_relation("pg_catalog.pg_authid", "read"), {"via": view})

test_a_relation_behind_a_structural_view_counts_as_the_view if {
	"catalog_only" in _of(t.sql(_bot, {"relations": [_behind("pg_catalog.pg_roles"), _relation("pg_catalog.pg_roles", "read")]}))
	not "catalog_only" in _of(t.sql(_bot, {"relations": [_behind("public.v")]}))
	not "catalog_only" in _of(t.sql(_bot, {"relations": [_behind(null)]}))
	own := object.union(_relation("pg_catalog.pg_class", "read"), {"via": "public.v"})
	not "catalog_only" in _of(t.sql(_bot, {"relations": [own]}))
}

test_a_write_of_rows_and_nothing_else_changes_rows if {
	_of(t.delete(_bot, {"public.orders"})) == _computing | {"changes_rows"}
	_of(_sql({"class": "write"})) == _computing
	not "changes_rows" in _of(t.sql(_bot, {"class": "write", "relations": [_relation("a.b", "update"), _relation("a.c", "schema")]}))
	not "changes_rows" in _of(_sql({"relations": [_relation("a.b", "update")]}))
}

test_each_dataset_counts_by_how_it_is_touched if {
	relations := [_relation("a.read", "read"), _relation("a.ins", "insert"), _relation("a.del", "delete"), _relation("a.trunc", "truncate")]
	request := t.sql(_bot, {"relations": relations})
	count(pg.relations) == 4 with input as request
	pg.touched == {"a.read", "a.ins", "a.del", "a.trunc"} with input as request
	pg.read == {"a.read"} with input as request
	pg.written == {"a.ins", "a.del", "a.trunc"} with input as request
	pg.deleted == {"a.del", "a.trunc"} with input as request
}

_deletes(request) if pg.deletes with input as request

test_a_delete_is_one_wherever_it_hides if {
	_deletes(t.delete(_bot, {"a.b"}))
	_deletes(_sql({"relations": [_orders, _relation("a.b", "delete")]}))
	_deletes(t.sql(_bot, {"kind": "truncate"}))
	not _deletes(_select)
}

_changes_schema(request) if pg.changes_schema with input as request

test_the_schema_changes_unless_it_is_known_not_to if {
	every class in ["schema", "admin", "opaque", "sorcery", null] { _changes_schema(_sql({"class": class})) }
	_changes_schema(_absent("class"))
	_changes_schema(_absent("relations"))
	_changes_schema(_sql({"relations": [_relation("a.b", "schema")]}))
	_changes_schema({})
	every class in ["read", "write", "transaction", "setting", "catalog"] { not _changes_schema(_sql({"class": class})) }
	not _changes_schema(t.connect(_bot))
	not _changes_schema(t.administer(_bot, "approve"))
}

_within(datasets, names) if pg.within(names) with input as t.select(_bot, datasets)

test_within_holds_of_every_dataset_touched_and_never_of_none if {
	_within({"public.orders", "reporting.sales"}, {"public.orders", "reporting.*"})
	not _within({"public.orders", "public.payroll"}, {"public.orders"})
	not _within({"reporting2.sales"}, {"reporting.*"})
	not _within(set(), {"public.orders", "*", "public.*"})
	not _within({"public.orders"}, set())
	not pg.within({"public.orders", null}) with input as t.sql(_bot, {"relations": [object.union(_orders, {"dataset": 1})]})
}

test_writes_within_holds_of_every_dataset_written_and_never_of_none if {
	pg.writes_within({"a.*"}) with input as t.delete(_bot, {"a.b"})
	not pg.writes_within({"a.*"}) with input as t.delete(_bot, {"a.b", "b.c"})
	not pg.writes_within({"a.*"}) with input as t.select(_bot, {"a.b"})
}

_pinned(datasets, pins, value) if pg.pinned(datasets, "org", value) with input as _sql({"pins": pins})

test_a_dataset_is_pinned_to_the_same_value_only if {
	pin := {"dataset": "public.orders", "field": "org", "value": "acme"}
	_pinned({"public.orders"}, [pin], "acme")
	_pinned({"public.other"}, [], "acme")
	not _pinned({"public.orders"}, [], "acme")
	not _pinned({"public.orders"}, [object.union(pin, {"value": "globex"})], "acme")
	not _pinned({"public.orders"}, [object.union(pin, {"value": null})], null)
}

_shop := {"shop": {"public.orders": {"id": ["public"], "note": ["pii"]}, "public.customers": {"ssn": ["pii"], "nothing": []}}}

_labelled(request) := fields if fields := pg.labelled("pii") with input as request with data.classification as _shop

test_labelled_gives_the_fields_of_every_dataset_touched if {
	_labelled(_select) == {{"dataset": "public.orders", "field": "note"}}
	_labelled(t.select(_bot, {"public.unknown"})) == set()
}

test_labelled_gives_all_fields_of_the_resource_when_anything_is_opaque if {
	every_one := {{"dataset": "public.orders", "field": "note"}, {"dataset": "public.customers", "field": "ssn"}}
	_labelled(_sql({"opaque": "x"})) == every_one
	_labelled(_sql({"reaches_beyond": ["x"]})) == every_one
	_labelled(_absent("relations")) == every_one
}

test_unlabelled_gives_what_nobody_classified if {
	columns := [
		{"dataset": "public.orders", "field": "id", "usage": ["output"]}, {"dataset": "public.orders", "field": "new", "usage": ["other"]},
		{"dataset": "public.customers", "field": "nothing", "usage": ["output"]},
		{"dataset": "pg_catalog.pg_class", "field": "relname", "usage": ["output"]},
		{"dataset": "pg_catalog.pg_stats", "field": "most_common_vals", "usage": ["output"]},
	]
	count(pg.columns) == 5 with input as _sql({"columns": columns})
	pg.unlabelled == {
		{"dataset": "public.orders", "field": "new"}, {"dataset": "public.customers", "field": "nothing"},
		{"dataset": "pg_catalog.pg_stats", "field": "most_common_vals"},
	} with input as _sql({"columns": columns}) with data.classification as _shop
}

_estimated(facts, rows) if pg.estimated_at_most(rows) with input as t.context(_select, {"facts": facts})

test_an_estimate_that_is_no_number_is_at_most_nothing if {
	_estimated({"estimate": {"rows": 99}}, 99)
	not _estimated({"estimate": {"rows": 100}}, 99)
	every rows in [null, false, "1", [], {}] { not _estimated({"estimate": {"rows": rows}}, 99) }
	not _estimated({"estimate": {"unavailable": "x"}}, 99)
	not _estimated({}, 99)
	not _estimated({"estimate": {"rows": 1}}, "many")
}
