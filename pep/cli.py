"""The command `pep`: serve the proxies of a configuration file, or check that they could be served."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, NoReturn, TextIO, TypeVar, cast

import structlog
import typer
import uvloop

from pdp.v1.log_output import LogOutput
from pdp.v1.strict_yaml import ConfigError
from pep.core import config as configuration
from pep.core import serve as core
from pep.core.check import Finding, check_proxy
from pep.protocols import MODELS, server_of

T = TypeVar("T")

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Enforcement proxies: each stands before one target and lets through what the decision service allows.",
)

ConfigFile = Annotated[
    Path, typer.Option("--config", "-c", metavar="FILE", help="The configuration file (YAML); its proxies: are read.")
]
Only = Annotated[str | None, typer.Option("--only", metavar="NAME", help="Only the proxy of this name, not all.")]


@app.command(epilog="Example: pep serve -c checkrein.yaml --only shop")
def serve(config: ConfigFile, only: Only = None) -> None:
    """Serve the proxies of FILE until interrupted; sessions then get shutdown.drain to end by themselves.

    Without a decision service the proxies listen all the same, and refuse each login with the reason.
    """
    read = _or_exit(lambda: configuration.read(config, MODELS, only))
    log_to_stderr(read.log)
    try:
        uvloop.run(core.serve(read, server_of))
    except ConfigError as error:
        _fail(error)


@app.command(epilog="Example: pep check -c checkrein.yaml")
def check(config: ConfigFile, only: Only = None) -> None:
    """Say what is wrong with FILE: its shape, certificates, secrets, and whether what it names can be reached.

    The exit status is 1 if anything is wrong. Nothing is listened on, and no secret is shown.
    """
    read = _or_exit(lambda: configuration.read(config, MODELS, only))
    wrong = False
    for proxy in read.proxies:
        for finding in asyncio.run(check_proxy(read, proxy)):
            wrong = wrong or not finding.good
            typer.echo(_line(proxy.name, finding))
    if wrong:
        raise typer.Exit(1)


def log_to_stderr(log: configuration.Log) -> None:
    """Structured lines on standard error; what is logged holds no secret and no value of a command."""
    renderer = (
        structlog.processors.JSONRenderer()
        if log.format == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[log.level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(cast(TextIO, LogOutput(sys.stderr))),
        cache_logger_on_first_use=True,
    )


def main() -> None:
    app(prog_name="pep")


def _or_exit(work: Callable[[], T]) -> T:
    try:
        return work()
    except ConfigError as error:
        _fail(error)


def _fail(error: ConfigError) -> NoReturn:
    typer.echo(str(error), err=True)
    raise typer.Exit(1)


def _line(name: str, finding: Finding) -> str:
    return f"{name}: {'ok   ' if finding.good else 'WRONG'} {finding.what}"
