"""The statements that read a PostgreSQL catalog (13 to 18) for `pep.postgres.catalog`, and nothing else.

They also run on a session's own connection, whose search_path belongs to the client. So every relation, function, type
and *operator* is named with its schema, and forms that look up an operator by its bare name (IN, LIKE, BETWEEN, CASE x
WHEN, USING, NULLIF, IS DISTINCT FROM) do not occur; a test parses the statements and holds this. They need no privilege
beyond what every role has, take no lock that DDL would wait for longer than the statement runs, and no parameters.

Each row is (section, document): the document is JSON, a list of parallel lists (columns of a table, so that 77,000
attributes cost one aggregate each and not one JSON value each). OIDs are cast, because JSON would have them as strings.

Objects of other sessions' temporary schemas and TOAST tables are left out; those of the own temporary schema are in.
"""

from __future__ import annotations

import re

_OPERATOR = re.compile(r"\s(=|<>|>=|<|>|\|\||\+|\*|!~|->>)\s")


def _qualified(statement: str) -> str:
    """Write each operator that stands between blanks as OPERATOR(pg_catalog.x), and the text in fewer lines.

    All operators written so have one and the same precedence: nested ones carry parentheses.
    """
    return _OPERATOR.sub(r" OPERATOR(pg_catalog.\1) ", re.sub(r"\s+", " ", statement)).strip()


# --- the parts ------------------------------------------------------------------------------------------------------

# Which namespaces count. `pg_my_temp_schema` is 0 where the session has no temporary schema.
_SPACES = """
spaces AS MATERIALIZED (
    SELECT n.oid, n.nspname FROM pg_catalog.pg_namespace n
    WHERE n.nspname !~ '^pg_(toast|temp_|toast_temp_)' OR n.oid = pg_catalog.pg_my_temp_schema()
)"""

_CLASSES = """
classes AS MATERIALIZED (
    SELECT c.oid, s.nspname, c.relname, c.relkind, c.relpersistence, c.relrowsecurity, c.reltype,
        pg_catalog.concat_ws(',', c.relforcerowsecurity, c.relam, c.reloptions) AS options
    FROM pg_catalog.pg_class c JOIN spaces s ON s.oid = c.relnamespace
    WHERE c.oid @scope
)"""

# A view's query, where pg_depend is silent: objects that initdb pinned (pg_authid, pg_read_file) have no row there, and
# neither has a whole-row reference beside a column of the same table. The stored tree has both.
_RULES = r"""
rules AS MATERIALIZED (
    SELECT r.oid, r.ev_class, r.rulename, r.ev_type, r.is_instead, r.ev_enabled,
        (r.ev_action::pg_catalog.text || ' ') || r.ev_qual::pg_catalog.text AS tree
    FROM pg_catalog.pg_rewrite r JOIN classes c ON c.oid = r.ev_class
)"""

# (object that depends) -> (relation it belongs to), for everything that evaluates an expression on a relation's behalf.
_OWNED = """
owned AS MATERIALIZED (
    SELECT 'pg_catalog.pg_attrdef'::pg_catalog.regclass::pg_catalog.oid AS class, d.oid AS object, d.adrelid AS relation
    FROM pg_catalog.pg_attrdef d
    UNION ALL SELECT 'pg_catalog.pg_constraint'::pg_catalog.regclass::pg_catalog.oid, c.oid, c.conrelid
    FROM pg_catalog.pg_constraint c WHERE c.conrelid <> 0::pg_catalog.oid AND c.contype <> 'n'::pg_catalog."char"
    UNION ALL SELECT 'pg_catalog.pg_policy'::pg_catalog.regclass::pg_catalog.oid, p.oid, p.polrelid
    FROM pg_catalog.pg_policy p
    UNION ALL SELECT 'pg_catalog.pg_class'::pg_catalog.regclass::pg_catalog.oid, i.indexrelid, i.indrelid
    FROM pg_catalog.pg_index i
    UNION ALL SELECT 'pg_catalog.pg_class'::pg_catalog.regclass::pg_catalog.oid, c.oid, c.oid FROM classes c
    WHERE c.relkind OPERATOR(pg_catalog.=) ANY ('{r,p}'::pg_catalog."char"[])
)"""

