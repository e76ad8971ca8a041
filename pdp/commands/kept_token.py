"""The token of somebody who signed in, between two commands: a file for this user alone, one for each service.

Where: `$XDG_STATE_HOME/checkrein` (`~/.local/state/checkrein`), as the XDG Base Directory Specification has it. A file
that others can read is not used.
"""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

from pdp.certificates import write_private
from pdp.commands.failure import Failure, Status
from pdp.shown import shown


def file_of(address: str) -> Path:
    """Where the token for the service at that address is."""
    given = os.environ.get("XDG_STATE_HOME", "")
    # The specification: a path that is not absolute is as none.
    base = Path(given) if Path(given).is_absolute() else Path.home() / ".local" / "state"
    return base / "checkrein" / f"{hashlib.sha256(address.encode()).hexdigest()[:16]}.token"


def keep(address: str, token: str) -> Path:
    """Keeps it; where."""
    file = file_of(address)
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_private(file, token.encode())
    except OSError as error:
        raise Failure(f"cannot keep the token in {shown(str(file))}: {shown(error.strerror or str(error))}") from None
    return file


def kept(address: str) -> str:
    """The token, empty where there is none."""
    file = file_of(address)
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise Failure(f"cannot read the token in {shown(str(file))}: {shown(error.strerror or str(error))}") from None
    with os.fdopen(descriptor, "rb") as opened:
        status = os.fstat(descriptor)
        if status.st_uid != os.getuid() or stat.S_IMODE(status.st_mode) & 0o077:
            raise Failure(
                f"{shown(str(file))} can be read by others than you, so it is not used: pdp logout, then pdp login",
                Status.NOT_PERMITTED,
            )
        return opened.read().decode("ascii", "replace").strip()


def forget(address: str) -> bool:
    """Removes it; False if there was none."""
    try:
        file_of(address).unlink()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise Failure(f"cannot remove the token: {shown(error.strerror or str(error))}") from None
    return True
