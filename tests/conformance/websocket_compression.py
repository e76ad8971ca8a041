"""Autobahn's cases of compression (permessage-deflate, RFC 7692). They take minutes: `make conformance` runs them.

Each group is a test, which says case by case how far it is; ARGS="-k 12.3" runs one of them.
"""

import sys

import pytest

from tests.conformance.autobahn import each_verdict, verdicts, ways

GROUPS = [f"{family}.{number}" for family, last in ((12, 5), (13, 7)) for number in range(1, last + 1)]
CASES = range(1, 19)
# What four cases at once may take on a busy machine; the longest of them send thousands of messages of 128 KiB.
LONGEST = 300.0

# The runner leaves its own data files open.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("group", GROUPS)
def test_compressed_messages_pass_as_they_are_where_no_credential_has_to_be_watched_for(
    group: str, capsys: pytest.CaptureFixture[str]
) -> None:
    cases = [f"{group}.{number}" for number in CASES]

    def tell(way: str, line: str) -> None:
        with capsys.disabled():
            sys.stdout.write(f"\n{way:8} {line}")
            sys.stdout.flush()

    with ways({"none": True}) as ports:
        direct = each_verdict(ports.direct, cases, lambda line: tell("direct", line), LONGEST)
        through = each_verdict(ports.through, cases, lambda line: tell("through", line), LONGEST)
    assert list(direct) == cases
    assert {verdict.behaviour for verdict in direct.values()} == {"OK"}
    assert through == direct


def test_compression_is_not_agreed_on_where_the_credential_could_hide_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHECKREIN_TEST_UPSTREAM", "upstream-secret-9a41")
    with ways({"bearer": {"env": "CHECKREIN_TEST_UPSTREAM"}}) as ports:
        through = verdicts(ports.through, ["12.1.1", "13.1.1"], [])
    assert {verdict.behaviour for verdict in through.values()} == {"UNIMPLEMENTED"}