# Functions that an object depends on, through an operator too. Only objects made after initdb have rows here.
_CALLS = """
calls AS MATERIALIZED (
    SELECT d.classid, d.objid, d.refobjid AS function FROM pg_catalog.pg_depend d
    WHERE d.refclassid = 'pg_catalog.pg_proc'::pg_catalog.regclass::pg_catalog.oid
    UNION ALL
    SELECT d.classid, d.objid, o.oprcode::pg_catalog.oid FROM pg_catalog.pg_depend d
    JOIN pg_catalog.pg_operator o ON o.oid = d.refobjid
    WHERE d.refclassid = 'pg_catalog.pg_operator'::pg_catalog.regclass::pg_catalog.oid
)"""


_USER = ">= 16384::pg_catalog.oid"
_BUILTIN = "< 16384::pg_catalog.oid"


def _arrays(*expressions: str) -> str:
    """One document: a JSON list with one list per expression, all in the same order."""
    lists = ", ".join(f"pg_catalog.array_agg({expression})" for expression in expressions)
    return f"pg_catalog.json_build_array({lists})::pg_catalog.text"


def _stamp(alias: str) -> str:
    """The version of a catalog row: a new one for every change by SQL, and none for statistics, which go in place."""
    return f"({alias}.xmin::pg_catalog.text || {alias}.ctid::pg_catalog.text)"


def _section(name: str, source: str, *expressions: str) -> str:
    return f"SELECT '{name}'::pg_catalog.text AS section, {_arrays(*expressions)} AS document {source}"


_SCHEMAS = _section("schemas", "FROM spaces s", "s.nspname")
_RELATIONS = _section(
    "relations",
    "FROM classes c",
    "c.oid::pg_catalog.int8",
    "c.nspname",
    "c.relname",
    "c.relkind",
    "c.relpersistence",
    "c.relrowsecurity",
    "c.reltype::pg_catalog.int8",
    "c.options",
)
_COLUMNS = _section(
    "columns",
    """FROM pg_catalog.pg_attribute a JOIN classes c ON c.oid = a.attrelid
    WHERE a.attnum > 0::pg_catalog.int2 AND NOT a.attisdropped
    AND c.relkind OPERATOR(pg_catalog.=) ANY ('{r,p,v,m,f,c,S}'::pg_catalog."char"[])""",
    "a.attrelid::pg_catalog.int8",
    "a.attnum",
    "a.attname",
    "a.atttypid::pg_catalog.int8",
)
_FUNCTIONS = _section(
    "functions",
    """FROM pg_catalog.pg_proc p JOIN spaces s ON s.oid = p.pronamespace
    JOIN pg_catalog.pg_language l ON l.oid = p.prolang WHERE p.oid @scope""",
    "p.oid::pg_catalog.int8",
    "s.nspname",
    "p.proname",
    "p.prokind",
    "p.proargtypes::pg_catalog.text",
    "p.provariadic::pg_catalog.int8",
    "p.pronargdefaults",
    "p.provolatile",
    "p.proisstrict",
    "l.lanname",
    "p.prosecdef",
    "@function_digest",
)
_TYPES = _section(
    "types",
    "FROM pg_catalog.pg_type t JOIN spaces s ON s.oid = t.typnamespace WHERE t.oid @scope",
    "t.oid::pg_catalog.int8",
    "s.nspname",
    "t.typname",
    "t.typtype",
    "t.typbasetype::pg_catalog.int8",
    "t.typelem::pg_catalog.int8",
    "t.typrelid::pg_catalog.int8",
)
_BUILTIN_SECTIONS = (_SCHEMAS, _RELATIONS, _COLUMNS, _FUNCTIONS, _TYPES)

