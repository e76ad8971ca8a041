"""A child of `pep.core.children` that does as it is told: says its number, ends, stops, or answers far too much."""

import os
import signal
import struct
import sys

from pep.core.children import serve


def answer(request: bytes) -> bytes:
    match request:
        case b"end":
            os._exit(1)
        case b"stop":
            os.kill(os.getpid(), signal.SIGSTOP)
        case b"burn":
            while True:
                pass
        case b"long":
            sys.stdout.buffer.write(struct.pack("!I", 1 << 31))
            sys.stdout.buffer.flush()
        case b"environment":
            return repr(dict(os.environ)).encode()
    return str(os.getpid()).encode()


if __name__ == "__main__":
    serve(answer)
