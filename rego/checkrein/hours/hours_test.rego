package checkrein.hours_test

import data.checkrein.hours
import data.checkrein.testing as t

_office := {"office": {"zone": "Europe/Berlin", "days": ["Monday", "Tuesday"], "from": 9, "to": 17.5}}

_at(instant) := t.context(t.connect(t.agent("bot", [])), {"time": instant})

_open(instant) if hours.open("office") with input as _at(instant) with data.hours as _office

_closes(instant) := end if end := hours.closes("office") with input as _at(instant) with data.hours as _office

test_open_from_the_first_instant_to_before_the_last if {
	_open("2026-11-24T08:00:00Z")
	not _open("2026-11-24T07:59:59Z")
	_open("2026-11-24T16:29:59.9Z")
	not _open("2026-11-24T16:30:00Z")
}

test_the_zone_and_summer_time_count if {
	_open("2026-07-21T07:15:00Z")
	not _open("2026-11-24T07:15:00Z")
}

test_closed_on_other_days if not _open("2026-11-22T13:00:00Z")

test_closed_where_nobody_defined_the_hours_or_the_time_is_none if {
	not hours.open("night") with input as _at("2026-11-24T13:00:00Z") with data.hours as _office
	not hours.open("office") with input as _at("2026-11-24T13:00:00Z") with data.hours as {}
	not _open(null)
	not hours.open("office") with input as {} with data.hours as _office
}

test_closes_says_the_instant_at_which_they_end if {
	_closes("2026-11-24T13:00:00Z") == "2026-11-24T16:30:00Z"
	_closes("2026-11-24T16:29:59.75Z") == "2026-11-24T16:30:00Z"
	_closes("2026-07-21T09:12:34+02:00") == "2026-07-21T15:30:00Z"
	not _closes("2026-11-24T17:00:00Z")
}
