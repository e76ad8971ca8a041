"""Dates and timestamps as PostgreSQL sends them, rounded down to a year, month, day or hour, or replaced.

Text is understood in the ISO style only; any other DateStyle becomes NULL, because day and month cannot be told apart
for sure. A timestamp with time zone is rounded in UTC: the offset of the session's zone would tell summer from winter.
"""

from __future__ import annotations

import re
import struct
from typing import TYPE_CHECKING, Final

from pep.postgres.type_oids import DATE, TEXT, TIMESTAMPTZ

if TYPE_CHECKING:
    from collections.abc import Callable

_ISO: Final = re.compile(
    r"(?P<year>\d{4,6})-(?P<month>0[1-9]|1[0-2])-(?P<day>0[1-9]|[12]\d|3[01])"
    r"(?:[ T](?P<hour>[01]\d|2[0-4]):(?P<minute>[0-5]\d):(?P<second>[0-5]\d|60)(?:\.(?P<fraction>\d{1,6}))?"
    r"(?P<zone>[+-]\d{2}(?::[0-5]\d){0,2})?)?(?P<era> BC)?",
    re.ASCII,
)

_SECOND: Final = 1_000_000
_HOUR: Final = 3600 * _SECOND
_DAY: Final = 24 * _HOUR
_DAYS_IN_ERA: Final = 146_097  # 400 years of the Gregorian calendar

_DATE: Final = struct.Struct(">i")
_TIMESTAMP: Final = struct.Struct(">q")
# The two ends of the range mean minus and plus infinity.
_DATE_ENDS: Final = (-(2**31), 2**31 - 1)
_TIMESTAMP_ENDS: Final = (-(2**63), 2**63 - 1)


def floor_to(step: str, type_oid: int, format: int) -> Callable[[bytes], bytes | None] | None:
    """Rounds a value of the type down to the unit `step`; None if there is no such unit, or it would hide nothing."""
    if step not in ("year", "month", "day", "hour") or (type_oid == DATE and step in ("day", "hour")):
        return None

    def floored(value: bytes) -> bytes | None:
        moment = _decode(value, type_oid, format)
        return None if moment is None else _encode(_floor(moment, step), type_oid, format)

    return floored


def constant(text: str, type_oid: int, format: int) -> bytes | None:
    """The ISO date or timestamp in `text` as a value of the type, or None if it is not one."""
    moment = _parse(text, type_oid)
    return None if moment is None else _encode(moment, type_oid, format)


def _floor(moment: int, step: str) -> int:
    """`moment` is in microseconds since 2000-01-01, as everywhere here."""
    if step == "hour":
        return moment // _HOUR * _HOUR
    year, month, day = _civil(moment // _DAY)
    if step == "year":
        month = 1
    if step != "day":
        day = 1
    return _days(year, month, day) * _DAY


def _decode(value: bytes, type_oid: int, format: int) -> int | None:
    if format == TEXT:
        return _parse(value.decode("ascii", "replace"), type_oid)
    layout, ends = (_DATE, _DATE_ENDS) if type_oid == DATE else (_TIMESTAMP, _TIMESTAMP_ENDS)
    try:
        (number,) = layout.unpack(value)
    except struct.error:
        return None
    if number in ends:
        return None
    return number * _DAY if type_oid == DATE else int(number)


def _encode(moment: int, type_oid: int, format: int) -> bytes | None:
    if format == TEXT:
        return _print(moment, type_oid).encode()
    try:
        return _DATE.pack(moment // _DAY) if type_oid == DATE else _TIMESTAMP.pack(moment)
    except struct.error:
        return None


def _parse(text: str, type_oid: int) -> int | None:
    found = _ISO.fullmatch(text)
    if found is None or (found["zone"] is not None) != (type_oid == TIMESTAMPTZ):
        return None
    if (found["hour"] is None) != (type_oid == DATE):
        return None
    year, month, day = int(found["year"]), int(found["month"]), int(found["day"])
    if found["era"]:
        year = 1 - year  # the year before 1 is 1 BC
    days = _days(year, month, day)
    if _civil(days) != (year, month, day):
        return None  # no such day in that month
    if type_oid == DATE:
        return days * _DAY
    seconds = int(found["hour"]) * 3600 + int(found["minute"]) * 60 + int(found["second"])
    fraction = int((found["fraction"] or "").ljust(6, "0"))
    return days * _DAY + (seconds - _offset(found["zone"] or "+00")) * _SECOND + fraction


def _offset(zone: str) -> int:
    """Seconds east of UTC."""
    hours, minutes, seconds = (*map(int, zone[1:].split(":")), 0, 0)[:3]
    size = hours * 3600 + minutes * 60 + seconds
    return -size if zone[0] == "-" else size


def _print(moment: int, type_oid: int) -> str:
    days, time = divmod(moment, _DAY)
    year, month, day = _civil(days)
    era = "" if year > 0 else " BC"
    date = f"{year if year > 0 else 1 - year:04}-{month:02}-{day:02}"
    if type_oid == DATE:
        return date + era
    seconds, fraction = divmod(time, _SECOND)
    clock = f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
    if fraction:
        clock += f".{fraction:06}".rstrip("0")
    return f"{date} {clock}{'+00' if type_oid == TIMESTAMPTZ else ''}{era}"


# Calendar days by eras of 400 years that begin in March, so that a leap day is the last of its year; Python's own
# calendar ends at the years 1 and 9999, PostgreSQL's does not.


def _days(year: int, month: int, day: int) -> int:
    """Days from 2000-01-01 to a day of the proleptic Gregorian calendar; year 0 is 1 BC."""
    year -= month <= 2
    era, of_era = divmod(year, 400)
    of_year = (153 * ((month + 9) % 12) + 2) // 5 + day - 1
    return era * _DAYS_IN_ERA + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 730_425


def _civil(days: int) -> tuple[int, int, int]:
    """The inverse of `_days`."""
    era, of_era = divmod(days + 730_425, _DAYS_IN_ERA)
    year = (of_era - of_era // 1460 + of_era // 36_524 - of_era // 146_096) // 365
    of_year = of_era - (365 * year + year // 4 - year // 100)
    shifted = (5 * of_year + 2) // 153
    month = shifted + 3 if shifted < 10 else shifted - 9
    return year + era * 400 + (month <= 2), month, of_year - (153 * shifted + 2) // 5 + 1
