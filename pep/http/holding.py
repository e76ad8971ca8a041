"""How much of responses is held at the moment, by who pays for it: bodies that may only go on once they are whole.

One response holds no more than `http.decoded_limit`; what all of them hold together is bounded here, and so is the part
of it that one person or workload has, over all connections and streams. Who has it refuses only himself.
"""

from __future__ import annotations

from typing import Final

from pep.http.coding import CannotMask

# Of the largest body that may be held: so many in all, and so many for one.
MOST: Final = 16
SHARE: Final = 4


class TooMuchHeld(CannotMask):
    """There is no room for it at the moment."""

    def __init__(self) -> None:
        super().__init__("as much is held as may be, for this client or for all; try again, with less at once")


class Holding:
    """Sizes in bytes. Shared by all connections of a proxy."""

    def __init__(self, largest: int) -> None:
        self._most = MOST * largest
        self._share = SHARE * largest
        self._all = 0
        self._by: dict[str, int] = {}

    def change(self, payer: str, by: int) -> None:
        """Counts so many bytes more, or fewer. Raises TooMuchHeld, with nothing counted."""
        mine = self._by.get(payer, 0) + by
        if by > 0 and (mine > self._share or self._all + by > self._most):
            raise TooMuchHeld
        self._all += by
        if mine:
            self._by[payer] = mine
        else:
            self._by.pop(payer, None)
