"""A new certificate that does not work ends nothing, whatever is wrong with it."""

import asyncio
from pathlib import Path

import grpc
import pytest
import structlog

from pep.core.config import DecisionsTls
from pep.core.renewal import Renewal
from tests.certificates import make_authority


@pytest.mark.parametrize("error", [RuntimeError("no such curve"), OSError("away"), KeyError("name")])
def test_the_old_one_stays_in_use_and_the_new_one_is_tried_again(tmp_path: Path, error: Exception):
    async def scenario() -> None:
        authority = make_authority(tmp_path)
        issued = authority.issue("shop", uris=["spiffe://checkrein/pep/shop"])
        errors, taken = [error], []

        async def renew(credentials: grpc.ChannelCredentials) -> None:
            if errors:
                raise errors.pop()
            taken.append(credentials)

        tls = DecisionsTls(cert=issued.certificate, key=issued.key, ca=authority.certificate)
        renewal = Renewal(tls, renew)
        await renewal.look()
        assert not taken
        other = authority.issue("other", uris=["spiffe://checkrein/pep/shop"])
        issued.certificate.write_bytes(other.certificate.read_bytes())
        issued.key.write_bytes(other.key.read_bytes())
        with structlog.testing.capture_logs() as logs:
            await renewal.look()
            assert not taken
            await renewal.look()
        assert len(taken) == 1
        assert [each["event"] for each in logs] == [
            "the new certificate is not used yet",
            "the new certificate is in use",
        ]

    asyncio.run(scenario())
