# METADATA
# title: The part of PostgreSQL's catalog that says how a database is built
# description: |
#   What clients read on connect and for introspection. An allow-list: a relation that a later server adds is not on it.
#   Not on it, with what they hold: pg_statistic, pg_statistic_ext_data, pg_stats, pg_stats_ext (values of columns);
#   pg_stat_*, pg_statio_*, pg_locks, pg_cursors, pg_prepared_statements, pg_prepared_xacts (what other sessions, or this
#   one before a mask, wrote); pg_authid, pg_shadow, pg_user, pg_user_mapping(s) and the options of foreign servers,
#   wrappers and tables, pg_subscription, pg_db_role_setting (passwords, connection strings, settings of others);
#   pg_largeobject (data); pg_sequences (last values); pg_replication_*, pg_hba_file_rules, pg_ident_file_mappings,
#   pg_file_settings, pg_config, pg_shmem_allocations, pg_backend_memory_contexts (the server and its files);
#   pg_seclabel(s), pg_shseclabel (another system's labels).
#   What remains can hold literals that an author of the schema wrote: defaults, check constraints, partition bounds,
#   index predicates, bodies of views and functions. Clients cannot describe a table without them.
package checkrein.catalog

# METADATA
# scope: document
# description: The relation is structural, or is read only through a view that is.
structural(relation) if {
	is_string(relation.dataset)
	not "via" in object.keys(relation)
	known(relation.dataset)
}

structural(relation) if {
	is_string(relation.dataset)
	known(relation.via)
}

# METADATA
# description: The dataset is on the list.
known(dataset) if {
	is_string(dataset)
	[schema, name] := split(dataset, ".")
	name in _names[schema]
}

_names := {
	# pg_roles shows pg_authid without its passwords, and pg_settings says what SHOW says
	"pg_catalog": {
		"pg_aggregate", "pg_am", "pg_amop", "pg_amproc", "pg_attrdef", "pg_attribute", "pg_auth_members", "pg_cast", "pg_class",
		"pg_collation", "pg_constraint", "pg_conversion", "pg_database", "pg_default_acl", "pg_depend", "pg_description",
		"pg_enum", "pg_event_trigger", "pg_extension", "pg_index", "pg_inherits",
		"pg_init_privs", "pg_language", "pg_namespace", "pg_opclass", "pg_operator", "pg_opfamily", "pg_parameter_acl",
		"pg_partitioned_table", "pg_policy", "pg_proc", "pg_publication", "pg_publication_namespace", "pg_publication_rel",
		"pg_range", "pg_rewrite", "pg_sequence", "pg_shdepend", "pg_shdescription", "pg_statistic_ext", "pg_tablespace",
		"pg_transform", "pg_trigger", "pg_ts_config", "pg_ts_config_map", "pg_ts_dict", "pg_ts_parser", "pg_ts_template",
		"pg_type",
		"pg_available_extension_versions", "pg_available_extensions", "pg_group", "pg_indexes", "pg_matviews", "pg_policies",
		"pg_publication_tables", "pg_roles", "pg_rules", "pg_settings", "pg_tables", "pg_timezone_abbrevs",
		"pg_timezone_names", "pg_views",
	},
	"information_schema": {
		"administrable_role_authorizations", "applicable_roles", "attributes", "character_sets",
		"check_constraint_routine_usage", "check_constraints", "collation_character_set_applicability", "collations",
		"column_column_usage", "column_domain_usage", "column_privileges", "column_udt_usage", "columns",
		"constraint_column_usage", "constraint_table_usage", "data_type_privileges", "domain_constraints", "domain_udt_usage",
		"domains", "element_types", "enabled_roles", "information_schema_catalog_name", "key_column_usage", "parameters",
		"referential_constraints", "role_column_grants", "role_routine_grants", "role_table_grants", "role_udt_grants",
		"role_usage_grants", "routine_column_usage", "routine_privileges", "routine_routine_usage", "routine_sequence_usage",
		"routine_table_usage", "routines", "schemata", "sequences", "sql_features", "sql_implementation_info", "sql_parts",
		"sql_sizing", "table_constraints", "table_privileges", "tables", "transforms", "triggered_update_columns", "triggers",
		"udt_privileges", "usage_privileges", "user_defined_types", "view_column_usage", "view_routine_usage",
		"view_table_usage", "views",
	},
}
