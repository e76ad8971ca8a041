"""Autobahn's cases of compression (permessage-deflate, RFC 7692). They take minutes: `make conformance` runs them."""

import pytest

from tests.conformance.autobahn import verdicts, ways

COMPRESSION = ["12.*", "13.*"]

# The runner leaves its own data files open.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.mark.timeout(1200)
def test_compressed_messages_pass_as_they_are_where_no_credential_has_to_be_watched_for() -> None:
    with ways({"none": True}) as ports:
        direct = verdicts(ports.direct, COMPRESSION, [])
        through = verdicts(ports.through, COMPRESSION, [])
    assert len(direct) == 216
    assert {verdict.behaviour for verdict in direct.values()} == {"OK"}
    assert through == direct


def test_compression_is_not_agreed_on_where_the_credential_could_hide_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHECKREIN_TEST_UPSTREAM", "upstream-secret-9a41")
    with ways({"bearer": {"env": "CHECKREIN_TEST_UPSTREAM"}}) as ports:
        through = verdicts(ports.through, ["12.1.1", "13.1.1"], [])
    assert {verdict.behaviour for verdict in through.values()} == {"UNIMPLEMENTED"}
