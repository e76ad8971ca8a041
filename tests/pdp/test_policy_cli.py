"""`pdp policy` on real files with a real OPA: what it says, and the status it ends with."""

import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from pdp.policy_cli import app
from tests.fix_policies import GUARD, Repository, connect

Run = Callable[..., Any]  # a result of the runner


@pytest.fixture
def run(opa_path: Path) -> Run:
    return lambda *arguments: CliRunner().invoke(app, [*map(str, arguments), "--opa", str(opa_path)])


@pytest.fixture
def tested(repository: Repository) -> Repository:
    repository.write(
        "policies/guard/guard_test.rego",
        """
        package guard_test

        import data.policies.guard

        test_bad_is_denied if count(guard.deny) == 1 with input.subject.id as "bad"
        """,
    )
    return repository


def test_tests_run_and_are_named_when_asked(run: Run, tested: Repository):
    done = run("test", tested.root)
    assert (done.exit_code, done.stdout) == (0, "PASS: 1/1\n")
    assert "test_bad_is_denied: PASS" in run("test", tested.root, "-v").stdout


def test_a_test_that_fails_is_an_exit_status(run: Run, tested: Repository):
    tested.write("policies/guard/guard.rego", "package policies.guard\n")
    done = run("test", tested.root)
    assert done.exit_code == 1


def test_check_says_where_it_is_wrong(run: Run, tested: Repository):
    assert run("check", tested.root).stdout == f"{tested.root}: 2 policies, 1 with tests: in order\n"
    broken = tested.write("policies/guard/guard.rego", "package policies.guard\n\ndeny if input.subject.id\n")
    done = run("check", tested.root)
    assert done.exit_code == 1
    assert f"{broken}:3: deny must be a set: write `deny contains {{...}} if {{...}}`\n" in done.stderr


def test_build_writes_the_bundle_for_the_configured_resources(run: Run, tested: Repository, tmp_path: Path):
    output = tmp_path / "bundle.tar.gz"
    config = tmp_path / "checkrein.yaml"
    folder = json.dumps(str(tested.root))
    config.write_text(
        f"version: 1\nstate: state\npdp:\n  listen: unix:pdp.sock\n  policies: {{dir: {folder}}}\n"
        "  resources: {shop: {type: postgres, labels: {env: prod}}}\n"
        "  identity: {issuers: [{name: checkrein, self: true}]}\n"
    )
    done = run("build", tested.root, "-o", output, "-c", config)
    assert done.exit_code == 0, done.output
    with tarfile.open(output) as archive:
        data = json.loads(archive.extractfile("data.json").read())
    assert data["bindings"].keys() == {"checkrein", "shop"}
    assert done.stdout == f"{output}: {data['checkrein']['built']['revision']}\n"


def test_absent_finds_a_deny_on_a_field_that_may_be_missing(run: Run, tested: Repository):
    document = connect("bad")
    document["context"]["labels"] = {"application_name": "psql"}
    tested.write("examples/bad.json", json.dumps({"bad-connects": {"input": document, "expected": {}}}))
    tested.write("policies/open/open.rego", 'package policies.open\n\nallow contains {"code": "all"}\n')
    tested.write("policies/guard/guard.rego", GUARD.replace("input.subject.id", "input.context.labels.application_name")
                 .replace('"bad"', '"psql"'))  # fmt: skip
    tested.write("policies/guard/guard_test.rego", "package guard_test\n")
    done = run("check", tested.root, "--absent")
    assert done.exit_code == 1
    assert "bad-connects: deny becomes allow: context.labels.application_name absent" in done.stderr
    assert "bad-connects: deny becomes allow: context.labels.application_name null" in done.stderr


def test_absent_finds_a_deny_with_a_value_in_its_head_that_may_be_missing(run: Run, tested: Repository):
    document = connect("bad")
    document["context"]["labels"] = {"application_name": "psql"}
    tested.write("examples/bad.json", json.dumps({"bad-connects": {"input": document, "expected": {}}}))
    tested.write("policies/open/open.rego", 'package policies.open\n\nallow contains {"code": "all"}\n')
    message = 'sprintf("Not with %s.", [input.context.labels.application_name])'
    tested.write("policies/guard/guard.rego", GUARD.replace('"Not this one."', message))
    tested.write("policies/guard/guard_test.rego", "package guard_test\n")
    done = run("check", tested.root, "--absent")
    assert done.exit_code == 1
    assert "bad-connects: deny becomes allow: context.labels.application_name absent" in done.stderr


def test_absent_is_satisfied_with_a_policy_that_allows_only_what_it_sees(run: Run, tested: Repository):
    tested.write("examples/good.json", json.dumps({"agent-connects": {"input": connect(), "expected": {}}}))
    done = run("test", tested.root, "--absent")
    assert done.exit_code == 0, done.output
    assert ": none weaker" in done.stdout
    assert "1 examples" in done.stdout


def test_absent_without_examples_proves_nothing_and_says_so(run: Run, tested: Repository):
    done = run("check", tested.root, "--absent")
    assert done.exit_code == 1
    assert "there are no examples" in done.stderr


def test_a_missing_opa_is_named(tested: Repository, tmp_path: Path):
    done = CliRunner().invoke(app, ["check", str(tested.root), "--opa", str(tmp_path / "no-opa")])
    assert done.exit_code == 1
    assert "no-opa: not a program" in done.stderr
