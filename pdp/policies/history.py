"""What happens to the policies in force, and going back to earlier ones, as values."""

from __future__ import annotations

import datetime
import enum
from dataclasses import dataclass

from pdp.policies.bundle import Bundle


class Change(enum.StrEnum):
    """What happened."""

    # The files came into force.
    ACTIVATED = "activated"
    # The files are broken, and the last good ones came into force when the service started.
    LAST_GOOD = "last good"
    # The files are broken, and what is in force stays so.
    REFUSED = "refused"
    # Somebody went back to an earlier revision.
    ROLLED_BACK = "rolled back"
    # That ended, because the files have changed or somebody said so.
    RESUMED = "resumed"


@dataclass(frozen=True, slots=True)
class PolicyEvent:
    """One change; `bundle` is what came into force with it."""

    change: Change
    at: datetime.datetime
    revision: str
    by: str = ""
    problems: str = ""
    bundle: Bundle | None = None


@dataclass(frozen=True, slots=True)
class Pin:
    """An earlier revision that is in force in place of the files, as long as they stay as they are."""

    revision: str
    content: bytes
    # The digest of the files when it was set.
    files: str
    by: str
    at: datetime.datetime
