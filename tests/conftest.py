"""Loads the fixtures: one plug-in per concern, each in a `fix_<concern>.py` beside this file."""

from pathlib import Path

import pytest

pytest_plugins = sorted(f"tests.{path.stem}" for path in Path(__file__).parent.glob("fix_*.py"))

# They import one another, and a module that is imported before it is registered would not be rewritten.
pytest.register_assert_rewrite(*pytest_plugins)
