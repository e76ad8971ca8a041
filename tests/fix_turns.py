"""Tests that measure how long something takes do so while no other worker of the run works.

`@pytest.mark.alone` says so of a test: it begins when every other worker is between two tests, and they go on after it.
Where the run has no workers, tests are alone anyway. Waiting is no part of a test's time.
"""

import fcntl
import os
import tempfile
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def _turn(folder: Path, how: int) -> Iterator[None]:
    """Who waits for the room stands in the door: whoever comes later cannot go before."""
    door, room = (os.open(folder / name, os.O_RDWR | os.O_CREAT, 0o600) for name in ("door", "room"))
    try:
        fcntl.flock(door, fcntl.LOCK_EX)
        fcntl.flock(room, how)
        fcntl.flock(door, fcntl.LOCK_UN)
        yield
    finally:
        # Said rather than left to closing: a child may have the same file open.
        fcntl.flock(room, fcntl.LOCK_UN)
        os.close(door)
        os.close(room)


def pytest_configure(config: pytest.Config) -> None:
    workers = getattr(config, "workerinput", None)
    if workers is not None:
        config.pluginmanager.register(_Turns(Path(workers["turns"])), "turns")


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: object) -> None:
    """In the process that gives the workers their tests: they meet in a folder of it."""
    config: pytest.Config = node.config  # type: ignore[attr-defined]
    folder = config.stash.get(_FOLDER, None)
    if folder is None:
        folder = config.stash[_FOLDER] = tempfile.TemporaryDirectory(prefix="cr-turns-", dir="/tmp")
        config.add_cleanup(folder.cleanup)
    node.workerinput["turns"] = folder.name  # type: ignore[attr-defined]


_FOLDER: pytest.StashKey["tempfile.TemporaryDirectory[str]"] = pytest.StashKey()


class _Turns:
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    # Outside of everything else, the limit of a test's time included.
    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        alone = item.get_closest_marker("alone") is not None
        with _turn(self._folder, fcntl.LOCK_EX if alone else fcntl.LOCK_SH):
            return (yield)
