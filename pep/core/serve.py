"""How a proxy starts and stops: from its first record to its last, beside the other proxies of the same process.

A protocol's server is `async def serve(proxy: ProxyConfig, runtime: Runtime) -> None`; which one serves which protocol
is not known here. Each proxy has its own certificate, so its own connection to the decision service, spool and chain.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Final

from pdp.v1.addresses import SocketAddress, TcpAddress, UnixAddress
from pdp.v1.operations import endpoint
from pdp.v1.strict_yaml import ConfigError
from pdp.v1.tracing import open_tracer
from pdp.v1.turns import Turns
from pep.core.config import Config, DecisionsTls, ProxyConfig
from pep.core.metered import MeteredDecisionClient
from pep.core.recorder import Recorder, SpoolError, process_chain
from pep.core.records import Event, EventType
from pep.core.renewal import Renewal
from pep.core.runtime import CLOSE_SECONDS, Runtime, meters_of, version
from pep.core.shipper import Shipper, Signing
from pep.core.signer import Signer
from pep.core.spool import Spool
from pep.core.tls import channel_credentials

# The name in the certificate of a decision service that made its own authority.
_LOCAL_SERVER_NAME: Final = "pdp.checkrein.internal"
_SHIP_ON_STOP_SECONDS: Final = 3.0


Server = Callable[[ProxyConfig, Runtime], Awaitable[None]]


async def serve(config: Config, server_of: Callable[[str], Server]) -> None:
    """Serve every proxy of the configuration until SIGTERM or SIGINT. Raises ConfigError before anything listens."""
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    servers = [(proxy, server_of(proxy.protocol)) for proxy in config.proxies]
    try:
        async with asyncio.TaskGroup() as tasks:
            for proxy, server in servers:
                tasks.create_task(run_proxy(config, proxy, server, stopping))
    except ExceptionGroup as errors:
        wrong, other = errors.split(ConfigError)
        if other is None and wrong is not None:
            raise ConfigError(*(str(error) for error in _leaves(wrong))) from None
        raise


def _leaves(group: ExceptionGroup[ConfigError]) -> Iterator[ConfigError]:
    """What is in a group, also in the groups of tasks within tasks."""
    for error in group.exceptions:
        if isinstance(error, ExceptionGroup):
            yield from _leaves(error)
        else:
            yield error


async def run_proxy(config: Config, proxy: ProxyConfig, server: Server, stopping: asyncio.Event) -> None:
    """One proxy from its first record to its last."""
    addresses, tls = decision_route(config, proxy)
    settings = config.decisions
    meters = meters_of(proxy)
    tracer = open_tracer(config.telemetry.traces, f"checkrein-pep-{proxy.name}")
    decisions = MeteredDecisionClient(
        addresses,
        channel_credentials(tls),
        server_name=tls.server_name,
        open_timeout=settings.timeout.open.total_seconds(),
        decide_timeout=settings.timeout.decide.total_seconds(),
        turns=Turns(proxy.limits.decisions_at_once, proxy.limits.decisions_at_once_per_subject),
        meters=meters,
        tracer=tracer,
    )
    try:
        spool = Spool.open(
            config.spool_dir / proxy.name,
            fsync_seconds=settings.spool.fsync_seconds,
            max_bytes=settings.spool.max_bytes,
            share=settings.spool.share,
        )
    except SpoolError as error:
        await decisions.close()
        raise ConfigError(f"proxy {proxy.name}: {error}") from None
    try:
        recorder = Recorder(spool, process_chain(proxy.name), "", observer=meters)
        runtime = Runtime(proxy, decisions, spool, recorder, stopping, meters)
        signer = Signer(tls.cert, tls.key)
        shipper = Shipper(spool, decisions, signing=Signing(signer, recorder.session, lambda: runtime.begun))
        meters.watch(lambda: runtime.standing(shipper.age))
        decisions.report(lambda: runtime.spooled(shipper.age))
        recorder.record(_process_event("started", proxy))
        async with asyncio.TaskGroup() as background:
            renewal = Renewal(tls, decisions.renew)
            work = (runtime.sessions.run(), spool.run(), runtime.owed.run(), shipper.run(), renewal.run())
            running = [background.create_task(each) for each in work]
            try:
                async with _operated(proxy, runtime), _told(config, runtime):
                    await _until_stopped(server(proxy, runtime), runtime)
            finally:
                # A session that is opened meanwhile is one of those whose number stands in the last record.
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(CLOSE_SECONDS):
                        await runtime.settled()
                # Where ends are owed that cannot be written, a successor says of the process that it is lost.
                if runtime.owed.settle():
                    with contextlib.suppress(SpoolError):
                        recorder.record(_process_event("stopped", proxy, sessions=runtime.begun))
                await shipper.drained(_SHIP_ON_STOP_SECONDS)
                for task in running:
                    task.cancel()
    except SpoolError as error:
        raise ConfigError(f"proxy {proxy.name}: {error}") from None
    finally:
        spool.close()
        await decisions.close()
        await asyncio.to_thread(tracer.close)


@contextlib.asynccontextmanager
async def _operated(proxy: ProxyConfig, runtime: Runtime) -> AsyncIterator[None]:
    """Answers what an operator's tools ask, where the configuration says so."""
    if proxy.admin is None:
        yield
        return
    async with endpoint(proxy.admin.listen, runtime.meters.registry, runtime.readiness) as address:
        runtime.log.info("answering operators", address=str(address))
        yield


