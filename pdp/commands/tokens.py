"""`pdp token` and `pdp certificate`: identities for agents and people, certificates for proxies.

On the machine that owns the state folder both are made there, with its keys: whoever can read that folder can be
anybody. Elsewhere a token is asked of the service with the caller's own token, and the policies decide.
"""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Final

import typer

from pdp.certificates import Authority, proxy_uri, write_private
from pdp.commands.connection import DEFAULT_CONFIG, ConfigFile, Reach, connected
from pdp.commands.failure import Failure, Status
from pdp.config import ADMINISTRATION, Config, load_config
from pdp.identity.subject import Party
from pdp.identity.tokens import TokenRequest, open_issuer
from pdp.shown import shown
from pdp.v1 import access_pb2
from pdp.v1 import admin_service_pb2 as pb
from pdp.v1.config_values import parse_duration

TOKEN_EXAMPLE: Final = (
    "Example: export PGPASSWORD=$(pdp token --subject agent:support-bot --group agents --audience shop "
    "--graph support --node read_orders --run r-17 --on-behalf-of user:ana --behalf-group support)"
)
_TYPES: Final = ("agent", "user", "service")
_LONGEST: Final = 255

certificates = typer.Typer(no_args_is_help=True, help="Certificates for proxies.")

_Claim = typer.Option(metavar="NAME", help="Claim of the workflow.")


def token(
    subject: Annotated[str, typer.Option(metavar="TYPE:ID", help="Who: agent:NAME, user:NAME or service:NAME.")],
    audience: Annotated[
        str, typer.Option(metavar="RESOURCE", help="The one resource it is good for; checkrein for this service.")
    ],
    group: Annotated[list[str] | None, typer.Option(metavar="NAME", help="A group of the subject; repeatable.")] = None,
    on_behalf_of: Annotated[
        str | None, typer.Option(metavar="TYPE:ID", help="The person or workload that the subject works for.")
    ] = None,
    behalf_group: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="A group of --on-behalf-of; repeatable.")
    ] = None,
    graph: Annotated[str | None, _Claim] = None,
    node: Annotated[str | None, _Claim] = None,
    run: Annotated[str | None, _Claim] = None,
    thread: Annotated[str | None, _Claim] = None,
    task: Annotated[str | None, _Claim] = None,
    ttl: Annotated[str | None, typer.Option(metavar="TIME", help="How long it is good, like 10m; at most 24h.")] = None,
    once: Annotated[bool, typer.Option("--once", help="It is good for one use: one session.")] = False,
    config: ConfigFile = DEFAULT_CONFIG,
    address: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Ask the service there for it, with your own token.")
    ] = None,
    token: Annotated[str | None, typer.Option(metavar="TOKEN", help="Your own token, with --address.")] = None,
    token_file: Annotated[Path | None, typer.Option(metavar="FILE", help="A file that holds it.")] = None,
    cert: Annotated[Path | None, typer.Option(metavar="FILE", help="Certificate to connect with.")] = None,
    key: Annotated[Path | None, typer.Option(metavar="FILE", help="Key of --cert.")] = None,
    ca: Annotated[Path | None, typer.Option(metavar="FILE", help="Authority of the service's certificate.")] = None,
    server_name: Annotated[str | None, typer.Option(metavar="NAME", help="Name in that certificate.")] = None,
) -> None:
    """Make a short-lived token and print it, alone, on standard output.

    On the machine that owns the state folder it is made there. With --address the service makes it, if its policies
    allow you the action token.mint; it then names you, and you cannot approve what it asks for.
    """
    claims = {"graph": graph, "node": node, "run": run, "thread": thread, "task": task}
    workflow = {name: _word(value, f"--{name}") for name, value in claims.items() if value is not None}
    if behalf_group and on_behalf_of is None:
        raise Failure("--behalf-group goes with --on-behalf-of", Status.USAGE)
    wanted = TokenRequest(
        subject=_party(subject, group or (), "--subject"),
        audience=audience,
        on_behalf_of=None if on_behalf_of is None else _party(on_behalf_of, behalf_group or (), "--on-behalf-of"),
        workflow=workflow,
        lifetime=_lifetime(ttl),
        once=once,
    )
    if address is None:
        typer.echo(_mint_here(wanted, load_config(config), config))
    else:
        reach = Reach(config, address, token, token_file, cert, key, ca, server_name)
        typer.echo(asyncio.run(_mint_there(wanted, reach)))


