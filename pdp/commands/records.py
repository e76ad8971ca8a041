"""`pdp records`: whether the records are what was written, and whether anything is missing.

What judges is `pdp.commands.proof`; this is where it gets its copy, its keys and its anchors from, and how it is said.
"""

from __future__ import annotations

import contextlib
import datetime
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import orjson
import typer
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from rich.console import Console

from pdp.commands.archive import ERASE_EXAMPLE, erase
from pdp.commands.connection import Reach, connected, reaching
from pdp.commands.disclosures import WHO_EXAMPLE, who
from pdp.commands.failure import Failure, Status
from pdp.commands.screen import clock, console, line, show, table
from pdp.config import load_config
from pdp.shown import shown
from pdp.v1.digests import canonical_json
from pdp.v1.strict_yaml import ConfigError

# What reads and judges a copy brings the store's libraries along, and most of a second before every command.
if TYPE_CHECKING:
    from pdp.commands.copies import Copy
    from pdp.commands.proof import Finding

app = typer.Typer(
    no_args_is_help=True, help="Prove the records; see whether anything is missing, and who was shown what; erase."
)
app.command("erase", epilog=ERASE_EXAMPLE)(erase)
app.command("who", epilog=WHO_EXAMPLE)(who)

StoreOption = Annotated[
    str | None,
    typer.Option(
        "--store", metavar="URL", help="Read this store instead of asking the service: sqlite:///PATH, or PostgreSQL."
    ),
]
KeysOption = Annotated[
    Path | None,
    typer.Option("--keys", metavar="FILE", help="Trust these public keys alone: what `pdp records keys` once printed."),
]
AnchorsOption = Annotated[
    list[Path] | None,
    typer.Option("--anchors", metavar="FILE", help="Compare with checkpoints anchored elsewhere; repeatable."),
]
AuthorityOption = Annotated[
    Path | None,
    typer.Option("--proxy-ca", metavar="FILE", help="The authority of the proxies' certificates, in PEM."),
]
_BAD: Final = "bold red"


@dataclass(frozen=True, slots=True)
class Trusted:
    """What the verifier brings along; None where it takes the copy's word."""

    keys: Mapping[str, Ed25519PublicKey] | None
    anchors: Sequence[Path]
    authorities: Sequence[x509.Certificate] | None


@dataclass(slots=True)
class Found:
    """What a verification has come to."""

    chains: int = 0
    events: int = 0
    bodies: int = 0
    erased: int = 0
    absent: int = 0
    removed: int = 0
    checkpoints: int = 0
    findings: int = 0


@app.command(
    "verify",
    epilog="Example: pdp records verify --anchors /mnt/worm/checkpoints\n\n"
    "On a copy, without the service: pdp records verify --store sqlite:///copy.db --keys keys.json --proxy-ca ca.crt",
)
@reaching
async def verify(
    reach: Reach,
    store: StoreOption = None,
    keys: KeysOption = None,
    anchors: AnchorsOption = None,
    proxy_ca: AuthorityOption = None,
) -> None:
    """Prove every record, and the log of checkpoints: nothing was changed, removed, added, reordered or cut off.

    The exit status is 1 if anything was.
    """
    screen = console()
    trusted = bring(reach, keys, anchors, proxy_ca)
    async with copy_of(reach, store) as copy:
        found = await prove(copy, trusted, lambda finding: say(screen, finding))
    conclude(screen, found)


@app.command("missing", epilog="Example: pdp records missing")
@reaching
async def missing(reach: Reach, store: StoreOption = None) -> None:
    """Say whether anything is missing, and up to when each proxy's records are complete.

    The exit status is 1 if anything is.
    """
    screen = console()
    async with copy_of(reach, store) as copy:
        state = await copy.completeness()
    rows = [
        (
            shown(each.proxy),
            clock(each.complete_until) if each.complete_until else "not said",
            str(each.running),
            str(each.sessions),
        )
        for each in state.proxies
    ]
    if rows:
        show(screen, table(("PROXY", "COMPLETE UNTIL", "RUNNING", "SESSIONS"), rows))
    for each in state.missing:
        line(screen, f"MISSING  {shown(each, limit=1000)}", _BAD)
    if state.missing:
        raise Failure(f"{len(state.missing):,} things are missing")
    line(screen, "ok     nothing is missing", "green")


