"""How a command reaches the decision service: where it is, which certificate is presented, whose token.

`acting` makes a command of a function that needs a connection, `reaching` of one that makes it itself: they add the
options that all of these commands share. Calls carry
the caller's own token; every status that comes back becomes a `Failure` that says what to do.
"""

from __future__ import annotations

import asyncio
import inspect
import os
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Concatenate, Final, ParamSpec, TypeVar, cast

import grpc
import grpc.aio
import typer
from grpc_health.v1 import health_pb2, health_pb2_grpc

from pdp.certificates import CLIENT_OPTIONS, SERVER_NAME, Authority, Certificate
from pdp.commands import kept_token
from pdp.commands.failure import Failure, Status
from pdp.config import Config, load_config
from pdp.shown import shown
from pdp.v1 import admin_service_pb2_grpc, policy_service_pb2_grpc
from pdp.v1.addresses import SocketAddress, TcpAddress, socket_address
from pdp.v1.strict_yaml import ConfigError

P = ParamSpec("P")
T = TypeVar("T")

# Generated: a service as its callers see it.
Stub = Callable[[grpc.aio.Channel], Any]

DEFAULT_CONFIG: Final = Path("checkrein.yaml")
_CALL_SECONDS: Final = 15.0
_EVALUATION_SECONDS: Final = 60.0
_STREAM_SECONDS: Final = 300.0
# An event comes with its bodies, each of which may have 8 MiB.
_LARGEST_ANSWER: Final = 64 << 20

ConfigFile = Annotated[
    Path,
    typer.Option("--config", "-c", metavar="FILE", envvar="CHECKREIN_CONFIG", help="The configuration file."),
]
_HERE: Final = "By default what the configuration's state folder holds."
_Address = Annotated[
    str | None,
    typer.Option(metavar="ADDRESS", help="Where the decision service listens (HOST:PORT or unix:PATH), if elsewhere."),
]
_Token = Annotated[
    str | None,
    typer.Option(metavar="TOKEN", help="Your own token; better in $PDP_TOKEN, since every user sees arguments."),
]
_TokenFile = Annotated[Path | None, typer.Option(metavar="FILE", help="A file that holds your token.")]
_Cert = Annotated[Path | None, typer.Option(metavar="FILE", help=f"Certificate to connect with. {_HERE}")]
_Key = Annotated[Path | None, typer.Option(metavar="FILE", help="Key of --cert.")]
_Ca = Annotated[Path | None, typer.Option(metavar="FILE", help="Authority that the service's certificate is from.")]
_ServerName = Annotated[
    str | None, typer.Option(metavar="NAME", help="Name in the service's certificate, if not the address's host.")
]


@dataclass(frozen=True, slots=True)
class Reach:
    """The options that say where and as whom."""

    config: Path
    address: str | None = None
    token: str | None = None
    token_file: Path | None = None
    cert: Path | None = None
    key: Path | None = None
    ca: Path | None = None
    server_name: str | None = None

    @property
    def has_token(self) -> bool:
        """Whether the caller gave a token, or has signed in."""
        given = self.token or self.token_file or os.environ.get("PDP_TOKEN")
        return bool(given or kept_token.kept(address_of(self)))


def _reach(
    *,
    config: ConfigFile = DEFAULT_CONFIG,
    address: _Address = None,
    token: _Token = None,
    token_file: _TokenFile = None,
    cert: _Cert = None,
    key: _Key = None,
    ca: _Ca = None,
    server_name: _ServerName = None,
) -> Reach:
    return Reach(config, address, token, token_file, cert, key, ca, server_name)


def reaching(work: Callable[Concatenate[Reach, P], Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """A command that runs `work` with a `Reach`, made from the options that this adds to its own."""
    shared = inspect.signature(_reach, eval_str=True).parameters
    own = list(inspect.signature(work, eval_str=True).parameters.values())[1:]

    def command(**arguments: Any) -> None:
        reach = _reach(**{name: arguments.pop(name) for name in shared})
        # The names and types of the arguments are those of `work`: its signature is this command's.
        asyncio.run(cast(Callable[..., Coroutine[Any, Any, None]], work)(reach, **arguments))

    parameters = [*own, *shared.values()]
    # Not functools.wraps: the types of the options would then be looked for at `work`, which has not all of them.
    command.__name__, command.__doc__, command.__module__ = work.__name__, work.__doc__, work.__module__
    command.__annotations__ = {each.name: each.annotation for each in parameters}
    command.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in parameters]
    )
    return command


