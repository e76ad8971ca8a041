# METADATA
# title: PostgreSQL settings that a session may change for itself
# description: |
#   An allow-list. Not on it: `role` and `session_authorization` (another identity), `session_replication_role` (switches
#   triggers off), `row_security`, anything with a dot in its name (applications keep tenants and users there, and row
#   security reads them), everything that loads code or writes files.
package checkrein.settings

# METADATA
# description: Changes how this session's own statements are run or shown, and nothing that anybody relies on.
harmless(name) if {
	is_string(name)
	lower(name) in _harmless
}

_harmless := {
	"application_name", "client_encoding", "client_min_messages", "datestyle", "intervalstyle", "timezone", "time zone",
	"extra_float_digits", "bytea_output", "xmlbinary", "xmloption", "lc_messages", "lc_monetary", "lc_numeric", "lc_time",
	"escape_string_warning", "standard_conforming_strings", "quote_all_identifiers", "search_path",
	"statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout", "idle_session_timeout",
	"transaction_timeout", "tcp_user_timeout", "tcp_keepalives_idle", "tcp_keepalives_interval", "tcp_keepalives_count",
	"transaction_isolation", "transaction_read_only", "transaction_deferrable",
	"default_transaction_isolation", "default_transaction_read_only", "default_transaction_deferrable",
	"default_text_search_config", "work_mem", "maintenance_work_mem", "temp_buffers", "hash_mem_multiplier",
	"constraint_exclusion", "cursor_tuple_fraction", "plan_cache_mode", "jit", "force_parallel_mode",
	"debug_parallel_query", "max_parallel_workers_per_gather", "parallel_leader_participation", "effective_cache_size",
	"random_page_cost", "seq_page_cost", "cpu_tuple_cost", "cpu_index_tuple_cost", "cpu_operator_cost",
	"join_collapse_limit", "from_collapse_limit", "geqo", "synchronous_commit",
	"enable_bitmapscan", "enable_hashagg", "enable_hashjoin", "enable_incremental_sort", "enable_indexonlyscan",
	"enable_indexscan", "enable_material", "enable_memoize", "enable_mergejoin", "enable_nestloop",
	"enable_parallel_append", "enable_parallel_hash", "enable_partition_pruning", "enable_partitionwise_aggregate",
	"enable_partitionwise_join", "enable_seqscan", "enable_sort", "enable_tidscan",
}
