"""Where a program of this project listens or connects: a host and a port, or a socket in the file system."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, TypeAlias

from pydantic import BeforeValidator, ValidationInfo


@dataclass(frozen=True, slots=True)
class TcpAddress:
    """A host and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class UnixAddress:
    """A socket in the file system."""

    path: Path

    def __str__(self) -> str:
        return f"unix:{self.path}"


SocketAddress: TypeAlias = TcpAddress | UnixAddress
# The kernel's sun_path holds 108 bytes with its terminating zero.
LONGEST_SOCKET_PATH: Final = 107
_TCP = re.compile(r"(?:\[([0-9a-fA-F:.]+)\]|([A-Za-z0-9._-]+)):([0-9]{1,5})")


def socket_address(text: str, base: Path | None = None) -> SocketAddress:
    """`HOST:PORT`, `[IPV6]:PORT` or `unix:PATH`. ValueError says what is wrong."""
    if text.startswith("unix:"):
        path = Path(text.removeprefix("unix:")).expanduser()
        path = path if base is None else base / path
        if len(os.fsencode(path)) > LONGEST_SOCKET_PATH:
            raise ValueError(
                f"is a socket path of {len(os.fsencode(path))} bytes, and the system allows {LONGEST_SOCKET_PATH}; "
                "choose a shorter folder"
            )
        return UnixAddress(path)
    found = _TCP.fullmatch(text)
    if found is None or int(found[3]) > 65535:
        raise ValueError('must be "HOST:PORT" or "unix:PATH"')
    return TcpAddress(found[1] or found[2], int(found[3]))


def _address(value: object, info: ValidationInfo) -> object:
    if isinstance(value, TcpAddress | UnixAddress):
        return value
    if not isinstance(value, str):
        raise ValueError('must be "HOST:PORT" or "unix:PATH"')  # noqa: TRY004 - pydantic reports only ValueError
    return socket_address(value, (info.context or {}).get("base"))


Address = Annotated[TcpAddress | UnixAddress, BeforeValidator(_address)]
"""Where to listen or to connect."""