def acting(work: Callable[Concatenate[Connection, P], Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """The same with a connection."""

    async def run(reach: Reach, /, *args: P.args, **arguments: P.kwargs) -> None:
        async with connected(reach) as connection:
            await work(connection, *args, **arguments)

    own = list(inspect.signature(work, eval_str=True).parameters.values())[1:]
    reach = inspect.Parameter("reach", inspect.Parameter.POSITIONAL_ONLY)
    run.__name__, run.__doc__, run.__module__ = work.__name__, work.__doc__, work.__module__
    run.__signature__ = inspect.Signature([reach, *own])  # type: ignore[attr-defined]
    return reaching(run)


class Connection:
    """A channel to the service, and the token that calls carry; the token is looked for at the first call."""

    def __init__(self, channel: grpc.aio.Channel, address: str, reach: Reach) -> None:
        self.address = address
        self.reach = reach
        self._channel = channel
        self._health: Any = health_pb2_grpc.HealthStub(channel)
        self._metadata: tuple[tuple[str, str], ...] | None = None

    async def call(
        self,
        method: str,
        request: Any,
        *,
        action: str,
        stub: Stub = admin_service_pb2_grpc.AdminServiceStub,
        seconds: float = _CALL_SECONDS,
    ) -> Any:
        """One call of a service for people; `action` is its name in the policies. Failure if it is not answered."""
        try:
            asked = getattr(stub(self._channel), method)
            return await asked(request, metadata=self._authorization(), timeout=seconds)
        except grpc.aio.AioRpcError as error:
            raise self._failure(error, action) from None

    async def policies(self, method: str, request: Any, *, action: str) -> Any:
        """One call of PolicyService, which may take as long as an evaluation with its trace does."""
        stub = policy_service_pb2_grpc.PolicyServiceStub
        return await self.call(method, request, action=action, stub=stub, seconds=_EVALUATION_SECONDS)

    async def stream(
        self, method: str, request: Any, *, action: str, stub: Stub = admin_service_pb2_grpc.AdminServiceStub
    ) -> AsyncIterator[Any]:
        """The same for a call that answers in pieces."""
        asked = getattr(stub(self._channel), method)
        answers = asked(request, metadata=self._authorization(), timeout=_STREAM_SECONDS)
        try:
            async for answer in answers:
                yield answer
        except grpc.aio.AioRpcError as error:
            raise self._failure(error, action) from None

    async def serving(self) -> bool:
        """Whether the service says that it decides; needs no token. Failure if it does not answer."""
        try:
            answer = await self._health.Check(health_pb2.HealthCheckRequest(), timeout=_CALL_SECONDS)
        except grpc.aio.AioRpcError as error:
            raise self._failure(error, "health") from None
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)

    def _authorization(self) -> tuple[tuple[str, str], ...]:
        if self._metadata is None:
            self._metadata = (("authorization", f"Bearer {_token(self.reach, self.address)}"),)
        return self._metadata

    def _failure(self, error: grpc.aio.AioRpcError, action: str) -> Failure:
        said = shown(error.details() or "it gave no reason", limit=1000)
        config = shown(str(self.reach.config))
        match error.code():
            case grpc.StatusCode.UNAVAILABLE | grpc.StatusCode.DEADLINE_EXCEEDED:
                absent = any(word in said for word in ("No such file", "Connection refused"))
                return Failure(
                    f"the decision service does not answer at {shown(self.address)}: "
                    f"{'nothing listens there' if absent else said}\n"
                    f"Start it with: pdp up -c {config}   (or: pdp serve -c {config})",
                    Status.UNREACHABLE,
                )
            case grpc.StatusCode.PERMISSION_DENIED:
                return Failure(f"{action} on checkrein is denied: {said}", Status.NOT_PERMITTED)
            case grpc.StatusCode.UNAUTHENTICATED:
                return Failure(f"{said}\n{_HOW_TO_GET_ONE}", Status.NOT_PERMITTED)
            case grpc.StatusCode.NOT_FOUND | grpc.StatusCode.FAILED_PRECONDITION:
                return Failure(said, Status.NOT_POSSIBLE)
            case grpc.StatusCode.INVALID_ARGUMENT:
                return Failure(said, Status.USAGE)
            case code:
                return Failure(f"the decision service could not do it ({code.name}): {said}")


_HOW_TO_GET_ONE: Final = (
    "A token for this service has the audience checkrein. On the machine that owns the state folder:\n"
    "  export PDP_TOKEN=$(pdp token --subject user:YOU --group YOUR-GROUP --audience checkrein)"
)


def _token(reach: Reach, address: str) -> str:
    if reach.token is not None and reach.token_file is not None:
        raise Failure("give one of --token and --token-file, not both", Status.USAGE)
    if reach.token_file is not None:
        try:
            token = reach.token_file.read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise Failure(f"cannot read the token in {shown(str(reach.token_file))}: {shown(str(error))}") from None
    else:
        token = (reach.token or os.environ.get("PDP_TOKEN") or kept_token.kept(address)).strip()
    if not token:
        raise Failure(
            f"no token: pdp login, or give --token-file or --token, or set PDP_TOKEN.\n{_HOW_TO_GET_ONE}",
            Status.NOT_PERMITTED,
        )
    if not (token.isascii() and token.isprintable() and " " not in token):
        raise Failure("what was given as a token is not one: it holds characters that no token has", Status.USAGE)
    return token


@asynccontextmanager
async def connected(reach: Reach) -> AsyncIterator[Connection]:
    """A connection; nothing is sent yet. Raises Failure or ConfigError."""
    address, certificate, server_name = _route(reach)
    try:
        credentials = grpc.ssl_channel_credentials(
            certificate.authority.read_bytes(), certificate.key.read_bytes(), certificate.certificate.read_bytes()
        )
    except OSError as error:
        raise Failure(f"cannot read the certificate to connect with: {shown(str(error))}") from None
    options: list[tuple[str, int | str]] = [*CLIENT_OPTIONS, ("grpc.max_receive_message_length", _LARGEST_ANSWER)]
    if server_name:
        options.append(("grpc.ssl_target_name_override", server_name))
    async with grpc.aio.secure_channel(str(address), credentials, options) as channel:
        yield Connection(channel, str(address), reach)


def _route(reach: Reach) -> tuple[SocketAddress, Certificate, str]:
    given = [each for each in (reach.cert, reach.key, reach.ca) if each is not None]
    if given and len(given) < 3:
        raise Failure("--cert, --key and --ca go together", Status.USAGE)
    # A command that is told everything needs no configuration; it then may run on another machine.
    config = None if len(given) == 3 and reach.address else load_config(reach.config)
    address = _address_of(reach, config)
    if reach.cert and reach.key and reach.ca:
        return address, Certificate(reach.cert, reach.key, reach.ca), reach.server_name or ""
    assert config is not None
    return address, _own_certificate(config), reach.server_name or SERVER_NAME


def address_of(reach: Reach) -> str:
    """Where the service is that the options mean. Raises Failure or ConfigError."""
    return str(_address_of(reach, load_config(reach.config) if reach.address is None else None))


def _address_of(reach: Reach, config: Config | None) -> SocketAddress:
    if reach.address is None:
        assert config is not None
        address = config.listen
        # What listens everywhere is reached on this machine.
        if isinstance(address, TcpAddress) and address.host in ("0.0.0.0", "::"):  # noqa: S104 - compared, not bound
            return TcpAddress("127.0.0.1" if address.host == "0.0.0.0" else "::1", address.port)  # noqa: S104
        return address
    try:
        return socket_address(reach.address)
    except ValueError as error:
        raise Failure(f"--address {shown(reach.address)} {error}", Status.USAGE) from None


def _own_certificate(config: Config) -> Certificate:
    if config.pdp.tls is not None:
        raise Failure(
            "the certificates of this service come from an authority of yours (pdp.tls): "
            "say which one to connect with: --cert FILE --key FILE --ca FILE",
            Status.USAGE,
        )
    if not (config.state / "ca.key").exists():
        raise Failure(
            f"the decision service has never run with the state folder {shown(str(config.state))}: "
            "start it (pdp up or pdp serve with the same configuration), or give --address, --cert, --key and --ca",
            Status.UNREACHABLE,
        )
    try:
        return Authority.open(config.state).command_line()
    except OSError as error:
        raise ConfigError(f"cannot use the state folder {config.state}: {error.strerror}") from None