# Operators and casts of the server itself lead to functions of the server itself: only others are told.
_USER_SECTIONS = (
    _section(
        "operators",
        "FROM pg_catalog.pg_operator o JOIN spaces s ON s.oid = o.oprnamespace WHERE o.oid >= 16384::pg_catalog.oid",
        "o.oid::pg_catalog.int8",
        "s.nspname",
        "o.oprname",
        "o.oprleft::pg_catalog.int8",
        "o.oprright::pg_catalog.int8",
        "o.oprcode::pg_catalog.oid::pg_catalog.int8",
    ),
    _section(
        "casts",
        "FROM pg_catalog.pg_cast c WHERE c.oid >= 16384::pg_catalog.oid",
        "c.castsource::pg_catalog.int8",
        "c.casttarget::pg_catalog.int8",
        "c.castfunc::pg_catalog.int8",
        "c.castcontext",
    ),
    _section(
        "inherits",
        "FROM pg_catalog.pg_inherits i JOIN classes c ON c.oid = i.inhrelid",
        "i.inhrelid::pg_catalog.int8",
        "i.inhparent::pg_catalog.int8",
        "i.inhseqno",
    ),
    _section(
        "rules",
        "FROM rules r",
        "r.oid::pg_catalog.int8",
        "r.ev_class::pg_catalog.int8",
        "r.rulename",
        "r.ev_type",
        "r.is_instead",
        "pg_catalog.strpos(r.tree, ':varattno 0 ') > 0",
        "pg_catalog.encode(pg_catalog.sha256(pg_catalog.convert_to(r.tree, 'UTF8')), 'hex')",
        "r.ev_enabled",
    ),
    _section(
        "rule_reads",
        """FROM pg_catalog.pg_depend d JOIN rules r ON r.oid = d.objid
        WHERE d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass::pg_catalog.oid
        AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass::pg_catalog.oid
        AND d.refobjid <> r.ev_class""",
        "d.objid::pg_catalog.int8",
        "d.refobjid::pg_catalog.int8",
        "d.refobjsubid",
    ),
    _section(
        "rule_calls",
        """FROM calls d JOIN rules r ON r.oid = d.objid
        WHERE d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass::pg_catalog.oid""",
        "d.objid::pg_catalog.int8",
        "d.function::pg_catalog.int8",
    ),
    _section(
        "rule_types",
        """FROM pg_catalog.pg_depend d JOIN rules r ON r.oid = d.objid
        WHERE d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass::pg_catalog.oid
        AND d.refclassid = 'pg_catalog.pg_type'::pg_catalog.regclass::pg_catalog.oid""",
        "d.objid::pg_catalog.int8",
        "d.refobjid::pg_catalog.int8",
    ),
    _section(
        "rule_names",
        r"""FROM (SELECT DISTINCT r.oid, pg_catalog.regexp_matches(
            r.tree, ':(relid|funcid|aggfnoid|winfnoid|opfuncid) ([0-9]+) ', 'g') AS found FROM rules r) n""",
        "n.oid::pg_catalog.int8",
        "n.found[1]",
        "n.found[2]",
    ),
    _section(
        "generated",
        """FROM (
            SELECT d.objid AS relation, d.objsubid AS attnum, d.refobjsubid AS source FROM pg_catalog.pg_depend d
            WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass::pg_catalog.oid AND d.objsubid > 0
            AND d.refclassid = d.classid AND d.refobjid = d.objid AND d.refobjsubid > 0
            UNION ALL
            SELECT f.adrelid, f.adnum, d.refobjsubid FROM pg_catalog.pg_depend d
            JOIN pg_catalog.pg_attrdef f ON f.oid = d.objid
            WHERE d.classid = 'pg_catalog.pg_attrdef'::pg_catalog.regclass::pg_catalog.oid
            AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass::pg_catalog.oid AND d.refobjid = f.adrelid
            AND d.refobjsubid > 0 AND d.refobjsubid <> f.adnum::pg_catalog.int4
        ) g JOIN classes c ON c.oid = g.relation""",
        "g.relation::pg_catalog.int8",
        "g.attnum",
        "g.source",
    ),
    _section(
        "triggers",
        """FROM pg_catalog.pg_trigger t JOIN classes c ON c.oid = t.tgrelid WHERE NOT t.tgisinternal""",
        "t.tgrelid::pg_catalog.int8",
        "t.tgname",
        "t.tgtype",
        "t.tgfoid::pg_catalog.int8",
        "t.tgenabled",
        _stamp("t"),
    ),
    _section(
        "constraints",
        """FROM pg_catalog.pg_constraint k WHERE k.conrelid >= 16384::pg_catalog.oid
        AND k.contype <> 'n'::pg_catalog."char" """,
        "k.conrelid::pg_catalog.int8",
        "k.conname",
        "k.contype",
        "k.confrelid::pg_catalog.int8",
        "k.confdeltype",
        "k.confupdtype",
        _stamp("k"),
    ),
    _section(
        "indexes",
        "FROM pg_catalog.pg_index i JOIN classes c ON c.oid = i.indexrelid",
        "i.indexrelid::pg_catalog.int8",
        "i.indrelid::pg_catalog.int8",
        "c.relname",
        _stamp("i"),
    ),
    _section(
        "defaults",
        """FROM (
            SELECT f.adrelid, pg_catalog.sum(pg_catalog.hashtextextended(
                f.xmin::pg_catalog.text || f.ctid::pg_catalog.text, f.adnum::pg_catalog.int8))::pg_catalog.text AS stamp
            FROM pg_catalog.pg_attrdef f GROUP BY f.adrelid
        ) f""",
        "f.adrelid::pg_catalog.int8",
        "f.stamp",
    ),
    _section(
        "policies",
        "FROM pg_catalog.pg_policy p",
        "p.polrelid::pg_catalog.int8",
        "p.polname",
        _stamp("p"),
    ),
    _section(
        "policy_reads",
        """FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_policy p ON p.oid = d.objid
        WHERE d.classid = 'pg_catalog.pg_policy'::pg_catalog.regclass::pg_catalog.oid
        AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass::pg_catalog.oid
        AND d.refobjid <> p.polrelid""",
        "p.polrelid::pg_catalog.int8",
        "d.refobjid::pg_catalog.int8",
        "d.refobjsubid",
    ),
    _section(
        "policy_names",
        r"""FROM (
            SELECT DISTINCT t.polrelid, t.tree, pg_catalog.regexp_matches(t.tree, ':relid ([0-9]+) ', 'g') AS found
            FROM (
                SELECT p.polrelid,
                    pg_catalog.concat_ws(' ', p.polqual::pg_catalog.text, p.polwithcheck::pg_catalog.text) AS tree
                FROM pg_catalog.pg_policy p
            ) t
        ) n""",
        "n.polrelid::pg_catalog.int8",
        "n.found[1]",
        "pg_catalog.strpos(n.tree, ':varattno 0 ') > 0",
    ),
    _section(
        "foreign",
        """FROM pg_catalog.pg_foreign_table f JOIN pg_catalog.pg_foreign_server s ON s.oid = f.ftserver""",
        "f.ftrelid::pg_catalog.int8",
        f"{_stamp('f')} || {_stamp('s')}",
    ),
    _section(
        "hidden_calls",
        "FROM calls d JOIN owned o ON o.object = d.objid AND o.class = d.classid",
        "o.relation::pg_catalog.int8",
        "d.function::pg_catalog.int8",
    ),
    _section(
        "type_calls",
        """FROM (
            SELECT k.contypid AS type, d.function FROM calls d JOIN pg_catalog.pg_constraint k ON k.oid = d.objid
            WHERE d.classid = 'pg_catalog.pg_constraint'::pg_catalog.regclass::pg_catalog.oid
            AND k.contypid <> 0::pg_catalog.oid
            UNION ALL SELECT d.objid, d.function FROM calls d
            WHERE d.classid = 'pg_catalog.pg_type'::pg_catalog.regclass::pg_catalog.oid
        ) d""",
        "d.type::pg_catalog.int8",
        "d.function::pg_catalog.int8",
    ),
    _section(
        "event_triggers",
        "FROM pg_catalog.pg_event_trigger e WHERE e.evtenabled <> 'D'::pg_catalog.\"char\"",
        "e.evtname",
    ),
)


