"""One client of the PostgreSQL proxy, from an accepted connection to the end of its session.

The order: TLS and password (`login`), the decision on `connect`, the proxy's own login at the target (`upstream`), then
the session machine under `pep.core.driver`. A client that is not let in causes no connection to the target.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Mapping
from typing import Final

from pep.core import driver
from pep.core.decision_client import Bearer
from pep.core.errors import ClientProtocolError
from pep.core.keeping import Keeping
from pep.core.leg import Leg, LegClosed
from pep.core.mailbox import Mailbox
from pep.core.model import Deny, LimitAffected, LimitRows, MaskFields, ReadOnly, RecordSession, TimeLimit
from pep.core.runtime import Admitted, Runtime
from pep.core.wire import CancelRequested
from pep.postgres import denial, settings
from pep.postgres.authentication import AuthenticationOk
from pep.postgres.backend import BackendKeyData, ErrorResponse, ParameterStatus, ReadyForQuery, TransactionStatus
from pep.postgres.catalogs import Catalogs
from pep.postgres.config import PostgresProxy
from pep.postgres.estimates import PlannerEstimates
from pep.postgres.frontend import CancelRequest
from pep.postgres.login import ALPN, INVALID_CATALOG_NAME, INVALID_PASSWORD, ClientGone, Hello, greet
from pep.postgres.parser import ParserProcess
from pep.postgres.session import PostgresSession
from pep.postgres.stepping import Settings
from pep.postgres.upstream import Account, Connected, OwnConnection, Target, UpstreamUnavailable, version_number

SUPPORTED: Final = frozenset({MaskFields, LimitRows, LimitAffected, TimeLimit, ReadOnly, RecordSession})
UNESTIMATED: Final = "this proxy does not ask its target; its configuration switches that on: approval: {estimate: 1s}"

_KEY_BYTES: Final = 4
_FULL: Final = denial.fatal(denial.TOO_MANY_CONNECTIONS, "too many clients are at their login; try again").encode()


async def serve(proxy: PostgresProxy, runtime: Runtime) -> None:
    """Serve clients until the process stops. Raises ConfigError."""
    server = PostgresServer(proxy, runtime)
    try:
        await runtime.listen(server.client, sorry=_FULL)
    finally:
        await server.close()


class PostgresServer:
    """One proxy."""

    def __init__(self, proxy: PostgresProxy, runtime: Runtime) -> None:
        self._proxy = proxy
        self._runtime = runtime
        self._tls = runtime.client_tls(alpn=(ALPN,))
        self._target = Target(proxy.upstream)
        self._account = _account(proxy, "default")
        self._parser = ParserProcess()
        self._own = OwnConnection(self._target, _account(proxy, proxy.catalog.credential))
        self._catalogs = Catalogs(self._own, self._parser, proxy.catalog.max_age.total_seconds())
        wait = proxy.approval.estimate
        self._estimates = (
            None
            if wait is None
            else PlannerEstimates(self._target, self._account, self._catalogs, wait.total_seconds())
        )
        key = secrets.token_hex(32) if proxy.masks.hash_key is None else proxy.masks.hash_key.resolve()
        self._hash_keys = {"": key.encode()}
        self._cancels: dict[tuple[int, bytes], Mailbox] = {}

    async def close(self) -> None:
        await self._parser.close()
        await self._own.close()

    async def client(self, leg: Leg) -> None:
        """One connection."""
        try:
            await self._welcome(leg)
        except ClientProtocolError as error:
            await _farewell(leg, denial.fatal(error.code, error.message))
        except TimeoutError:
            await _farewell(leg, denial.fatal(denial.QUERY_CANCELED, "canceling authentication due to timeout"))
        except (ClientGone, LegClosed, OSError) as error:
            self._runtime.log.debug("a client left during its login", error=type(error).__name__)

    async def _welcome(self, leg: Leg) -> None:
        limits = self._proxy.limits
        async with asyncio.timeout(limits.login.total_seconds()):
            hello = await greet(
                leg, self._tls, plaintext=self._proxy.listen.plaintext, limit=limits.unauthenticated_bytes
            )
        if isinstance(hello, CancelRequest):
            self._cancel(hello)
            return
        served = self._proxy.upstream.database
        if hello.database != served:
            raise ClientProtocolError(INVALID_CATALOG_NAME, f'this proxy serves the database "{served}" and no other')
        labels = {"user": hello.user, **hello.settings}
        admitted = await self._runtime.admit(
            Bearer(hello.password),
            leg.peer,
            supported=SUPPORTED,
            labels=labels,
            estimates=self._estimates,
            unestimated=UNESTIMATED,
        )
        if isinstance(admitted, Deny):
            await _farewell(leg, _login_refused(admitted))
            return
        self._runtime.listener.known_now(leg)
        reason = "the login could not be finished"
        try:
            reason = await self._session(leg, hello, admitted)
        except UpstreamUnavailable as error:
            reason = "the target cannot be reached"
            self._runtime.log.error(reason, error=str(error))  # noqa: TRY400 - says all there is
            await _farewell(leg, denial.fatal(denial.CONNECTION_FAILURE, reason))
        finally:
            await self._runtime.dismiss(admitted, reason)

    def _cancel(self, request: CancelRequest) -> None:
        mailbox = self._cancels.get((request.pid, request.key))
        if mailbox is not None:
            mailbox.post(CancelRequested())

    async def _session(self, leg: Leg, hello: Hello, admitted: Admitted) -> str:
        """Why the session ended. Raises UpstreamUnavailable."""
        connected = await self._target.connect(self._account, _startup(hello, admitted))
        encodings = settings.encodings(connected.parameters.get("server_encoding", ""))
        if connected.parameters.get("client_encoding", "") not in encodings:
            connected.leg.abort()
            raise ClientProtocolError(denial.FEATURE_NOT_SUPPORTED, settings.OTHER_ENCODING)
        # The pid is the real one: NOTIFY, pg_terminate_backend and lock waits name it. The secret is the proxy's.
        key = BackendKeyData(connected.key.pid, os.urandom(_KEY_BYTES))
        self._cancels[key.pid, key.key] = admitted.mailbox
        gate = driver.Gate(admitted.recorder, admitted.enforcer)
        try:
            leg.write(_greeting(connected.parameters, key))
            return await driver.run(
                PostgresSession(self._settings(connected, admitted, encodings)),
                leg,
                connected.leg,
                lambda _: gate,
                self._catalogs.of(admitted.handle.subject.root.name),
                lambda: self._target.cancel(connected),
                admitted.mailbox,
                client_buffer=self._proxy.limits.client_buffer,
            )
        finally:
            self._cancels.pop((key.pid, key.key), None)
            connected.leg.abort()

    def _settings(self, connected: Connected, admitted: Admitted, encodings: tuple[str, ...]) -> Settings:
        proxy = self._proxy
        return Settings(
            database=proxy.upstream.database,
            server_version=version_number(connected.parameters.get("server_version", "")),
            duties=admitted.handle.obligations,
            keeping=Keeping(admitted.handle.obligations, proxy.limits.recorded),
            hash_keys=self._hash_keys,
            hold=proxy.approval.hold.total_seconds(),
            hold_in_transaction=proxy.approval.hold_in_transaction.total_seconds(),
            max_statement=proxy.limits.statement_bytes,
            idle=None if proxy.limits.idle is None else proxy.limits.idle.total_seconds(),
            encodings=encodings,
            news=self._catalogs.news,
        )


def _account(proxy: PostgresProxy, name: str) -> Account:
    credential = proxy.credentials[name]
    return Account(credential.user, None if credential.password is None else credential.password.resolve())


def _startup(hello: Hello, admitted: Admitted) -> Mapping[str, str]:
    """The start-up parameters for the target: the client's settings, never its name or credential."""
    chosen = {"client_encoding": "UTF8", **hello.settings}
    if any(isinstance(duty, ReadOnly) for duty in admitted.handle.obligations):
        # The second line only: the session itself refuses what writes.
        chosen["default_transaction_read_only"] = "on"
    return chosen


async def _farewell(leg: Leg, error: ErrorResponse) -> None:
    leg.write(error.encode())
    await leg.finish()


def _login_refused(deny: Deny) -> ErrorResponse:
    if any(reason.code == "authentication-failed" for reason in deny.reasons):
        return denial.fatal(INVALID_PASSWORD, "password authentication failed")
    fields = denial.refused(deny, "this connection").fields
    return ErrorResponse({**fields, "S": "FATAL", "V": "FATAL"})


def _greeting(parameters: Mapping[str, str], key: BackendKeyData) -> bytes:
    """What a server says after a login: the target's parameters and pid, and a secret key of the proxy's own."""
    statuses = (ParameterStatus(name, value).encode() for name, value in parameters.items())
    ready = ReadyForQuery(TransactionStatus.IDLE).encode()
    return b"".join((AuthenticationOk().encode(), *statuses, key.encode(), ready))
