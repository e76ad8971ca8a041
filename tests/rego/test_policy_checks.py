"""The library under OPA's own checks: tests, coverage, format, types by the input schema."""

import json
from pathlib import Path

import pytest

from .conftest import REGO, Opa


def test_every_test_passes_and_every_line_is_covered(opa: Opa) -> None:
    opa("test", str(REGO))
    report = json.loads(opa("test", "--coverage", str(REGO)))
    uncovered = {Path(name).name: rows for name, file in report["files"].items() if (rows := file.get("not_covered"))}
    assert uncovered == {}


def test_format(opa: Opa) -> None:
    assert opa("fmt", "--list", str(REGO)) == ""


@pytest.mark.parametrize("schema", ["schemas", "schemas/input.json"])
def test_strict_and_typed_by_the_input_schema(opa: Opa, schema: str) -> None:
    opa("check", "--strict", "--schema", str(REGO / schema), str(REGO))


def test_a_misspelt_field_is_an_error_that_names_the_right_one(opa_path: Path, tmp_path: Path) -> None:
    import subprocess

    policy = tmp_path / "p.rego"
    policy.write_text(
        'package policies.p\n\ndeny contains {"code": "x"} if input.action.properties.postgres.kindd == "a"\n'
    )
    done = subprocess.run(
        [str(opa_path), "check", "--schema", str(REGO / "schemas" / "input.json"), str(policy)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert "kindd" in done.stderr
    assert '"kind"' in done.stderr


def test_a_policy_and_its_folder_have_one_name() -> None:
    for path in (REGO / "policies").glob("*/*.rego"):
        name = path.stem.removesuffix("_test")
        assert path.parent.name == name
        package = f"{name}_test" if path.stem.endswith("_test") else f"policies.{name}"
        assert f"\npackage {package}\n" in "\n" + path.read_text(), path
    for path in (REGO / "policies").iterdir():
        assert (path / f"{path.name}_test.rego").is_file(), f"{path.name} has no test"
