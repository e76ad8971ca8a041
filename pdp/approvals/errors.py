"""Why a change of an approval is not made. Each text is for the caller."""

from __future__ import annotations


class NotPossible(Exception):
    """The change cannot be made as things stand."""


class TooMany(NotPossible):
    """The share of the person or workload is used up."""


class NotNarrower(Exception):
    """A yes may narrow what is asked and what others agreed to, and do nothing else."""


class NotPermitted(Exception):
    """This subject may not make the change."""
