import hashlib
import hmac
import re
import struct
from collections.abc import Callable, Iterator
from datetime import date, datetime, timedelta
from decimal import ROUND_FLOOR, Context, Decimal

import psycopg
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from psycopg import pq
from psycopg.types.datetime import DateBinaryDumper, DatetimeNoTzBinaryDumper
from psycopg.types.numeric import DecimalBinaryDumper, NumericBinaryLoader

from pep.core.errors import UpstreamProtocolError
from pep.core.model import ConstantMask, GeneralizeMask, HashMask, MaskMethod, NullMask, PartialEmailMask, PartialMask
from pep.postgres import type_oids as t
from pep.postgres.backend import DataRow
from pep.postgres.codec import BackendCodec
from pep.postgres.masks import MaskedRow, apply, cell_mask
from tests import strategies
from tests.fix_postgres import PostgresServer

KEYS = {"": b"the target's key", "other": b"another key", "empty": b""}
METHODS: list[MaskMethod] = [
    NullMask(),
    ConstantMask("7"),
    PartialMask(1, "*", 1),
    PartialEmailMask(),
    HashMask(),
    GeneralizeMask("10"),
    GeneralizeMask("month"),
]
OTHER_TYPES = {
    "json": 114,
    "bytea": 17,
    "uuid": 2950,
    "text[]": 1009,
    "interval": 1186,
    "inet": 869,
    "of an extension": 16_400,
}
ALL_TYPES = sorted(t.TEXT_TYPES | t.NUMBER_TYPES | t.DATE_TYPES | {t.BOOL} | set(OTHER_TYPES.values()))


def masked(method: MaskMethod, text: str, type_oid: int = t.TEXT_OID, format: int = t.TEXT) -> str | None:
    value = apply(method, type_oid, format, text.encode(), KEYS)
    return None if value is None else value.decode()


# --- what each method makes of text -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "value", "expected"),
    [
        (PartialMask(2, "***", 1), "daniel", "da***l"),
        (PartialMask(0, "***", 4), "123-45-6789", "***6789"),
        (PartialMask(3, "", 0), "daniel", "dan"),
        (PartialMask(0, "x", 0), "daniel", "x"),
        (PartialMask(1, "*", 1), "Zoë", "Z*ë"),
        (PartialMask(1, "★", 0), "日本語", "日★"),
        # It would show everything, so it shows nothing.
        (PartialMask(3, "***", 3), "daniel", "***"),
        (PartialMask(2, "***", 4), "日本語", "***"),
        (PartialMask(5, "***", 0), "", "***"),
        (PartialMask(0, "", 0), "daniel", ""),
        (PartialEmailMask(), "alice@example.com", "al****@ex****.com"),
        (PartialEmailMask(), "alice@mail.example.co.uk", "al****@ma****.uk"),
        (PartialEmailMask(), "al@x.io", "****@****.io"),
        (PartialEmailMask(), "ünal@exämple.de", "ün****@ex****.de"),
        (PartialEmailMask(), '"a@b"@example.com', '"a****@ex****.com'),
        (PartialEmailMask(), "alice@localhost", "al****@lo****"),
        (PartialEmailMask(), "123 456 789", "****"),
        (PartialEmailMask(), "", "****"),
        (PartialEmailMask(), "@", "****@****"),
        # What follows the last dot is shown only where it can be a top-level domain.
        (PartialEmailMask(), "x@y.123-45-6789", "****@y.****"),
        (PartialEmailMask(), "alice@example.verylongsecret", "al****@ex****"),
        (ConstantMask("withheld ✋"), "alice", "withheld ✋"),
        (ConstantMask(""), "alice", ""),
        (ConstantMask("a\0b"), "alice", None),
        (ConstantMask("\ud800"), "alice", None),
        (NullMask(), "alice", None),
        (GeneralizeMask("10"), "42", None),
        (PartialMask(-1, "*", 0), "alice", None),
        (PartialMask(0, "*", -3), "alice", None),
    ],
)
@pytest.mark.parametrize("format", [t.TEXT, t.BINARY])
def test_a_text_is_masked(method: MaskMethod, value: str, expected: str | None, format: int):
    for type_oid in t.TEXT_TYPES - {t.BPCHAR}:
        assert masked(method, value, type_oid, format) == expected


