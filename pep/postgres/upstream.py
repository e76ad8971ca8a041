"""The proxy's own connections to the target: login, the catalog's connection, cancel requests.

Does I/O, over `pep.core.leg`. The login itself is `scram.UpstreamLogin`; what the target says during it never reaches a
client except as a fixed sentence.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import ssl
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from pep.core.errors import ConfigError, UpstreamProtocolError
from pep.core.leg import Leg
from pep.core.tls import upstream_context
from pep.postgres import denial
from pep.postgres.authentication import decode_authentication
from pep.postgres.backend import BackendKeyData, DataRow, ErrorResponse, ParameterStatus
from pep.postgres.codec import BackendCodec, Partial, Run
from pep.postgres.config import PostgresUpstream
from pep.postgres.frames import BackendTag, Frame
from pep.postgres.frontend import PROTOCOL_3_0, CancelRequest, Query, SSLRequest, StartupMessage, Terminate
from pep.postgres.scram import UpstreamLogin

CANCEL_SECONDS: Final = 5.0
# A catalog of tens of thousands of relations is read in seconds; a target that takes longer cannot be waited for.
QUERY_SECONDS: Final = 15.0

_BROKEN: Final = (OSError, TimeoutError, UpstreamProtocolError)


class UpstreamUnavailable(Exception):
    """The target could not be reached, or did not let the proxy in; the text is fit for the log, not for the client."""


@dataclass(frozen=True, slots=True)
class Account:
    """What the proxy logs in with."""

    user: str
    password: str | None = field(repr=False)


@dataclass(slots=True)
class Connected:
    """A connection that is ready for queries."""

    leg: Leg
    parameters: dict[str, str]
    key: BackendKeyData
    codec: BackendCodec
    host: str = ""


class Target:
    """Where connections go to. Made once for a proxy."""

    def __init__(self, upstream: PostgresUpstream) -> None:
        self._upstream = upstream
        self._timeout = upstream.connect_timeout.total_seconds()
        self._tls = upstream_context(upstream.tls)
        self.database = upstream.database

    async def connect(self, account: Account, parameters: Mapping[str, str]) -> Connected:
        """A logged-in connection at the first address that answers. Raises UpstreamUnavailable."""
        why = "no address"
        for host, port in _addresses(self._upstream):
            try:
                async with asyncio.timeout(self._timeout):
                    return await self._connect_to(host, port, account, parameters)
            except TimeoutError:
                why = f"{host}:{port} did not answer in {self._timeout:g} s"
            except (OSError, ssl.SSLError) as error:
                why = f"{host}:{port}: {error}"
            except UpstreamProtocolError as error:
                why = f"{host}:{port}: {error.message}"
        raise UpstreamUnavailable(why)

    async def _connect_to(self, host: str, port: int, account: Account, parameters: Mapping[str, str]) -> Connected:
        leg = await Leg.connect(host, port, timeout=self._timeout)
        try:
            await self._secure(leg, host)
            startup = {"user": account.user, "database": self.database, **parameters}
            leg.write(StartupMessage(PROTOCOL_3_0, startup).encode())
            connected = await _login(leg, account)
        except BaseException:
            leg.abort()
            raise
        connected.host = host
        return connected

    async def _secure(self, leg: Leg, host: str) -> None:
        if self._tls is None:
            return
        leg.write(SSLRequest().encode())
        answer = await leg.read()
        if answer != b"S":
            raise UpstreamProtocolError(denial.CONNECTION_FAILURE, "the server does not offer TLS")
        await leg.start_tls(self._tls, server_side=False, server_hostname=host)

    async def cancel(self, connected: Connected) -> None:
        """Ask the target to cancel what that connection runs; returns once the target has taken the request.

        It goes to the same address, a name may have several; the certificate there is for the name.
        """
        host, _, port = connected.leg.peer.rpartition(":")
        with contextlib.suppress(OSError, ssl.SSLError, TimeoutError, UpstreamProtocolError):
            async with asyncio.timeout(CANCEL_SECONDS):
                messenger = await Leg.connect(host.strip("[]"), int(port))
                try:
                    await self._secure(messenger, connected.host)
                    messenger.write(CancelRequest(connected.key.pid, connected.key.key).encode())
                    while await messenger.read():
                        pass
                finally:
                    await messenger.finish()


def _addresses(upstream: PostgresUpstream) -> Iterator[tuple[str, int]]:
    for address in upstream.addresses:
        host, port = getattr(address, "host", None), getattr(address, "port", None)
        if host is None or port is None:
            raise ConfigError(f"an upstream of a PostgreSQL proxy is host:port, not {address}")
        yield host, port


async def frames(leg: Leg, codec: BackendCodec) -> AsyncIterator[Frame | Run | Partial]:
    """Messages until the connection ends."""
    while True:
        data = await leg.read()
        if not data:
            raise UpstreamProtocolError(denial.CONNECTION_FAILURE, "the server closed the connection")
        for frame in codec.feed(data):
            yield frame


async def _login(leg: Leg, account: Account) -> Connected:
    login = UpstreamLogin(account.user, account.password, tls=leg.encrypted)
    codec = BackendCodec()
    parameters: dict[str, str] = {}
    key: BackendKeyData | None = None
    async for frame in frames(leg, codec):
        if not isinstance(frame, Frame):
            raise UpstreamProtocolError(denial.PROTOCOL_VIOLATION, "rows during the login")
        match frame.tag:
            case BackendTag.AUTHENTICATION:
                answer = login.receive(decode_authentication(frame.payload))
                if answer is not None:
                    leg.write(answer)
            case BackendTag.ERROR_RESPONSE:
                fields = ErrorResponse.decode(frame.payload).fields
                raise UpstreamProtocolError(fields.get("C", ""), f"{fields.get('C', '')} {fields.get('M', '')}")
            case BackendTag.PARAMETER_STATUS:
                status = ParameterStatus.decode(frame.payload)
                parameters[status.name] = status.value
            case BackendTag.BACKEND_KEY_DATA:
                key = BackendKeyData.decode(frame.payload)
            case BackendTag.NOTICE_RESPONSE | BackendTag.NEGOTIATE_PROTOCOL_VERSION:
                continue
            case BackendTag.READY_FOR_QUERY if login.done and key is not None:
                return Connected(leg, parameters, key, codec)
            case _:
                raise UpstreamProtocolError(denial.PROTOCOL_VIOLATION, f"unexpected 0x{frame.tag:02X} in the login")
    raise AssertionError("unreachable: frames raises at the end")


class OwnConnection:
    """The proxy's own connection, for its own statements; reopened when it breaks."""

    def __init__(self, target: Target, account: Account) -> None:
        self._target = target
        self._account = account
        self._connected: Connected | None = None
        self._lock = asyncio.Lock()
        self.server_version = 0

    async def rows(self, text: str) -> list[tuple[str, ...]]:
        """The rows of one statement, as text. Raises UpstreamUnavailable."""
        async with self._lock:
            if self._connected is not None:
                try:
                    return await self._query(text)
                except _BROKEN:
                    # It may have been idle for long and died meanwhile; once more on a new one.
                    await self._drop()
            try:
                return await self._query(text)
            except _BROKEN as error:
                await self._drop()
                raise UpstreamUnavailable(str(error) or type(error).__name__) from error

    async def close(self) -> None:
        async with self._lock:
            await self._drop()

    async def _query(self, text: str) -> list[tuple[str, ...]]:
        try:
            async with asyncio.timeout(QUERY_SECONDS):
                return await self._rows(text)
        except BaseException:
            # Also when whoever asked has left: what is still to come would be taken for the next question's answer.
            connected, self._connected = self._connected, None
            if connected is not None:
                connected.leg.abort()
            raise

    async def _rows(self, text: str) -> list[tuple[str, ...]]:
        if self._connected is None:
            self._connected = await self._target.connect(
                self._account, {"application_name": "checkrein", "client_encoding": "UTF8"}
            )
            self.server_version = version_number(self._connected.parameters.get("server_version", ""))
        leg, codec = self._connected.leg, self._connected.codec
        leg.write(Query(text).encode())
        rows: list[tuple[str, ...]] = []
        failed: str | None = None
        async for item in frames(leg, codec):
            if isinstance(item, Run):
                rows.extend(
                    tuple((value or b"").decode() for value in DataRow.decode(row.payload).values)
                    for row in item.frames()
                )
            elif item.tag == BackendTag.ERROR_RESPONSE and isinstance(item, Frame):
                fields = ErrorResponse.decode(item.payload).fields
                failed = f"{fields.get('C', '')} {fields.get('M', '')}"
            elif item.tag == BackendTag.READY_FOR_QUERY:
                break
        if failed is not None:
            raise UpstreamProtocolError(denial.SYSTEM_ERROR, f"the catalog cannot be read: {failed}")
        return rows

    async def _drop(self) -> None:
        connected, self._connected = self._connected, None
        if connected is not None:
            connected.leg.write(Terminate().encode())
            # TLS takes a round trip to close, which the loop at the end of the process must not cut off.
            await connected.leg.finish()


def version_number(text: str) -> int:
    """The major version of a `server_version` parameter as `server_version_num` counts, 180000 for 18; 0 if unknown."""
    found = re.match(r"\d{1,4}", text, re.ASCII)
    return int(found[0]) * 10_000 if found is not None else 0
