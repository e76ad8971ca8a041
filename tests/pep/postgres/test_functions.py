import re

import pytest

from pep.postgres.function_names import CATALOG, COLLECTING, PURE, SESSION
from pep.postgres.functions import ADVISORY, READS_SETTINGS, SEQUENCE, SETS, Effect, effect
from tests.fix_postgres import PostgresServer


def words(paragraph: str) -> list[str]:
    return paragraph.split()


# Of each family of functions that reach beyond their arguments, some; and the families whole, by their prefix.
BEYOND = words(
    """
    query_to_xml query_to_xmlschema query_to_xml_and_xmlschema table_to_xml schema_to_xml database_to_xml
    cursor_to_xml cursor_to_xmlschema ts_stat ts_rewrite currtid2 pg_read_file pg_read_binary_file pg_stat_file
    pg_current_logfile lo_import lo_export lo_get lo_put lo_creat loread lowrite pg_notify pg_sleep pg_sleep_for
    pg_sleep_until pg_terminate_backend pg_cancel_backend pg_reload_conf pg_rotate_logfile pg_promote
    pg_switch_wal pg_backup_start pg_export_snapshot pg_logical_emit_message pg_lock_status pg_blocking_pids
    pg_prepared_statement pg_cursor pg_prepared_xact pg_hba_file_rules pg_ident_file_mappings
    pg_show_all_file_settings pg_config pg_log_backend_memory_contexts pg_get_backend_memory_contexts
    pg_input_is_valid pg_input_error_info pg_sequence_last_value pg_get_sequence_data brin_summarize_new_values
    gin_clean_pending_list regclass binary_upgrade_set_next_pg_type_oid pg_nextoid pg_extension_config_dump
    pg_import_system_collations suppress_redundant_updates_trigger pg_mcv_list_items pg_clear_relation_stats
    pg_restore_attribute_stats dblink dblink_exec no_such_function LOWER
    """
)
PREFIXES = re.compile(
    r"lo_|pg_read_|pg_ls_|pg_stat_|pg_logical_|pg_replication_|pg_create_|pg_drop_|pg_copy_|pg_wal_(replay|summary)|binary_upgrade_"
    r"|pg_control_|pg_backup_|.*_to_xml|RI_|pg_event_trigger_|pg_sync_|pg_restore_|pg_clear_"
)
# What drivers, psql, SQLAlchemy, JDBC and the usual tools call on connect and to look around.
CLIENTS = words(
    """
    array_agg array_length array_position array_remove array_to_string array_upper bool_and btrim
    col_description convert_to count current_database current_schema current_schemas format_type generate_series
    generate_subscripts has_database_privilege has_schema_privilege has_table_privilege inet_server_addr
    inet_server_port json_build_object jsonb_each_text like_escape lower max min now obj_description
    pg_backend_pid pg_collation_is_visible pg_database_size pg_encoding_to_char pg_function_is_visible
    pg_get_constraintdef pg_get_expr pg_get_function_arguments pg_get_function_identity_arguments
    pg_get_function_result pg_get_functiondef pg_get_indexdef pg_get_keywords pg_get_partkeydef pg_get_ruledef
    pg_get_serial_sequence pg_get_statisticsobjdef_columns pg_get_triggerdef pg_get_userbyid pg_get_viewdef
    pg_has_role pg_is_in_recovery pg_opclass_is_visible pg_opfamily_is_visible pg_partition_ancestors
    pg_relation_is_publishable pg_size_pretty pg_table_is_visible pg_table_size pg_tablespace_location
    pg_total_relation_size pg_type_is_visible pg_typeof quote_ident regexp_split_to_array replace row_number
    shobj_description string_agg substring to_regclass to_regtype unnest upper version
    """
)


@pytest.mark.parametrize("name", BEYOND)
def test_what_reaches_beyond_its_arguments_is_not_on_the_list(name: str) -> None:
    assert effect(name) in (Effect.BEYOND, Effect.OUTSIDE)


