"""`pdp check`: everything that can be wrong with an installation, looked at without starting it.

One line for each thing, `ok`, `WRONG` or `note`, and where. What belongs to the proxies is checked by `pep check`, run
as a child, since the decision service knows nothing of them. Nothing is made or changed, and no secret is shown.
"""

from __future__ import annotations

import asyncio
import datetime
import re
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import structlog
import typer
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from rich.text import Text

from pdp.certificates import proxy_uri
from pdp.commands.connection import DEFAULT_CONFIG, ConfigFile, Reach, connected
from pdp.commands.failure import Failure, Status
from pdp.commands.screen import console, line, span
from pdp.config import ADMINISTRATION, Config, load_config
from pdp.input import Resource
from pdp.opa.program import OpaFailed, OpaMissing, find_opa
from pdp.policies.checks import Checks
from pdp.policies.problems import PolicyError
from pdp.policies.repository import Files, PolicyRepository
from pdp.shown import shown
from pdp.v1.strict_yaml import ConfigError

_SOON: Final = datetime.timedelta(days=14)
_PROXIES_SECONDS: Final = 60.0
# How `pep check` writes a finding.
_PROXY_LINE: Final = re.compile(r"(?P<proxy>[^\s:]+): (?P<state>ok   |WRONG) (?P<what>.*)")
_STYLES: Final = {"ok": "green", "WRONG": "bold red", "note": "yellow"}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at; the texts may be foreign."""

    state: Literal["ok", "WRONG", "note"]
    what: str
    text: str = ""


def check(config: ConfigFile = DEFAULT_CONFIG) -> None:
    """Say what is wrong with a configuration and what it names, and where; the exit status is 1 if anything is.

    Looked at are the file itself, the state folder, OPA, the policies with their tests and bindings, certificates, the
    proxies' sections and secrets, and whether the decision service and the targets can be reached.
    """
    # What the parts log is for a service; here they are only asked.
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    if asyncio.run(_print_all(config)):
        raise typer.Exit(Status.WRONG)


async def _print_all(file: Path) -> bool:
    screen = console()
    wrong = False
    async for finding in findings(file):
        wrong = wrong or finding.state == "WRONG"
        text = f"{shown(finding.what)}: {shown(finding.text)}" if finding.text else shown(finding.what)
        line(screen, Text.assemble((f"{finding.state:<7}", _STYLES[finding.state]), text))
    return wrong


async def findings(file: Path) -> AsyncIterator[Finding]:
    """Everything, in the order in which it would matter while starting."""
    try:
        settings = load_config(file)
    except ConfigError as error:
        for problem in error.problems:
            yield Finding("WRONG", "configuration", problem)
        yield Finding(
            "note", "not looked at", "policies, certificates and reachability, until the configuration is right"
        )
        return
    yield Finding("ok", "configuration", str(file))
    yield _state(settings)
    async for finding in _policies(settings):
        yield finding
    for finding in _certificates(settings, datetime.datetime.now(datetime.UTC)):
        yield finding
    for finding in _identity(settings, datetime.datetime.now(datetime.UTC)):
        yield finding
    running = await _service(file, settings)
    yield running
    if settings.proxies:
        async for finding in _proxies(file, settings, running=running.state == "ok"):
            yield finding


def _state(settings: Config) -> Finding:
    state = settings.state
    try:
        mode = state.stat().st_mode
    except FileNotFoundError:
        return Finding("note", "state folder", f"{state} is made on first start")
    except OSError as error:
        return Finding("WRONG", "state folder", f"{state}: {error.strerror}")
    if not state.is_dir():
        return Finding("WRONG", "state folder", f"{state} is not a folder")
    if mode & 0o077:
        return Finding("WRONG", "state folder", f"{state} is open to other users: chmod 700 it")
    return Finding("ok", "state folder", str(state))


async def _policies(settings: Config) -> AsyncIterator[Finding]:
    directory = settings.pdp.policies.dir
    try:
        opa = find_opa(settings.pdp.opa.path)
    except OpaMissing as error:
        yield Finding("WRONG", "OPA", str(error))
        yield Finding("note", "policies", "not looked at without OPA")
        return
    yield Finding("ok", "OPA", str(opa))
    resources = [
        Resource(name, each.type, each.labels, each.database or "") for name, each in settings.pdp.resources.items()
    ]
    try:
        with tempfile.TemporaryDirectory(prefix="checkrein-") as folder:
            files, _ = await PolicyRepository(directory, resources, Checks(opa, Path(folder))).check()
    except PolicyError as error:
        for problem in error.problems:
            yield Finding("WRONG", "policies", str(problem))
        return
    except (OpaFailed, OSError) as error:
        yield Finding("WRONG", "policies", str(error))
        return
    tests = sum(each.is_test for each in files.snapshot.policies)
    yield Finding("ok", "policies", f"{directory}: {len(files.snapshot.names)} policies, tests in {tests} files pass")
    for finding in _bindings(files, [*settings.pdp.resources, ADMINISTRATION]):
        yield finding


def _bindings(files: Files, resources: Sequence[str]) -> Iterator[Finding]:
    for resource in resources:
        bound = files.expanded.get(resource, [])
        enforced = [each["policy"] for each in bound if each["mode"] == "enforce"]
        shadow = [f"{each['policy']} (shadow)" for each in bound if each["mode"] != "enforce"]
        if enforced:
            yield Finding("ok", f"bindings of {resource}", ", ".join([*enforced, *shadow]))
        else:
            yield Finding(
                "WRONG", f"bindings of {resource}", "no policy is bound and enforced, so everything is denied"
            )


def _certificates(settings: Config, now: datetime.datetime) -> Iterator[Finding]:
    tls = settings.pdp.tls
    if tls is not None:
        yield _certificate("certificate of the service", tls.cert, tls.key, now)
        yield _certificate("authority of the proxies", tls.client_ca, None, now)
        return
    folder = settings.state / "certificates"
    if not (settings.state / "ca.crt").exists():
        yield Finding("note", "certificates", f"made in {settings.state} on first start")
        return
    yield _certificate("authority", settings.state / "ca.crt", settings.state / "ca.key", now)
    local = [("certificate of the service", "server", "")]
    local += [(f"certificate of {each.name}", f"pep-{each.name}", proxy_uri(each.name)) for each in settings.proxies]
    for what, name, uri in local:
        if (folder / f"{name}.crt").exists():
            yield _certificate(what, folder / f"{name}.crt", folder / f"{name}.key", now, uri=uri, renewed=True)
        else:
            yield Finding("note", what, "made at the next start")


def _certificate(
    what: str, file: Path, key: Path | None, now: datetime.datetime, *, uri: str = "", renewed: bool = False
) -> Finding:
    """One certificate with its key: readable, fitting, in time, with the name that it must have."""
    try:
        certificate = x509.load_pem_x509_certificate(file.read_bytes())
        loaded = None if key is None else serialization.load_pem_private_key(key.read_bytes(), None)
    except OSError as error:
        return Finding("WRONG", what, f"{error.filename}: {error.strerror}")
    except (ValueError, TypeError) as error:
        return Finding("WRONG", what, f"{file}: cannot be read as PEM ({error})")
    if loaded is not None and loaded.public_key() != certificate.public_key():
        return Finding("WRONG", what, f"{key} is not the key of {file}")
    if certificate.not_valid_before_utc > now:
        return Finding("WRONG", what, f"{file} is not valid before {certificate.not_valid_before_utc:%Y-%m-%d}")
    left = certificate.not_valid_after_utc - now
    if left <= datetime.timedelta(0):
        state: Literal["WRONG", "note"] = "note" if renewed else "WRONG"
        return Finding(state, what, f"{file} has run out{', and is made anew at the next start' if renewed else ''}")
    names = _names(certificate)
    if uri and uri not in names:
        return Finding(
            "note", what, f"{file} is for {', '.join(names) or 'nobody'}, not {uri}; made anew at the next start"
        )
    bearer = f"for {', '.join(names)}, " if names else ""
    said = f"{file}, {bearer}good for {span(left)}"
    return Finding("note" if left < _SOON and not renewed else "ok", what, said)


def _names(certificate: x509.Certificate) -> list[str]:
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return [str(each.value) for each in found]


def _identity(settings: Config, now: datetime.datetime) -> Iterator[Finding]:
    identity = settings.pdp.identity
    if not identity.issuers and not identity.keys and not identity.certificates:
        yield Finding("WRONG", "identity", "no issuers, keys or certificates are named, so nobody can log in")
    for issuer in identity.issuers:
        if issuer.jwks.file is not None and not issuer.jwks.file.is_file():
            yield Finding("WRONG", f"issuer {issuer.name}", f"{issuer.jwks.file}: there is no such file")
        else:
            yield Finding("ok", f"issuer {issuer.name}", "its own" if issuer.own else issuer.issuer or "")
    known = {proxy_uri(grant.certificate) for grant in settings.grants}
    for domain in identity.certificates:
        what = f"trust domain {domain.domain}"
        yield _certificate(what, domain.ca, None, now)
        for proxy in domain.proxies:
            if proxy_uri(proxy) not in known:
                yield Finding("WRONG", what, f"{proxy} is not a proxy that may call this service")


async def _service(file: Path, settings: Config) -> Finding:
    """Whether the service of this configuration runs; not running is no mistake."""
    address = str(settings.listen)
    if settings.pdp.tls is not None:
        return Finding("note", "decision service", f"{address}: not asked, since its certificates are not from here")
    try:
        async with connected(Reach(file)) as connection:
            serving = await connection.serving()
    except Failure:
        return Finding("note", "decision service", f"{address}: not running (pdp up -c {file})")
    if not serving:
        return Finding(
            "WRONG", "decision service", f"{address}: runs, but has no policies in force and denies everything"
        )
    return Finding("ok", "decision service", f"{address}: runs and decides")


async def _proxies(file: Path, settings: Config, *, running: bool) -> AsyncIterator[Finding]:
    """What `pep check` says, line by line."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "pep", "check", "-c", str(file)),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(_PROXIES_SECONDS):
            output, _ = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        yield Finding("WRONG", "proxies", f"pep check did not end within {_PROXIES_SECONDS:.0f} s")
        return
    failed = process.returncode != 0
    excused = False
    for raw in output.decode("utf-8", "replace").splitlines():
        finding = _proxy_finding(raw, settings, running=running, failed=failed)
        excused = excused or finding.state == "note"
        failed = failed and finding.state != "WRONG"
        yield finding
    if failed and not excused:
        yield Finding("WRONG", "proxies", f"pep check ended with status {process.returncode}")


def _proxy_finding(raw: str, settings: Config, *, running: bool, failed: bool) -> Finding:
    found = _PROXY_LINE.fullmatch(raw)
    if found is None:
        return Finding("WRONG" if failed else "note", "proxies", raw)
    what = f"proxy {found['proxy']}"
    if found["state"] == "WRONG" and not running and settings.pdp.tls is None and _is_ours(found["what"], settings):
        return Finding("note", what, f"{found['what']} (the decision service does not run)")
    return Finding("WRONG" if found["state"] == "WRONG" else "ok", what, found["what"])


def _is_ours(what: str, settings: Config) -> bool:
    """Whether the finding is about the decision service of this file, which need not run to be checked."""
    made_on_start = not (settings.state / "ca.crt").exists() and what.startswith("certificate for the decision service")
    return made_on_start or what.startswith(f"decision service {settings.listen}")
