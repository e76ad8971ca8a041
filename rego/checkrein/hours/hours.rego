# METADATA
# title: Times of day
# description: "`data.hours.office = {\"zone\": \"Europe/Berlin\", \"days\": [\"Monday\"], \"from\": 9, \"to\": 17.5}`"
package checkrein.hours

# METADATA
# description: |
#   Within these hours. Undefined for hours that nobody defined, so write it positively or behind `not`.
open(name) if {
	h := data.hours[name]
	time.weekday([_now, h.zone]) in h.days
	at := _seconds(h)
	at >= h.from * 3600
	at < h.to * 3600
}

# METADATA
# description: When the hours end, for the `until` of a contribution.
closes(name) := time.format(whole_second + (left * 1000000000)) if {
	open(name)
	h := data.hours[name]
	whole_second := _now - (_now % 1000000000)
	left := round(h.to * 3600) - _seconds(h)
}

_now := time.parse_rfc3339_ns(input.context.time) if is_string(input.context.time)

_seconds(h) := ((clock[0] * 3600) + (clock[1] * 60)) + clock[2] if clock := time.clock([_now, h.zone])
