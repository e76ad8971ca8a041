"""The policy and the test in the library's own page do what the page says."""

import re
from pathlib import Path

from .conftest import REGO, Opa


def test_the_policy_in_the_page(opa: Opa, tmp_path: Path) -> None:
    policy, test = re.findall(r"```rego\n(.*?)```", (REGO / "README.md").read_text(), re.DOTALL)
    (tmp_path / "office_writes.rego").write_text(policy)
    (tmp_path / "office_writes_test.rego").write_text(test)
    said = opa("test", "-v", "--run", "office_writes", str(REGO), str(tmp_path))
    assert "test_on_a_sunday: PASS" in said


def test_every_test_that_the_page_names_is_there() -> None:
    named = set(re.findall(r"`(test_\w+)`", (REGO / "README.md").read_text()))
    assert len(named) > 30
    tests = REGO.parent / "tests"
    files = [*REGO.rglob("*_test.rego"), *(tests / "rego").rglob("test_*.py"), *(tests / "pdp").rglob("test_*.py")]
    there = {
        name
        for file in files
        for name in re.findall(r"^(?:async )?(?:def )?(test_\w+)", file.read_text(), re.MULTILINE)
    }
    assert named - there == set()


def test_every_policy_is_in_the_page_and_bound() -> None:
    page = (REGO / "README.md").read_text()
    bindings = (REGO / "bindings" / "data.yaml").read_text()
    for folder in (REGO / "policies").iterdir():
        assert f"| `{folder.name}` |" in page
        assert f"policy: {folder.name}," in bindings
