"""The order of a session's events, and who handles them when."""

import asyncio

import pytest

from pep.core.mailbox import Mailbox
from pep.core.wire import ClientClosed, ClientData


def test_what_was_posted_before_is_delivered_first_and_the_rest_at_once():
    async def run() -> None:
        mailbox, seen = Mailbox(), []
        mailbox.post(ClientData(b"1"))

        def deliver(item: object) -> bool:
            seen.append(item)
            return isinstance(item, ClientClosed)

        delivering = asyncio.create_task(mailbox.deliver(deliver))
        await asyncio.sleep(0)
        mailbox.post(ClientData(b"2"))
        assert seen == [ClientData(b"1"), ClientData(b"2")]
        mailbox.post(ClientClosed())
        mailbox.post(ClientData(b"3"))
        await delivering
        assert seen == [ClientData(b"1"), ClientData(b"2"), ClientClosed()]

    asyncio.run(run())


def test_what_is_posted_by_a_delivery_comes_behind_it():
    async def run() -> None:
        mailbox, seen = Mailbox(), []

        def deliver(item: object) -> bool:
            if item == ClientData(b"1"):
                mailbox.post(ClientData(b"2"))
                mailbox.post(ClientClosed())
            seen.append(item)
            return isinstance(item, ClientClosed)

        mailbox.post(ClientData(b"1"))
        await mailbox.deliver(deliver)
        assert seen == [ClientData(b"1"), ClientData(b"2"), ClientClosed()]

    asyncio.run(run())


def test_a_delivery_that_fails_is_the_last_one():
    async def run() -> None:
        mailbox, seen = Mailbox(), []

        def deliver(item: object) -> bool:
            seen.append(item)
            raise ValueError("odd")

        delivering = asyncio.create_task(mailbox.deliver(deliver))
        await asyncio.sleep(0)
        # Whoever posts has nothing to do with it.
        mailbox.post(ClientData(b"1"))
        mailbox.post(ClientData(b"2"))
        with pytest.raises(ValueError, match="odd"):
            await delivering
        assert seen == [ClientData(b"1")]

    asyncio.run(run())


def test_nothing_is_delivered_to_somebody_who_was_cancelled():
    async def run() -> None:
        mailbox, seen = Mailbox(), []
        delivering = asyncio.create_task(mailbox.deliver(lambda item: bool(seen.append(item))))
        await asyncio.sleep(0)
        delivering.cancel()
        mailbox.post(ClientData(b"1"))
        with pytest.raises(asyncio.CancelledError):
            await delivering
        mailbox.post(ClientData(b"2"))
        assert ClientData(b"2") not in seen

    asyncio.run(run())
