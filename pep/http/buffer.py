"""What has arrived of a stream of records, cut where one ends. Bounded; pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from pep.http.coding import CannotMask

_LINE_END: Final = re.compile(rb"\r\n|\r|\n")


class Buffer:
    """What has arrived and is not complete, up to a limit."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._data = bytearray()
        self._searched = 0

    def until(self, data: bytes, separator: bytes) -> Iterator[bytes]:
        """The pieces that the separator ends."""
        self._data += data
        begin = 0
        while (end := self._data.find(separator, max(begin, self._searched))) >= 0:
            self._check(end - begin)
            yield bytes(self._data[begin:end])
            begin = self._searched = end + 1
        self._keep(begin)

    def lines(self, data: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Lines and what ended them. A CR at the very end has ended its line; an LF behind it is an empty one's end."""
        self._data += data
        begin = 0
        while found := _LINE_END.search(self._data, max(begin, self._searched)):
            end, ending = found.start(), found[0]
            self._check(end - begin)
            line = bytes(self._data[begin:end])
            begin = self._searched = found.end()
            yield line, bytes(ending)
        self._keep(begin)

    def rest(self) -> bytes:
        data = bytes(self._data)
        self._data.clear()
        return data

    def _keep(self, begin: int) -> None:
        del self._data[:begin]
        self._searched = len(self._data)
        self._check(self._searched)

    def _check(self, size: int) -> None:
        if size > self._limit:
            raise CannotMask("a record of the response is larger than what is looked at")