def test_the_padding_of_a_fixed_length_text_is_not_counted_as_part_of_it():
    assert masked(PartialMask(2, "*", 0), "ab      ", t.BPCHAR) == "*"
    assert masked(PartialMask(0, "*", 2), "abcd    ", t.BPCHAR) == "*cd"
    assert masked(HashMask(), "ab      ", t.BPCHAR) == masked(HashMask(), "ab", t.VARCHAR)


def test_a_hash_is_keyed_and_the_same_for_the_same_value():
    expected = hmac.new(b"the target's key", "Zoë".encode(), hashlib.sha256).hexdigest()
    assert masked(HashMask(), "Zoë") == expected
    assert masked(HashMask("other"), "Zoë") == hmac.new(b"another key", "Zoë".encode(), hashlib.sha256).hexdigest()


@pytest.mark.parametrize("name", ["unknown", "empty"])
def test_a_hash_without_a_key_is_null_because_guesses_could_be_hashed_too(name: str):
    assert masked(HashMask(name), "Zoë") is None
    assert apply(HashMask(), t.TEXT_OID, t.TEXT, b"x") is None


@pytest.mark.parametrize("method", [PartialMask(1, "*", 1), PartialEmailMask(), HashMask()])
def test_invalid_utf8_is_null(method: MaskMethod):
    assert apply(method, t.TEXT_OID, t.TEXT, b"a\xffb@example.com", KEYS) is None


@given(st.text(st.characters(codec="utf-8")), st.integers(0, 5), st.integers(0, 5))
def test_partial_never_shows_a_whole_value(value: str, prefix: int, suffix: int):
    shown = masked(PartialMask(prefix, "", suffix), value)
    assert shown is not None
    assert len(shown) < len(value) or not value


@given(st.text(st.characters(codec="utf-8"), min_size=3) | st.emails())
def test_partial_email_shows_at_most_two_letters_of_each_part(value: str):
    shown = masked(PartialEmailMask(), value)
    assert shown is not None
    assert re.fullmatch(
        r"(?s).{0,2}\*{4}(@.{0,2}\*{4}(\.[A-Za-z]{1,10})?)?|\*{4}@.{0,2}\*{4}(\.[A-Za-z]{1,10})?", shown
    )


# --- what does not fit ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("type_oid", OTHER_TYPES.values(), ids=OTHER_TYPES.keys())
@pytest.mark.parametrize("method", METHODS, ids=lambda method: type(method).__name__)
@pytest.mark.parametrize("format", [t.TEXT, t.BINARY])
def test_any_method_on_any_other_type_is_null(method: MaskMethod, type_oid: int, format: int):
    assert apply(method, type_oid, format, b"7", KEYS) is None


@pytest.mark.parametrize("method", METHODS, ids=lambda method: type(method).__name__)
@pytest.mark.parametrize("type_oid", ALL_TYPES)
def test_null_stays_null(method: MaskMethod, type_oid: int):
    assert apply(method, type_oid, t.TEXT, None, KEYS) is None
    assert apply(method, type_oid, t.BINARY, None, KEYS) is None


@given(st.sampled_from(METHODS), st.sampled_from(ALL_TYPES), st.integers(-1, 2), st.binary(max_size=30))
def test_arbitrary_values_never_raise(method: MaskMethod, type_oid: int, format: int, value: bytes):
    result = apply(method, type_oid, format, value, KEYS)
    assert result is None or format in (t.TEXT, t.BINARY)


@pytest.mark.parametrize("format", [-1, 2, 100])
def test_an_unknown_format_is_null(format: int):
    assert apply(ConstantMask("x"), t.TEXT_OID, format, b"abc", KEYS) is None


