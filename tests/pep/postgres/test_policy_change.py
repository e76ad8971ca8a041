"""A grant releases further slices of a portal only while the policies that gave it are in force."""

import asyncio

import asyncpg

from tests.fix_postgres import PostgresServer
from tests.relay import Action, Decision, allow, deny, relay


def test_a_slice_under_new_policies_is_decided_again(postgres18: PostgresServer) -> None:
    postgres18.create_database("slices")
    open_to_all = True

    def policy(action: Action) -> Decision:
        return deny("no more") if action.properties["kind"] == "select" and not open_to_all else allow()

    async def conversation() -> str:
        nonlocal open_to_all
        connection = await asyncpg.connect(proxy.url)
        await connection.execute("begin")
        try:
            cursor = await connection.cursor("select generate_series(1, 100000)")
            assert len(await cursor.fetch(5)) == 5
            asked = len(proxy.decisions.asked)
            assert len(await cursor.fetch(5)) == 5
            assert len(proxy.decisions.asked) == asked, "a slice under the same policies needs no decision"
            open_to_all = False
            proxy.decisions.revision = "sha256:other"
            while True:
                assert len(await cursor.fetch(1)) == 1
        except asyncpg.InsufficientPrivilegeError as error:
            return str(error)
        finally:
            await connection.close()

    with relay(postgres18, "slices", policy) as proxy:
        assert "no more" in asyncio.run(asyncio.wait_for(conversation(), 20))
