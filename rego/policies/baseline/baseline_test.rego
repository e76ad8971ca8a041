package baseline_test

import data.checkrein.testing as t

_bot := t.agent("bot", [])

_decide(request) := t.decide(request, {"baseline"})

_allowed(facts) if _decide(t.sql(_bot, facts)).verdict == "allow"

test_whoever_is_known_may_connect if t.codes(_decide(t.connect(_bot))) == {"connect"}

test_nobody_in_particular_does_nothing if {
	every who in [{"type": "agent", "id": "", "properties": {"groups": []}}, {"id": "x"}] {
		_decide(t.connect(who)).verdict == "deny"
		_decide(t.sql(who, {"class": "transaction", "kind": "begin"})).verdict == "deny"
		_decide(t.sql(who, {})).verdict == "deny"
		_decide(t.select(who, {"pg_catalog.pg_class"})).verdict == "deny"
	}
}

test_transactions_settings_of_the_session_and_show_are_allowed if {
	_allowed({"class": "transaction", "kind": "begin"})
	_allowed({"class": "setting", "kind": "set", "settings": ["application_name"]})
	_allowed({"class": "catalog", "kind": "show", "settings": ["server_version"]})
	_allowed({"class": "catalog", "kind": "empty"})
}

test_set_role_is_denied if {
	not _allowed({"class": "setting", "kind": "set", "settings": ["role"]})
}

test_to_listen_to_others_is_denied_and_to_stop_it_is_allowed if {
	not _allowed({"class": "setting", "kind": "listen", "settings": []})
	_allowed({"class": "setting", "kind": "unlisten", "settings": []})
}

test_to_put_constraints_off_is_denied if not _allowed({"class": "setting", "kind": "constraints", "settings": []})

test_a_setting_of_an_application_is_denied if {
	not _allowed({"class": "setting", "kind": "set", "settings": ["app.tenant"]})
}

test_the_structural_catalog_may_be_read if _allowed({"relations": t.relations({"pg_catalog.pg_class", "pg_catalog.pg_namespace"}, "read")})

test_the_catalog_that_holds_data_is_denied if {
	not _allowed({"relations": t.relations({"pg_catalog.pg_stats"}, "read")})
	not _allowed({"relations": t.relations({"pg_catalog.pg_class", "public.customers"}, "read")})
}

test_a_constant_is_allowed_and_a_function_that_does_more_is_denied if {
	_allowed({"functions": ["pg_catalog.version"]})
	not _allowed({"functions": ["pg_catalog.pg_read_file"]})
	not _allowed({"opaque": "a dollar quote that does not end"})
}

test_data_of_the_target_are_denied if not _allowed({"relations": t.relations({"public.orders"}, "read")})

test_administration_of_checkrein_is_denied if _decide(t.administer(t.user("ana", []), "approve")).verdict == "deny"
