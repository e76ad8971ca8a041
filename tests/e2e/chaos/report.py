"""What a trial says for people: the last section of docs/chaos.md, which each long run writes anew."""

import datetime
from collections.abc import Iterator
from pathlib import Path

from tests.e2e.chaos.told import Outcome
from tests.e2e.chaos.trial import Report

HEADING = "## The last long run"
_SHOWN = 20


def write(report: Report, path: Path) -> None:
    """Replaces the section of the file, which has to have one."""
    before, heading, _ = path.read_text("utf-8").partition(HEADING)
    assert heading, f"{path} has no section {HEADING!r}"
    path.write_text(before + "\n".join(_lines(report)) + "\n", "utf-8")


def _lines(report: Report) -> Iterator[str]:
    yield HEADING
    yield ""
    today = datetime.datetime.now(datetime.UTC).date()
    yield f"{today}, `make chaos MINUTES={report.minutes:g} SEED={report.seed}`:"
    yield ""
    yield f"- {sum(report.faults.values())} faults; {sum(report.outcomes.values()):,} statements and requests,"
    yield f"  {report.executed:,} of them executed by the targets' own logs; {report.recorded:,} intents on record."
    yield f"- Logins: {', '.join(f'{count:,} {how}' for how, count in sorted(report.logins.items()))}."
    yield f"  Answers of people: {report.answers:,}. Sessions that lived through the end of the faults and went on:"
    yield f"  {report.survivors}."
    yield f"- Of the time that passed the machine gave {report.share:.0%}."
    yield f"- `pdp records verify`: {' '.join(report.chains.split())}"
    yield f"- Disagreements: {len(report.wrong) or 'none'}."
    yield ""
    yield "| fault | times |"
    yield "|---|---|"
    for name, times in sorted(report.faults.items()):
        yield f"| {name} | {times} |"
    yield ""
    columns = list(Outcome)
    yield "| what | " + " | ".join(columns) + " |"
    yield "|---|" + "---|" * len(columns)
    for protocol, kind in sorted({(protocol, kind) for protocol, kind, _ in report.outcomes}):
        counts = [f"{report.outcomes[protocol, kind, str(each)]:,}" for each in columns]
        yield f"| {protocol}: {kind} | " + " | ".join(counts) + " |"
    if report.wrong:
        yield ""
        yield "```"
        yield from report.wrong[:_SHOWN]
        yield "```"