@pytest.mark.parametrize("name", CLIENTS)
def test_what_clients_look_around_with_is_harmless(name: str) -> None:
    assert effect(name) in (Effect.HARMLESS, Effect.COLLECTING)


def test_the_other_effects() -> None:
    assert effect("set_config") is Effect.SETS
    assert effect("current_setting") is Effect.READS_SETTINGS
    assert {effect(name) for name in ("nextval", "setval", "currval", "lastval")} == {Effect.SEQUENCE}
    assert {effect(name) for name in ("pg_advisory_xact_lock", "pg_advisory_unlock_all")} == {Effect.ADVISORY}
    assert {effect(name) for name in ("json_agg", "string_agg", "array_agg", "xmlagg")} == {Effect.COLLECTING}
    assert {effect(name) for name in ("sum", "count", "avg", "row_number", "lag", "mode")} == {Effect.HARMLESS}


def test_no_name_has_two_effects() -> None:
    groups = (PURE, SESSION, CATALOG, COLLECTING, READS_SETTINGS, SETS, SEQUENCE, ADVISORY)
    assert sum(map(len, groups)) == len(frozenset().union(*groups))


WRITTEN_IN_SQL = """
age anytextcat bit_length col_description date_part int8pl_inet integer_pl_date interval_pl_date interval_pl_time
interval_pl_timestamp interval_pl_timestamptz interval_pl_timetz log log10 lpad numeric_pl_pg_lsn obj_description
overlaps path_contain_pt pg_relation_size polygon quote_literal quote_nullable round rpad shobj_description
substring textanycat timedate_pl timestamptz timetzdate_pl trunc ts_debug xpath xpath_exists
"""
FACTS = """
SELECT p.proname, bool_or(p.provolatile = 'v'), bool_or(p.prokind = 'p'),
    bool_or(p.prorettype = ANY ('{internal,trigger,event_trigger,fdw_handler,index_am_handler}'::regtype[])),
    bool_or('internal'::regtype = ANY (p.proargtypes) OR 'cstring'::regtype = ANY (p.proargtypes)),
    bool_or(p.prolang = (SELECT oid FROM pg_language WHERE lanname = 'sql'))
FROM pg_proc p WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.oid < 16384 GROUP BY p.proname
"""


@pytest.mark.parametrize("fixture", ["postgres18", "postgres15_tls"])
def test_the_list_agrees_with_what_the_server_says_of_its_functions(
    request: pytest.FixtureRequest, fixture: str
) -> None:
    server: PostgresServer = request.getfixturevalue(fixture)
    facts = {str(name): flags for name, *flags in server.sql("postgres", FACTS)}
    harmless = PURE | SESSION | CATALOG | COLLECTING
    listed = harmless & facts.keys()
    assert len(listed) > 1600
    # Nothing volatile computes only; what remains is the session's, or asks the catalog for sizes.
    assert {name for name in PURE & facts.keys() if facts[name][0]} == set()
    assert {name for name in listed if facts[name][1] or facts[name][2]} == set()
    # An input function parses a text that may name anything; internal arguments cannot be given at all.
    takes_raw = {name for name in listed if facts[name][3]}
    assert {name for name in takes_raw if name.endswith(("in", "_in", "recv"))} == set()
    assert {name for name in listed if PREFIXES.match(name)} == set()
    # What is written in SQL: reviewed one by one, because a body could read tables. These read the catalog at most.
    assert {name for name in listed if facts[name][4]} <= set(words(WRITTEN_IN_SQL))


def test_every_name_exists_in_a_version_that_is_supported(
    postgres18: PostgresServer, postgres15_tls: PostgresServer
) -> None:
    known = set()
    for server in (postgres18, postgres15_tls):
        known |= {str(name) for name, *_ in server.sql("postgres", FACTS)}
    assert (
        known | {"numeric_fac"} >= PURE | SESSION | CATALOG | COLLECTING | READS_SETTINGS | SETS | SEQUENCE | ADVISORY
    )
