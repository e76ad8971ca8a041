"""Whatever dies, stops, is slow, full or cut off: the ledgers of clients, records and targets agree.

For the long run, `make chaos`, the environment says `CHAOS_MINUTES`, `CHAOS_SEED` and `CHAOS_REPORT`, a file whose last
section is written anew. docs/chaos.md says what is done and what is checked.
"""

import os
from pathlib import Path

import pytest

from tests.e2e.chaos import report as reports
from tests.e2e.chaos.trial import run, seed_of
from tests.fix_postgres import PostgresServer

MINUTES = float(os.environ.get("CHAOS_MINUTES", "2"))
REPORT = os.environ.get("CHAOS_REPORT", "")
_SHOWN = 20


@pytest.mark.chaos
@pytest.mark.timeout(MINUTES * 60 + 1200)
def test_the_three_ledgers_agree(postgres18: PostgresServer, opa_path: Path, tmp_path: Path):
    seed = seed_of(os.environ.get("CHAOS_SEED", ""))
    # A disk of its own for the spool is mounted only where somebody asked for the run.
    report = run(postgres18, opa_path, tmp_path, seed, MINUTES * 60, disk="CHAOS_MINUTES" in os.environ)
    print(f"{report.summary()}; the same schedule: make chaos MINUTES={MINUTES:g} SEED={seed}")  # noqa: T201
    print(*report.schedule, sep="\n")  # noqa: T201
    if REPORT:
        reports.write(report, Path(REPORT))
    (tmp_path / "disagreements").write_text("\n\n".join(report.wrong))
    assert report.outcomes
    assert report.executed
    shown = "\n\n".join(report.wrong[:_SHOWN])
    assert not report.wrong, f"seed {seed}: {len(report.wrong)} disagreements; logs in {tmp_path}\n{shown}"
