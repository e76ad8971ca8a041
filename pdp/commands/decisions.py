"""`pdp decisions`: what was decided, and why."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterable, Iterator
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.text import Text

from pdp.commands.connection import Connection, acting
from pdp.commands.screen import VERDICT_STYLES, VERDICT_WORDS, clock, console, facts, line, show, table
from pdp.shown import shown
from pdp.v1 import policy_service_pb2 as pb

app = typer.Typer(no_args_is_help=True, help="See what was decided, and why.")

_GRANTS: Final = ("allow", "exempt")


@app.command("list", epilog="Example: pdp decisions list --verdict deny --policy no_ddl")
@acting
async def list_(
    connection: Connection,
    session: Annotated[str, typer.Option(metavar="ID", help="Only of this session.")] = "",
    verdict: Annotated[str, typer.Option(metavar="WORD", help="allow, mask, require_approval, deny, incomplete.")] = "",
    policy: Annotated[str, typer.Option(metavar="NAME", help="Only those to which it gave a reason.")] = "",
    subject: Annotated[str, typer.Option(metavar="TYPE:ID", help="Only of this subject.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=1000, help="At most so many.")] = 50,
) -> None:
    """List the decisions that are kept, newest first."""
    request = pb.ListDecisionsRequest(limit=limit, session_id=session, verdict=verdict, policy=policy, subject=subject)
    answer = await connection.policies("ListDecisions", request, action="decisions.read")
    screen = console()
    if not answer.decisions:
        line(screen, "no decisions")
        return
    headings = ("ID", "TIME", "VERDICT", "WHO", "ACTION", "ON", "POLICIES", "SESSION")
    rows = (
        (
            shown(each.decision_id),
            clock(each.at.ToDatetime(datetime.UTC)),
            _verdict(each.verdict),
            shown(each.subject),
            shown(each.action),
            shown(each.resource),
            shown(", ".join(each.policies)),
            shown(each.session_id),
        )
        for each in answer.decisions
    )
    show(screen, table(headings, rows))


@app.command(epilog="Example: pdp decisions explain d-7vk4\n\nWith every step: pdp decisions explain d-7vk4 --trace")
@acting
async def explain(
    connection: Connection,
    id: Annotated[str, typer.Argument(metavar="ID", help="The decision's id, or the beginning of it.")],
    trace: Annotated[bool, typer.Option("--trace", help="Print every step of the evaluation too.")] = False,
    input: Annotated[bool, typer.Option("--input", help="Print what was asked too.")] = False,
) -> None:
    """Say why a decision was as it was: taken again, with the policies and the input that it was taken with.

    Nothing is decided by this. That somebody asked is on record.
    """
    request = pb.ExplainDecisionRequest(decision_id=id, trace=trace)
    answer = await connection.policies("ExplainDecision", request, action="decisions.explain")
    screen = console()
    show(screen, facts(_pairs(answer)))
    given = json.loads(answer.answer_json)
    if answer.not_repeated:
        line(screen, f"It was not taken again: {shown(answer.not_repeated)}.", "yellow")
        for reason in given.get("reasons", []):
            line(screen, f"  {shown(str(reason.get('policy') or 'the service'))}: {shown(str(reason.get('code', '')))}")
        return
    again = json.loads(answer.again_json)
    if answer.same:
        line(screen, "Taken again with the same policies and the same input, it is the same.", "green")
    else:
        line(screen, "Taken again with the same policies and the same input, it is NOT the same:", "bold red")
        line(screen, shown(json.dumps(again, indent=2, sort_keys=True), limit=None, gutter="  "))
    _contributed(screen, answer.contributed)
    _missing(screen, given, answer.missed)
    if input:
        line(screen, "What was asked", "bold")
        document = json.dumps(json.loads(answer.input_json), indent=2, ensure_ascii=False)
        line(screen, shown(document, limit=None, gutter="  "))
    if trace:
        line(screen, "Trace", "bold")
        line(screen, shown(answer.trace, limit=None, gutter="  "))


def _pairs(answer: pb.ExplainDecisionResponse) -> Iterator[tuple[str, str | Text]]:
    decision = answer.decision
    yield "Decision", shown(decision.decision_id)
    yield "Verdict", _verdict(decision.verdict)
    yield "Who", shown(decision.subject or "nobody who was authenticated")
    yield "What", f"{shown(decision.action)} on {shown(decision.resource)}"
    yield "When", clock(decision.at.ToDatetime(datetime.UTC))
    if decision.session_id:
        yield "Session", shown(decision.session_id)
    yield "Policies", shown(decision.revision or "none were in force")
    for reason in json.loads(answer.answer_json).get("reasons", []):
        said = f": {shown(str(reason['message']))}" if reason.get("message") else ""
        yield "Reason", f"{shown(str(reason.get('policy') or 'checkrein'))} {shown(str(reason.get('code', '')))}{said}"


def _contributed(screen: Console, rules: Iterable[pb.RuleReached]) -> None:
    line(screen, "What contributed", "bold")
    rows = [("", _kind(each), _place(each.file, each.line)) for each in rules]
    if rows:
        show(screen, table(("", "", ""), rows, whole=3))
    else:
        line(screen, "  no rule of any policy")


def _missing(screen: Console, given: dict[str, Any], rules: Iterable[pb.RuleReached]) -> None:
    """Of a denial the rules that would have allowed; of what was granted the rules that would have narrowed it."""
    granted = given.get("verdict") in ("allow", "mask", "require_approval")
    told = [each for each in rules if (each.kind in _GRANTS) != granted and each.kind != "hint"]
    if not told:
        return
    line(screen, "What did not apply, and where it stopped" if granted else "What was missing", "bold")
    for each in told:
        line(screen, f"  {_kind(each)}  {_place(each.file, each.line)}")
        for depth, condition in enumerate(each.stopped_at):
            line(screen, f"    {'  ' * depth}{_place(condition.file, condition.line)}  {shown(condition.text)}", "dim")


def _kind(rule: pb.RuleReached) -> str:
    return f"{shown(rule.policy)} {shown(rule.kind)}{f' {shown(rule.code)}' if rule.code else ''}"


def _place(file: str, number: int) -> str:
    return f"{shown(file)}:{number}"


def _verdict(name: str) -> Text:
    return Text(VERDICT_WORDS.get(name) or shown(name), VERDICT_STYLES.get(name, ""))