# --- the fingerprint ------------------------------------------------------------------------------------------------


def _digest(source: str, text: str, seed: str = "0::pg_catalog.int8") -> str:
    """Count and sum of a 64-bit hash per row: the order does not matter, and any changed row changes the sum."""
    return (
        "(SELECT (pg_catalog.count(*)::pg_catalog.text || ':') || "
        f"COALESCE(pg_catalog.sum(pg_catalog.hashtextextended({text}, {seed}))::pg_catalog.text, '') {source})"
    )


def _versions(source: str, alias: str) -> str:
    return _digest(source, _stamp(alias))


_DIGESTS = (
    _digest("FROM spaces s", "s.nspname::pg_catalog.text", "s.oid::pg_catalog.int8"),
    # Relations and columns by what is loaded of them: TRUNCATE and GRANT make new row versions too.
    _digest(
        "FROM classes c",
        """pg_catalog.concat_ws('/', c.nspname::pg_catalog.text, c.relname::pg_catalog.text, c.relkind,
        c.relpersistence, c.relrowsecurity, c.reltype, c.options)""",
        "c.oid::pg_catalog.int8",
    ),
    # The bulk of the rows: the name is hashed, the other facts are its seed.
    _digest(
        """FROM pg_catalog.pg_attribute a JOIN classes c ON c.oid = a.attrelid
        WHERE a.attnum > 0::pg_catalog.int2 AND NOT a.attisdropped
        AND c.relkind OPERATOR(pg_catalog.=) ANY ('{r,p,v,m,f,c,S}'::pg_catalog."char"[])""",
        "a.attname::pg_catalog.text",
        """pg_catalog.hashint8extended(
            (a.attrelid::pg_catalog.int8 * 65536::pg_catalog.int8) + a.attnum::pg_catalog.int8,
            a.atttypid::pg_catalog.int8)""",
    ),
    _versions("FROM pg_catalog.pg_rewrite r JOIN classes c ON c.oid = r.ev_class", "r"),
    _versions("FROM pg_catalog.pg_attrdef d JOIN classes c ON c.oid = d.adrelid", "d"),
    _versions("FROM pg_catalog.pg_inherits i JOIN classes c ON c.oid = i.inhrelid", "i"),
    _versions("FROM pg_catalog.pg_trigger t JOIN classes c ON c.oid = t.tgrelid WHERE NOT t.tgisinternal", "t"),
    _versions(
        """FROM pg_catalog.pg_constraint k LEFT JOIN classes c ON c.oid = k.conrelid
        WHERE k.contype <> 'n'::pg_catalog."char" AND (k.conrelid = 0::pg_catalog.oid OR c.oid IS NOT NULL)""",
        "k",
    ),
    _versions("FROM pg_catalog.pg_index i JOIN classes c ON c.oid = i.indexrelid", "i"),
    _versions("FROM pg_catalog.pg_policy p JOIN classes c ON c.oid = p.polrelid", "p"),
    _versions("FROM pg_catalog.pg_proc p JOIN spaces s ON s.oid = p.pronamespace WHERE p.oid @scope", "p"),
    _versions(
        """FROM pg_catalog.pg_type t JOIN spaces s ON s.oid = t.typnamespace WHERE t.oid @scope
        AND t.typrelid = 0::pg_catalog.oid AND t.typelem = 0::pg_catalog.oid""",
        "t",
    ),
    _versions("FROM pg_catalog.pg_operator o WHERE o.oid @scope", "o"),
    _versions("FROM pg_catalog.pg_cast c WHERE c.oid @scope", "c"),
    _versions("FROM pg_catalog.pg_event_trigger e", "e"),
    _versions("FROM pg_catalog.pg_foreign_table f", "f"),
    _versions("FROM pg_catalog.pg_foreign_server s", "s"),
)
_FINGERPRINT = "pg_catalog.concat_ws('|', {})".format(", ".join(_DIGESTS))

