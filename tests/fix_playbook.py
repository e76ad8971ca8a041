"""A playbook that nobody asserted would hide what its session did at the end."""

from collections.abc import Iterator

import pytest

from tests.playbook import Playbook


@pytest.fixture(autouse=True)
def every_playbook_is_asserted() -> Iterator[None]:
    Playbook.unfinished.clear()
    yield
    unfinished, Playbook.unfinished[:] = list(Playbook.unfinished), []
    assert not unfinished, "a playbook was not asserted: write `assert (Playbook(...) >> ... << ...)`"
