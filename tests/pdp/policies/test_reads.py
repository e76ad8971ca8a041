"""What a policy can read of what travels on demand, told from syntax trees by a real OPA; unsure counts as read."""

import asyncio
import json
from pathlib import Path

import pytest

from pdp.library import library_dir
from pdp.opa.program import run_opa
from pdp.policies.reads import marked_paths, on_demand, policy_paths

TEXT, PARAMETERS, BODY = ALL = on_demand()
STATEMENT = (TEXT, PARAMETERS)

CASES = {
    'deny contains 1 if input.subject.id == "x"': (),
    'deny contains 1 if input.action.properties.postgres.kind == "x"': (),
    'deny contains 1 if input.action.properties.http.method == "x"': (),
    'deny contains 1 if input.action.properties.statement.text == "x"': (TEXT,),
    "deny contains 1 if input.action.properties.statement.parameters[0] == 1": (PARAMETERS,),
    "deny contains 1 if input.action.properties.http.body.json.amount == 1": (BODY,),
    'deny contains 1 if input.action.properties.http.body.kind == "none"': (BODY,),
    "deny contains 1 if input.action.properties.http": (BODY,),
    'deny contains 1 if input.action.properties["statement"]["text"] == "x"': (TEXT,),
    'deny contains 1 if input.action.properties.statement[_x] == "x"\n\n_x := "text"': STATEMENT,
    "deny contains 1 if { some key; input.action.properties[key].text }": (TEXT,),
    "deny contains 1 if { some key; input.action.properties[key].opaque }": (),
    "deny contains 1 if object.get(input, [], 1) == 1": ALL,
    "deny contains 1 if walk(input.action, [_, 1])": ALL,
    "deny contains 1 if _f(input)\n\n_f(x) if x": ALL,
    "deny contains 1 if walk(input.subject, [_, 1])": (),
    "deny contains 1 if every x in input.action.properties { x }": ALL,
    "deny contains [x | x := input.action.properties.statement.text]": (TEXT,),
    'deny contains {"a": {"b": input.action.properties.statement.text}}': (TEXT,),
    'deny contains $"{input.action.properties.statement.text}"': (TEXT,),
    "deny contains _x\n\n_x := 1 if { false } else := input.action.properties.statement.text": (TEXT,),
    'import input.action.properties as p\n\ndeny contains 1 if p.postgres.kind == "x"': ALL,
    'import input.subject as who\n\ndeny contains 1 if who.id == "x"': (),
    "deny contains 1 if data.checkrein.decision.result with input as {}": ALL,
}

# What stands in for the library, and what is read by calling some of it.
ENTRY = "package checkrein.decision\n\nresult := {r | some name in {1}; some r in data.policies[name].deny}"
LIBRARY = """package checkrein.web

import data.checkrein.deep.reader as r

matches(x) if input.action.properties.http.path == x

amount := input.action.properties.http.body.json.amount

above(x) if amount > x

far if r

rest if input.subject.id
"""
DEEP = "package checkrein.deep\n\nreader if _inner\n\n_inner if input.action.properties.statement.text\n\nother if true"

