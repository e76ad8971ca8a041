"""Whatever dies, stops, is slow, full or cut off: the ledgers of clients, records and targets agree.

In every run of the tests, a short while of faults in which each kind of them comes at least once; the environment's
`CHAOS_SEED` gives another order of them than the usual one, or that of a run before. `make chaos` is the long run:
there the environment says `CHAOS_MINUTES`, `CHAOS_SEED` and `CHAOS_REPORT`, a file whose last section is written anew.
docs/chaos.md says what is done and what is checked.
"""

import os
import random
from pathlib import Path

import pytest

from tests.e2e.chaos import report as reports
from tests.e2e.chaos.trial import Report, run
from tests.fix_postgres import PostgresServer

MINUTES = float(os.environ.get("CHAOS_MINUTES", "30"))
REPORT = os.environ.get("CHAOS_REPORT", "")
SEED = os.environ.get("CHAOS_SEED", "")
# Each run of the tests has the same order of faults, unless somebody asks for another.
USUAL = 20
_SHORT = 90.0
_SHOWN = 20


# For itself, because it makes a machine busier than other tests should have to bear.
@pytest.mark.alone
@pytest.mark.timeout(3600)
def test_the_three_ledgers_agree_after_each_kind_of_fault(postgres18: PostgresServer, opa_path: Path, tmp_path: Path):
    seed = int(SEED) if SEED.isdigit() else USUAL
    report = run(postgres18, opa_path, tmp_path, seed, _SHORT, disk=False)
    print(*report.schedule, sep="\n")  # noqa: T201
    print(f"{report.summary()}; the same schedule: CHAOS_SEED={seed}")  # noqa: T201
    assert not report.owed, f"seed {seed}: no time was left for these"
    _agree(report, tmp_path)


@pytest.mark.chaos
@pytest.mark.timeout(MINUTES * 60 + 3600)
def test_the_three_ledgers_agree_after_a_long_while(postgres18: PostgresServer, opa_path: Path, tmp_path: Path):
    seed = int(SEED) if SEED.isdigit() else random.SystemRandom().randrange(1 << 32)
    # A disk of its own for the spool is mounted only where somebody asked for the run.
    report = run(postgres18, opa_path, tmp_path, seed, MINUTES * 60, disk=True)
    print(f"{report.summary()}; the same schedule: make chaos MINUTES={MINUTES:g} SEED={seed}")  # noqa: T201
    print(*report.schedule, sep="\n")  # noqa: T201
    if REPORT:
        reports.write(report, Path(REPORT))
    _agree(report, tmp_path)


def _agree(report: Report, folder: Path) -> None:
    (folder / "disagreements").write_text("\n\n".join(report.wrong))
    assert report.outcomes
    assert report.executed
    shown = "\n\n".join(report.wrong[:_SHOWN])
    assert not report.wrong, f"seed {report.seed}: {len(report.wrong)} disagreements; logs in {folder}\n{shown}"
