"""What calling one of PostgreSQL's own functions does beyond returning a value.

An allow-list: a function that is not named here is `BEYOND`, whatever it is. Only pg_catalog's functions are meant;
a function of that name in another schema is another function, and telling them apart is the catalog's business.
"""

from __future__ import annotations

import enum
from typing import Final

from pep.postgres.function_names import CATALOG, COLLECTING, PURE, SESSION


class Effect(enum.Enum):
    """HARMLESS: nothing; COLLECTING: nothing, but one value may hold every row. The others name what is touched.

    OUTSIDE: large objects and other sessions; but never what a name of this session means.
    BEYOND: it may read tables, files, statistics or other sessions, run SQL hidden in a string, change the server, or
    wait; or it is not known.
    """

    HARMLESS = "harmless"
    COLLECTING = "collecting"
    READS_SETTINGS = "reads_settings"
    SETS = "sets"
    SEQUENCE = "sequence"
    ADVISORY = "advisory"
    OUTSIDE = "outside"
    BEYOND = "beyond"


READS_SETTINGS: Final = frozenset({"current_setting", "pg_settings_get_flags", "pg_show_all_settings"})
"""A setting can carry a value from one statement to the next, or hold a secret."""

SETS: Final = frozenset({"set_config"})

SEQUENCE: Final = frozenset({"currval", "lastval", "nextval", "setval"})
"""nextval and setval write, and no rollback takes that back."""

ADVISORY: Final = frozenset(
    {
        *("pg_advisory_lock", "pg_advisory_lock_shared", "pg_advisory_xact_lock", "pg_advisory_xact_lock_shared"),
        *("pg_try_advisory_lock", "pg_try_advisory_lock_shared"),
        *("pg_try_advisory_xact_lock", "pg_try_advisory_xact_lock_shared"),
        *("pg_advisory_unlock", "pg_advisory_unlock_shared", "pg_advisory_unlock_all"),
    }
)
"""Locks that sessions of other subjects may wait for."""

OUTSIDE: Final = frozenset(
    {
        *("lo_open", "lo_close", "loread", "lowrite", "lo_lseek", "lo_lseek64", "lo_tell", "lo_tell64", "lo_truncate"),
        *("lo_truncate64", "lo_creat", "lo_create", "lo_unlink", "lo_get", "lo_put", "lo_from_bytea"),
        "pg_notify",
    }
)
"""They run no statement, define nothing and do not wait, so the session's names need not be read again after one."""

_EFFECTS: Final = {
    **dict.fromkeys(PURE | SESSION | CATALOG, Effect.HARMLESS),
    **dict.fromkeys(COLLECTING, Effect.COLLECTING),
    **dict.fromkeys(READS_SETTINGS, Effect.READS_SETTINGS),
    **dict.fromkeys(SETS, Effect.SETS),
    **dict.fromkeys(SEQUENCE, Effect.SEQUENCE),
    **dict.fromkeys(ADVISORY, Effect.ADVISORY),
    **dict.fromkeys(OUTSIDE, Effect.OUTSIDE),
}


def effect(name: str) -> Effect:
    """The effect of pg_catalog's function of that name, which is as the server stores it: in lower case, mostly."""
    return _EFFECTS.get(name, Effect.BEYOND)
