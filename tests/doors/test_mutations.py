"""The tool that takes checks away finds each of them, and its test. That the test then fails, `make doors` sees."""

import pytest

from tests.doors.mutations import MUTATIONS, ROOT, Mutation, table
from tests.syntax import parse


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda each: each.line)
def test_the_check_and_its_test_are_there(mutation: Mutation):
    text = (ROOT / mutation.file).read_text("utf-8")
    assert text.count(mutation.old) == 1
    parse(text.replace(mutation.old, mutation.new))
    file, _, name = mutation.test.partition("::")
    assert f"def {name}(" in (ROOT / file).read_text("utf-8")


def test_the_page_has_each_of_them():
    assert (ROOT / "docs" / "doors.md").read_text("utf-8").endswith(table())
