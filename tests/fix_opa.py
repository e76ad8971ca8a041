"""The real Open Policy Agent."""

import subprocess
import sys
from pathlib import Path

import pytest

SETUP = Path(__file__).parent.parent / "deploy" / "tools" / "setup"


@pytest.fixture(scope="session")
def opa_path() -> Path:
    """The program that `deploy/tools/setup` finds. Not having it is a failure: run `make test`, which obtains it."""
    found = subprocess.run([sys.executable, str(SETUP), "find", "opa"], capture_output=True, text=True, check=False)
    if found.returncode != 0:
        pytest.fail(f"OPA is missing; `make test` obtains it.\n{found.stderr}", pytrace=False)
    return Path(found.stdout.strip())
