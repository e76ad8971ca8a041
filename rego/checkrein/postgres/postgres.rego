# METADATA
# title: What one SQL statement does
# description: |
#   Rules over `input`, every path written out, so that `opa deps` says exactly what a policy depends on. None reads
#   the text, the parameters, the time or the session. What lets something through (`only_reads`, `within`, ...) holds
#   only of a statement that was understood, and never because a list is empty.
package checkrein.postgres

import data.checkrein.catalog
import data.checkrein.functions
import data.checkrein.labels
import data.checkrein.settings

# METADATA
# description: Every relation that is touched, with how.
relations contains r if some r in input.action.properties.postgres.relations

# METADATA
# description: A superset of the columns that the statement can read, with what it uses them for.
columns contains c if some c in input.action.properties.postgres.columns

# METADATA
# description: Datasets that are touched in any way.
touched contains r.dataset if some r in input.action.properties.postgres.relations

# METADATA
# description: Datasets that rows are read from.
read contains r.dataset if {
	some r in input.action.properties.postgres.relations
	r.access == "read"
}

# METADATA
# description: Datasets whose rows change.
written contains r.dataset if {
	some r in input.action.properties.postgres.relations
	r.access in {"insert", "update", "delete", "truncate"}
}

# METADATA
# description: Datasets that lose rows.
deleted contains r.dataset if {
	some r in input.action.properties.postgres.relations
	r.access in {"delete", "truncate"}
}

# METADATA
# description: |
#   Nothing in the statement is opaque, everything that it touches is said, and no work is hidden in strings, files or
#   other sessions.
understood if {
	input.action.properties.postgres.opaque == false
	input.action.properties.postgres.reaches_beyond == []
	is_array(input.action.properties.postgres.relations)
	every r in input.action.properties.postgres.relations {
		is_string(r.dataset)
		is_string(r.access)
	}
	is_array(input.action.properties.postgres.columns)
	every c in input.action.properties.postgres.columns {
		is_string(c.dataset)
		is_string(c.field)
		is_array(c.usage)
		c.usage != []
	}
	every usage in _usages { is_string(usage) }
	is_array(input.action.properties.postgres.functions)
	every f in input.action.properties.postgres.functions { is_string(f) }
}

_usages contains usage if {
	some c in input.action.properties.postgres.columns
	some usage in c.usage
}

# METADATA
# description: Every function that is called only computes.
only_computes if {
	understood
	every f in input.action.properties.postgres.functions { functions.computes(f) }
}

# METADATA
# description: Does nothing but read rows.
only_reads if {
	only_computes
	input.action.properties.postgres.class == "read"
	every r in input.action.properties.postgres.relations { r.access == "read" }
}

# METADATA
# description: Reads no relation at all, as `select 1` and `select version()`.
touches_nothing if {
	only_computes
	input.action.properties.postgres.class in {"read", "catalog"}
	input.action.properties.postgres.relations == []
	input.action.properties.postgres.columns == []
}

# METADATA
# scope: document
# description: Transactions, harmless settings, SHOW, empty statements.
housekeeping if {
	only_computes
	input.action.properties.postgres.class == "transaction"
	input.action.properties.postgres.relations == []
}

housekeeping if {
	only_computes
	input.action.properties.postgres.class == "catalog"
	input.action.properties.postgres.kind in {"show", "empty"}
	input.action.properties.postgres.relations == []
}

# `select set_config(..)` is of the class of SET where the name of the setting can be read off it.
housekeeping if {
	understood
	input.action.properties.postgres.class == "setting"
	input.action.properties.postgres.relations == []
	every f in input.action.properties.postgres.functions { _computes_or_sets(f) }
	_settings_harmless
}

_computes_or_sets("pg_catalog.set_config")

_computes_or_sets(f) if functions.computes(f)

_settings_harmless if {
	input.action.properties.postgres.kind in {"reset", "discard", "deallocate", "close", "unlisten"}
	input.action.properties.postgres.settings == []
}

_settings_harmless if {
	is_array(input.action.properties.postgres.settings)
	count(input.action.properties.postgres.settings) > 0
	every name in input.action.properties.postgres.settings { settings.harmless(name) }
}

# METADATA
# description: Reads the part of the catalog that says how the database is built, and nothing else.
catalog_only if {
	only_computes
	input.action.properties.postgres.class in {"read", "catalog"}
	count(input.action.properties.postgres.relations) > 0
	every r in input.action.properties.postgres.relations {
		r.access == "read"
		catalog.structural(r)
	}
}

# METADATA
# description: Inserts, updates or deletes rows, and is understood.
changes_rows if {
	only_computes
	input.action.properties.postgres.class == "write"
	count(written) > 0
	every r in input.action.properties.postgres.relations {
		r.access in {"read", "insert", "update", "delete", "truncate"}
	}
}

# METADATA
# scope: document
# description: Rows are deleted, by the statement itself or by what it sets off.
deletes if count(deleted) > 0

deletes if input.action.properties.postgres.kind in {"delete", "truncate"}

# METADATA
# description: |
#   Is a statement, and is not known to leave the schema, the roles and the server alone; so also what was not
#   understood.
changes_schema if {
	not input.action.name == "connect"
	not input.resource.type == "checkrein"
	not _leaves_schema
}

_leaves_schema if {
	input.action.properties.postgres.class in {"read", "write", "transaction", "setting", "catalog"}
	every r in input.action.properties.postgres.relations { not r.access == "schema" }
}

# METADATA
# description: Every relation, and there is one, is named by the set; `public.*` names a schema.
within(names) if {
	count(touched) > 0
	every dataset in touched { _named(dataset, names) }
}

# METADATA
# description: Every relation whose rows change, and there is one, is named by the set.
writes_within(names) if {
	count(written) > 0
	every dataset in written { _named(dataset, names) }
}

_named(dataset, names) if dataset in names

_named(dataset, names) if {
	is_string(dataset)
	concat(".", [split(dataset, ".")[0], "*"]) in names
}

# METADATA
# description: |
#   Of each of these datasets that is touched, only rows with the value in the column are. Narrows; it does not say
#   that any of them is touched.
pinned(datasets, column, value) if {
	value != null
	understood
	every dataset in touched & datasets {
		{"dataset": dataset, "field": column, "value": value} in input.action.properties.postgres.pins
	}
}

# METADATA
# description: |
#   Labelled columns of every relation touched, whether or not the statement names them; of the whole resource when
#   anything is not understood.
labelled(label) := labels.fields(_in_reach, label)

_in_reach := touched if {
	understood
} else := labels.datasets

# METADATA
# description: Columns that the statement can read and that nobody classified; the structural catalog needs no label.
unlabelled contains {"dataset": c.dataset, "field": c.field} if {
	some c in input.action.properties.postgres.columns
	not labels.known(c.dataset, c.field)
	not catalog.known(c.dataset)
}

# METADATA
# description: The planner expects at most so many rows; needs the fact `estimate`.
estimated_at_most(rows) if {
	is_number(rows)
	is_number(input.context.facts.estimate.rows)
	input.context.facts.estimate.rows <= rows
}
