"""Becomes another program that ends with its parent: `leash.py PARENT_PID PROGRAM ARGUMENT...`.

Run as a script by an isolated interpreter. The kernel then sends the program SIGTERM when the parent is gone, however
it ended: a service or a proxy ends what it has begun, and lets go of its state folder. Unlike OPA's launcher, which
kills and clears the environment, this keeps both the environment and the chance to end in order.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1  # prctl(2)


def main() -> None:
    """Asks for the signal, makes sure that the parent is not gone already, and becomes the program."""
    parent, program, *arguments = sys.argv[1:]
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl")
    # The parent may have died before the request was made.
    if os.getppid() == int(parent):
        os.execv(program, [program, *arguments])  # noqa: S606 - no shell is wanted


if __name__ == "__main__":
    main()
