"""The command `pdp`: what people and scripts do with the decision service.

Exit statuses: 0 done; 1 something is wrong, and the output says what; 2 the command line is wrong; 3 the decision
service does not answer; 4 it does not permit this to the caller; 5 there is no such thing, or it is over. `pdp up` ends
with the status of the child that ended first. Interrupted: 130.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from pdp.commands import (
    approvals,
    check,
    decisions,
    login,
    policies,
    records,
    revocations,
    runs,
    serve,
    sessions,
    status,
    store,
    tokens,
)
from pdp.commands.failure import Failure, Status
from pdp.opa.program import OpaFailed, OpaMissing
from pdp.policies.problems import PolicyError
from pdp.shown import shown
from pdp.v1.strict_yaml import ConfigError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help=(
        "The decision service: policies, approvals, records.\n\n"
        "Commands that act speak to the running service with your own token: --token-file, --token or $PDP_TOKEN.\n\n"
        "Exit status: 0 done, 1 something is wrong and is said, 2 usage, 3 the service does not answer, 4 it does not"
        " permit this, 5 no such thing or too late."
    ),
    epilog="Begin with: pdp check -c checkrein.yaml, then: pdp up -c checkrein.yaml",
)
app.command("serve", short_help="Run the decision service.", epilog="Example: pdp serve -c checkrein.yaml")(serve.serve)
app.command(
    "up", short_help="Run it together with every proxy of the file.", epilog="Example: pdp up -c checkrein.yaml"
)(serve.up)
app.command(
    "check", short_help="Say what is wrong with an installation.", epilog="Example: pdp check -c checkrein.yaml"
)(check.check)
app.command(
    "status",
    short_help="Say what is in force and what is wrong.",
    epilog="Example, in a script that starts the service: pdp status --wait --timeout 60s",
)(status.status)
app.command("token", short_help="Make a token for an agent or a person.", epilog=tokens.TOKEN_EXAMPLE)(tokens.token)
app.command("login", short_help="Sign in with your own issuer.", epilog="Example: pdp login")(login.login)
app.command("logout", short_help="Forget the token of the sign-in.", epilog="Example: pdp logout")(login.logout)
app.command("whoami", short_help="Say whom the service takes you for.", epilog="Example: pdp whoami")(login.whoami)
app.add_typer(tokens.certificates, name="certificate")
app.add_typer(approvals.app, name="approvals")
app.add_typer(sessions.app, name="sessions")
app.add_typer(decisions.app, name="decisions")
app.add_typer(records.app, name="records")
app.add_typer(runs.app, name="runs")
app.add_typer(policies.app, name="policy")
app.add_typer(store.app, name="store")
app.command(
    "revoke",
    short_help="Let a subject, key, token, certificate or proxy in no more.",
    epilog=revocations.REVOKE_EXAMPLE,
)(revocations.revoke)
app.command("restore", short_help="Take a revocation back.", epilog="Example: pdp restore subject user:ana")(
    revocations.restore
)
app.command("revocations", short_help="List what is revoked.", epilog="Example: pdp revocations")(
    revocations.revocations
)
app.add_typer(revocations.keys, name="keys")


@app.callback()
def _options(
    version: Annotated[bool, typer.Option("--version", help="Print the version.", is_eager=True)] = False,
) -> None:
    if version:
        from importlib.metadata import version as installed

        typer.echo(installed("checkrein"))
        raise typer.Exit


def main() -> None:
    """The console script. Every error that people can do something about is said in words; others keep their trace."""
    for stream in (sys.stdout, sys.stderr):
        # A terminal that cannot show a character must not end the command.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        app(prog_name="pdp")
    except Failure as failure:
        _say(str(failure))
        sys.exit(failure.status)
    except (ConfigError, OpaMissing, OpaFailed, PolicyError) as error:
        _say(_each(str(error)))
        sys.exit(Status.WRONG)
    except BrokenPipeError:
        # Whoever read the output has seen enough. What is still buffered has nowhere to go.
        sys.stdout = None
        sys.exit(Status.OK)


def _each(problems: str) -> str:
    return "\n".join(shown(problem) for problem in problems.splitlines())


def _say(text: str) -> None:
    sys.stderr.write(f"pdp: {text}\n")
