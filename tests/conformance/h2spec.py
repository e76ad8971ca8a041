"""h2spec against the proxy, over TLS: every case of RFC 9113 (as of RFC 7540) and of HPACK that it knows.

Not part of the test suite: `make conformance` builds h2spec and runs this.
"""

import os
import re
import subprocess
from collections.abc import Iterator

import pytest

from tests.http_api import HttpApi
from tests.http_relay import http_relay

GROUPS = ("generic", "http2", "hpack")
CASES = 146


@pytest.fixture
def port(api: HttpApi) -> Iterator[int]:
    own = api.authority.issue("proxy", dns=["localhost"])
    tls = {"cert": str(own.certificate), "key": str(own.key)}
    with http_relay(api.url, listen={"address": "127.0.0.1:0", "tls": tls}) as relay:
        yield relay.port


def test_every_case_passes(port: int) -> None:
    """The strict ones as well."""
    options = f"-h 127.0.0.1 -p {port} -t -k -P /orders/1 -o 10 -S"
    command = [os.environ["H2SPEC"], *options.split(), *GROUPS]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    score = re.search(r"([0-9]+) tests, ([0-9]+) passed, ([0-9]+) skipped, ([0-9]+) failed", done.stdout)
    assert score is not None, done.stdout
    assert tuple(map(int, score.groups())) == (CASES, CASES, 0, 0), done.stdout[done.stdout.find("Failures") :]
