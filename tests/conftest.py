"""Loads the fixtures: one plug-in per concern, each in a `fix_<concern>.py` beside this file."""

from pathlib import Path

pytest_plugins = sorted(f"tests.{path.stem}" for path in Path(__file__).parent.glob("fix_*.py"))
