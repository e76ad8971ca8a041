"""A connection of h2 as it is offered to clients: its limits and its settings (RFC 9113, section 6.5)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.settings import SettingCodes, Settings

_WINDOW: Final = 64 * 1024 - 1  # of a stream, as the protocol has it from the start
_CONNECTION_WINDOW: Final = 1 << 20
_CLOSED_STREAMS: Final = 512  # how many of them are remembered


@dataclass(frozen=True, slots=True)
class Limits:
    """Times in seconds."""

    streams: int = 100
    head_bytes: int = 64 * 1024
    head: float = 10.0
    idle: float = 60.0
    stalled: float = 30.0


class _H2(H2Connection):
    MAX_CLOSED_STREAMS = _CLOSED_STREAMS


def opened(limits: Limits) -> H2Connection:
    """A connection whose settings are ready to be sent."""
    h2 = _H2(
        H2Configuration(
            client_side=False,
            header_encoding=None,
            # Both are done by `fields`, which resets the stream where h2 would end the connection.
            validate_inbound_headers=False,
            normalize_inbound_headers=False,
        )
    )
    offered: dict[SettingCodes, int] = {
        SettingCodes.MAX_CONCURRENT_STREAMS: limits.streams,
        SettingCodes.MAX_HEADER_LIST_SIZE: limits.head_bytes,
    }
    h2.local_settings = Settings(client=False, initial_values=offered)
    h2.decoder.max_header_list_size = limits.head_bytes
    h2.initiate_connection()
    # A client that has not seen the settings yet may open more; those are refused one by one.
    more = offered | {SettingCodes.MAX_CONCURRENT_STREAMS: 2 * limits.streams}
    h2.local_settings = Settings(client=False, initial_values=more)
    h2.increment_flow_control_window(_CONNECTION_WINDOW - _WINDOW)
    return h2