@contextlib.asynccontextmanager
async def _told(config: Config, runtime: Runtime) -> AsyncIterator[None]:
    """`pep-NAME.ready` is in the state folder while the proxy listens, for whoever has started it and waits."""
    file = config.state / f"pep-{runtime.proxy.name}.ready"

    async def tell() -> None:
        await runtime.listener.ready.wait()
        try:
            file.write_text(f"{os.getpid()} {runtime.listener.address}\n", "utf-8")
        except OSError as error:
            runtime.log.warning("not told that it listens", file=str(file), error=str(error))

    telling = asyncio.create_task(tell())
    try:
        yield
    finally:
        telling.cancel()
        with contextlib.suppress(OSError):
            file.unlink()


async def _until_stopped(serving: Awaitable[None], runtime: Runtime) -> None:
    """Serve until the process is told to stop; then sessions get a while to end by themselves, and are cut off."""
    async with asyncio.TaskGroup() as tasks:
        server = tasks.create_task(_awaited(serving))
        stopped = tasks.create_task(runtime.stopping.wait())
        await asyncio.wait((server, stopped), return_when=asyncio.FIRST_COMPLETED)
        if stopped.done():
            runtime.sessions.revoke_all("the proxy is stopping")
            await runtime.sessions.emptied(runtime.proxy.shutdown.drain.total_seconds())
        server.cancel()
        stopped.cancel()


async def _awaited(work: Awaitable[None]) -> None:
    await work


def decision_route(config: Config, proxy: ProxyConfig) -> tuple[list[str], DecisionsTls]:
    """Where the decision service is and what the proxy shows it: as configured, or the one of the same file."""
    if config.decisions.tls is not None:
        return [target(address) for address in config.decisions.addresses], config.decisions.tls
    listen: SocketAddress | None = None if config.pdp is None else config.pdp.listen
    folder = config.state / "certificates"
    tls = DecisionsTls(
        cert=folder / f"pep-{proxy.name}.crt",
        key=folder / f"pep-{proxy.name}.key",
        ca=config.state / "ca.crt",
        server_name=_LOCAL_SERVER_NAME,
    )
    missing = [path for path in (tls.cert, tls.key, tls.ca) if not path.exists()]
    if missing:
        raise ConfigError(
            f"proxy {proxy.name}: {missing[0]} does not exist; start the decision service of this file first, "
            "or say in decisions: how to reach another one"
        )
    return [target(listen or UnixAddress(config.state / "pdp.sock"))], tls


def target(address: SocketAddress) -> str:
    """An address as gRPC spells it; one that listens everywhere is reached on this machine."""
    match address:
        case UnixAddress(path):
            return f"unix:{path}"
        case TcpAddress("0.0.0.0" | "::", port):  # noqa: S104 - read here, not bound
            return f"localhost:{port}"
        case TcpAddress():
            return str(address)


def _process_event(what: str, proxy: ProxyConfig, **more: int) -> Event:
    facts = {
        **more,
        "what": what,
        "proxy": proxy.name,
        "pid": os.getpid(),
        "version": version(),
    }
    return Event(EventType.PROCESS, facts=facts)
