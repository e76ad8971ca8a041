"""Takes each check at the doors away, one at a time, and sees that a test misses it. A developers' tool: `make doors`.

Each mutation is a text of one file that is replaced in a copy of the tree, and the test that has to fail then, which
passes in the copy as it is. A check that nobody would miss is found like that, and so is a test that holds nothing.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.doors.checks import MUTATIONS as SERVICE_MUTATIONS
from tests.doors.checks import Mutation
from tests.doors.proxy_checks import PROXY_MUTATIONS

ROOT = Path(__file__).parents[2]
TREES = ("pdp", "pep", "rego", "tests", "pyproject.toml")
MUTATIONS = (*SERVICE_MUTATIONS, *PROXY_MUTATIONS)


def survives(mutation: Mutation, tree: Path) -> str:
    """Why the check is not held by its test, or ""."""
    file = tree / mutation.file
    text = file.read_text("utf-8")
    if (found := text.count(mutation.old)) != 1:
        return f"the text stands {found} times in {mutation.file}"
    file.write_text(text.replace(mutation.old, mutation.new), "utf-8")
    try:
        ran = _run(tree, [mutation.test])
        # 1: tests failed. A file that is no Python any more, or a test that is not there, says nothing.
        return "" if ran.returncode == 1 else f"the test passes (status {ran.returncode})\n{ran.stdout[-600:]}"
    finally:
        file.write_text(text, "utf-8")


def _run(tree: Path, tests: Sequence[str]) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-o", "timeout=60", *tests]
    return subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, check=False)


def table() -> str:
    """Every check: what holds, where it stands, and the test that fails without it."""
    rows = (f"| {each.line} | `{each.file}` | `{each.test.removeprefix('tests/')}` |\n" for each in MUTATIONS)
    return "".join(("| what holds | where | the test that fails without it |\n|---|---|---|\n", *rows))


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("words", nargs="*", help="only mutations whose line has one of these words")
    options.add_argument("--table", action="store_true", help="only print the table of docs/doors.md")
    asked = options.parse_args()
    if asked.table:
        sys.stdout.write(table())
        return 0
    words: list[str] = asked.words
    chosen = [each for each in MUTATIONS if not words or any(word in each.line for word in words)]
    failed = 0
    with tempfile.TemporaryDirectory(prefix="doors-") as folder:
        tree = Path(folder)
        for each in TREES:
            source = ROOT / each
            (shutil.copytree if source.is_dir() else shutil.copy)(source, tree / each)
        for mutation in chosen:
            why = survives(mutation, tree)
            failed += bool(why)
            sys.stdout.write(f"{'NOT HELD' if why else 'held    '}  {mutation.line}  {why}\n")
            sys.stdout.flush()
    sys.stdout.write(f"{len(chosen) - failed} of {len(chosen)} checks are held by their tests\n")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
