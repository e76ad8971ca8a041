"""Ports for servers that have to be told one before they start.

Below the range from which the system gives ports to whoever asks for any: one that was free when somebody looked could
be a client's or another server's by the time it is used. Each worker of a run has a share of its own.
"""

import itertools
import os
import re
import socket

HOST = "127.0.0.1"
# Linux gives out 32768 and above unless it is told otherwise, macOS 49152 and above.
_FIRST, _SHARES, _EACH = 20_000, 12, 1_000

_worker = int(re.sub(r"\D", "", os.environ.get("PYTEST_XDIST_WORKER", "0")))
# Another run may go on beside this one: the two begin at different places.
_begin = os.getpid() * 37 % _EACH
_numbers = itertools.count()


def free_port() -> int:
    """A port of this machine's own address that nobody listens on. No port is given twice in a thousand."""
    for _ in range(_EACH):
        port = _FIRST + _worker % _SHARES * _EACH + (_begin + next(_numbers)) % _EACH
        with socket.socket() as probe:
            # As servers do: what lingers of a connection that is over is no obstacle.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
        return port
    raise AssertionError("no port is free")
