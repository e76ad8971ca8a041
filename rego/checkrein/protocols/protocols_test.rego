package checkrein.protocols_test

import data.checkrein.protocols
import data.checkrein.testing as t

_bot := t.agent("bot", [])

test_a_connection_says_nothing if protocols.spoken == set() with input as t.connect(_bot)

test_what_is_false_or_empty_is_said_all_the_same if {
	protocols.spoken == {"postgres"} with input as t.sql(_bot, {})
	protocols.opaque == {"postgres": false} with input as t.sql(_bot, {})
	protocols.mints_access == {"postgres": []} with input as t.sql(_bot, {})
}

test_every_protocol_is_heard if {
	protocols.opaque == {"http": "cut"} with input as t.http(_bot, {"opaque": "cut"})
	protocols.mints_access == {"http": ["a key"]} with input as t.http(_bot, {"mints_access": ["a key"]})
	protocols.opaque == {"mcp": false} with input as t.mcp_message(_bot, "ping")
	protocols.mints_access == {"mcp": []} with input as t.mcp_message(_bot, "ping")
}

test_one_of_the_two_is_enough_to_be_heard if {
	protocols.spoken == {"postgres"} with input as {"action": {"properties": {"postgres": {"opaque": false}}}}
	protocols.spoken == {"postgres"} with input as {"action": {"properties": {"postgres": {"mints_access": []}}}}
}

test_every_column_that_is_read_is_a_field if {
	columns := [{"dataset": "a.b", "field": "x", "usage": ["output"]}, {"dataset": "a.c", "field": "y", "usage": ["filter"]}]
	protocols.fields == {["a.b", "x"], ["a.c", "y"]} with input as t.sql(_bot, {"columns": columns})
}
