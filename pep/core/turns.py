"""Turns, as the protocols take them: see `pdp.v1.turns`."""

from pdp.v1.turns import NoTurn, Turns

__all__ = ["NoTurn", "Turns"]
