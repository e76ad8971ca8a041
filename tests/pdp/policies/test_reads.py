"""What a policy can read of the statement, told from its syntax tree by a real OPA; unsure counts as read."""

import asyncio
import json
from pathlib import Path

import pytest

from pdp.library import library_dir
from pdp.opa.program import run_opa
from pdp.policies.reads import STATEMENT_PATHS, Reads, module_reads, policy_paths

TEXT, PARAMETERS = STATEMENT_PATHS

CASES = {
    'deny contains 1 if input.subject.id == "x"': (),
    'deny contains 1 if input.action.properties.postgres.kind == "x"': (),
    'deny contains 1 if input.action.properties.statement.text == "x"': (TEXT,),
    "deny contains 1 if input.action.properties.statement.parameters[0] == 1": (PARAMETERS,),
    'deny contains 1 if input.action.properties["statement"]["text"] == "x"': (TEXT,),
    'deny contains 1 if input.action.properties.statement[_x] == "x"\n\n_x := "text"': STATEMENT_PATHS,
    "deny contains 1 if { some key; input.action.properties[key].text }": (TEXT,),
    "deny contains 1 if object.get(input, [], 1) == 1": STATEMENT_PATHS,
    "deny contains 1 if walk(input.action, [_, 1])": STATEMENT_PATHS,
    "deny contains 1 if _f(input)\n\n_f(x) if x": STATEMENT_PATHS,
    "deny contains 1 if walk(input.subject, [_, 1])": (),
    "deny contains 1 if every x in input.action.properties { x }": STATEMENT_PATHS,
    "deny contains [x | x := input.action.properties.statement.text]": (TEXT,),
    'deny contains {"a": {"b": input.action.properties.statement.text}}': (TEXT,),
    'import input.action.properties as p\n\ndeny contains 1 if p.postgres.kind == "x"': STATEMENT_PATHS,
    'import input.subject as who\n\ndeny contains 1 if who.id == "x"': (),
    "deny contains 1 if data.checkrein.decision.result with input as {}": STATEMENT_PATHS,
}


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


def test_a_reference_is_found_however_it_is_written(parse):
    cases = CASES
    parsed = parse({case: f"package policies.x\n\n{case}\n" for case in cases})
    found = {
        case: tuple(path for path in STATEMENT_PATHS if path in module_reads(parsed[case]).paths) for case in cases
    }
    assert found == cases


def test_what_a_policy_looks_into_counts():
    modules = {
        "quiet": [Reads(frozenset(), frozenset())],
        "reader": [Reads(frozenset({TEXT}), frozenset())],
        "friend": [Reads(frozenset(), frozenset({"reader", "friend"}))],
        "curious": [Reads(frozenset(), None)],
    }
    assert policy_paths(["quiet"], modules) == ()
    assert policy_paths(["friend"], modules) == (TEXT,)
    assert policy_paths(["curious"], modules) == (TEXT,)
    assert policy_paths(["unknown"], modules) == STATEMENT_PATHS


def test_a_policy_that_looks_anywhere_is_found(parse):
    texts = {
        "named": "package policies.x\n\nallow contains 1 if data.policies.y.allow",
        "any": "package policies.x\n\nallow contains 1 if { some n; data.policies[n].allow }",
        "all": "package policies.x\n\nallow contains 1 if walk(data, [_, 1])",
    }
    found = {name: module_reads(ast).policies for name, ast in parse(texts).items()}
    assert found == {"named": frozenset({"y"}), "any": None, "all": None}


def test_the_library_reads_nothing_of_the_statement(parse):
    texts = {
        str(path): path.read_text()
        for path in sorted((library_dir() / "checkrein").rglob("*.rego"))
        if not path.name.endswith("_test.rego") and path.parent.name != "testing"
    }
    read = {name: module_reads(ast).paths for name, ast in parse(texts).items()}
    assert {name for name, paths in read.items() if paths} == set()
