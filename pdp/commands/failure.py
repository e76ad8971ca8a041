"""How a command fails: one text that says what to do, and an exit status."""

from __future__ import annotations

import enum


class Status(enum.IntEnum):
    """Exit statuses of `pdp`. `pdp up` hands on that of the child that ended."""

    OK = 0
    # Something is wrong, and the output says what: a check failed, a chain is broken, the configuration cannot be read.
    WRONG = 1
    # The command line itself; the number is typer's.
    USAGE = 2
    # The decision service does not answer.
    UNREACHABLE = 3
    # It answered no: the token was not accepted, or the policies deny the action.
    NOT_PERMITTED = 4
    # There is no such approval or session, or it is no longer in the state that the command needs.
    NOT_POSSIBLE = 5


class Failure(Exception):
    """Ends the command. The text is for people, already fit to be printed."""

    def __init__(self, text: str, status: Status = Status.WRONG) -> None:
        super().__init__(text)
        self.status = status