@app.command("keys", epilog="Example: pdp records keys > keys.json   (keep it where the service cannot write)")
@reaching
async def keys_(reach: Reach, store: StoreOption = None) -> None:
    """Print the public keys that checkpoints are signed with, for `--keys`."""
    async with copy_of(reach, store) as copy:
        ledger = await copy.ledger("-")
    typer.echo(canonical_json({name: key.public_bytes_raw().hex() for name, key in ledger.keys.items()}).decode())


@asynccontextmanager
async def copy_of(reach: Reach, store: str | None) -> AsyncIterator[Copy]:
    """The store that is named, or the service."""
    from pdp.commands.copies import ServiceCopy, StoreCopy

    if store is not None:
        with contextlib.closing(StoreCopy(store, datetime.datetime.now(datetime.UTC))) as copy:
            yield copy
        return
    async with connected(reach) as connection:
        yield ServiceCopy(connection)


def bring(reach: Reach, keys: Path | None, anchors: Sequence[Path] | None, authority: Path | None) -> Trusted:
    """What the files hold; without `authority`, the one that this machine's service has, if it has one."""
    return Trusted(_keys(keys), anchors or (), _authorities(reach, authority))


def _keys(file: Path | None) -> Mapping[str, Ed25519PublicKey] | None:
    from pdp.commands.copies import public_key

    if file is None:
        return None
    try:
        said = orjson.loads(file.read_bytes())
        return {str(name): public_key(bytes.fromhex(key)) for name, key in said.items()}
    except (OSError, ValueError, AttributeError, TypeError):
        raise Failure(f"{shown(str(file))} holds no keys as `pdp records keys` prints them", Status.USAGE) from None


def _authorities(reach: Reach, file: Path | None) -> Sequence[x509.Certificate] | None:
    if file is None:
        try:
            config = load_config(reach.config)
        except (ConfigError, OSError):
            return None
        own = config.pdp.tls.client_ca if config.pdp.tls else config.state / "ca.crt"
        if not own.is_file():
            return None
        file = own
    try:
        return x509.load_pem_x509_certificates(file.read_bytes())
    except (OSError, ValueError):
        raise Failure(f"{shown(str(file))} holds no certificates", Status.USAGE) from None


async def prove(copy: Copy, trusted: Trusted, found: Callable[[Finding], None], only: str = "") -> Found:
    """Judges every chain, or only one; each finding is handed over as it is made."""
    from pdp.commands.proof import ChainProof, Ledger

    result = Found()

    def note(findings: Iterator[Finding]) -> None:
        for finding in findings:
            result.findings += 1
            found(finding)

    held = await copy.ledger(only)
    ledger = Ledger(held.keys if trusted.keys is None else trusted.keys, whole=not only)
    for entry in held.entries:
        note(ledger.feed(entry))
        result.checkpoints += 1
    for file in trusted.anchors:
        try:
            with file.open("rb") as lines:
                note(ledger.compare(lines, only))
        except OSError as error:
            raise Failure(f"cannot read {shown(str(file))}: {error.strerror}", Status.USAGE) from None
    if not only:
        note(ledger.gone(held.chains))
    for name in [only] if only else held.chains:
        kept = await copy.chain(name)
        proof = ChainProof(
            name,
            kept.facts,
            ledger.of(name),
            kept.signatures,
            authorities=trusted.authorities,
            now=datetime.datetime.now(datetime.UTC),
        )
        async for event in kept.events:
            note(proof.feed(event))
        note(proof.end())
        counts = proof.counts
        result.chains += 1
        result.events += counts.events
        result.bodies += counts.bodies
        result.erased += counts.erased
        result.absent += counts.absent
    result.removed = ledger.removed
    return result


def say(screen: Console, finding: Finding) -> None:
    chain = f"{shown(finding.chain)}  " if finding.chain else ""
    place = f"event {finding.seq}: " if finding.seq is not None else ""
    line(screen, f"WRONG  {chain}{place}{shown(finding.why, limit=1000)}", _BAD)


def conclude(screen: Console, found: Found) -> None:
    bodies = f"{found.bodies:,} bodies kept, {found.erased:,} erased"
    if found.absent:
        bodies += f", {found.absent:,} not kept"
    kept = f"{found.events:,} events, {bodies}"
    signed = f"{found.checkpoints:,} checkpoints"
    if found.removed:
        signed += f", {found.removed:,} records taken out when their time was over"
    if found.findings:
        raise Failure(f"the records are not as they were written ({found.findings:,} findings; {kept}, {signed})")
    line(screen, f"ok     {found.chains:,} records: the chains hold ({kept}, {signed})", "green")
