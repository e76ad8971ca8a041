"""Rows that nobody described, cancel requests by TLS, and how much one session may keep here."""

import asyncio
import contextlib
import json
import os
from pathlib import Path
from typing import Any

import psycopg

from pep.core.model import Grant, NullMask
from pep.postgres.backend import DataRow, ErrorResponse
from pep.postgres.classification import Classification, document
from pep.postgres.codec import Run
from pep.postgres.config import PostgresUpstream
from pep.postgres.frames import BackendTag, Frame
from pep.postgres.frontend import Query
from pep.postgres.obligations import Duties
from pep.postgres.results import Execution
from pep.postgres.upstream import Account, Target, UpstreamUnavailable, version_number
from tests.certificates import make_authority
from tests.fix_postgres import PostgresServer
from tests.relay import masks_customers, relay


def test_rows_under_a_mask_that_were_not_described_are_cut_off() -> None:
    statement = Classification(document("write", "update"), "update", "write")
    grant = Grant(object(), "x", ("d",), "r", ((),))
    execution = Execution(grant, (statement,), Duties({(1, 1): NullMask()}, frozenset(), masking=True))
    row = DataRow((b"secret",)).encode()
    assert execution.take(Run(BackendTag.DATA_ROW, 1, row)) == b""
    assert execution.refusal is not None


def test_versions_are_counted_as_the_classifier_compares_them() -> None:
    assert version_number("18.1") == 180_000
    assert version_number("15.14 (Debian 15.14-0+deb12u1)") == 150_000
    assert version_number("devel") == 0


def test_what_is_new_in_18_is_understood_through_the_proxy(postgres18: PostgresServer) -> None:
    with psycopg.connect(postgres18.create_database("review_results"), autocommit=True) as connection:
        connection.execute("create table notes (id int, note text); insert into notes values (1, 'a')")
        connection.execute("grant all on notes to public")
    with relay(postgres18, "review_results", masks_customers) as proxy, proxy.connect(autocommit=True) as client:
        changed = client.execute("update notes set note = 'b' returning old.note, new.note").fetchall()
        assert changed == [("a", "b")]
        assert client.execute("select json_object('a': 1)::text").fetchall() == [('{"a" : 1}',)]


def test_a_cancel_request_checks_the_certificate_against_the_name(postgres15_tls: PostgresServer) -> None:
    """A server's certificate is for its name, mostly, and not for the address that the name leads to."""
    folder = postgres15_tls.data_dir
    authority = make_authority(folder, "by-name")
    pair = authority.issue("by-name-server", dns=["localhost"])
    owner = folder.stat()
    os.chown(pair.key, owner.st_uid, owner.st_gid)
    with psycopg.connect(postgres15_tls.superuser_dsn, autocommit=True) as connection:
        _serve_with(connection, pair.certificate, pair.key)
        try:
            address = {"addresses": [f"localhost:{postgres15_tls.port}"], "database": "postgres"}
            upstream = PostgresUpstream.model_validate_json(
                json.dumps(address | {"tls": {"mode": "verify-full", "ca": str(authority.certificate)}})
            )
            assert asyncio.run(_answer_to_a_cancelled_query(Target(upstream))) == "57014"
        finally:
            connection.execute("alter system reset all")
            connection.execute("select pg_reload_conf()")


def _serve_with(connection: "psycopg.Connection[Any]", certificate: Path, key: Path) -> None:
    for name, file in (("ssl_cert_file", certificate), ("ssl_key_file", key)):
        connection.execute(f"alter system set {name} = '{file}'")
    connection.execute("select pg_reload_conf()")


async def _answer_to_a_cancelled_query(target: Target) -> str:
    for _ in range(50):  # until the server has read its settings
        with contextlib.suppress(UpstreamUnavailable):
            connected = await target.connect(Account("checkrein_trust", None), {})
            break
        await asyncio.sleep(0.05)
    connected.leg.write(Query("select pg_sleep(10)").encode())
    await asyncio.sleep(0.1)
    await target.cancel(connected)
    async with asyncio.timeout(5):
        while True:
            for item in connected.codec.feed(await connected.leg.read()):
                if isinstance(item, Frame) and item.tag == BackendTag.ERROR_RESPONSE:
                    connected.leg.abort()
                    return ErrorResponse.decode(item.payload).fields["C"]
