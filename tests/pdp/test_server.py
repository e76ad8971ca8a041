"""The service as a process: starts, says that it is ready, ends on a signal, and is alone in its folder."""

import asyncio
import json
import os
import signal
import socket
import ssl
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from pdp.certificates import Authority, Certificate, certificate_of, client_channel, private_folder
from pdp.config import load_config
from pdp.server import running, serve
from pdp.v1.decision_service_pb2 import KeepSessionsRequest
from pdp.v1.decision_service_pb2_grpc import DecisionServiceStub
from pdp.v1.strict_yaml import ConfigError
from tests.certificates import make_authority
from tests.pdp.serving import Script, configure, folder, status_of


def test_it_serves_until_it_is_told_to_stop():
    async def scenario():
        with folder() as path:
            config = configure(path)
            serving = asyncio.create_task(serve(config, Script()))
            ready = config.state / "pdp.ready"
            while not ready.exists():
                await asyncio.sleep(0)
                assert not serving.done()
            assert ready.read_text() == f"{os.getpid()} {config.listen}\n"
            assert (config.state.stat().st_mode & 0o777, config.listen.path.stat().st_mode & 0o777) == (0o700, 0o600)
            os.kill(os.getpid(), signal.SIGTERM)
            await serving
            assert not ready.exists()

    asyncio.run(scenario())


def test_the_socket_of_a_service_that_was_killed_is_no_hindrance():
    async def scenario():
        with folder() as path:
            config = configure(path)
            private_folder(config.state)
            with socket.socket(socket.AF_UNIX) as left_behind:
                left_behind.bind(str(config.listen.path))
            assert config.listen.path.is_socket()
            authority = Authority.open(config.state)
            async with running(config, Script()), client_channel(config.listen, authority.issue("shop")) as channel:
                await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=5)

    asyncio.run(scenario())


def test_two_services_do_not_share_a_state_folder():
    async def scenario():
        with folder() as path:
            config = configure(path)
            async with running(config, Script()):
                with pytest.raises(ConfigError, match="another decision service runs"):
                    async with running(config, Script()):
                        pass
            async with running(config, Script()):
                pass

    asyncio.run(scenario())


def test_it_listens_on_a_port_with_a_certificate_of_its_name():
    async def scenario():
        with folder() as path:
            configure(path, more='  listen: "127.0.0.1:0"')
            config = load_config(path / "checkrein.yaml")
            async with running(config, Script()) as service:
                authority = Authority.open(config.state)
                certificate = authority.issue("shop")
                credentials = grpc.ssl_channel_credentials(
                    certificate.authority.read_bytes(),
                    certificate.key.read_bytes(),
                    certificate.certificate.read_bytes(),
                )
                port = service.address.rpartition(":")[2]
                async with grpc.aio.secure_channel(f"localhost:{port}", credentials) as channel:
                    health = health_pb2_grpc.HealthStub(channel)
                    await health.Check(health_pb2.HealthCheckRequest(), wait_for_ready=True, timeout=5)

    asyncio.run(scenario())


def test_an_address_that_is_taken_is_named():
    async def scenario():
        with folder() as one, folder() as two:
            configure(one, more='  listen: "127.0.0.1:0"')
            async with running(load_config(one / "checkrein.yaml"), Script()) as service:
                taken = configure(two, more=f'  listen: "{service.address}"')
                with pytest.raises(ConfigError, match=r"cannot listen on 127\.0\.0\.1"):
                    async with running(taken, Script()):
                        pass

    asyncio.run(scenario())


def test_readiness_names_the_place_of_a_mistake_and_nothing_that_stands_there():
    async def scenario():
        with folder() as path:
            admin = path / "admin"
            configure(path, more=f'  listen: "127.0.0.1:0"\n  admin: {{listen: "unix:{admin}"}}')
            broken = Script(
                policy_error="p/guard.rego:3: unexpected token: allow if input.subject.id == `olga`",
                policy_error_places=("p/guard.rego:3",),
            )
            async with running(load_config(path / "checkrein.yaml"), broken):
                reader, writer = await asyncio.open_unix_connection(str(admin))
                writer.write(b"GET /readyz HTTP/1.0\r\n\r\n")
                answer = await reader.read()
                writer.close()
                warnings = json.loads(answer.partition(b"\r\n\r\n")[2])["warnings"]
                assert "the newest policy files are not in force: p/guard.rego:3" in warnings

    asyncio.run(scenario())


