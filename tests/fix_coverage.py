"""Where coverage is measured, some tests run without: tracing makes Python about twice as slow.

Those are the tests that measure time (`alone`), and those that run the same lines thousands of times (`untraced`).
"""

from collections.abc import Generator

import coverage
import pytest


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    measured = coverage.Coverage.current()
    if measured is None or not any(map(item.get_closest_marker, ("alone", "untraced"))):
        return (yield)
    measured.stop()
    try:
        return (yield)
    finally:
        measured.start()