# --- the statements -------------------------------------------------------------------------------------------------

# What the function does, and as whom. `prosqlbody` (the body of BEGIN ATOMIC) is not in every version, so the row is
# asked for it by name; what an aggregate consists of is in another catalog, but its row here is replaced with that.
_DIGEST_OF_FUNCTION = """pg_catalog.encode(pg_catalog.sha256(pg_catalog.convert_to(pg_catalog.concat_ws('/',
    p.prosrc, p.probin, pg_catalog.to_jsonb(p.*) ->> 'prosqlbody', p.proconfig, p.proowner, p.prosecdef, p.prolang,
    p.provolatile, p.proretset, p.prorettype, p.proargdefaults::pg_catalog.text,
    CASE WHEN p.prokind = 'a'::pg_catalog."char" THEN (p.xmin::pg_catalog.text || p.ctid::pg_catalog.text) END
    ), 'UTF8')), 'hex')"""


def _statement(ctes: tuple[str, ...], body: str, scope: str, function_digest: str = "''::pg_catalog.text") -> str:
    text = f"WITH {', '.join(ctes)} {body}"
    return _qualified(text.replace("@scope", scope).replace("@function_digest", function_digest))


BUILTIN_QUERY = _statement((_SPACES, _CLASSES), " UNION ALL ".join(_BUILTIN_SECTIONS), _BUILTIN)
"""What initdb created: the same for every database of a server; read once for `Builtins.build`."""