def _mint_here(wanted: TokenRequest, config: Config, file: Path) -> str:
    known = (*config.pdp.resources, ADMINISTRATION)
    if wanted.audience not in known:
        raise Failure(
            f"--audience: no resource is named {shown(wanted.audience)}; known: {', '.join(known)}", Status.USAGE
        )
    try:
        issuer = open_issuer(config)
    except OSError as error:
        raise Failure(
            f"cannot use the keys in {shown(str(config.state))}: {shown(error.strerror or str(error))}; "
            "ask the service instead: --address ADDRESS with a token of your own",
            Status.NOT_PERMITTED,
        ) from None
    if issuer is None:
        raise Failure(
            f"{shown(str(file))}: no issuer of its own: add {{name: checkrein, self: true}} to pdp.identity.issuers"
        )
    try:
        return issuer.mint(wanted).token
    except ValueError as error:
        raise Failure(f"--ttl: {error}", Status.USAGE) from None


async def _mint_there(wanted: TokenRequest, reach: Reach) -> str:
    request = pb.MintTokenRequest(
        subject_type=wanted.subject.type,
        subject_id=wanted.subject.id,
        groups=wanted.subject.groups,
        audience=wanted.audience,
        workflow=dict(wanted.workflow),
        once=wanted.once,
    )
    if wanted.on_behalf_of is not None:
        behind = wanted.on_behalf_of
        request.on_behalf_of.CopyFrom(access_pb2.Party(type=behind.type, id=behind.id, groups=behind.groups))
    if wanted.lifetime is not None:
        request.lifetime.FromTimedelta(wanted.lifetime)
    async with connected(reach) as connection:
        answer = await connection.call("MintToken", request, action="token.mint")
    minted = str(answer.token)
    if not minted.isascii() or not minted.isprintable():
        raise Failure("what the service sent is not a token")
    return minted


@certificates.command(epilog="Example: pdp certificate issue shop --out ./shop-certificate")
def issue(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The proxy's name, as pdp.proxies has it.")],
    out: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Copy certificate, key and authority there, to be taken away.")
    ] = None,
    config: ConfigFile = DEFAULT_CONFIG,
) -> None:
    """Issue the certificate of a proxy, for this machine or another, and print the files.

    It says who the proxy is; which resources it may serve is said in pdp.proxies.
    """
    settings = load_config(config)
    if settings.pdp.tls is not None:
        raise Failure("certificates of this service come from an authority of yours (pdp.tls); have it issue this one")
    try:
        files = Authority.open(settings.state).issue(name)
        contents = {
            f"{name}.crt": files.certificate.read_bytes(),
            f"{name}.key": files.key.read_bytes(),
            "ca.crt": files.authority.read_bytes(),
        }
        made: Mapping[str, Path] = dict(zip(contents, (files.certificate, files.key, files.authority), strict=True))
        if out is not None:
            out.mkdir(mode=0o700, parents=True, exist_ok=True)
            made = {each: out / each for each in contents}
            for each, content in contents.items():
                write_private(out / each, content)
    except OSError as error:
        raise Failure(f"cannot write the certificate: {shown(str(error))}") from None
    for purpose, path in zip(("certificate", "key", "authority"), made.values(), strict=True):
        typer.echo(f"{purpose:12}{shown(str(path))}")
    uri = proxy_uri(name)
    if not any(grant.certificate in (name, uri) for grant in settings.grants):
        typer.echo(
            f"\nNo resource is served by it yet: add {{certificate: {name}, resources: [...]}} to pdp.proxies.",
            err=True,
        )


def _party(text: str, groups: Sequence[str], option: str) -> Party:
    type_, found, id_ = text.partition(":")
    if not found or type_ not in _TYPES:
        raise Failure(f"{option} {shown(text)}: must be agent:NAME, user:NAME or service:NAME", Status.USAGE)
    return Party(type_, _word(id_, option), tuple(_word(each, "a group") for each in groups))


def _word(text: str, option: str) -> str:
    """As the service will want it when the token comes back: what it would refuse is not put into a token."""
    if not 0 < len(text) <= _LONGEST or not text.isprintable():
        raise Failure(f"{option}: a name has 1 to {_LONGEST} characters, all of them printable", Status.USAGE)
    return text


def _lifetime(ttl: str | None) -> datetime.timedelta | None:
    try:
        return None if ttl is None else parse_duration(ttl)
    except ValueError as error:
        raise Failure(f"--ttl {error}", Status.USAGE) from None