# --- constants --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("constant", "type_oid", "text", "binary"),
    [
        ("0", t.INT2, b"0", b"\0\0"),
        ("-5", t.INT4, b"-5", b"\xff\xff\xff\xfb"),
        ("+5", t.INT8, b"5", b"\0\0\0\0\0\0\0\x05"),
        ("40000", t.INT2, None, None),
        ("1.5", t.INT4, None, None),
        ("one", t.INT4, None, None),
        (" 1", t.INT4, None, None),
        ("", t.INT4, None, None),
        ("1_0", t.INT4, None, None),
        ("1.50", t.NUMERIC, b"1.50", b"\0\x02\0\0\0\0\0\x02\0\x01\x13\x88"),
        ("0", t.NUMERIC, b"0", bytes(8)),
        ("NaN", t.NUMERIC, None, None),
        ("1.5", t.FLOAT8, b"1.5", struct.pack(">d", 1.5)),
        ("1", t.FLOAT4, b"1", struct.pack(">f", 1)),
        ("1e39", t.FLOAT4, None, None),
        ("1e400", t.FLOAT8, None, None),
        ("true", t.BOOL, b"t", b"\x01"),
        ("false", t.BOOL, b"f", b"\0"),
        ("yes", t.BOOL, None, None),
        ("2000-01-02", t.DATE, b"2000-01-02", b"\0\0\0\x01"),
        ("2001-02-29", t.DATE, None, None),
        ("yesterday", t.DATE, None, None),
        ("2000-01-01 00:00:01", t.TIMESTAMP, b"2000-01-01 00:00:01", (1_000_000).to_bytes(8)),
        ("2000-01-01 02:00:01+02", t.TIMESTAMPTZ, b"2000-01-01 00:00:01+00", (1_000_000).to_bytes(8)),
        ("2000-01-01 00:00:01", t.TIMESTAMPTZ, None, None),
    ],
)
def test_a_constant_must_be_a_value_of_the_type(constant: str, type_oid: int, text: bytes | None, binary: bytes | None):
    assert apply(ConstantMask(constant), type_oid, t.TEXT, b"1") == text
    assert apply(ConstantMask(constant), type_oid, t.BINARY, b"1") == binary


# --- generalization, against the real server --------------------------------------------------------------------------

Fetch = Callable[..., bytes | None]


@pytest.fixture(scope="module")
def fetch(postgres18: PostgresServer) -> Iterator[Fetch]:
    """Asks PostgreSQL 18 for one value, in text or in binary, parameters as they travel."""
    with psycopg.connect(postgres18.dsn("postgres"), options="-c TimeZone=UTC", autocommit=True) as connection:

        def run(query: str, *values: tuple[bytes, int, int], format: int = t.TEXT) -> bytes | None:
            result = connection.pgconn.exec_params(
                query.encode(),
                [value for value, _, _ in values],
                param_types=[type_oid for _, type_oid, _ in values],
                param_formats=[pq.Format(wire) for _, _, wire in values],
                result_format=pq.Format(format),
            )
            assert result.status == pq.ExecStatus.TUPLES_OK, result.error_message
            return result.get_value(0, 0)

        yield run


FLOORED = [
    (t.INT2, "int2", "floor({v} / {s}) * {s}", ["1000", "7"], ["0", "999", "-1", "-2001", "32767", "-32000"]),
    (t.INT4, "int4", "floor({v} / {s}) * {s}", ["10", "500"], ["0", "9", "10", "-1", "2147483647", "-2147483000"]),
    (t.INT8, "int8", "floor({v} / {s}) * {s}", ["1000000007"], ["0", "9007199254740993", "-1", "9223372036854775807"]),
    (
        t.NUMERIC,
        "numeric",
        "floor({v} / {s}) * {s}",
        ["10", "0.5", "1000", "0.0003"],
        ["0", "0.00", "12345.67", "-0.50", "-12345.6789", "99999999.9999", "10000", "100000000.0001", "0.00012345"],
    ),
    (t.NUMERIC, "numeric", "floor({v} / {s}) * {s}", ["7"], ["1" + "0" * 300, "-1" + "9" * 301 + ".5"]),
    (t.FLOAT8, "float8", "floor({v} / {s}) * {s}", ["10", "0.5"], ["0", "0.75", "-0.1", "123456.789", "1e15"]),
    (t.FLOAT4, "float4", "floor({v} / {s}) * {s}", ["10", "0.5", "0.1"], ["0", "0.7", "-0.1", "123456.7", "1e+06"]),
]


