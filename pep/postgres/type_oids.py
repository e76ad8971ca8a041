"""Object identifiers of PostgreSQL's built-in types that masks can handle, from the server's `pg_type`.

A type that is not here, every type of an extension and every type made by users included, can only become NULL.
"""

from typing import Final

# Format codes of values ("Formats and Format Codes" in the documentation).
TEXT: Final = 0
BINARY: Final = 1
FORMATS: Final = frozenset({TEXT, BINARY})

BOOL: Final = 16
NAME: Final = 19
INT8: Final = 20
INT2: Final = 21
INT4: Final = 23
TEXT_OID: Final = 25
FLOAT4: Final = 700
FLOAT8: Final = 701
BPCHAR: Final = 1042
VARCHAR: Final = 1043
DATE: Final = 1082
TIMESTAMP: Final = 1114
TIMESTAMPTZ: Final = 1184
NUMERIC: Final = 1700

TEXT_TYPES: Final = frozenset({NAME, TEXT_OID, BPCHAR, VARCHAR})
INTEGER_TYPES: Final = frozenset({INT2, INT4, INT8})
FLOAT_TYPES: Final = frozenset({FLOAT4, FLOAT8})
NUMBER_TYPES: Final = INTEGER_TYPES | FLOAT_TYPES | {NUMERIC}
DATE_TYPES: Final = frozenset({DATE, TIMESTAMP, TIMESTAMPTZ})
