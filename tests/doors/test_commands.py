"""`pdp revoke`, `restore`, `revocations`, `keys rotate` and `token --once`, as people type them."""

import asyncio

import jwt

from pdp.commands.failure import Status
from tests.pdp.commanding import OWNER, as_
from tests.pdp.serving import folder, serving


def test_somebody_is_shut_out_and_let_in_again():
    async def scenario():
        with folder() as path:
            async with serving(path) as service:
                proxy = await service.proxy()
                opened = await proxy.open()
                done = await as_(
                    service,
                    OWNER,
                    "revoke",
                    "subject",
                    "agent:planner",
                    "--reason",
                    "runs\x1b[2J wild",
                    "--until",
                    "2h",
                )
                assert (done.status, done.out) == (0, "subject agent:planner is revoked; sessions ended: 1\n")
                listed = await as_(service, OWNER, "revocations")
                heading, row = listed.out.splitlines()
                assert heading.split() == ["KIND", "NAME", "SINCE", "UNTIL", "BY", "WHY"]
                assert row.startswith("subject  agent:planner")
                assert "user:olga" in row
                assert "\x1b" not in row
                shown = await as_(service, OWNER, "sessions", "show", opened.session_id)
                assert "killed: the subject has been revoked: runs [2J wild" in shown.out
                done = await as_(service, OWNER, "restore", "subject", "agent:planner")
                assert (done.status, done.out) == (0, "subject agent:planner is let in again\n")
                assert (await as_(service, OWNER, "revocations")).out == "nothing is revoked\n"
                again = await as_(service, OWNER, "restore", "subject", "agent:planner")
                assert again.status == Status.NOT_POSSIBLE

    asyncio.run(scenario())


def test_what_makes_no_sense_is_said():
    async def scenario():
        with folder() as path:
            async with serving(path) as service:
                wrong = await as_(service, OWNER, "revoke", "subject", "planner", "--reason", "x")
                assert (wrong.status, wrong.err) == (2, "pdp: a subject is agent:ID, user:ID or service:ID\n")
                late = await as_(service, OWNER, "revoke", "key", "k", "--reason", "x", "--until", "2020-01-01")
                assert late.status == Status.USAGE

    asyncio.run(scenario())


def test_the_sessions_key_is_made_anew_and_a_token_for_one_use_says_so():
    async def scenario():
        with folder() as path:
            async with serving(path) as service:
                done = await as_(service, OWNER, "keys", "rotate")
                assert done.status == 0
                assert " signs from 20" in done.out
                once = await as_(service, OWNER, "token", "--subject", "agent:bot", "--audience", "shop", "--once")
                assert jwt.decode(once.out.strip(), options={"verify_signature": False})["once"] is True

    asyncio.run(scenario())