@pytest.mark.parametrize(("type_oid", "name", "expression", "steps", "values"), FLOORED)
def test_a_number_is_rounded_down_as_the_server_would(fetch, type_oid, name, expression, steps, values):
    for step in steps:
        for value in values:
            truth = expression.format(v=f"'{value}'::{name}::text::numeric", s=f"{step}::numeric")
            agree_with_the_server(fetch, GeneralizeMask(step), type_oid, name, value, f"({truth})::{name}")


MOMENTS = [
    "2024-07-15 10:11:12.131415",
    "2024-02-29 23:59:59.999999",
    "2000-01-01 00:00:00",
    "1999-12-31 23:59:59",
    "1900-03-01 00:00:00",
    "0001-01-01 00:00:00",
    "0044-03-15 12:00:00 BC",
    "4713-01-01 00:00:00 BC",
    "99999-12-31 01:02:03.5",
]


@pytest.mark.parametrize("step", ["year", "month", "day", "hour"])
@pytest.mark.parametrize("name", ["date", "timestamp", "timestamptz"])
def test_a_moment_is_rounded_down_as_the_server_would(fetch, name: str, step: str):
    type_oid = {"date": t.DATE, "timestamp": t.TIMESTAMP, "timestamptz": t.TIMESTAMPTZ}[name]
    for value in MOMENTS:
        truth = f"date_trunc('{step}', '{value}'::{name})::{name}"
        if name == "date" and step in ("day", "hour"):
            text = fetch(f"select '{value}'::date")
            assert apply(GeneralizeMask(step), type_oid, t.TEXT, text) is None
        else:
            agree_with_the_server(fetch, GeneralizeMask(step), type_oid, name, value, truth)


def agree_with_the_server(fetch: Fetch, method: MaskMethod, type_oid: int, name: str, value: str, truth: str) -> None:
    """Both formats of the value give the server's own result, and the server reads what we wrote as just that."""
    for wire in (t.TEXT, t.BINARY):
        original = fetch(f"select '{value}'::{name}", format=wire)
        result = apply(method, type_oid, wire, original)
        assert result is not None, (value, method, wire)
        assert fetch(f"select $1 = {truth}", (result, type_oid, wire)) == b"t", (value, method, wire, result)
        if wire == t.TEXT and type_oid in t.FLOAT_TYPES:
            # Where the exponent begins to be written is the server's own taste.
            assert float(fetch(f"select $1::{name}", (result, type_oid, wire)) or b"") == float(result)
        elif wire == t.TEXT:
            assert fetch(f"select $1::{name}", (result, type_oid, wire)) == result
        else:
            assert fetch("select $1", (result, type_oid, wire), format=t.BINARY) == result


def test_a_timestamp_of_another_zone_is_rounded_in_utc(fetch):
    winter = masked(GeneralizeMask("year"), "2024-01-15 10:00:00+01", t.TIMESTAMPTZ)
    summer = masked(GeneralizeMask("year"), "2024-07-15 10:00:00+02", t.TIMESTAMPTZ)
    assert winter == summer == "2024-01-01 00:00:00+00"
    assert masked(GeneralizeMask("day"), "2024-07-15 01:00:00+05:30", t.TIMESTAMPTZ) == "2024-07-14 00:00:00+00"
    assert masked(GeneralizeMask("day"), "1880-07-15 01:00:00-00:25:21", t.TIMESTAMPTZ) == "1880-07-15 00:00:00+00"


