"""Run-time settings: which of them a session may change without reaching anything but itself.

An allow-list, of PostgreSQL 18's documentation, "Server Configuration": what is not on it is administration. Two
settings are refused whatever the policy says, because the proxy reads the protocol's text as they stand.
"""

from __future__ import annotations

from typing import Final

from pep.postgres.classification import Refusal, words

# How values look, how statements are planned, how long they may take.
_HARMLESS: Final = words(
    """
    application_name array_nulls backend_flush_after bytea_output check_function_bodies client_connection_check_interval
    client_encoding client_min_messages constraint_exclusion cpu_index_tuple_cost cpu_operator_cost cpu_tuple_cost
    cursor_tuple_fraction datestyle default_statistics_target default_table_access_method default_tablespace
    default_text_search_config default_toast_compression default_transaction_deferrable default_transaction_isolation
    default_transaction_read_only effective_cache_size effective_io_concurrency escape_string_warning
    extra_float_digits from_collapse_limit geqo geqo_effort geqo_generations geqo_pool_size geqo_seed
    geqo_selection_bias geqo_threshold gin_fuzzy_search_limit gin_pending_list_limit hash_mem_multiplier
    icu_validation_level idle_in_transaction_session_timeout idle_session_timeout intervalstyle io_combine_limit jit
    jit_above_cost jit_expressions jit_inline_above_cost jit_optimize_above_cost jit_tuple_deforming
    join_collapse_limit lc_monetary lc_numeric lc_time lock_timeout logical_decoding_work_mem
    maintenance_io_concurrency maintenance_work_mem max_parallel_maintenance_workers max_parallel_workers
    max_parallel_workers_per_gather min_parallel_index_scan_size min_parallel_table_scan_size
    parallel_leader_participation parallel_setup_cost parallel_tuple_cost plan_cache_mode quote_all_identifiers
    random_page_cost recursive_worktable_factor restrict_nonsystem_relation_kind scram_iterations search_path seed
    seq_page_cost standard_conforming_strings statement_timeout stats_fetch_consistency synchronize_seqscans
    synchronous_commit tcp_keepalives_count tcp_keepalives_idle tcp_keepalives_interval tcp_user_timeout temp_buffers
    temp_tablespaces timezone timezone_abbreviations transaction_deferrable transaction_isolation
    transaction_read_only transaction_timeout transform_null_equals vacuum_buffer_usage_limit work_mem xmlbinary
    xmloption
    """
)

ROLE_SETTINGS: Final = frozenset({"role", "session_authorization"})

_NOT_SUPPORTED: Final = "0A000"
_TRUE: Final = frozenset({"on", "true", "tru", "tr", "t", "yes", "ye", "y", "1"})
# Two names of one encoding; the server keeps the old one as it was spelt.
UTF8_NAMES: Final = ("UTF8", "UNICODE")
SQL_ASCII: Final = "SQL_ASCII"
_UTF8: Final = frozenset(name.lower() for name in UTF8_NAMES)
OTHER_ENCODING: Final = "client_encoding other than UTF8 is not supported"
_UNCONVERTED: Final = "sqlascii"


def canonical(name: str) -> str:
    """The server compares names of settings without regard to case."""
    return name.lower()


def harmless(name: str) -> bool:
    """Of this session alone. A name with a dot is a custom one, which holds whatever the client puts there."""
    name = canonical(name)
    return name in _HARMLESS or name.startswith("enable_") or ("." in name and not name.startswith("pg_"))


def encodings(server: str) -> tuple[str, ...]:
    """What a server whose database has this encoding may say of the client's: each means that texts are UTF-8.

    SQL_ASCII means no conversion, which programs ask for in the C locale; the server then still verifies its own.
    """
    return (*UTF8_NAMES, SQL_ASCII) if server == UTF8_NAMES[0] else UTF8_NAMES


def refusal(name: str, value: str | None, *, at_start: bool = False) -> Refusal | None:
    """Why this value of this setting is refused; `value` None is one that is not known before it runs.

    What may be asked for `at_start` is checked once more when the database's own encoding is known.
    """
    match canonical(name):
        case "client_encoding":
            # The server ignores everything but letters and digits in the name of an encoding.
            spelt = None if value is None else "".join(c for c in value.lower() if c.isalnum())
            if spelt not in _UTF8 and not (at_start and spelt == _UNCONVERTED):
                return Refusal(_NOT_SUPPORTED, OTHER_ENCODING)
        case "standard_conforming_strings":
            if value is None or value.strip().lower() not in _TRUE:
                return Refusal(_NOT_SUPPORTED, "standard_conforming_strings cannot be turned off")
        case _:
            pass
    return None