def test_a_renewed_certificate_serves_the_next_connection():
    async def serial(address: str, root: bytes) -> int:
        host, _, port = address.rpartition(":")
        context = ssl.create_default_context(cadata=root.decode())
        _, writer = await asyncio.open_connection(host, int(port), ssl=context, server_hostname="localhost")
        found = writer.get_extra_info("ssl_object").getpeercert()["serialNumber"]
        writer.transport.abort()
        return int(found, 16)

    async def wrong(admin: Path) -> list[str]:
        reader, writer = await asyncio.open_unix_connection(str(admin))
        writer.write(b"GET /readyz HTTP/1.0\r\n\r\n")
        answer = await reader.read()
        writer.close()
        return json.loads(answer.partition(b"\r\n\r\n")[2])["warnings"]

    async def scenario():
        with folder() as path:
            admin = path / "admin"
            configure(path, more=f'  listen: "127.0.0.1:0"\n  admin: {{listen: "unix:{admin}"}}')
            config = load_config(path / "checkrein.yaml")
            async with running(config, Script()) as service:
                certificate = certificate_of(config)
                root = certificate.authority.read_bytes()
                first = await serial(service.address, root)
                assert await serial(service.address, root) == first
                certificate.certificate.unlink()
                assert certificate_of(config) == certificate
                second = await serial(service.address, root)
                assert second != first
                assert await wrong(admin) == []
                # Half of a pair changes nothing, and is told to who asks whether all is well.
                stranger = Authority.open(config.state).issue("stranger")
                certificate.certificate.write_bytes(stranger.certificate.read_bytes())
                assert await serial(service.address, root) == second
                assert await wrong(admin) == ["the new certificate is not used: the key is not the certificate's"]

    asyncio.run(scenario())


def test_certificates_of_an_authority_that_somebody_else_runs(tmp_path: Path):
    outside = make_authority(tmp_path)
    server = outside.issue("pdp", dns=["pdp.corp"])
    proxy = outside.issue("pep", uris=["spiffe://corp/pep/front"])
    stranger = outside.issue("other", uris=["spiffe://corp/pep/other"])
    twofold = outside.issue("two", uris=["spiffe://corp/pep/front", "spiffe://corp/pep/other"])
    tls = f"{{cert: {server.certificate}, key: {server.key}, client_ca: {outside.certificate}}}"
    grants = "{certificate: 'spiffe://corp/pep/front', resources: [shop]}"

    async def scenario():
        with folder() as path:
            config = configure(path, more=f"  tls: {tls}\n  proxies: [{grants}]")
            async with running(config, Script()):
                assert not (config.state / "ca.key").exists()
                for presented, expected in ((proxy, True), (stranger, False), (twofold, False)):
                    files = Certificate(presented.certificate, presented.key, outside.certificate)
                    async with client_channel(config.listen, files, server_name="pdp.corp") as channel:
                        keep = DecisionServiceStub(channel).KeepSessions(KeepSessionsRequest(), timeout=5)
                        if expected:
                            await keep
                        else:
                            assert (await status_of(keep))[0] is grpc.StatusCode.PERMISSION_DENIED

    asyncio.run(scenario())


def test_certificates_of_another_authority_are_not_accepted():
    async def scenario():
        with folder() as one, folder() as two:
            config = configure(one)
            stranger = Authority.open(two / "state")
            channel = client_channel(config.listen, stranger.issue("shop"))
            async with running(config, Script()), channel:
                health = health_pb2_grpc.HealthStub(channel)
                with pytest.raises(grpc.aio.AioRpcError) as error:
                    await health.Check(health_pb2.HealthCheckRequest(), timeout=5)
                assert error.value.code() is grpc.StatusCode.UNAVAILABLE

    asyncio.run(scenario())