USER_QUERY = _statement(
    (_SPACES, _CLASSES, _RULES, _OWNED, _CALLS),
    " UNION ALL ".join(
        (
            f"SELECT 'version'::pg_catalog.text AS section, {_FINGERPRINT} AS document",
            *_BUILTIN_SECTIONS,
            *_USER_SECTIONS,
        )
    ),
    _USER,
    _DIGEST_OF_FUNCTION,
)
"""Everything else, and the fingerprint of the same snapshot; for `Catalog.build`."""

FINGERPRINT_QUERY = _statement((_SPACES, _CLASSES), f"SELECT {_FINGERPRINT} AS fingerprint", _USER)
"""One text that changes whenever anything changes that USER_QUERY reads: the `version` of a catalog built now."""

SESSION_QUERY = _qualified(
    """SELECT pg_catalog.json_build_object(
        'path', pg_catalog.current_schemas(true),
        'user', CURRENT_USER::pg_catalog.text,
        'session_user', SESSION_USER::pg_catalog.text,
        'temp_schema', COALESCE((SELECT n.nspname::pg_catalog.text FROM pg_catalog.pg_namespace n
            WHERE n.oid = pg_catalog.pg_my_temp_schema()), ''),
        'settings', pg_catalog.json_build_object(
            'search_path', pg_catalog.current_setting('search_path'),
            'standard_conforming_strings', pg_catalog.current_setting('standard_conforming_strings'),
            'client_encoding', pg_catalog.current_setting('client_encoding'),
            'transaction_isolation', pg_catalog.current_setting('transaction_isolation'),
            'row_security', pg_catalog.current_setting('row_security')),
        'transaction', COALESCE(pg_catalog.pg_current_xact_id_if_assigned()::pg_catalog.text, '')
        )::pg_catalog.text AS session"""
)
"""One row, one text (JSON): how the connection that runs it resolves names now; for `SessionState.parse`."""