@pytest.mark.parametrize(
    ("type_oid", "step", "value"),
    [
        # It would leave the value as it is, or there is nothing to round to.
        (t.INT4, "1", "42"),
        (t.INT4, "0", "42"),
        (t.INT4, "-10", "42"),
        (t.INT4, "2.5", "42"),
        (t.INT4, "0.5", "42"),
        (t.INT4, "month", "42"),
        (t.INT4, "", "42"),
        (t.INT4, "nan", "42"),
        (t.NUMERIC, "0", "42"),
        (t.DATE, "day", "2024-07-15"),
        (t.DATE, "10", "2024-07-15"),
        (t.DATE, "century", "2024-07-15"),
        # There is no such value of the type.
        (t.INT2, "10000", "-32768"),
        (t.NUMERIC, "10", "NaN"),
        (t.NUMERIC, "10", "Infinity"),
        (t.NUMERIC, "10", "9" * 5000),
        (t.FLOAT8, "10", "NaN"),
        (t.FLOAT8, "10", "-Infinity"),
        (t.DATE, "year", "infinity"),
        (t.TIMESTAMP, "year", "-infinity"),
    ],
)
def test_what_cannot_be_generalized_is_null(fetch, type_oid: int, step: str, value: str):
    name = {t.INT2: "int2", t.INT4: "int4", t.NUMERIC: "numeric", t.FLOAT8: "float8", t.DATE: "date"}.get(type_oid)
    for wire in (t.TEXT, t.BINARY):
        original = fetch(f"select '{value}'::{name or 'timestamp'}", format=wire)
        assert apply(GeneralizeMask(step), type_oid, wire, original) is None


@pytest.mark.parametrize("type_oid", sorted(t.NUMBER_TYPES | t.DATE_TYPES))
@pytest.mark.parametrize("damaged", [b"", b"\0", b"\0" * 3, b"\0" * 9, b"\xff" * 12])
def test_a_binary_value_of_the_wrong_length_is_null(type_oid: int, damaged: bytes):
    step = "year" if type_oid in t.DATE_TYPES else "10"
    assert apply(GeneralizeMask(step), type_oid, t.BINARY, damaged) is None


def test_a_damaged_numeric_is_null():
    for damaged in (b"\0\x01\0\0\0\0\0\0\x27\x10", b"\0\x01\x7f\xff\0\0\0\0\0\x01", b"\0\0\0\0\x12\x34\0\0"):
        assert apply(GeneralizeMask("10"), t.NUMERIC, t.BINARY, damaged) is None


def test_the_number_of_decimals_of_a_value_does_not_show():
    assert masked(GeneralizeMask("10"), "12.3456", t.NUMERIC) == masked(GeneralizeMask("10"), "12", t.NUMERIC) == "10"
    assert masked(GeneralizeMask("0.50"), "12.3456", t.NUMERIC) == "12.00"


def test_a_moment_that_the_binary_format_cannot_hold_is_null():
    assert apply(ConstantMask("999999-01-01 00:00:00"), t.TIMESTAMP, t.BINARY, bytes(8)) is None


@pytest.mark.parametrize("style", ["SQL, DMY", "SQL, MDY", "German", "Postgres, DMY", "Postgres, MDY"])
def test_a_date_in_any_other_style_is_null(postgres18: PostgresServer, style: str):
    with psycopg.connect(postgres18.dsn("postgres"), autocommit=True) as connection:
        connection.execute(f"set datestyle = '{style}'")
        query = b"select '2024-07-11'::date, '2024-07-11 10:00'::timestamp, '2024-07-11 10:00'::timestamptz"
        result = connection.pgconn.exec_(query)
        for column in range(3):
            value = result.get_value(0, column)
            assert value is not None
            assert apply(GeneralizeMask("year"), result.ftype(column), t.TEXT, value) is None


decimals = st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**20), max_value=10**20, places=6)
steps = st.decimals(allow_nan=False, allow_infinity=False, min_value="0.0001", max_value=10**6, places=4)


@given(decimals, steps)
def test_a_numeric_is_rounded_the_same_in_text_and_in_binary(value: Decimal, step: Decimal):
    assume(step > 0)
    context = Context(prec=60)
    expected = context.multiply(context.divide(value, step).to_integral_value(ROUND_FLOOR, context), step)
    text = apply(GeneralizeMask(f"{step:f}"), t.NUMERIC, t.TEXT, f"{value:f}".encode())
    encoded = bytes(DecimalBinaryDumper(Decimal).dump(value) or b"")
    binary = apply(GeneralizeMask(f"{step:f}"), t.NUMERIC, t.BINARY, encoded)
    assert text is not None
    assert binary is not None
    assert Decimal(text.decode()) == NumericBinaryLoader(t.NUMERIC).load(binary) == expected


