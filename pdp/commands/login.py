"""`pdp login`, `pdp logout`, `pdp whoami`: a person at the command line, with a token of their own.

The sign-in takes place on the issuer's page (`pdp.identity.device_flow`); the token is kept for the commands that
follow (`kept_token`), and whether it is any good is the decision service's to say.
"""

from __future__ import annotations

import asyncio
import datetime
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from pdp.commands import kept_token
from pdp.commands.connection import Connection, Reach, acting, address_of, reaching
from pdp.commands.failure import Failure, Status
from pdp.commands.screen import clock, console, facts, line, show
from pdp.config import Issuer, load_config
from pdp.shown import shown
from pdp.v1 import approval_admin_service_pb2 as pb
from pdp.v1.approval_admin_service_pb2_grpc import ApprovalAdminServiceStub

if TYPE_CHECKING:
    from pdp.identity.device_flow import Client, Prompt


@reaching
async def login(
    reach: Reach,
    issuer: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Which issuer, where several have a login."),
    ] = None,
) -> None:
    """Sign in on a page of the issuer's, and keep the token for the commands that follow."""
    # Brings an HTTP client along, which no other command needs.
    from pdp.identity.device_flow import LoginFailed
    from pdp.identity.device_flow import login as sign_in

    screen = console()
    client = _client(reach, issuer)

    def tell(prompt: Prompt) -> None:
        line(screen, f"Open   {shown(prompt.uri)}\nEnter  {shown(prompt.code)}")
        if prompt.complete:
            line(screen, f"or open {shown(prompt.complete)}")

    try:
        token = await asyncio.to_thread(sign_in, client, tell)
    except LoginFailed as error:
        raise Failure(f"not signed in: {shown(str(error))}", Status.NOT_PERMITTED) from None
    file = kept_token.keep(address_of(reach), token)
    line(screen, f"signed in; the token is kept in {shown(str(file))} (pdp logout removes it)")


@reaching
async def logout(reach: Reach) -> None:
    """Forget the token. Until its time is over the issuer's token stays good: whoever has a copy can use it."""
    line(console(), "signed out" if kept_token.forget(address_of(reach)) else "nobody was signed in")


@acting
async def whoami(connection: Connection) -> None:
    """Say whom the decision service takes you for, and whether you may approve at all."""
    answer = await connection.call("WhoAmI", pb.WhoAmIRequest(), action="whoami", stub=ApprovalAdminServiceStub)
    pairs = [
        ("You are", f"{shown(answer.type)}:{shown(answer.id)}"),
        ("Groups", ", ".join(map(shown, answer.groups)) or "none"),
        ("Says", shown(answer.issuer)),
        ("Signed in", _time(answer, "signed_in_at", "not as a person does")),
        ("Until", _time(answer, "expires_at", "no end")),
        ("Approves", f"nothing: {shown(answer.unfit)}" if answer.unfit else "what your groups are asked for"),
    ]
    show(console(), facts((name, Text(value)) for name, value in pairs))


def _time(answer: pb.WhoAmIResponse, name: str, otherwise: str) -> str:
    if not answer.HasField(name):
        return otherwise
    return clock(getattr(answer, name).ToDatetime(datetime.UTC))


def _client(reach: Reach, name: str | None) -> Client:
    issuers = [each for each in load_config(reach.config).pdp.identity.issuers if each.login is not None]
    fitting = [each for each in issuers if name in (None, each.name)]
    if not fitting:
        raise Failure("no issuer in pdp.identity.issuers has a login of that name: add login: {client_id: ...}")
    if len(fitting) > 1:
        named = ", ".join(each.name for each in fitting)
        raise Failure(f"several issuers have a login: say --issuer, one of {named}", Status.USAGE)
    return _of(fitting[0])


def _of(issuer: Issuer) -> Client:
    from pdp.identity.device_flow import Client

    assert issuer.login is not None
    assert issuer.issuer is not None
    login = issuer.login
    return Client(issuer.issuer, login.client_id, " ".join(login.scopes), login.token, issuer.jwks.ca)
