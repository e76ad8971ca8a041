"""Becomes another program that dies with its parent: `launcher.py PARENT_PID PROGRAM ARGUMENT...`.

Run as a script by an isolated interpreter, so that the parent, which has threads, need not run Python between fork
and exec. The kernel then kills the program when the parent is gone, however the parent ended.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1  # prctl(2)

# All that the program has of an environment. What OPA holds is small and each question makes garbage: to collect it
# when the heap has grown by four, not by one, takes a sixth off an evaluation (Go, runtime/debug, "GOGC").
_ENVIRONMENT = {"GOGC": "400"}


def main() -> None:
    """Asks for the signal, makes sure that the parent is not gone already, and becomes the program."""
    parent, program, *arguments = sys.argv[1:]
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl")
    # The parent may have died before the request was made.
    if os.getppid() == int(parent):
        os.execve(program, [program, *arguments], _ENVIRONMENT)  # noqa: S606 - no shell is wanted


if __name__ == "__main__":
    main()