@given(st.dates(date(1, 1, 1), date(9999, 12, 31)), st.sampled_from(["year", "month"]))
def test_a_date_is_rounded_the_same_in_text_and_in_binary(value: date, step: str):
    expected = value.replace(day=1) if step == "month" else value.replace(month=1, day=1)
    assert masked(GeneralizeMask(step), value.isoformat(), t.DATE) == expected.isoformat()
    dump = DateBinaryDumper(date).dump
    assert apply(GeneralizeMask(step), t.DATE, t.BINARY, bytes(dump(value) or b"")) == dump(expected)


@given(st.datetimes())
def test_a_timestamp_is_rounded_the_same_in_text_and_in_binary(value: datetime):
    expected = value - timedelta(minutes=value.minute, seconds=value.second, microseconds=value.microsecond)
    assert masked(GeneralizeMask("hour"), value.isoformat(" "), t.TIMESTAMP) == expected.isoformat(" ")
    dump = DatetimeNoTzBinaryDumper(datetime).dump
    assert apply(GeneralizeMask("hour"), t.TIMESTAMP, t.BINARY, bytes(dump(value) or b"")) == dump(expected)


# --- rows -------------------------------------------------------------------------------------------------------------

constant = cell_mask(ConstantMask("masked"), t.TEXT_OID, t.TEXT, {})
null = cell_mask(NullMask(), t.TEXT_OID, t.TEXT, {})


def payload(*values: bytes | None) -> bytes:
    return DataRow(values).encode()[5:]


def test_masked_cells_are_replaced_and_all_others_stay_as_they_came():
    row = MaskedRow(4, {0: constant, 2: null})
    assert row.rewrite(payload(b"a", b"b", b"c", b"d")) == payload(b"masked", b"b", None, b"d")
    assert row.rewrite(payload(None, None, None, None)) == payload(None, None, None, None)
    assert row.rewrite(payload(b"", b"", b"", b"")) == payload(b"masked", b"", None, b"")


@given(st.lists(st.tuples(strategies.cells, st.sampled_from([None, constant, null]))))
def test_a_row_is_masked_cell_by_cell(cells):
    row = MaskedRow(len(cells), {index: mask for index, (_, mask) in enumerate(cells) if mask})
    expected = [mask(value) if mask and value is not None else value for value, mask in cells]
    assert row.rewrite(payload(*(value for value, _ in cells))) == payload(*expected)


@given(st.lists(st.tuples(strategies.cells, strategies.cells), max_size=10))
def test_a_run_is_masked_row_by_row(rows):
    row = MaskedRow(2, {1: constant})
    raw = b"".join(DataRow(values).encode() for values in rows)
    expected = b"".join(DataRow((a, None if b is None else b"masked")).encode() for a, b in rows)
    assert row.rewrite_run(raw) == expected
    assert b"".join(row.rewrite_run(run.raw) for run in BackendCodec().feed(raw)) == expected


@pytest.mark.parametrize(
    "malformed",
    [
        payload(b"a"),
        payload(b"a", b"b", b"c"),
        payload(),
        b"",
        b"\0",
        payload(b"a", b"b")[:-1],
        payload(b"a", b"b")[:-3],
        b"\0\x02\xff\xff\xff\xfe\0\0\0\0",
        b"\0\x02\x7f\xff\xff\xff\0\0\0\0",
    ],
)
def test_a_row_that_is_not_as_described_ends_the_session(malformed: bytes):
    row = MaskedRow(2, {1: constant})
    with pytest.raises(UpstreamProtocolError):
        row.rewrite(malformed)
    with pytest.raises(UpstreamProtocolError):
        row.rewrite_run(b"D" + (len(malformed) + 4).to_bytes(4) + malformed)


@given(st.binary(max_size=40))
def test_an_arbitrary_row_raises_only_the_upstreams_protocol_error(received: bytes):
    row = MaskedRow(2, {0: null, 1: constant})
    try:
        row.rewrite(received)
    except UpstreamProtocolError:
        return


def test_a_mask_for_a_column_that_is_not_there_is_a_mistake():
    with pytest.raises(ValueError, match="does not have"):
        MaskedRow(2, {2: null})