CALLS = {
    'deny contains 1 if data.checkrein.web.matches("/x")': (),
    "deny contains 1 if data.checkrein.web.above(1)": (BODY,),
    "import data.checkrein.web\n\ndeny contains 1 if web.above(1)": (BODY,),
    "import data.checkrein.web as w\n\ndeny contains 1 if w.above(1)": (BODY,),
    "import data.checkrein.web\n\ndeny contains 1 if web.matches(1)\n\n_x if web.rest": (),
    "import data.checkrein.web\n\ndeny contains 1 if _mine\n\n_mine if _yours\n\n_yours if web.far": (TEXT,),
    "import data.checkrein.web.amount\n\ndeny contains amount": (BODY,),
    "import data.checkrein.web as w\n\ndeny contains w": (TEXT, BODY),
    "import data.checkrein.web\n\ndeny contains 1 if web[_x]\n\n_x := 1": (TEXT, BODY),
    "deny contains 1 if { some n; data.checkrein[n].matches(1) }": (),
    "deny contains 1 if { some n; data.checkrein[n].amount }": (BODY,),
    "deny contains 1 if data.checkrein.deep.other": (),
    "deny contains 1 if walk(data.checkrein, [_, 1])": (TEXT, BODY),
    "deny contains 1 if walk(data, [_, 1])": (TEXT, PARAMETERS, BODY),
    "deny contains 1 if data.classification.x": (),
    "deny contains 1 if data.policies.reader._one": (PARAMETERS,),
    "deny contains 1 if data.policies.reader.allow": (),
    "deny contains 1 if { some n; data.policies[n].allow }": (),
    "deny contains 1 if { some n; data.policies[n]._one }": (PARAMETERS,),
    "deny contains 1 if data.policies.nobody.allow": (),
}
READER = "package policies.reader\n\n_one if input.action.properties.statement.parameters\n\nallow contains 1"


@pytest.fixture(scope="module")
def parse(opa_path: Path, tmp_path_factory: pytest.TempPathFactory):
    def run(texts: dict[str, str]) -> dict[str, object]:
        query = "{name: rego.parse_module(name, text) | some name, text in input}"
        folder = tmp_path_factory.mktemp("parse")
        arguments = ["eval", "--stdin-input", "--format", "raw", query]
        return json.loads(
            asyncio.run(run_opa(opa_path, arguments, folder=folder, stdin=json.dumps(texts).encode())).out
        )

    return run


def found(parse, cases, *others: str):
    texts = {case: f"package policies.x\n\n{case}\n" for case in cases} | {other: other for other in others}
    parsed = parse(texts)
    assert parsed.keys() == texts.keys()
    return {case: policy_paths([parsed[each] for each in (case, *others)], ALL)["x"] for case in cases}


def test_the_schema_says_what_travels_on_demand():
    assert ALL == (
        "action.properties.statement.text",
        "action.properties.statement.parameters",
        "action.properties.http.body",
    )


def test_marks_are_found_behind_references_and_not_below_one_another():
    marked = {"$comment": "on demand", "properties": {"c": {"$comment": "on demand"}}}
    schema = {
        "$defs": {"part": {"properties": {"b": marked, "d": {"$comment": "x"}, "e": True}}},
        "properties": {"a": {"$ref": "#/$defs/part"}},
    }
    assert list(marked_paths(schema)) == ["a.b"]


def test_a_reference_is_found_however_it_is_written(parse):
    assert found(parse, CASES, ENTRY) == CASES


def test_the_library_counts_rule_by_rule(parse):
    assert found(parse, CALLS, ENTRY, LIBRARY, DEEP, READER) == CALLS


def test_what_the_entrypoint_reads_counts_for_every_policy(parse):
    entry = "package checkrein.decision\n\nresult if data.checkrein.web.above(1)"
    assert found(parse, ["allow contains 1"], entry, LIBRARY, DEEP) == {"allow contains 1": (BODY,)}


def test_the_files_of_a_policy_count_together(parse):
    parsed = parse({"a": "package policies.x\n\nallow contains 1", "b": READER.replace("reader", "x")})
    assert policy_paths(parsed.values(), ALL) == {"x": (PARAMETERS,)}


def test_a_shipped_policy_makes_travel_what_it_looks_at_and_nothing_else(parse):
    texts = {
        str(path): path.read_text()
        for folder in ("checkrein", "policies")
        for path in sorted((library_dir() / folder).rglob("*.rego"))
        if not path.name.endswith("_test.rego") and path.parent.name != "testing"
    }
    found = policy_paths(parse(texts).values(), ALL)
    assert {name: paths for name, paths in found.items() if paths} == {"refunds": (BODY,)}
    assert {"baseline", "masked_pii", "inference", "api_reads", "api_pii", "mcp_tools"} <= found.keys()
